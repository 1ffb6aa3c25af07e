"""What a diff found: one result for each measure, and what was kept under each condition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from character.diffing.inference import Adjusted, Flips, Movement, Ratio
from character.diffing.verdicts import Expect, Judged, Verdict

Group = Literal["trait", "unless", "quality", "style", "panel"]


@dataclass(frozen=True, slots=True)
class ClauseEffect:
    """The mean difference on one clause's queries, with a 95 % t interval of its own."""

    clause: str
    value: float
    low: float
    high: float
    queries: int


@dataclass(frozen=True, slots=True)
class Planted:
    """How often the examiner ranks OLD's good-example reply above its bad-example reply."""

    right: int
    queries: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Result:
    """One measure of both versions. `q` is the false-discovery-adjusted p of a family's member.

    `no_place` is the share of comparisons in which the examiner sees no place for the trait.
    """

    name: str
    group: Group
    title: str
    unit: str
    expect: Expect
    margin: float
    old: float | None
    new: float | None
    movement: Movement | None
    verdict: Verdict = "INCONCLUSIVE"
    why: str = ""
    adjusted: Adjusted | None = None
    dose: Ratio | None = None
    planted: Planted | None = None
    clauses: tuple[ClauseEffect, ...] = ()
    q: float | None = None
    flips: Flips | None = None
    missing: tuple[int, int] = (0, 0)
    no_place: float | None = None

    @property
    def judged(self) -> Judged:
        return Judged(self.name, self.verdict, self.expect, self.why)


@dataclass(frozen=True, slots=True)
class Kept:
    """How much of a trait's movement is left under one condition, beside the plain queries."""

    name: str
    trait: str
    condition: str
    kept: Ratio | None
    verdict: Verdict
    why: str

    @property
    def judged(self) -> Judged:
        return Judged(self.name, self.verdict, "hold", self.why)


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one trait added to one measure: NEW minus NEW built without the trait, by query.

    `movement` has an interval of its own, `q` is p adjusted for false discovery over all measures
    and all traits left out. `share` is of the movement from OLD to NEW; None where that is not
    certain. `why` says why nothing can be told, where that is so.
    """

    measure: str
    trait: str
    movement: Movement | None
    q: float
    discovered: bool
    share: Ratio | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """`specificity` is each trait's movement over the root mean square of the panel's.

    `contributions` has a row of one cell for each trait that was left out, for every measure that
    moved; it is empty when no version without a trait was at hand.
    """

    results: tuple[Result, ...]
    kept: tuple[Kept, ...]
    specificity: Mapping[str, float]
    contributions: tuple[Contribution, ...] = ()

    def of(self, group: Group) -> list[Result]:
        return [result for result in self.results if result.group == group]

    @property
    def judged(self) -> list[Judged]:
        return [*(found.judged for found in self.results), *(kept.judged for kept in self.kept)]
