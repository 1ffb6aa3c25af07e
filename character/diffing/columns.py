"""Every measure of every subject as columns over queries: what a diff's arithmetic reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from character.diffing.inference import Floats
from character.diffing.results import Group
from character.diffing.verdicts import Expect
from character.rows import Measurement


@dataclass(frozen=True, slots=True)
class Wanted:
    """A result before it is measured: a metric over turns, averaged by group where given."""

    name: str
    group: Group
    title: str
    unit: str
    ids: Sequence[str]
    metric: str
    expect: Expect
    margin: float
    groups: Sequence[Sequence[str]] = ()


class Columns:
    """A query's samples are averaged first; NaN where there is no value."""

    def __init__(self, measurements: Sequence[Measurement]) -> None:
        sums: dict[tuple[str, str], dict[str, list[float]]] = {}
        for row in measurements:
            if row.value is not None:
                column = sums.setdefault((row.subject, row.metric), {})
                column.setdefault(row.query_id, []).append(row.value)
        self._means = {
            key: {query: fmean(values) for query, values in column.items()}
            for key, column in sums.items()
        }

    def of(self, subject: str, metric: str, ids: Sequence[str]) -> Floats:
        found = self._means.get((subject, metric), {})
        return np.array([found.get(query, np.nan) for query in ids], dtype=np.float64)

    def change(self, new: str, old: str, wanted: Wanted) -> Floats:
        """One subject minus the other on each query; where it has several turns, their mean."""

        def delta(ids: Sequence[str]) -> Floats:
            return self.of(new, wanted.metric, ids) - self.of(old, wanted.metric, ids)

        if not wanted.groups:
            return delta(wanted.ids)
        return np.array([mean(delta(group)) for group in wanted.groups])

    def missing(self, subject: str, wanted: Wanted) -> int:
        """How many queries lack a value in one of their turns."""
        rows = wanted.groups or [[turn] for turn in wanted.ids]
        return sum(bool(np.isnan(self.of(subject, wanted.metric, row)).any()) for row in rows)

    def level(self, subject: str, metric: str, ids: Sequence[str]) -> float | None:
        """The mean; None when nothing was measured."""
        found = mean(self.of(subject, metric, ids))
        return found if np.isfinite(found) else None

    def spread(self, subjects: Sequence[str], metric: str, ids: Sequence[str]) -> float:
        """Standard deviation between the queries' values, of all subjects together."""
        both = np.concatenate([self.of(subject, metric, ids) for subject in subjects])
        both = both[np.isfinite(both)]
        return float(both.std()) if len(both) else 0.0


def mean(column: Floats) -> float:
    known = column[np.isfinite(column)]
    return float(known.mean()) if len(known) else float("nan")
