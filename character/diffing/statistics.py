"""Means over queries with bootstrap intervals. The query is the unit; its samples are averaged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from character.rows import Measurement

Floats = NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval over queries; `missing` queries had no value."""

    value: float
    low: float
    high: float
    queries: int
    missing: int = 0


class Table:
    """Measurements as query means: subject x metric -> {query: mean over samples}."""

    def __init__(self, measurements: Iterable[Measurement], queries: Iterable[str]) -> None:
        self.queries = list(dict.fromkeys(queries))
        wanted = set(self.queries)
        values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        self.subjects: list[str] = []
        for row in measurements:
            if row.query_id not in wanted:
                continue
            if row.subject not in self.subjects:
                self.subjects.append(row.subject)
            if row.value is not None:
                values[row.subject, row.metric, row.query_id].append(row.value)
        self._means = {key: float(np.mean(found)) for key, found in values.items()}

    def columns(self, *wanted: tuple[str, str]) -> tuple[list[Floats], int]:
        """Aligned columns for (subject, metric) pairs over the queries that have them all.

        Returns the columns and how many queries are missing a value in one of them.
        """
        complete = [
            query
            for query in self.queries
            if all((subject, metric, query) in self._means for subject, metric in wanted)
        ]
        columns = [
            np.array([self._means[subject, metric, query] for query in complete])
            for subject, metric in wanted
        ]
        return columns, len(self.queries) - len(complete)


def estimate(
    table: Table,
    wanted: Sequence[tuple[str, str]],
    statistic: Callable[..., Any],
    resamples: int,
    seed: int,
) -> Estimate | None:
    """statistic(column, ..., axis) over queries, with a percentile bootstrap interval.

    Queries are resampled jointly over all columns (Efron & Tibshirani 1993, chapter 13). None when
    fewer than two queries have every column.
    """
    columns, missing = table.columns(*wanted)
    if len(columns[0]) < 2:
        return None
    value = float(statistic(*columns, axis=-1))
    interval = bootstrap(
        columns,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        confidence_level=LEVEL,
        method="percentile",
        batch=1000,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high), len(columns[0]), missing)


def mean(column: Floats, axis: int = -1) -> Any:
    return np.mean(column, axis=axis)


def difference(new: Floats, old: Floats, axis: int = -1) -> Any:
    """Mean of new minus old, paired by query."""
    return np.mean(new - old, axis=axis)


def share(new: Floats, old: Floats, prompted: Floats, axis: int = -1) -> Any:
    """How far new has come of the way from old to prompted: 0 is old, 1 is prompted."""
    way = np.mean(prompted - old, axis=axis)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.mean(new - old, axis=axis) / way
