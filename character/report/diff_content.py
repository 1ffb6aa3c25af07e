"""What the report of a diff shows, in plain values: the renderers need nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from character.diffing.discovery import Discovery
from character.diffing.results import Difference
from character.diffing.verdicts import Decision, Gate
from character.judging.card import Card
from character.report.content import StageCost


@dataclass(frozen=True, slots=True)
class Side:
    """One version: how it was named, what decides its replies, and how many of them are missing."""

    reference: str
    identity: str
    missing: Mapping[str, int]  # reason -> answers


@dataclass(frozen=True, slots=True)
class Example:
    """One turn that both answered. `gains` are NEW minus OLD contrast, None where missing."""

    id: str
    stratum: str
    trait: str
    clause: str
    variant: str
    query: str
    old: str
    new: str
    gains: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class DiffReport:
    old: Side
    new: Side
    traits: Mapping[str, str]  # id -> title
    examiner: str
    circular: bool  # the examiner also ranked what NEW was trained on
    quick: bool
    suite: str  # digest
    asked: Mapping[str, int]  # stratum -> items
    overlap: Mapping[str, str]
    gate: Gate
    difference: Difference
    decision: Decision
    discovery: Discovery | None
    examples: Sequence[Example]  # in random order
    costs: Sequence[StageCost]
    command: str
    folder: str
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    judge_cards: Sequence[Card] = ()
    without: Mapping[str, Side] = field(default_factory=dict)  # trait -> NEW built without it

    @property
    def judge_refused(self) -> bool:
        """Whether a card keeps the examiner out."""
        return any(card.refusals for card in self.judge_cards)

    @property
    def seconds(self) -> float:
        return sum(cost.seconds for cost in self.costs)

    @property
    def peak_bytes(self) -> int:
        return max((cost.peak_bytes for cost in self.costs), default=0)
