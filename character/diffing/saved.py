"""Replies that another program saved, as the answers of a version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from character.diffing.suite import Item
from character.errors import SuiteError
from character.rows import Answer, content_id

SUFFIX = ".jsonl"
EXAMPLE = '{"query": "Why does bread rise?", "reply": "Yeast eats the sugar."}'
MISSING = "no reply in the file"


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = ""
    query: str = ""
    sample: int = Field(default=0, ge=0)
    reply: str
    ended: bool = True

    @model_validator(mode="after")
    def _names_its_query(self) -> _Row:
        if not (self.id or self.query):
            raise PydanticCustomError("unnamed", "needs an id or a query")
        return self


def read_saved(path: Path, subject: str, items: Sequence[Item], samples: int) -> list[Answer]:
    """One answer to every turn of every item; those the file lacks have a failure.

    A row names its turn by id, or a single-turn item by its query. Raises SuiteError for rows
    that are no replies, that are there twice, or that answer nothing in the suite.
    """
    turns = {item.turn_id(turn): text for item in items for turn, text in enumerate(item.turns)}
    by_query: dict[str, list[str]] = {}
    for item in items:
        if len(item.turns) == 1 and not item.opening:
            by_query.setdefault(item.turns[0], []).append(item.id)
    said: dict[tuple[str, int], _Row] = {}
    for number, row in _rows(path):
        named = [row.id] if row.id else by_query.get(row.query, [])
        if not named or named[0] not in turns:
            raise SuiteError(
                f"{path}:{number}: {(row.id or row.query)[:80]!r} is not in the suite. List what "
                "is: python -m character.suite show SUITE --jsonl"
            )
        if row.sample >= samples:
            raise SuiteError(
                f"{path}:{number}: sample {row.sample}, and {samples} are compared, counted from 0."
            )
        for query_id in named:
            if (query_id, row.sample) in said:
                raise SuiteError(
                    f"{path}:{number}: a second reply to {query_id!r}, sample {row.sample}. Remove"
                    " it."
                )
            said[query_id, row.sample] = row
    return [
        _answer(subject, query_id, text, sample, said.get((query_id, sample)))
        for sample in range(samples)
        for query_id, text in turns.items()
    ]


def missing_of(answers: Sequence[Answer]) -> Counter[str]:
    """How many answers are missing, by reason."""
    return Counter(answer.failure for answer in answers if answer.failure)


def _rows(path: Path) -> list[tuple[int, _Row]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise SuiteError(f"{path} is not UTF-8 text. Every line is like {EXAMPLE}") from None
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append((number, _Row.model_validate_json(line)))
            except ValidationError as error:
                told = error.errors()[0]
                fault = " ".join([*map(str, told["loc"]), told["msg"].lower()])
                raise SuiteError(
                    f"{path}:{number}: {fault}. Every line is like {EXAMPLE}"
                ) from None
    if not found:
        raise SuiteError(f"{path} holds no replies. Every line is like {EXAMPLE}")
    return found


def _answer(subject: str, query_id: str, prompt: str, sample: int, row: _Row | None) -> Answer:
    reply = row.reply if row else ""
    return Answer(
        id=content_id("answer", subject, "saved", query_id, sample, reply),
        subject=subject,
        query_id=query_id,
        prompt=prompt,
        text=reply,
        tokens=0,
        ended=row.ended if row else False,
        failure="" if row else MISSING,
    )
