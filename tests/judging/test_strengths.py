"""Bradley-Terry with Davidson's ties: against worked numbers, statsmodels, and known orders."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import kendalltau

from character.judging.judge import NoVerdict, Outcome, Verdict
from character.judging.strengths import (
    Compared,
    Strengths,
    compared,
    fit_strengths,
    next_comparison,
    rank_adaptively,
)

shares = st.tuples(*[st.floats(0.05, 1) for _ in range(3)]).map(
    lambda odds: tuple(odd / sum(odds) for odd in odds)
)


def test_two_replies_worked_by_hand() -> None:
    # 3 wins of 4 without ties: P = 3/4, gap = log(3/1), information = 4 x 3/4 x 1/4 = 3/4
    found = fit_strengths(2, [Compared(0, 1, 1, 0, 0)] * 3 + [Compared(0, 1, 0, 0, 1)], None, 1)
    assert found.values[0] - found.values[1] == pytest.approx(math.log(3), abs=1e-6)
    gap_variance = found.covariance[0, 0] + found.covariance[1, 1] - 2 * found.covariance[0, 1]
    assert gap_variance == pytest.approx(4 / 3, abs=1e-6)
    assert found.log_nu == -math.inf
    assert found.preference(0, 1) == pytest.approx(0.75, abs=1e-6)


def test_davidson_worked_by_hand() -> None:
    # shares 1/2, 1/4, 1/4: exp(gap) = (1/2)/(1/4) = 2, and nu = (1/4)/sqrt(1/2 x 1/4) = 1/sqrt 2
    found = fit_strengths(2, [Compared(0, 1, 0.5, 0.25, 0.25)], prior=None)
    assert found.values[0] - found.values[1] == pytest.approx(math.log(2), abs=1e-6)
    assert found.log_nu == pytest.approx(-math.log(2) / 2, abs=1e-6)
    assert found.preference(0, 1) == pytest.approx(0.5 + 0.125, abs=1e-6)


def made(seed: int, count: int, ties: bool) -> list[Compared]:
    """Counts of wins, ties and losses as fractions, every pair linked."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, j in combinations(range(count), 2):
        first, tie, second = rng.dirichlet([2, 1.0 if ties else 1e-9, 2])
        rows.append(Compared(i, j, first, tie if ties else 0.0, second + (0 if ties else tie)))
    return rows


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bradley_terry_agrees_with_statsmodels(seed: int) -> None:
    count = 5
    rows = made(seed, count, ties=False)
    design = np.array([[(k == r.i) - (k == r.j) for k in range(1, count)] for r in rows], float)
    fit = sm.GLM(np.array([r.first for r in rows]), design, sm.families.Binomial()).fit(tol=1e-12)
    found = fit_strengths(count, rows, None, 1)
    assert found.values[1:] - found.values[0] == pytest.approx(fit.params, abs=1e-6)
    against_first = [
        found.covariance[k, k] + found.covariance[0, 0] - 2 * found.covariance[0, k]
        for k in range(1, count)
    ]
    assert np.sqrt(against_first) == pytest.approx(fit.bse, abs=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_davidson_agrees_with_the_same_model_as_a_log_linear_one(seed: int) -> None:
    """Davidson's model is a Poisson regression with a level for each pair (Fienberg 1979)."""
    count = 4
    rows = made(seed, count, ties=True)
    outcome, design = [], []
    for at, row in enumerate(rows):
        for value, kind in ((row.first, 1), (row.tie, 0), (row.second, -1)):
            strength = np.zeros(count)
            strength[row.i] += {1: 1.0, 0: 0.5, -1: 0.0}[kind]
            strength[row.j] += {1: 0.0, 0: 0.5, -1: 1.0}[kind]
            level = np.eye(len(rows))[at]
            design.append([*strength[1:], float(kind == 0), *level])
            outcome.append(value)
    fit = sm.GLM(np.array(outcome), np.array(design), sm.families.Poisson()).fit(tol=1e-13)
    found = fit_strengths(count, rows, None, 1)
    assert found.values[1:] - found.values[0] == pytest.approx(fit.params[: count - 1], abs=1e-6)
    assert found.log_nu == pytest.approx(fit.params[count - 1], abs=1e-6)
    against_first = [
        found.covariance[k, k] + found.covariance[0, 0] - 2 * found.covariance[0, k]
        for k in range(1, count)
    ]
    assert np.sqrt(against_first) == pytest.approx(fit.bse[: count - 1], abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.lists(shares, min_size=6, max_size=6), st.permutations(range(4)))
def test_neither_the_order_of_replies_nor_of_a_pair_counts(
    given_shares: list[tuple[float, float, float]], order: list[int]
) -> None:
    pairs = list(combinations(range(4), 2))
    rows = [Compared(i, j, *each) for (i, j), each in zip(pairs, given_shares, strict=True)]
    found = fit_strengths(4, rows)
    turned = [Compared(r.j, r.i, r.second, r.tie, r.first) for r in rows]
    assert fit_strengths(4, turned).values == pytest.approx(found.values, abs=1e-5)
    renamed = [Compared(order[r.i], order[r.j], r.first, r.tie, r.second) for r in rows]
    assert fit_strengths(4, renamed).values[list(order)] == pytest.approx(found.values, abs=1e-5)
    assert found.values.sum() == pytest.approx(0, abs=1e-9)


def test_a_reply_that_always_won_is_finite_with_the_prior_and_refused_without() -> None:
    rows = [Compared(0, 1, 1, 0, 0), Compared(0, 2, 1, 0, 0), Compared(1, 2, 1, 0, 0)]
    assert fit_strengths(3, rows).order() == [0, 1, 2]
    assert np.isfinite(fit_strengths(3, rows).values).all()
    with pytest.raises(ValueError, match="without a prior"):
        fit_strengths(3, rows, prior=None)


def test_nothing_compared_is_nothing_known() -> None:
    found = fit_strengths(3, [])
    assert found.values.tolist() == [0, 0, 0]
    assert found.errors == pytest.approx([3 * math.sqrt(2 / 3)] * 3)


def test_a_missing_verdict_says_nothing() -> None:
    assert compared(0, 1, NoVerdict("refused")) is None
    assert compared(0, 1, Verdict(0.1, 0.1, 0.1, inapplicable=0.7)) is None
    found = compared(0, 1, Verdict(0.4, 0.2, 0.2, inapplicable=0.2))
    assert found and (found.first, found.tie, found.second) == pytest.approx((0.5, 0.25, 0.25))


def test_a_known_order_is_recovered_under_a_fifth_of_noise() -> None:
    """Each verdict names the wrong one with probability .2; ten replies, twelve rounds."""
    rng = np.random.default_rng(4)
    truth = np.arange(10)[::-1]
    rows = []
    for _ in range(12):
        for i, j in combinations(range(10), 2):
            right = rng.random() > 0.2
            rows.append(Compared(i, j, float(right), 0, float(not right)))
    found = fit_strengths(10, rows)
    assert kendalltau(found.values, truth).statistic > 0.9


def test_the_next_comparison_is_the_most_uncertain_of_near_equals() -> None:
    # 0 and 1 are close, 2 is far below: the verdict on (0, 1) tells most
    close = Strengths(np.array([2.0, 1.8, -3.8]), np.eye(3), -math.inf)
    assert next_comparison(close, set()) == (0, 1)
    assert next_comparison(close, {(0, 1)}) == (1, 2)
    # at equal strength the pair that is known worst: variances 1 + 1, 1 + 4
    wide = Strengths(np.zeros(3), np.diag([1.0, 1.0, 4.0]), -math.inf)
    assert next_comparison(wide, set()) == (0, 2)
    assert next_comparison(wide, set(combinations(range(3), 2))) is None


def judged(truth: np.ndarray, noise: float, seed: int) -> dict[tuple[int, int], float]:
    rng = np.random.default_rng(seed)
    return {
        (i, j): float(expit(truth[i] - truth[j] + noise * rng.normal()))
        for i, j in combinations(range(len(truth)), 2)
    }


def test_two_fifths_of_the_calls_rank_eight_replies_as_well_as_all() -> None:
    """Mean Kendall tau with the truth over forty lists: within .02 of the full round-robin's.

    The judge's log-odds are off by .15; how the gap grows with that is in the benchmark.
    """
    full, few = [], []
    for seed in range(40):
        truth = np.random.default_rng(1000 + seed).normal(0, 1.5, 8)
        said = judged(truth, 0.15, seed)

        def ask(
            pairs: list[tuple[int, int]], said: dict[tuple[int, int], float] = said
        ) -> list[Outcome]:
            return [Verdict(p := said[min(pair), max(pair)], 1 - p) for pair in pairs]

        everything, log = rank_adaptively(8, ask, 28)
        assert len(log) == 28
        some, log = rank_adaptively(8, ask, 11)
        assert len(log) == 11 and len({(i, j) for i, j, _ in log}) == 11
        full.append(kendalltau(everything.values, truth).statistic)
        few.append(kendalltau(some.values, truth).statistic)
    assert np.mean(few) >= np.mean(full) - 0.02


def test_missing_verdicts_use_up_the_budget_and_not_the_ranking() -> None:
    found, log = rank_adaptively(3, lambda pairs: [NoVerdict("refused") for _ in pairs], 3)
    assert len(log) == 3
    assert found.values.tolist() == [0, 0, 0]
