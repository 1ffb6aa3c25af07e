"""What a trait file was measured to do to a model, before any training."""

from __future__ import annotations

from dataclasses import dataclass

from character.judging.card import ClauseTest, Test
from character.judging.halves import Ambiguity
from character.judging.nearness import Confusion
from character.judging.pull import Pull


@dataclass(frozen=True, slots=True)
class Measures:
    """One trait's; `missing` says why there are none, and is empty where there are."""

    trait: str
    tests: tuple[Test, ...] = ()
    clauses: tuple[ClauseTest, ...] = ()
    ambiguities: tuple[Ambiguity, ...] = ()
    confusion: Confusion | None = None
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """All traits on one model; of several that have measures, every one's pull on every one."""

    model: str
    traits: tuple[Measures, ...]
    pulls: tuple[Pull, ...] = ()
    seconds: float = 0.0
