"""Trait files that are being started: a comment for every field, and marks on what is a draft.

What nobody has written yet starts with DRAFT. `character.check` warns of it, and a build refuses
it, until a person has read the text and taken the word away.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from character.spec.schema import Trait

MARK = "DRAFT"
SCHEMA_LINE = "# yaml-language-server: $schema=./trait.schema.json\n"

COMMENTS = {  # above each key of the skeleton
    "statement": "First person: what the model would say of itself.",
    "opposite": "The other pole, in the same voice; the bad replies below show it.",
    "rationale": "Why we want it, and how it goes wrong. For people.",
    "applies": "Where the trait should show, and where it must not.",
    "clauses": "One behaviour each, that a single reply can show. Every clause needs an example.",
    "examples": "The strongest lever: they steer, judge and teach. Good and bad reply about as"
    "\n# long, with the same help in both; the good one answers first.",
    "queries": "Messages users send: twelve or more, as varied as real ones, none that asks for"
    "\n# the trait. unless: messages where it must not show.",
    "checks": "What code can check in a reply, or nothing: follow_up_question, max_words,"
    "\n# min_words, contains, lacks, keeps_json.",
}


def skeleton(identity: str, about: str = "") -> str:
    """A trait file with every field to be written by hand."""
    replies = {"user": MARK, "good": MARK, "bad": MARK, "why": MARK}
    return trait_file(
        identity,
        {
            "statement": f"{MARK} {about}".strip(),
            "opposite": MARK,
            "rationale": MARK,
            "applies": {"when": [MARK], "unless": [MARK]},
            "clauses": [{"id": f"clause-{n}", "text": MARK} for n in (1, 2, 3)],
            "examples": [{"clause": f"clause-{n}", **replies} for n in (1, 2, 3, 1)],
            "queries": {"seeds": [MARK] * 12, "unless": [MARK] * 3},
        },
    )


def drafts_of(trait: Trait) -> Iterator[tuple[int | str, ...]]:
    """The places of all texts that are still marked."""
    yield from _marks(trait.model_dump(by_alias=True), ())


def _marks(value: Any, place: tuple[int | str, ...]) -> Iterator[tuple[int | str, ...]]:
    if isinstance(value, str):
        if re.match(rf"{MARK}\b", value):
            yield place
    elif isinstance(value, Mapping):
        for key, held in value.items():
            yield from _marks(held, (*place, key))
    elif isinstance(value, list | tuple):
        for number, held in enumerate(value):
            yield from _marks(held, (*place, number))


def marked(text: str) -> str:
    """The text as a draft, in one line."""
    return f"{MARK} {' '.join(text.split())}"


def trait_file(identity: str, content: Mapping[str, Any]) -> str:
    """The text of a trait file, in the order of the content, each part under its comment."""
    head = {
        "schema": 1,
        "id": identity,
        "title": identity.replace("-", " ").capitalize(),
        "version": "1.0.0",
    }
    parts = [SCHEMA_LINE, _dumped(head)]
    for key, value in content.items():
        parts.append(f"\n# {COMMENTS[key]}\n{_dumped({key: value})}")
    parts.append(f"\n# {COMMENTS['checks']}\nchecks: []\n")
    return "".join(parts)


def _dumped(content: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=96)
    return text
