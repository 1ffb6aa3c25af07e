"""What PPO rewards a whole reply with: the reward model, checks that code can make, and a floor.

    reward = reward model + checks x share of the trait's checks that pass

and a reply below the floor has less than any other in its batch. A reward model gives every text a
number, an empty one or one that runs in circles included, and PPO finds whichever is high; so the
floor is not a term that a high reward could buy back. It is set by the batch, since what is low
for one reward model is high for another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from character.language import language_of
from character.text import repeated_share, whole_sentences
from character.training.reward_card import RewardCard
from character.training.reward_ensemble import RewardModel, reward_of
from character.training.reward_model import conversation
from character.training.rollouts import Reward, Rollout

Checked = Callable[[Sequence[Rollout]], Sequence[float | None]]
"""The share of its trait's checks that each reply passes; None where it cannot be found out."""


def ppo_reward(
    model: RewardModel,
    card: RewardCard | None,
    checked: Checked | None,
    checks: float,
    floor: float,
    looping: float,
    language: str,
) -> Reward:
    """The reward of a run. ModelError when the reward model's card does not let it drive PPO.

    `checks` is the weight of the checks, `floor` how far a reply below the floor is under the
    lowest, `looping` the share of repeated 4-grams above which a reply runs in circles, and
    `language` the one that replies should be in, "" for any.
    """
    return with_floor(
        with_checks(reward_of(model, card), checked, checks), floor, looping, language
    )


def with_checks(reward: Reward, checked: Checked | None, weight: float) -> Reward:
    """The reward and `weight` times the share of checks passed; None where either is missing."""
    if checked is None or not weight:
        return reward

    def both(rollouts: Sequence[Rollout]) -> list[float | None]:
        return [
            None if a is None or share is None else a + weight * share
            for a, share in zip(reward(rollouts), checked(rollouts), strict=True)
        ]

    return both


def with_floor(reward: Reward, penalty: float, looping: float, language: str) -> Reward:
    """The reward; a reply below the floor has the lowest of the sound ones less `penalty`.

    When none is sound, all have the lowest of all, and there is nothing to be learned from them.
    A reply that has no reward has none below the floor either.
    """

    def floored(rollouts: Sequence[Rollout]) -> list[float | None]:
        found = list(reward(rollouts))
        sound = [not below_floor(rollout, looping, language) for rollout in rollouts]
        known = [a for a in found if a is not None]
        fine = [a for a, able in zip(found, sound, strict=True) if able and a is not None]
        if not known:
            return found
        lowest = min(fine or known) - penalty
        return [a if able or a is None else lowest for a, able in zip(found, sound, strict=True)]

    return floored


def below_floor(rollout: Rollout, looping: float, language: str) -> bool:
    """Whether a reply is empty, runs in circles, or is in another language."""
    text = rollout.text
    if not text.strip() or repeated_share(text) > looping:
        return True
    return bool(language) and language_of(text) not in ("", language)


def disagreement_of(model: RewardModel) -> Callable[[Sequence[Rollout]], list[float]] | None:
    """The standard deviation of the members' rewards for each reply; None of one member."""
    if len(model.members) < 2:
        return None

    def differ(rollouts: Sequence[Rollout]) -> list[float]:
        turns = [
            conversation(said.query, said.text if said.ended else whole_sentences(said.text))
            for said in rollouts
        ]
        return [scored.disagreement for scored in model.score(turns)]

    return differ
