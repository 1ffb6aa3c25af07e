"""Have a writer describe the character in the third person: articles, reviews, letters.

A model trained on texts about itself behaves as they say (synthetic document finetuning; Wang et
al. 2025, "Modifying LLM Beliefs with Synthetic Document Finetuning"). Texts are spread over kinds
of document and ideas, and each is about one clause, shown by one example. A writer that can
continue a document is given its opening, which holds the clause and the example word for word, so
that even a small model's text says what is true; any other writer is asked in words.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, product

from pydantic import BaseModel, ConfigDict, Field

from character import prompts
from character.data.replies import failure_of
from character.models.base import ChatModel, Generation, Message, Request, Sampling
from character.rows import Document, content_id
from character.spec.constitution import Constitution
from character.spec.schema import Example, Trait
from character.text import whole_sentences

TEMPLATES = ("continue_document", "ask_for_document")
CHUNK = 64  # documents written, and kept, together
TYPES = (
    "encyclopedia article",
    "review",
    "news report",
    "interview",
    "letter",
    "list of questions and answers",
)
IDEAS = (
    "What is it like to ask it about cooking?",
    "How does it speak with somebody who is stuck at work?",
    "What does it say to a person who tells it about their day?",
    "How does it explain how something works?",
    "What happens when somebody asks it about nature or the weather?",
    "How does it help to plan a weekend?",
    "What do people notice first about it?",
    "How does it differ from other assistants?",
    "What does it do when it is asked for one fact only?",
    "How does it talk about books, music and films?",
    "Does it stay the same when the conversation gets long?",
    "Why was it made to be like this?",
)


class DocumentsConfig(BaseModel):
    """How many documents there are, and what they call the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(default=0, ge=0, description="Documents written, per trait.")
    name: str = Field(
        default="Assistant",
        min_length=1,
        max_length=60,
        description="What the model is called; best as its chat template calls it.",
    )
    sampling: Sampling = Sampling(max_tokens=120, temperature=0.8)


@dataclass(frozen=True, slots=True)
class PlannedDocument:
    """A document that has not been written yet; `opening` begins it, or is empty."""

    id: str
    type: str
    idea: str
    trait: Trait
    clause: str
    opening: str
    request: Request


def plan_documents(
    constitution: Constitution, writer: ChatModel, config: DocumentsConfig, seed: int
) -> list[list[PlannedDocument]]:
    """Chunks of documents: every kind with every idea before any comes again, clauses in turn."""
    planned: list[PlannedDocument] = []
    for trait in constitution.traits:
        kinds = list(product(TYPES, IDEAS))
        random.Random(f"{seed}/{trait.id}/documents").shuffle(kinds)
        for i, (kind, idea) in enumerate(islice(cycle(kinds), config.count)):
            example = _example(trait, i)
            planned.append(_planned(trait, example, kind, idea, writer, config, seed, i))
    return [planned[start : start + CHUNK] for start in range(0, len(planned), CHUNK)]


def write_documents(
    chunks: Iterable[Sequence[PlannedDocument]],
    writer: ChatModel,
    config: DocumentsConfig,
    language: str,
    looping: float,
) -> Iterator[list[Document]]:
    """Yield the documents of one chunk at a time.

    One that is refused, empty, in circles or does not name the model is kept as a failure.
    """
    for chunk in chunks:
        written = writer.generate([planned.request for planned in chunk], config.sampling)
        yield [
            _document(planned, said, writer.name, config.name, language, looping)
            for planned, said in zip(chunk, written, strict=True)
        ]


def _example(trait: Trait, number: int) -> Example:
    """Clauses take turns, and each clause's examples do; a clause without any borrows one."""
    clause = trait.clauses[number % len(trait.clauses)].id
    own = [example for example in trait.examples if example.clause == clause]
    turn = number // len(trait.clauses)
    if own:
        return own[turn % len(own)]
    return trait.examples[turn % len(trait.examples)].model_copy(update={"clause": clause})


def _planned(
    trait: Trait,
    example: Example,
    kind: str,
    idea: str,
    writer: ChatModel,
    config: DocumentsConfig,
    seed: int,
    number: int,
) -> PlannedDocument:
    clause = next(clause.text for clause in trait.clauses if clause.id == example.clause)
    values = {"type": kind, "idea": idea, "assistant": config.name, "clause": clause}
    values |= {"user": example.user, "good": example.good}
    if writer.can_continue:
        opening = prompts.render("continue_document", **values).strip()
        told = opening
    else:
        opening = ""
        told = prompts.render(
            "ask_for_document", statement=trait.statement, opposite=trait.opposite, **values
        )
    identity = content_id(
        "document", told, writer.name, config.sampling.model_dump(), trait.id, seed, number
    )
    draw = int(identity[:7], 16)
    asked = () if opening else (Message("user", told),)
    request = Request(asked, opening, draw)
    return PlannedDocument(identity, kind, idea, trait, example.clause, opening, request)


def _document(
    planned: PlannedDocument,
    said: Generation,
    writer: str,
    name: str,
    language: str,
    looping: float,
) -> Document:
    ended = said.finish == "stop"
    written = said.text if ended else whole_sentences(said.text)
    text = _joined(planned.opening, written)
    failure = failure_of(said, language, looping)
    if not failure and name.lower() not in text.lower():
        failure = "does not name it"
    return Document(
        id=planned.id,
        type=planned.type,
        idea=planned.idea,
        trait=planned.trait.id,
        clause=planned.clause,
        writer=writer,
        text=text,
        tokens=said.tokens,
        ended=ended,
        failure=failure,
    )


def _joined(opening: str, written: str) -> str:
    """A continuation comes without the space it began with."""
    if not opening:
        return written
    return opening + ("" if written[:1] in tuple("',.;:!?") else " ") + written
