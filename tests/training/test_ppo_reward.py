"""What a rollout is rewarded with, by hand: the model, the checks and the floor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from character.errors import ModelError
from character.training.ppo_reward import (
    below_floor,
    disagreement_of,
    ppo_reward,
    with_checks,
    with_floor,
)
from character.training.reward_card import RewardCard, RewardTest
from character.training.reward_ensemble import Member, RewardModel, Scored
from character.training.rollouts import Rollout

LOOP = "again and again it went on " * 6
GERMAN = "Das ist ein schöner Tag, und wir gehen am Nachmittag gemeinsam in den Garten."


def said(text: str, ended: bool = True) -> Rollout:
    return Rollout("Why?", text, (1,), (2, 3), ended)


def constant(*rewards: float | None) -> Any:
    def reward(rollouts: Sequence[Rollout]) -> list[float | None]:
        assert len(rollouts) == len(rewards)
        return list(rewards)

    return reward


def a_card(passed: bool) -> RewardCard:
    test = RewardTest("accuracy", 0.9 if passed else 0.55, bar="0.8", passed=passed, required=True)
    return RewardCard(40, 0.9, 0.8, 0.95, 0.5, 0.05, (test,))


class Lengths(RewardModel):
    """Two members: the words of a reply, and twice as many."""

    def __init__(self) -> None:
        self.members, self.pessimism = [Member(None, "a"), Member(None, "b")], 1.0
        self.asked: list[str] = []

    def score(self, conversations: Any) -> list[Scored]:
        self.asked = [turns[-1]["content"] for turns in conversations]
        counts = [float(len(text.split())) for text in self.asked]
        return [Scored((count, 2 * count)) for count in counts]


def test_the_parts_add_up() -> None:
    def checked(rollouts: Sequence[Rollout]) -> list[float | None]:
        return [1.0, 0.0, 0.5]

    reward = ppo_reward(Lengths(), a_card(True), checked, 2.0, 3.0, 0.1, "en")
    # mean 1.5 n less a standard deviation of 0.5 n is n
    replies = [said("one two"), said("one two three"), said(LOOP)]
    assert reward(replies) == pytest.approx([2 + 2, 3, 3 - 3.0])


@pytest.mark.parametrize("text", ["", "  \n", LOOP, GERMAN])
def test_a_reply_below_the_floor_is_the_lowest(text: str) -> None:
    assert below_floor(said(text), 0.1, "en")
    floored = with_floor(constant(5.0, -1.0, 99.0), 0.5, 0.1, "en")
    assert floored([said("Yes, it does."), said("No."), said(text)]) == [5.0, -1.0, -1.5]


def test_a_floor_in_any_language_asks_for_none() -> None:
    assert not below_floor(said(GERMAN), 0.1, "")
    assert not below_floor(said("Ja."), 0.1, "en")  # too short to tell


def test_missing_stays_missing() -> None:
    floored = with_floor(constant(None, 2.0, None), 1.0, 0.1, "en")
    assert floored([said("Yes."), said("No."), said("")]) == [None, 2.0, None]
    none = with_floor(constant(None, None), 1.0, 0.1, "en")
    assert none([said("Yes."), said("")]) == [None, None]
    both = with_checks(constant(1.0, None, 3.0), constant(None, 1.0, 0.0), 1.0)
    assert both([said("a"), said("b"), said("c")]) == [None, None, 3.0]


def test_where_no_reply_is_sound_nothing_is_learned() -> None:
    floored = with_floor(constant(5.0, -1.0), 1.0, 0.1, "en")
    assert floored([said(""), said(LOOP)]) == [-2.0, -2.0]


@pytest.mark.parametrize(
    ("card", "says"), [(None, "has no card"), (a_card(False), r"accuracy is 0\.55.*--set")]
)
def test_a_reward_model_below_its_bars_drives_nothing(card: RewardCard | None, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        ppo_reward(Lengths(), card, None, 1.0, 1.0, 0.1, "en")


def test_how_far_reward_models_differ_is_of_what_they_are_asked() -> None:
    model = Lengths()
    differ = disagreement_of(model)
    assert differ is not None
    assert list(differ([said("One two. And"), said("One two. And", ended=False)])) == [1.5, 1.0]
    assert model.asked == ["One two. And", "One two."]
    model.members = model.members[:1]
    assert disagreement_of(model) is None
