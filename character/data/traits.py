"""Have a writer draft a trait, for a person to read and mend."""

from __future__ import annotations

from pydantic import BaseModel, Field

from character import prompts
from character.errors import ModelError
from character.models.base import ChatModel, Message, Request, Sampling
from character.models.structured import ask_formed
from character.spec.drafts import marked, trait_file

TEMPLATE = "draft_trait"
SAMPLING = Sampling(max_tokens=6000, temperature=0.7)


class DraftExample(BaseModel):
    clause: str = Field(description="The id of the clause it shows.")
    user: str
    good: str
    bad: str
    why: str


class DraftClause(BaseModel):
    id: str = Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")
    text: str


class Draft(BaseModel):
    """What a model is asked to write of a trait."""

    statement: str
    opposite: str
    rationale: str
    when: list[str]
    unless: list[str]
    clauses: list[DraftClause] = Field(min_length=3, max_length=5)
    examples: list[DraftExample] = Field(min_length=4)
    messages: list[str] = Field(min_length=12)
    messages_where_it_must_not_show: list[str] = Field(min_length=3)


def drafted_by(model: ChatModel, identity: str, about: str) -> str:
    """A trait file drafted by a model, every text marked. Raises ModelError when it cannot."""
    asked = prompts.render(TEMPLATE, trait=identity, about=about)
    (found,) = ask_formed(model, [Request((Message("user", asked),))], SAMPLING, Draft)
    if found.value is None:
        reason = found.failure.reason if found.failure else "no answer"
        raise ModelError(
            f"{model.name} could not draft a trait: {reason}. Try a larger model, or leave out"
            " --model for a skeleton to fill in by hand."
        )
    draft = found.value
    return trait_file(
        identity,
        {
            "statement": marked(draft.statement),
            "opposite": marked(draft.opposite),
            "rationale": marked(draft.rationale),
            "applies": {
                "when": [marked(text) for text in draft.when],
                "unless": [marked(text) for text in draft.unless],
            },
            "clauses": [{"id": c.id, "text": marked(c.text)} for c in draft.clauses],
            "examples": [
                {
                    "clause": example.clause,
                    "user": marked(example.user),
                    "good": marked(example.good),
                    "bad": marked(example.bad),
                    "why": marked(example.why),
                }
                for example in draft.examples
            ],
            "queries": {
                "seeds": [marked(text) for text in draft.messages],
                "unless": [marked(text) for text in draft.messages_where_it_must_not_show],
            },
        },
    )
