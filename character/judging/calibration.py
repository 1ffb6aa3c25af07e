"""Make a judge's probabilities mean what they say, from pairs whose order was planted.

One temperature for a judge and a trait divides its log-odds (Guo et al. 2017, section 4.2). It is
fitted on half of the queries and tried on the other half. A verdict that is then less sure than it
has to be is none: the judge abstains (selective classification, Geifman & El-Yaniv 2017), and the
two replies tie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from character.judging.judge import Contest, Judge, NoVerdict, Outcome
from character.spec.schema import Trait

Floats = NDArray[np.float64]

SURE = 1e-6  # probabilities are kept this far from 0 and 1, where log-odds end
COLDEST, WARMEST = 1e-3, 1e3
BINS = 10


@dataclass(frozen=True, slots=True)
class Calibration:
    """`before` and `after` are expected calibration errors on queries the fit did not see.

    `sure` is the least calibrated confidence of a verdict that decides. Of the verdicts on the
    same queries a share of `decided` does, and of these a share of `right` is.
    """

    temperature: float
    before: float
    after: float
    pairs: int
    sure: float = 0.5
    decided: float = 1.0
    right: float | None = None

    @property
    def band(self) -> float:
        """Log-odds, as the judge gives them, within which it abstains."""
        return self.temperature * float(logit(self.sure))


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A judge with its log-odds divided by a temperature."""

    judge: Judge
    temperature: float

    @property
    def name(self) -> str:
        return f"{self.judge.name} at {self.temperature:.3g}"

    def compare(self, trait: Trait, contests: Sequence[Contest]) -> list[Outcome]:
        found = self.judge.compare(trait, contests)
        return [tempered(outcome, self.temperature) for outcome in found]


@dataclass(frozen=True, slots=True)
class Abstaining:
    """A judge whose verdicts tie where they are within the trait's band of even, in log-odds.

    A trait without a band has every verdict as it is given.
    """

    judge: Judge
    bands: Mapping[str, float]

    @property
    def name(self) -> str:
        return self.judge.name

    def compare(self, trait: Trait, contests: Sequence[Contest]) -> list[Outcome]:
        band = self.bands.get(trait.id, 0.0)
        return [abstained(outcome, band) for outcome in self.judge.compare(trait, contests)]


def abstained(outcome: Outcome, band: float) -> Outcome:
    """The verdict, or a tie where log(first / second) is smaller than the band."""
    if isinstance(outcome, NoVerdict) or decides(outcome.preference, band):
        return outcome
    decided = outcome.first + outcome.second
    return replace(outcome, first=0.0, second=0.0, tie=outcome.tie + decided, flipped=False)


def decides(preference: float | None, band: float) -> bool:
    """Whether a preference is as far from even as it takes; a tie never is."""
    if preference is None or preference == 0.5:
        return False
    return abs(float(logit(min(max(preference, SURE), 1 - SURE)))) >= band


def tempered(outcome: Outcome, temperature: float) -> Outcome:
    """The verdict with the log-odds of first against second divided; ties keep their share."""
    if isinstance(outcome, NoVerdict):
        return outcome
    decided = outcome.first + outcome.second
    if decided == 0:
        return outcome
    share = float(_cooled(np.array([outcome.first / decided]), temperature)[0])
    return replace(outcome, first=decided * share, second=decided * (1 - share))


def calibrate(preferences: Sequence[float], sure: float = 0.5) -> Calibration | None:
    """From the probabilities that went to the truly better reply, in the order of the queries.

    Even ones fit, odd ones try. None with fewer than twenty.
    """
    if len(preferences) < 20:
        return None
    right = np.asarray(preferences, dtype=float)
    fit, rest = right[::2], right[1::2]

    def loss(log_temperature: float) -> float:
        return -float(np.log(_cooled(fit, float(np.exp(log_temperature)))).mean())

    bounds = (np.log(COLDEST), np.log(WARMEST))
    best = float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))
    told = _cooled(rest, best)
    deciding = told[np.maximum(told, 1 - told) >= sure]
    return Calibration(
        best,
        calibration_error(rest),
        calibration_error(told),
        len(right),
        sure,
        len(deciding) / len(rest),
        float(_hits(deciding).mean()) if len(deciding) else None,
    )


def calibration_error(right: Floats | Sequence[float]) -> float:
    """Expected calibration error: |accuracy - confidence| by bins of confidence, weighted.

    Each pair counts once, with confidence max(p, 1 - p) in its own winner (Naeini et al. 2015); a
    tie of .5 is half right.
    """
    share = np.asarray(right, dtype=float)
    confidence = np.maximum(share, 1 - share)
    hit = _hits(share)
    bins = np.minimum((2 * (confidence - 0.5) * BINS).astype(int), BINS - 1)
    gaps = [
        abs(hit[bins == b].mean() - confidence[bins == b].mean()) * np.mean(bins == b)
        for b in np.unique(bins)
    ]
    return float(sum(gaps))


def _hits(right: Floats) -> Floats:
    """1 where the better reply got more than half, 1/2 where it got half."""
    found: Floats = np.where(right > 0.5, 1.0, np.where(right < 0.5, 0.0, 0.5))
    return found


def _cooled(shares: Floats, temperature: float) -> Floats:
    found: Floats = np.clip(
        expit(logit(np.clip(shares, SURE, 1 - SURE)) / temperature), SURE, 1 - SURE
    )
    return found
