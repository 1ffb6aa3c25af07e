"""What each part did to a whole: the whole measured beside itself with one part left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from character.diffing.config import MeasureConfig
from character.diffing.measure import SHORT
from character.diffing.outcome import contrast_metric
from character.diffing.statistics import Estimate, Table, difference, estimate, mean
from character.rows import Measurement, Query

WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Effect:
    """One trait without a part: its contrast, in nats a token, and whole minus that, which is
    what the part did to it.
    """

    trait: str
    contrast: Estimate | None
    did: Estimate | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The whole, the base model, or the whole without one part."""

    subject: str
    traits: tuple[Effect, ...]
    short: Estimate | None
    """Share of short questions right."""
    short_did: Estimate | None


def left_out(
    subjects: Sequence[str],
    traits: Sequence[str],
    queries: Sequence[Query],
    measurements: Iterable[Measurement],
    config: MeasureConfig,
    seed: int,
) -> tuple[LeftOut, ...]:
    """One line a subject; each trait on its own held-out queries, paired by query."""
    rows = list(measurements)
    short = Table(rows, [row.query_id for row in rows if row.query_id.startswith(SHORT)])

    def of(table: Table, statistic: Any, *columns: tuple[str, str]) -> Estimate | None:
        return estimate(table, columns, statistic, config.resamples, seed)

    def both(table: Table, subject: str, metric: str) -> tuple[Estimate | None, Estimate | None]:
        if subject == WHOLE:
            return of(table, mean, (subject, metric)), None
        change = of(table, difference, (WHOLE, metric), (subject, metric))
        return of(table, mean, (subject, metric)), change

    tables = {
        trait: Table(rows, [q.id for q in queries if q.trait == trait and q.kind == "on_trait"])
        for trait in traits
    }
    return tuple(
        LeftOut(
            subject,
            tuple(
                Effect(trait, *both(tables[trait], subject, contrast_metric(trait)))
                for trait in traits
            ),
            *both(short, subject, "short_right"),
        )
        for subject in subjects
    )


def left_out_in(recorded: Sequence[Mapping[str, Any]] | None) -> tuple[LeftOut, ...]:
    return TypeAdapter(tuple[LeftOut, ...]).validate_python(recorded or ())
