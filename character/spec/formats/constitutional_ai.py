"""Constitutional AI as Hugging Face wrote it: principles with a critique and a revision request."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter

from character.spec.drafts import marked
from character.spec.formats.imported import (
    Foreign,
    Imported,
    Shown,
    Told,
    imported,
    read_json,
    unknown,
)

EXPECTED = (
    'a JSON mapping {"constitutions": [{"critic": ..., "revision": ...}]}, or that list alone'
)
ROLES = ["user", "assistant"] * 3


class Principle(Foreign):
    critic: str
    revision: str


class Turn(Foreign):
    role: str
    content: str


Principles = Annotated[tuple[Principle, ...], Field(min_length=1)]


class Constitution(Foreign):
    constitutions: Principles
    system_chat: tuple[tuple[Turn, ...], ...] = ()


_MAPPING, _LIST = TypeAdapter(Constitution), TypeAdapter(Principles)


def read(text: str, name: str) -> list[Imported]:
    """One trait called `name`, a clause for each principle.

    A revision request asks for a rewrite, so its words become a draft. A few-shot talk gives an
    example as that recipe labels its pairs: the first reply is bad, its revision good.
    """
    if text.lstrip().startswith("["):
        found = Constitution(constitutions=read_json(_LIST, text, EXPECTED))
    else:
        found = read_json(_MAPPING, text, EXPECTED)
    principles = found.constitutions
    dropped = [f"critic ({len(principles)})", *unknown(found)]
    examples = []
    for number, talk in enumerate(found.system_chat, start=1):
        if example := _example(talk, principles):
            examples.append(example)
        else:
            dropped.append(f"system_chat {number}: not one reply with its critique and revision")
    clauses = [(f"principle {n}", marked(p.revision)) for n, p in enumerate(principles, start=1)]
    return imported([Told(name, clauses, examples=examples, dropped=dropped)])


def _example(talk: tuple[Turn, ...], principles: tuple[Principle, ...]) -> Shown | None:
    if [turn.role for turn in talk] != ROLES:
        return None
    user, bad, critic, critique, revision, good = (turn.content for turn in talk)
    asked = [n for n, p in enumerate(principles) if (p.critic, p.revision) == (critic, revision)]
    return Shown(asked[0], user, good, bad, critique) if asked else None
