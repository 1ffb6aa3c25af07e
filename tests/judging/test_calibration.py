"""Temperatures and calibration errors against worked numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from character.judging.calibration import (
    Abstaining,
    abstained,
    calibrate,
    calibration_error,
    decides,
    tempered,
)
from character.judging.judge import Contest, NoVerdict, Outcome, Said, Verdict
from character.spec.schema import Trait


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


def test_what_a_judge_decides_worked_by_hand() -> None:
    """Of ten verdicts six are .9 sure, five of them right; four are .55 sure, two right."""
    ten = [0.9] * 5 + [0.1] + [0.55] * 2 + [0.45] * 2
    both = [p for p in ten * 4 for _ in (0, 1)]  # the half that fits is the half that tries
    found = calibrate(both, sure=0.7)
    assert found and found.sure == 0.7
    assert found.decided == pytest.approx(0.6) and found.right == pytest.approx(5 / 6)
    # .7 after the temperature is this many log-odds before it
    assert found.band == pytest.approx(found.temperature * np.log(0.7 / 0.3))
    assert decides(expit(found.band + 1e-6), found.band)
    assert not decides(expit(found.band - 1e-6), found.band)


def test_a_judge_that_is_never_sure_enough_decides_nothing() -> None:
    found = calibrate([0.9, 0.9, 0.1, 0.1] * 10, sure=0.8)  # right in one of two: chance
    assert found and found.decided == 0 and found.right is None


def test_an_abstention_is_a_tie_that_keeps_the_rest() -> None:
    near, far = Verdict(0.4, 0.3, 0.1, 0.2, slot=0.1), Verdict(0.6, 0.1, 0.1, 0.2)
    told = abstained(near, band=1.0)
    assert isinstance(told, Verdict) and (told.first, told.second) == (0, 0)
    assert (told.tie, told.inapplicable, told.slot) == (pytest.approx(0.8), 0.2, 0.1)
    assert abstained(far, band=1.0) is far
    assert abstained(Verdict(0.1, 0.1, 0.0, 0.8), 1.0) == Verdict(0, 0, 0.2, 0.8)
    assert abstained(NoVerdict("refused"), 1.0) == NoVerdict("refused")


def test_a_judge_abstains_by_the_trait(small_trait: Trait) -> None:
    class Leaning:
        name = "leaning"

        def compare(self, trait: Trait, contests: list[Contest]) -> list[Outcome]:
            return [Verdict(0.6, 0.4) for _ in contests]

    contest = Contest(Said("a?", "b"), Said("a?", "c"))
    judge = Abstaining(Leaning(), {small_trait.id: 0.5})  # type: ignore[arg-type]
    other = small_trait.model_copy(update={"id": "other"})
    assert judge.name == "leaning"
    assert judge.compare(small_trait, [contest]) == [Verdict(0, 0, 1)]  # log 1.5 is .41
    assert judge.compare(other, [contest]) == [Verdict(0.6, 0.4)]
