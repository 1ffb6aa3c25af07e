"""What a trait file holds. One trait is one behaviour we train; its clauses are numbered claims.

The field descriptions double as the published JSON Schema, so editors show them.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import regex
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError


def _compiles(pattern: str) -> str:
    try:
        regex.compile(pattern, regex.IGNORECASE)
    except regex.error as error:
        raise PydanticCustomError(
            "pattern", "is not a regular expression: {reason}", {"reason": str(error)}
        ) from None
    return pattern


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "is blank; write at least one word")
    return text


Text = Annotated[str, Field(min_length=1, max_length=4000), AfterValidator(_not_blank)]
Pattern = Annotated[Text, AfterValidator(_compiles)]
Slug = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=60)]

# what a check can read in 2 s; far more than a build can use
MOST_MESSAGES, MOST_EXAMPLES, MOST_OTHERS = 400, 100, 50

Authority = Literal["root", "system", "developer", "user", "guideline"]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Clause(Part):
    """One numbered statement; every query, pair and effect traces back to a clause."""

    id: Slug
    text: Text = Field(description="First person, one behaviour that a single reply can show.")
    weight: float = Field(
        default=1.0, gt=0, le=100, description="How much it counts beside the other clauses."
    )


class Example(Part):
    """A user message with a reply that shows the clause and one that breaks it.

    Examples are the strongest lever there is: they become demonstration turns, both when
    candidates are steered and in the judge's two contexts.
    """

    clause: Slug = Field(description="The id of the clause that the example is about.")
    user: Text = Field(description="A message a user could send.")
    good: Text = Field(description="A reply that shows the clause and still answers.")
    bad: Text = Field(description="A reply as long and as helpful that breaks the clause.")
    why: Text = Field(description="What makes the good reply better, for people who read this.")


class Applies(Part):
    """Where the trait should show, and where it must not."""

    when: list[Text] = Field(default_factory=list, description="Where the trait should show.")
    unless: list[Text] = Field(default_factory=list, description="Where it must not show.")


class QuerySeeds(Part):
    """Messages the writer continues from; `unless` holds messages where the trait must not show."""

    seeds: list[Text] = Field(
        min_length=4,
        max_length=MOST_MESSAGES,
        description="User messages, as varied as real ones; twelve or more is good.",
    )
    unless: list[Text] = Field(
        default_factory=list,
        max_length=MOST_MESSAGES,
        description="User messages where the trait must not show.",
    )
    topics: list[Text] = Field(default_factory=list, description="What messages are about.")
    registers: list[Text] = Field(default_factory=list, description="How messages are written.")


class FollowUpQuestion(Part):
    """The reply says something, then ends by asking something new."""

    kind: Literal["follow_up_question"]
    weight: float = Field(default=1.0, gt=0, le=100)


class MaxWords(Part):
    """The reply has at most this many words."""

    kind: Literal["max_words"]
    words: int = Field(ge=1)
    weight: float = Field(default=1.0, gt=0, le=100)


class MinWords(Part):
    """The reply has at least this many words."""

    kind: Literal["min_words"]
    words: int = Field(ge=1)
    weight: float = Field(default=1.0, gt=0, le=100)


class Contains(Part):
    """A regular expression (case ignored) occurs in the reply."""

    kind: Literal["contains"]
    pattern: Pattern
    weight: float = Field(default=1.0, gt=0, le=100)


class Lacks(Part):
    """A regular expression (case ignored) does not occur in the reply."""

    kind: Literal["lacks"]
    pattern: Pattern
    weight: float = Field(default=1.0, gt=0, le=100)


class KeepsJson(Part):
    """When the query asks for JSON, the reply parses as JSON; elsewhere the check is silent."""

    kind: Literal["keeps_json"]
    weight: float = Field(default=1.0, gt=0, le=100)


Check = Annotated[
    FollowUpQuestion | MaxWords | MinWords | Contains | Lacks | KeepsJson,
    Field(discriminator="kind"),
]


class Controls(Part):
    """What must not move along with the trait; `free` when it is the point of the trait."""

    length: Literal["hold", "free"] = Field(
        default="hold", description="`free` when the trait is about length, as in concise."
    )


class Trait(Part):
    """One behaviour we train, written in the first person like a model spec."""

    schema_: Literal[1] = Field(alias="schema", description="The version of this format.")
    id: Slug = Field(description="Names the trait in files, tables and reports.")
    title: Text
    version: str = Field(
        default="1.0.0", pattern=r"^\d+\.\d+\.\d+$", description="The version of this trait."
    )
    statement: Text = Field(description="First person: what the model would say of itself.")
    opposite: Text = Field(description="The other pole, in the same voice.")
    rationale: Text = Field(description="Why we want the trait, and how it goes wrong.")
    authority: Authority = Field(
        default="guideline", description="Who the trait speaks for; higher wins in a conflict."
    )
    applies: Applies = Field(default_factory=Applies)
    clauses: list[Clause] = Field(min_length=1, max_length=MOST_OTHERS)
    examples: list[Example] = Field(min_length=3, max_length=MOST_EXAMPLES)
    queries: QuerySeeds
    checks: list[Check] = Field(
        default_factory=list,
        max_length=MOST_OTHERS,
        description="Exact, cheap rewards, blended with the judge.",
    )
    expect: Literal["up", "down", "hold"] = Field(
        default="up", description="Which way a build should move the trait; `diff` gates on it."
    )
    margin: float = Field(
        default=0.05, ge=0, le=2, description="The smallest move of the contrast that counts."
    )
    controls: Controls = Field(default_factory=Controls)

    @model_validator(mode="after")
    def _references_hold(self) -> Self:
        ids = [clause.id for clause in self.clauses]
        faults = [
            _fault(f"another clause has the id {clause_id!r} too", ("clauses", at, "id"))
            for at, clause_id in enumerate(ids)
            if clause_id in ids[:at]
        ]
        faults += [
            _fault(
                f"there is no clause {example.clause!r}; there are: {', '.join(ids)}",
                ("examples", at, "clause"),
            )
            for at, example in enumerate(self.examples)
            if example.clause not in ids
        ]
        if faults:
            raise ValidationError.from_exception_data("Trait", faults)
        return self


def _fault(message: str, location: tuple[str | int, ...]) -> InitErrorDetails:
    """A fault between two fields, placed at the one to mend."""
    kind = PydanticCustomError("reference", "{message}", {"message": message})
    return InitErrorDetails(type=kind, loc=location, input=None)
