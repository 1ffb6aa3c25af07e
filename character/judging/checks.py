"""Verifiable rewards: exact, cheap and never wrong about what they measure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import regex

from character.judging.judge import NoVerdict, Said
from character.spec.schema import Check, Trait
from character.text import asks_follow_up

ASKS_FOR_JSON = re.compile(r"\bjson\b", re.IGNORECASE)
PATTERN_SECONDS = 1.0  # a pattern that needs longer is a bad pattern, not a slow reply


class CheckError(TimeoutError):
    """A check came to no result in its time."""


@dataclass(frozen=True, slots=True)
class ChecksJudge:
    """A reply's worth is the share of the check weight that it passes."""

    name: str = "checks"

    def value(self, trait: Trait, said: Sequence[Said]) -> list[float | NoVerdict]:
        return [_worth(trait, item) for item in said]


def check_reply(trait: Trait, query: str, reply: str) -> float | None:
    """Share of the check weight that passes, 0 to 1; None when no check applies.

    Raises CheckError when a pattern takes too long: the share is then unknown, not smaller.
    """
    outcomes = [(check.weight, passes(check, query, reply)) for check in trait.checks]
    applied = [(weight, passed) for weight, passed in outcomes if passed is not None]
    if not applied:
        return None
    return sum(weight for weight, passed in applied if passed) / sum(w for w, _ in applied)


def passes(check: Check, query: str, reply: str) -> bool | None:
    """Whether one check passes; None when it does not apply. Raises CheckError."""
    if check.kind == "follow_up_question":
        return asks_follow_up(query, reply)
    if check.kind == "max_words":
        return 0 < len(reply.split()) <= check.words
    if check.kind == "min_words":
        return len(reply.split()) >= check.words
    if check.kind == "contains":
        return _found(check.pattern, reply)
    if check.kind == "lacks":
        return not _found(check.pattern, reply)
    return _is_json(reply) if ASKS_FOR_JSON.search(query) else None


def _worth(trait: Trait, said: Said) -> float | NoVerdict:
    try:
        share = check_reply(trait, said.query, said.reply)
    except CheckError as error:
        return NoVerdict(str(error))
    return NoVerdict("no check applies") if share is None else share


def _found(pattern: str, reply: str) -> bool:
    try:
        return regex.search(pattern, reply, regex.IGNORECASE, timeout=PATTERN_SECONDS) is not None
    except TimeoutError:
        raise CheckError(f"pattern {pattern!r} took over {PATTERN_SECONDS:g} s") from None


def _is_json(reply: str) -> bool:
    try:
        json.loads(reply)
    except (ValueError, RecursionError):  # RecursionError: thousands of brackets
        return False
    return True
