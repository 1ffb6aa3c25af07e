"""Does a judge hear the right trait? What planting one trait does to its verdicts on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from character.judging.asked import preference_of
from character.judging.judge import Judge
from character.judging.plants import Planted
from character.judging.trials import SOME
from character.spec.schema import Trait


@dataclass(frozen=True, slots=True)
class Discriminant:
    """How far planting one trait (rows) moves the verdicts on every trait (columns).

    A value is the mean preference for the planted reply over a plain one, less a half; None where
    there was no verdict.
    """

    traits: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]

    @property
    def largest_on_diagonal(self) -> int:
        """Rows in which the planted trait itself moved most, of what has a value."""
        found = 0
        for i, row in enumerate(self.values):
            others = [value for j, value in enumerate(row) if j != i and value is not None]
            own = row[i]
            found += own is not None and all(own > value for value in others)
        return found


def discriminate(
    judge: Judge,
    traits: Sequence[Trait],
    planted: Mapping[str, Sequence[Planted]],
    on_cell: Callable[[int], object] = lambda count: None,
) -> Discriminant:
    """Judge what one trait planted by every trait (Campbell & Fiske 1959)."""
    rows = []
    for plant in traits:
        contests = [c for p in planted[plant.id][: 2 * SOME] for c in p.contest("full", "plain")]
        row = []
        for trait in traits:
            outcomes = judge.compare(trait, contests)
            known = [p for outcome in outcomes if (p := preference_of(outcome)) is not None]
            row.append(fmean(known) - 0.5 if known else None)
            on_cell(1)
        rows.append(tuple(row))
    return Discriminant(tuple(trait.id for trait in traits), tuple(rows))
