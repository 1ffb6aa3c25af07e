"""The reward model's card: what it gets right, how sure it says it is, what length alone gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

BINS = 10


@dataclass(frozen=True, slots=True)
class RewardCard:
    """How far a reward model can be trusted, on pairs of queries it never saw."""

    pairs: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    length_only: float
    calibration_error: float


def reward_card(
    chosen: Sequence[float], rejected: Sequence[float], length_difference: Sequence[int]
) -> RewardCard | None:
    """Accuracy (Wilson interval), ECE, and what length alone would score; None without pairs.

    `length_difference` is tokens of chosen minus rejected. The length-only baseline may choose
    its direction, longer or shorter; equal lengths count half.
    """
    if not chosen:
        return None
    margin = np.asarray(chosen) - np.asarray(rejected)
    right = int((margin > 0).sum())
    interval = binomtest(right, len(margin)).proportion_ci(method="wilson")
    sign = np.sign(length_difference)
    longer = float((0.5 + 0.5 * sign).mean())
    return RewardCard(
        pairs=len(margin),
        accuracy=right / len(margin),
        accuracy_low=float(interval.low),
        accuracy_high=float(interval.high),
        length_only=max(longer, 1 - longer),
        calibration_error=expected_calibration_error(1 / (1 + np.exp(-margin))),
    )


def expected_calibration_error(chosen_probability: Any) -> float:
    """Mean |confidence - accuracy| over equal-width bins by size (Guo et al. 2017, equation 3).

    chosen_probability: for each pair the stated probability of the chosen reply; the confidence is
    that of the side the model prefers.
    """
    stated = np.asarray(chosen_probability)
    confidence = np.maximum(stated, 1 - stated)
    right = stated > 0.5
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return float(
        sum(
            abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
            for b in np.unique(bins)
        )
    )
