"""From verdicts on pairs to the strengths of the replies: Bradley-Terry with Davidson's ties.

For replies i and j with log-strengths s, and log nu for ties (Davidson 1970, equation 2.2),

    P(i wins) : P(tie) : P(j wins) = exp(s_i) : nu exp((s_i + s_j) / 2) : exp(s_j)

A verdict's probabilities count as shares of several comparisons, for they say more than one
winner's name. Strengths sum to zero. A normal prior on the strengths keeps a reply that won
everything finite; with the prior off this is the maximum of the likelihood, and a reply that won
everything has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse.csgraph import connected_components

from character.judging.judge import NoVerdict, Outcome

Floats = NDArray[np.float64]

PRIOR = 3.0  # standard deviation of log-strengths, beforehand: odds of 20 between typical replies
TRIALS = 16.0  # comparisons that a verdict of probabilities is worth: log-odds off by .5 near a tie
TIES = (0.0, 1.5)  # mean and standard deviation of log nu beforehand, once ties occur


@dataclass(frozen=True, slots=True)
class Compared:
    """A verdict on two of the replies, by their numbers. Its shares of first, tie, second sum
    to 1, without the share in which the trait has no place."""

    i: int
    j: int
    first: float
    tie: float
    second: float


@dataclass(frozen=True, slots=True)
class Strengths:
    """Log-strengths (n,) that sum to zero, their covariance (n, n), and log nu.

    `log_nu` is minus infinity when there was no tie. A difference of 1 is odds of e.
    """

    values: Floats
    covariance: Floats
    log_nu: float

    @property
    def errors(self) -> Floats:
        """Standard errors of the values."""
        found: Floats = np.sqrt(np.clip(np.diag(self.covariance), 0, None))
        return found

    def preference(self, i: int, j: int) -> float:
        """Probability that reply i shows more than reply j, ties split evenly."""
        first, tie, _ = _shares(float(self.values[i] - self.values[j]), self.log_nu)
        return first + tie / 2

    def order(self) -> list[int]:
        """Numbers of the replies, strongest first."""
        return [int(i) for i in np.argsort(-self.values, kind="stable")]


def compared(i: int, j: int, outcome: Outcome) -> Compared | None:
    """What an outcome says of replies i and j; None when it says nothing."""
    if isinstance(outcome, NoVerdict) or outcome.preference is None:
        return None
    whole = 1 - outcome.inapplicable
    return Compared(i, j, outcome.first / whole, outcome.tie / whole, outcome.second / whole)


def fit_strengths(
    count: int,
    comparisons: Sequence[Compared],
    prior: float | None = PRIOR,
    trials: float = TRIALS,
) -> Strengths:
    """Fit by penalised maximum likelihood; standard errors from the inverse information.

    Each comparison counts `trials` times: 1 for a plain winner, the number of samples for a share
    of samples. Without comparisons all strengths are 0, as wide as the prior. `prior` None is
    maximum likelihood; ValueError then unless a chain of wins leads from every reply to every other
    (Ford 1957), for the strengths of the others have no end.
    """
    i = np.array([c.i for c in comparisons], dtype=int)
    j = np.array([c.j for c in comparisons], dtype=int)
    shares = np.array([(c.first, c.tie, c.second) for c in comparisons]).reshape(-1, 3)
    told = shares > 0
    ties = bool(told[:, 1].any())
    precision = 0.0 if prior is None else prior**-2
    if prior is None and not _linked(count, i, j, shares):
        raise ValueError("some replies always won or always lost: without a prior they have no end")

    def split(parameters: Floats) -> tuple[Floats, float]:
        return parameters[:count], float(parameters[count]) if ties else -math.inf

    def loss(parameters: Floats) -> tuple[float, Floats]:
        strengths, log_nu = split(parameters)
        expected, logs = _expected(strengths[i] - strengths[j], log_nu)
        value = (
            -trials * float(shares[told] @ logs[told])
            + precision * float(strengths @ strengths) / 2
        )
        pull = trials * (expected[:, 0] - expected[:, 2] - shares[:, 0] + shares[:, 2]) / 2
        gradient = np.zeros_like(parameters)
        np.add.at(gradient, i, pull)
        np.add.at(gradient, j, -pull)
        gradient[:count] += precision * strengths
        if ties:
            gradient[count] = trials * np.sum(expected[:, 1] - shares[:, 1])
            if prior is not None:
                value += (log_nu - TIES[0]) ** 2 / TIES[1] ** 2 / 2
                gradient[count] += (log_nu - TIES[0]) / TIES[1] ** 2
        return value, gradient

    found = _minimum(loss, count + ties)
    strengths, log_nu = split(found)
    information = trials * _information(count, i, j, strengths, log_nu)
    information[range(count), range(count)] += precision
    if ties and prior is not None:
        information[count, count] += TIES[1] ** -2
    covariance = np.linalg.pinv(information, hermitian=True)[:count, :count]
    centre = np.eye(count) - 1 / count  # strengths count only against each other
    return Strengths(strengths - strengths.mean(), centre @ covariance @ centre, log_nu)


def next_comparison(
    strengths: Strengths, asked: set[tuple[int, int]], trials: float = TRIALS
) -> tuple[int, int] | None:
    """The pair not asked yet whose answer is expected to tell most; None when all were asked.

    With a normal posterior, one more comparison of i and j gains

        log(1 + v w) / 2 nats,  v = Var(s_i - s_j),  w = the information of one verdict

    (Lindley 1956; w is Davidson's, which without ties is trials p (1 - p)). Pairs far apart tell
    little, and so do pairs that are known well.
    """
    best: tuple[float, int, int] | None = None
    covariance = strengths.covariance
    for i, j in combinations(range(len(strengths.values)), 2):
        if (i, j) in asked:
            continue
        variance = covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]
        gap = float(strengths.values[i] - strengths.values[j])
        told = trials * _verdict_information(gap, strengths.log_nu)
        gain = math.log1p(max(0.0, variance) * told) / 2
        if best is None or gain > best[0] + 1e-12:
            best = (gain, i, j)
    return best[1:] if best else None


class Search:
    """Asks for at most `budget` comparisons, each the one that tells most after those before.

    `wanted` and `tell` take turns, so that several searches can be asked for together. At first
    nothing is known and pairs without a reply in common tell most: those come all at once.
    """

    def __init__(
        self, count: int, budget: int, prior: float = PRIOR, trials: float = TRIALS
    ) -> None:
        self.log: list[tuple[int, int, Outcome]] = []
        self._count, self._budget, self._prior, self._trials = count, budget, prior, trials
        self._asked: list[tuple[int, int]] = []
        self._all = False
        self.strengths = fit_strengths(count, [], prior, trials)

    def want_all(self) -> None:
        """Ask for every pair in the first turn, whatever the budget."""
        self._all = True

    def wanted(self) -> list[tuple[int, int]]:
        """The pairs to compare now; none when the budget is spent or all were compared."""
        if not self._asked and self._all:
            pairs = list(combinations(range(self._count), 2))
        elif not self._asked:
            pairs = [(k, k + 1) for k in range(0, self._count - 1, 2)][: self._budget]
        elif len(self._asked) < self._budget:
            pair = next_comparison(self.strengths, set(self._asked), self._trials)
            pairs = [pair] if pair else []
        else:
            pairs = []
        self._asked += pairs
        return pairs

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What came of the pairs that were wanted last, in their order."""
        pairs = self._asked[len(self.log) :]
        self.log += [(i, j, found) for (i, j), found in zip(pairs, outcomes, strict=True)]
        known = [c for i, j, found in self.log if (c := compared(i, j, found))]
        self.strengths = fit_strengths(self._count, known, self._prior, self._trials)


def rank_adaptively(
    count: int,
    compare: Callable[[list[tuple[int, int]]], list[Outcome]],
    budget: int,
    prior: float = PRIOR,
    trials: float = TRIALS,
) -> tuple[Strengths, list[tuple[int, int, Outcome]]]:
    """The strengths after a search, and everything that was asked."""
    search = Search(count, budget, prior, trials)
    while pairs := search.wanted():
        search.tell(compare(pairs))
    return search.strengths, search.log


def _shares(gap: float, log_nu: float) -> tuple[float, float, float]:
    """(first, tie, second) for one gap in log-strength."""
    expected, _ = _expected(np.array([gap]), log_nu)
    first, tie, second = (float(x) for x in expected[0])
    return first, tie, second


def _expected(gaps: Floats, log_nu: float) -> tuple[Floats, Floats]:
    """Probabilities (n, 3) of first, tie and second, and their logarithms."""
    odds = np.stack([gaps / 2, np.full_like(gaps, log_nu), -gaps / 2], axis=1)
    logs = odds - np.logaddexp.reduce(odds, axis=1, keepdims=True)
    return np.exp(logs), logs


def _verdict_information(gap: float, log_nu: float) -> float:
    """Fisher information of one verdict about the gap: Var(wins - losses) / 4."""
    first, _, second = _shares(gap, log_nu)
    return (first + second - (first - second) ** 2) / 4


def _linked(count: int, i: NDArray[np.int_], j: NDArray[np.int_], shares: Floats) -> bool:
    wins = np.zeros((count, count))
    np.add.at(wins, (i, j), shares[:, 0] + shares[:, 1])
    np.add.at(wins, (j, i), shares[:, 2] + shares[:, 1])
    return connected_components(wins, connection="strong")[0] == 1


def _minimum(loss: Callable[[Floats], tuple[float, Floats]], size: int) -> Floats:
    found = minimize(
        loss, np.zeros(size), jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10}
    )
    point: Floats = found.x
    return point


def _information(
    count: int,
    i: NDArray[np.int_],
    j: NDArray[np.int_],
    strengths: Floats,
    log_nu: float,
) -> Floats:
    """The information of one trial a comparison: of strengths, and of log nu when ties occur."""
    ties = log_nu > -math.inf
    expected, _ = _expected(strengths[i] - strengths[j], log_nu)
    first, tie, second = expected.T
    own = (first + second - (first - second) ** 2) / 4
    found = np.zeros((count + ties, count + ties))
    for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
        np.add.at(found, (a, b), sign * own)
    if ties:
        cross = -tie * (first - second) / 2
        np.add.at(found, (i, np.full_like(i, count)), cross)
        np.add.at(found, (j, np.full_like(j, count)), -cross)
        found[count, :count] = found[:count, count]
        found[count, count] = np.sum(tie * (1 - tie))
    return found
