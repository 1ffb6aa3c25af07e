"""OpenCharacterTraining: one file is one character, a list of assertions with questions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter

from character.spec.formats.imported import Foreign, Imported, Told, imported, read_json, unknown

EXPECTED = 'a JSON list (or lines) of {"trait": "I ...", "questions": ["...", ...]}'


class Assertion(Foreign):
    trait: str
    questions: tuple[str, ...] = ()
    additional_questions: tuple[str, ...] = ()


_SHAPE = TypeAdapter(Annotated[tuple[Assertion, ...], Field(min_length=1)])


def read(text: str, name: str) -> list[Imported]:
    """One trait called `name`: its assertions are the clauses, its questions the seed messages."""
    if text.lstrip().startswith("{"):  # one a line, as generated questions are stored
        text = f"[{','.join(line for line in text.splitlines() if line.strip())}]"
    assertions: tuple[Assertion, ...] = read_json(_SHAPE, text, EXPECTED)
    seeds = [q for each in assertions for q in (*each.questions, *each.additional_questions)]
    dropped = [*unknown(assertions)]
    if len(assertions) > 1 and seeds:
        dropped.append("which trait each question was written for")
    clauses = [(_first_words(each.trait), each.trait) for each in assertions]
    return imported([Told(name, clauses, seeds=seeds, dropped=dropped)])


def _first_words(text: str) -> str:
    return " ".join(text.split()[:6])
