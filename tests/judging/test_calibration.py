"""Temperatures and calibration errors against worked numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from character.judging.calibration import calibrate, calibration_error, tempered
from character.judging.judge import NoVerdict, Verdict


def test_calibration_error_worked_by_hand() -> None:
    # confidences .9 (right, right, wrong) and .6 (right): |2/3 - .9| x 3/4 + |1 - .6| x 1/4
    assert calibration_error([0.9, 0.9, 0.1, 0.6]) == pytest.approx(0.2333333 * 0.75 + 0.4 * 0.25)
    assert calibration_error([0.5, 0.5]) == 0  # a tie is half right, and says so


def test_a_judge_that_is_too_sure_is_cooled() -> None:
    """Right in three of four, and .99 sure: the temperature brings it to .75."""
    found = calibrate([0.99, 0.99, 0.99, 0.99, 0.99, 0.99, 0.01, 0.01] * 10)
    assert found and found.temperature == pytest.approx(
        np.log(0.99 / 0.01) / np.log(0.75 / 0.25), rel=1e-3
    )
    assert found.before == pytest.approx(0.24)
    assert found.after == pytest.approx(0, abs=1e-3)


def test_a_judge_that_is_never_sure_is_sharpened() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(0, 3, 2000)
    right = expit(np.where(rng.random(2000) < expit(true), true, -true) / 10)
    found = calibrate([float(p) for p in right])
    assert found and found.temperature == pytest.approx(0.1, rel=0.1)
    assert found.after < 0.05 < found.before


def test_too_few_pairs_calibrate_nothing() -> None:
    assert calibrate([0.9] * 19) is None


def test_certainty_in_the_wrong_one_stays_finite() -> None:
    found = calibrate([0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0] * 5)
    assert found and 0.4 < 1 / found.temperature * np.log(1e6) < 2  # log odds of three in four


def test_a_temperature_leaves_ties_and_gaps_alone() -> None:
    told = tempered(Verdict(0.6, 0.2, 0.1, 0.1), 2.0)
    assert isinstance(told, Verdict)
    # odds of 3 become odds of sqrt 3, within the .8 that is decided
    assert told.first / told.second == pytest.approx(3**0.5)
    assert (told.first + told.second, told.tie, told.inapplicable) == pytest.approx((0.8, 0.1, 0.1))
    assert tempered(Verdict(0, 0, 1), 2.0) == Verdict(0, 0, 1)
    assert tempered(NoVerdict("refused"), 2.0) == NoVerdict("refused")
