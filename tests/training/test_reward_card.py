"""The reward model's card against numbers worked by hand."""

from __future__ import annotations

from math import log, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from character.training.reward_card import expected_calibration_error, reward_card


def margin_of(probability: float) -> float:
    """The margin at which the chosen reply has this probability."""
    return log(probability / (1 - probability))


def test_without_pairs_there_is_no_card() -> None:
    assert reward_card([], [], []) is None


def test_accuracy_and_its_interval_worked_by_hand() -> None:
    card = reward_card([1.0] * 8 + [0.0] * 2, [0.0] * 8 + [1.0] * 2, [0] * 10)
    assert card is not None
    assert (card.pairs, card.accuracy) == (10, 0.8)
    # Wilson 1927: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    z = 1.959963985
    centre, width = 0.8 + z**2 / 20, z * sqrt(0.8 * 0.2 / 10 + z**2 / 400)
    assert card.accuracy_low == pytest.approx((centre - width) / (1 + z**2 / 10), abs=1e-6)
    assert card.accuracy_high == pytest.approx((centre + width) / (1 + z**2 / 10), abs=1e-6)
    assert card.accuracy_low == pytest.approx(0.4902, abs=1e-4)  # as tables have it
    assert card.accuracy_high == pytest.approx(0.9433, abs=1e-4)


def test_equal_rewards_are_not_right() -> None:
    card = reward_card([1.0, 2.0], [1.0, 1.0], [0, 0])
    assert card is not None
    assert card.accuracy == 0.5


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([5, 1, 1, -9], 0.75),
        ([-5, -1, -1, 9], 0.75),  # shorter may be what length alone would choose
        ([3, -3], 0.5),
        ([0, 0, 0], 0.5),
        ([0, 7], 0.75),  # a tie counts half
        ([0, 0, -1, -1], 0.75),
        ([2], 1.0),
    ],
)
def test_what_length_alone_would_get(differences: list[int], expected: float) -> None:
    card = reward_card([0.0] * len(differences), [1.0] * len(differences), differences)
    assert card is not None
    assert card.length_only == pytest.approx(expected)


def test_calibration_worked_by_hand() -> None:
    # bins of width 0.1 by confidence: {0.85, 0.85, 0.15} and {0.62, 0.38}
    # 0.85 is right twice of three, 0.62 once of two: 3/5 |0.85 - 2/3| + 2/5 |0.62 - 1/2|
    stated = [0.85, 0.85, 0.15, 0.62, 0.38]
    expected = 0.6 * (0.85 - 2 / 3) + 0.4 * (0.62 - 0.5)
    assert expected_calibration_error(stated) == pytest.approx(expected)
    card = reward_card([margin_of(p) for p in stated], [0.0] * 5, [1] * 5)
    assert card is not None
    assert card.calibration_error == pytest.approx(expected)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ([1.0, 1.0], 0.0),  # sure and right
        ([0.0, 0.0], 1.0),  # sure and wrong
        ([1.0, 0.0], 0.5),
        ([0.7] * 7 + [0.3] * 3, 0.0),  # as sure as it is right
    ],
)
def test_calibration_at_the_ends(stated: list[float], expected: float) -> None:
    assert expected_calibration_error(stated) == pytest.approx(expected, abs=1e-12)


@given(
    st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.integers(-99, 99)), min_size=1)
)
def test_every_number_is_a_share(rows: list[tuple[float, float, int]]) -> None:
    card = reward_card(*map(list, zip(*rows, strict=True)))
    assert card is not None
    assert 0 <= card.accuracy_low <= card.accuracy <= card.accuracy_high <= 1
    assert 0.5 <= card.length_only <= 1
    assert 0 <= card.calibration_error <= 1
