"""What a diff may conclude from per-query differences: arithmetic, and nothing else.

A difference is NEW minus OLD on one query, samples averaged first. Samples of one query are not
independent: pooled, they give 26 % false alarms (tests/benchmarks/diff_simulation.py). Columns are
traits, rows are queries, NaN where a trait was not measured.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.sparse.csgraph import connected_components

Floats = NDArray[np.float64]

ALPHA = 0.05
POWER = 0.8
PER_PARAMETER = 10  # queries that a regression needs for each
HIGHEST_LEVERAGE = 0.9  # of one query; HC3 divides by one minus it
BLOCK = 500  # permutations at a time: 500 x 2,000 signs are 8 MB


@dataclass(frozen=True, slots=True)
class Movement:
    """One column's mean difference among its family.

    `low` and `high` hold for all columns at once, `p` is adjusted for them all, and `detectable`
    is the smallest true difference that this many queries find in 80 % of cases.
    """

    value: float
    se: float
    low: float
    high: float
    p: float
    detectable: float
    queries: int

    @property
    def significant(self) -> bool:
        return self.p <= ALPHA


@dataclass(frozen=True, slots=True)
class Adjusted:
    """A mean difference at equal length and style, with its own 95 % interval (not the family's).

    `slopes` says what one unit of each regressor is worth.
    """

    value: float
    low: float
    high: float
    p: float
    slopes: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Flips:
    """Paired right and wrong answers: how many were lost and won, and the exact p of McNemar."""

    lost: int
    won: int
    both: int
    neither: int
    p: float

    @property
    def change(self) -> float:
        """NEW's share of right answers minus OLD's."""
        return (self.won - self.lost) / (self.lost + self.won + self.both + self.neither)


@dataclass(frozen=True, slots=True)
class Ratio:
    value: float
    low: float
    high: float
    queries: int


def movements(columns: Floats, permutations: int = 10_000, seed: int = 0) -> list[Movement | None]:
    """Mean differences with simultaneous intervals, by sign flips of whole queries.

    Under the null each query's row of differences is as likely as its negative; every permutation
    flips rows and keeps the largest |t| over the columns (single-step max-T: Westfall & Young
    1993, algorithm 2.5). Intervals are mean +- c * se, with c the 95 % quantile of that maximum.
    None for a column with fewer than two queries. Negated columns give exactly negated results,
    and the order of the rows does not matter.
    """
    if not columns.size:
        return [None] * columns.shape[1]
    columns = _canonical(columns)
    measured = np.isfinite(columns)
    n = measured.sum(axis=0)
    kept = np.flatnonzero(n >= 2)
    found: list[Movement | None] = [None] * columns.shape[1]
    if not len(kept):
        return found
    values, n = np.where(measured, columns, 0.0)[:, kept], n[kept]
    squares = (values**2).sum(axis=0)
    mean = values.sum(axis=0) / n
    t, se = _t(mean, squares, n)
    largest = _largest_t(_turned(values), squares, n, permutations, seed)
    critical = float(np.quantile(largest, 1 - ALPHA, method="higher"))
    over = (largest[None, :] >= np.abs(t)[:, None] - 1e-12).sum(axis=1)
    p = (1 + over) / (1 + permutations)
    reach = critical + float(stats.norm.ppf(POWER))
    for at, column in enumerate(kept):
        error = float(se[at])
        half = critical * error if error else 0.0  # the critical value may be infinite
        found[column] = Movement(
            float(mean[at]), error, float(mean[at] - half), float(mean[at] + half), float(p[at]),
            reach * error if error else 0.0, int(n[at]),
        )  # fmt: skip
    return found


def within(values: Floats, margin: float) -> bool:
    """Whether the mean is shown to lie inside +-margin: two one-sided tests (Schuirmann 1987)."""
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return False
    if not known.any():
        return True  # identical
    half = stats.t.ppf(1 - ALPHA, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known))
    return bool(abs(known.mean()) + half < margin)


def at_equal_style(
    values: Floats, longer: Floats, style: Mapping[str, Floats] | None = None
) -> Adjusted | None:
    """The intercept of values ~ tanh(longer / sd) + style differences, with HC3 errors.

    The length term is that of length-controlled AlpacaEval (Dubois et al. 2024, equation 2);
    `longer` is NEW's length minus OLD's, and a style column NEW's count minus OLD's. Columns that
    never differ are left out, and all but length when there are fewer than ten queries a
    parameter; None when there are too few even so. Where every query differs alike in style, or
    all but one do, the two cannot be told apart: the interval is then the whole line.
    """
    # statsmodels takes a second to import
    from statsmodels.regression.linear_model import OLS

    known = np.isfinite(values) & np.isfinite(longer)
    y, regressors = values[known], {"length": longer[known]}
    regressors |= {name: column[known] for name, column in (style or {}).items()}
    shaped = {
        name: np.tanh(column / scale)
        for name, column in regressors.items()
        if len(column) and (scale := float(np.sqrt(np.mean(column**2)))) > 0
    }
    if len(y) < PER_PARAMETER * (1 + len(shaped)):
        shaped = {name: column for name, column in shaped.items() if name == "length"}
    if len(y) < PER_PARAMETER * (1 + len(shaped)):
        return None
    design = np.column_stack([np.ones_like(y), *shaped.values()])
    if not _identifiable(design):
        return Adjusted(float("nan"), -np.inf, np.inf, 1.0, {})
    fit = OLS(y, design).fit(cov_type="HC3")
    low, high = fit.conf_int(ALPHA)[0]
    slopes = dict(zip(shaped, map(float, fit.params[1:]), strict=True))
    p = float(fit.pvalues[0]) if y.any() else 1.0
    return Adjusted(float(fit.params[0]), float(low), float(high), p, slopes)


def _identifiable(design: Floats) -> bool:
    """Whether no column is another's, and no single query decides one."""
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return False
    leverage = np.einsum("ij,ij->i", design @ np.linalg.inv(design.T @ design), design)
    return bool(leverage.max() < HIGHEST_LEVERAGE)


def share_no_worse(lost: int, won: int, total: int, margin: float) -> bool:
    """Whether a share of right answers is shown to fall by less than the margin, at 5 %.

    The score test of Tango (1998, equations 8 to 10) for paired shares, which also holds where no
    or few answers differ.
    """
    a, b = 2 * total, -lost - won + (2 * total - lost + won) * margin
    c = -won * margin * (1 - margin)
    share = (np.sqrt(b * b - 4 * a * c) - b) / (2 * a)  # of won, were the margin the truth
    spread = np.sqrt(total * (2 * share + margin * (1 - margin)))
    return bool((lost - won - total * margin) / spread < -stats.norm.ppf(1 - ALPHA))


def flips(old: Sequence[bool], new: Sequence[bool]) -> Flips:
    """McNemar's exact test on answers to the same questions (McNemar 1947; binomial form)."""
    pairs = list(zip(old, new, strict=True))
    lost, won = pairs.count((True, False)), pairs.count((False, True))
    p = float(stats.binomtest(lost, lost + won).pvalue) if lost + won else 1.0
    return Flips(lost, won, pairs.count((True, True)), pairs.count((False, False)), p)


def discoveries(p_values: Sequence[float]) -> list[float]:
    """p adjusted so that 5 % of those called at .05 are false (Benjamini & Hochberg 1995)."""
    return list(map(float, stats.false_discovery_control(list(p_values)))) if p_values else []


def t_test(values: Floats) -> float:
    """Two-sided p of one column's mean by a t test; for families that `discoveries` adjusts."""
    known = values[np.isfinite(values)]
    if len(known) < 2 or not known.any():
        return 1.0
    if known.std() < 1e-9 * np.abs(known).max():
        return 0.0  # all the same
    return float(stats.ttest_1samp(known, 0.0).pvalue)


@dataclass(frozen=True, slots=True)
class Strength:
    """A version's log-odds of showing more of a trait than the first version does, per query.

    The first version's is 0 and has no interval of its own.
    """

    version: str
    value: float
    low: float
    high: float
    queries: int


def leaderboard(scores: Mapping[str, Mapping[str, float]]) -> list[Strength]:
    """Versions by Bradley-Terry, strongest first, from each one's score on shared queries.

    On every query each pair of versions is compared; the higher score wins and equal scores are
    half a win each. Errors are clustered by query, for its comparisons are not independent
    (Bradley & Terry 1952; Liang & Zeger 1986). Only queries that all versions have count. Empty
    with fewer than two versions or ten such queries, and when some versions never lose to the
    others: their strength has no limit.
    """
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM

    versions = list(scores)
    shared = sorted(set.intersection(*(set(found) for found in scores.values()))) if scores else []
    if len(versions) < 2 or len(shared) < 10:
        return []
    count = len(versions)
    rows, won, groups, wins = [], [], [], np.zeros((count, count))
    for number, query in enumerate(shared):
        for i, j in combinations(range(count), 2):
            better = (np.sign(scores[versions[i]][query] - scores[versions[j]][query]) + 1) / 2
            wins[i, j] += better
            wins[j, i] += 1 - better
            rows.append([float(k == i) - float(k == j) for k in range(1, count)])
            won.append(better)
            groups.append(number)
    if connected_components(wins, connection="strong")[0] > 1:  # Ford 1957
        return []
    design, outcome = np.array(rows), np.array(won)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # only ties are perfectly predicted, and are no fault
        model = GLM(outcome, design, Binomial())
        fit = model.fit(cov_type="cluster", cov_kwds={"groups": groups})
    intervals = fit.conf_int(ALPHA)
    found = [Strength(versions[0], 0.0, 0.0, 0.0, len(shared))]
    for k, version in enumerate(versions[1:]):
        low, high = intervals[k]
        found.append(Strength(version, float(fit.params[k]), float(low), float(high), len(shared)))
    return sorted(found, key=lambda strength: -strength.value)


def ratio(
    top: Floats, bottom: Floats, resamples: int = 5000, seed: int = 0, alpha: float = ALPHA
) -> Ratio | None:
    """mean(top) / mean(bottom) over paired queries, with a joint percentile bootstrap interval.

    None with fewer than two queries, or when the bottom's own interval does not exclude 0: the
    ratio then means nothing (Fieller 1954).
    """
    known = np.isfinite(top) & np.isfinite(bottom)
    top, bottom = top[known], bottom[known]
    if len(top) < 2:
        return None
    draws = np.random.default_rng(seed).integers(len(top), size=(resamples, len(top)))
    tops, bottoms = top[draws].mean(axis=1), bottom[draws].mean(axis=1)
    low, high = np.quantile(bottoms, [ALPHA / 2, 1 - ALPHA / 2])
    if low <= 0 <= high:
        return None
    low, high = np.quantile(tops / bottoms, [alpha / 2, 1 - alpha / 2])
    return Ratio(float(top.mean() / bottom.mean()), float(low), float(high), len(top))


def _canonical(columns: Floats) -> Floats:
    """Rows in an order that neither shuffling nor negating all of them changes."""
    return columns[np.lexsort(np.nan_to_num(_turned(columns), nan=-np.inf).T)]


def _turned(columns: Floats) -> Floats:
    """Each row with the sign that makes its first difference positive."""
    values = np.nan_to_num(columns)
    first = np.take_along_axis(values, (values != 0).argmax(axis=1)[:, None], axis=1)
    return columns * np.where(first < 0, -1.0, 1.0)


def _t(mean: Floats, squares: Floats, n: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """t and standard error from means and sums of squares; a column of zeros has t = 0."""
    variance = np.maximum(squares - n * mean**2, 0.0) / (n - 1)
    se = np.sqrt(variance / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(mean == 0, 0.0, mean / se)
    return t, se


def _largest_t(
    values: Floats, squares: Floats, n: NDArray[np.int64], permutations: int, seed: int
) -> Floats:
    """The largest |t| over the columns under each of so many random sign flips of the rows."""
    draw = np.random.default_rng(seed)
    largest = np.empty(permutations)
    for start in range(0, permutations, BLOCK):
        count = min(BLOCK, permutations - start)
        signs = draw.integers(0, 2, size=(count, len(values)), dtype=np.int8) * 2.0 - 1.0
        t, _ = _t(signs @ values / n, squares, n)  # (count, columns)
        largest[start : start + count] = np.abs(t).max(axis=1)
    return largest
