"""What is left of the character in the forms that a policy ships in.

Every form answers the same held-out queries and short questions with the same random numbers as
the others did. Replies part as soon as one token does, so levels differ by chance as well; the
shift does not: it compares what two forms think of the very same replies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from character.diffing.config import MeasureConfig
from character.diffing.measure import SHORT
from character.diffing.outcome import BASE, contrast_metric
from character.diffing.statistics import Estimate, Table, difference, estimate, mean, share
from character.rows import Measurement, Query

MERGED = "merged"  # as the build measured it, and what the others are compared with
SHIFT = "shift"  # nats a token between a form and the merged policy, on the same reply


@dataclass(frozen=True, slots=True)
class Moved:
    """One trait in one form: its contrast in nats a token, and the share of the merged policy's
    movement from the base model that is left.
    """

    trait: str
    contrast: Estimate | None
    share: Estimate | None


@dataclass(frozen=True, slots=True)
class Kept:
    """One form of a policy, measured beside the merged one; None is missing."""

    form: str
    megabytes: float
    traits: tuple[Moved, ...]
    short: Estimate | None
    """Share of short questions right."""
    short_change: Estimate | None
    """Beside the merged policy's."""
    shift: Estimate | None
    """Mean absolute difference of log-probability on the merged policy's replies, nats a token."""
    tokens: Estimate | None = field(default=None)
    """A reply's length."""


def kept(
    sizes: Mapping[str, float],
    traits: Sequence[str],
    queries: Sequence[Query],
    measurements: Iterable[Measurement],
    config: MeasureConfig,
    seed: int,
) -> tuple[Kept, ...]:
    """One line a form, in the order of `sizes` (megabytes by form).

    `measurements` have the form as their subject, and hold those of the base model as well.
    """
    rows = list(measurements)
    on = [q for q in queries if q.split == "held_out" and q.kind == "on_trait"]
    questions = Table(rows, [row.query_id for row in rows if row.query_id.startswith(SHORT)])
    asked = Table(rows, [query.id for query in on])

    def of(table: Table, statistic: Any, *columns: tuple[str, str]) -> Estimate | None:
        return estimate(table, columns, statistic, config.resamples, seed)

    def moved(form: str, trait: str) -> Moved:
        own = Table(rows, [query.id for query in on if query.trait == trait])
        metric = contrast_metric(trait)
        way = ((form, metric), (BASE, metric), (MERGED, metric))
        return Moved(trait, of(own, mean, (form, metric)), of(own, share, *way))

    return tuple(
        Kept(
            form,
            size,
            tuple(moved(form, trait) for trait in traits),
            of(questions, mean, (form, "short_right")),
            of(questions, difference, (form, "short_right"), (MERGED, "short_right")),
            of(asked, mean, (form, SHIFT)),
            of(asked, mean, (form, "tokens")),
        )
        for form, size in sizes.items()
    )


def kept_in(recorded: Sequence[Mapping[str, Any]] | None) -> tuple[Kept, ...]:
    """What an export's record says of it; empty when nothing was measured."""
    return TypeAdapter(tuple[Kept, ...]).validate_python(recorded or ())
