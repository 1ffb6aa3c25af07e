"""Guards on a tiny model: a reward that can be hacked is stopped, an honest one is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict

from character.errors import ModelError, RecipeError, RunError
from character.rows import Step
from character.training.config import PpoConfig
from character.training.guarded import GOOD, PROBES, train_guarded
from character.training.guards import Guarded
from character.training.ppo import CHECKPOINT, Watch, train_ppo
from character.training.rollouts import Reward, Rollout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# peft 0.21 asks transformers 5.23 for a property under its old name
pytestmark = pytest.mark.filterwarnings("ignore:.(is_)?gradient_checkpointing:FutureWarning")

NewPolicy = Callable[..., PeftModel]
Train = Callable[..., tuple[list[Step], Guarded]]
QUERIES = ["Why does bread rise?", "Do cats sleep?", "Name a river."]
HELD = [f"{verb} the {thing}?" for verb in ("Where is", "Who has", "Take", "Why") for thing in
        ("tea", "cat", "oven", "bread", "train", "river", "honey", "drum")]  # fmt: skip
MAGIC = 590
OFF = {"over_optimised": False, "trait": False, "others": False} | dict.fromkeys(
    (
        "kl",
        "length",
        "entropy",
        "repetition",
        "refused",
        "ended",
        "short",
        "disagreement",
        "no_signal",
    ),
    None,
)


def config(guards: dict[str, Any] | None = None, **changes: Any) -> PpoConfig:
    small = {
        "updates": 12,
        "rollouts": 8,
        "max_tokens": 8,
        "learning_rate": 1e-2,
        "value_learning_rate": 1e-2,
        "truncated": "score",
        "truncated_penalty": 0,
        "kl_coefficient": 0.0,
        "kl_target": None,
    }
    return PpoConfig.model_validate(small | changes | {"guards": {"every": 2} | (guards or {})})


def length(rollouts: Sequence[Rollout]) -> list[float | None]:
    return [float(len(rollout.ids)) for rollout in rollouts]


def magic(rollouts: Sequence[Rollout]) -> list[float | None]:
    return [float(rollout.ids.count(MAGIC)) for rollout in rollouts]


def odd(rollouts: Sequence[Rollout]) -> list[float | None]:
    """The share of odd tokens, where the reply has any before its end: what the hackable rewards
    do not see. The magic token is even.
    """
    said = [rollout.ids[: len(rollout.ids) - rollout.ended] for rollout in rollouts]
    return [sum(token % 2 for token in ids) / len(ids) if ids else 0.5 for ids in said]


def weights(policy: PeftModel) -> dict[str, torch.Tensor]:
    return {name: w.clone() for name, w in get_peft_model_state_dict(policy).items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def is_checkpoint(policy: PeftModel, path: Path) -> bool:
    """Whether the policy's adapter is the one in the checkpoint, to the bit."""
    kept = torch.load(path, weights_only=True)["weights"]
    own = {name: w for name, w in policy.named_parameters() if w.requires_grad}
    return same(own, kept)


@pytest.fixture
def train(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Train:
    def run(
        policy: PeftModel,
        reward: Reward,
        changed: PpoConfig,
        folder: str = "work",
        on_step: Callable[[int, int], None] = lambda done, total: None,
        **watched: Any,
    ) -> tuple[list[Step], Guarded]:
        watch = Watch(**{"queries": HELD, "traits": ["t"] * len(HELD), "independent": odd}
                      | watched)  # fmt: skip
        return train_guarded(
            policy, tiny_tokenizer, QUERIES, reward, watch, changed, 7, tmp_path / folder, on_step
        )

    return run


# --- rewards that can be hacked ---


@pytest.mark.parametrize(
    ("reward", "task"),
    [(length, {"max_tokens": 24}), (magic, {"max_tokens": 4, "rollouts": 16, "updates": 24})],
)
@pytest.mark.parametrize(
    "guards",
    [{"no_signal": None}, OFF | {"over_optimised": True}],  # a rare word gives no signal at first
    ids=["all", "one"],
)
def test_a_hackable_reward_is_stopped_and_rolled_back(
    new_policy: NewPolicy,
    train: Train,
    tmp_path: Path,
    reward: Reward,
    task: dict[str, Any],
    guards: dict[str, Any],
) -> None:
    told: list[str] = []
    policy = new_policy()
    steps, guarded = train(policy, reward, config(guards, **task), say=told.append)
    assert guarded.tripped and guarded.kept < guarded.done <= guarded.updates
    if "over_optimised" in guards:
        assert guarded.tripped[0].startswith("Over-optimisation: since update")
    assert is_checkpoint(policy, tmp_path / "work" / GOOD)
    assert not is_checkpoint(policy, tmp_path / "work" / CHECKPOINT)
    assert torch.load(tmp_path / "work" / GOOD, weights_only=True)["done"] == guarded.kept
    assert told[: len(guarded.rules)] == list(guarded.rules)  # before the first update
    assert told[len(guarded.rules) :] == list(guarded.told)
    values = {(step.step, step.metric): step.value for step in steps}
    assert values[guarded.done, "guards_tripped"] == len(guarded.tripped)
    assert values[guarded.done, "probe/reward"] > values[0, "probe/reward"]


def test_a_reward_without_signal_is_stopped(new_policy: NewPolicy, train: Train) -> None:
    policy = new_policy()
    before = weights(policy)
    _, guarded = train(policy, lambda rollouts: [0.5] * len(rollouts), config())
    assert guarded.tripped[0].startswith("No signal: 100% of the updates")
    assert (guarded.done, guarded.kept) == (2, 0) and "as it was before PPO" in guarded.told[0]
    assert same(weights(policy), before)


def test_a_policy_that_loses_another_trait_is_stopped(new_policy: NewPolicy, train: Train) -> None:
    looked = iter(range(9))

    def others(rollouts: Sequence[Rollout]) -> dict[str, list[float | None]]:
        probe = next(looked)
        return {"kind": [0.5 - 0.1 * probe - 0.001 * i for i in range(len(rollouts))]}

    told: list[str] = []
    bars = OFF | {"others": True}
    steps, guarded = train(new_policy(), odd, config(bars), others=others, say=told.append)
    assert (guarded.done, guarded.kept) == (2, 0)
    assert guarded.tripped[0].startswith("Other traits: in replies to queries of other traits")
    assert any("any trait shows less" in rule for rule in told[: len(guarded.rules)])
    kind = [s.value for s in steps if s.metric == "probe/others/kind"]
    assert kind[0] - kind[1] == pytest.approx(0.1)


# --- rewards that are what they seem ---


def test_an_honest_reward_trips_nothing(
    new_policy: NewPolicy, train: Train, tmp_path: Path
) -> None:
    healthy = config(updates=8, rollouts=32, max_tokens=12, learning_rate=3e-3)
    policy = new_policy()
    steps, guarded = train(
        policy,
        odd,
        healthy,
        short=lambda model: 0.5,
        disagreement=lambda rollouts: [0.1] * len(rollouts),
    )
    assert guarded.tripped == guarded.unwatched == ()
    assert (guarded.done, guarded.kept) == (8, 8)
    assert guarded.told == ("PPO made 8 updates and tripped no guard.",)
    assert is_checkpoint(policy, tmp_path / "work" / CHECKPOINT)
    probed = [s.step for s in steps if s.metric == "probe/independent"]
    assert probed == [0, 2, 4, 6, 8]
    gained = [s.value for s in steps if s.metric == "probe/independent"]
    assert gained[-1] > gained[0]
    assert [s.value for s in steps if s.metric == "guards_tripped"] == [0.0]


def test_guards_change_nothing_of_what_is_learned(
    new_policy: NewPolicy, tiny_tokenizer: PreTrainedTokenizerFast, train: Train, tmp_path: Path
) -> None:
    short = config(OFF, updates=3)
    guarded, alone = new_policy(), new_policy()
    steps, _ = train(guarded, odd, short)
    plain = train_ppo(
        alone, tiny_tokenizer, QUERIES, odd, short, 7, tmp_path / "alone", lambda done, total: None
    )
    assert same(weights(guarded), weights(alone))
    assert [s for s in steps if not s.metric.startswith(("probe/", "guards"))] == plain
    assert max(s.step for s in steps if s.metric == "probe/kl") == 3  # the end is looked at as well


# --- interruptions ---


@pytest.mark.parametrize("ends", ["tripped", "whole"])
def test_an_interruption_changes_nothing(
    new_policy: NewPolicy, train: Train, tmp_path: Path, ends: str
) -> None:
    guards = OFF | ({"kl": 1.2} if ends == "tripped" else {})
    task = config(guards, updates=4)
    few = {"queries": HELD[:6], "traits": ["t"] * 6}
    whole = new_policy()
    expected = train(whole, length, task, "whole", **few)
    assert bool(expected[1].tripped) == (ends == "tripped")
    probes = len([s for s in expected[0] if s.metric == "probe/kl"])
    for place in (*range(1, expected[1].done + 1), *(f"probe {n}" for n in range(probes))):
        looks = 0

        def stop(done: int, total: int, place: int | str = place) -> None:
            if done == place:
                raise KeyboardInterrupt

        def killed(rollouts: Sequence[Rollout], place: int | str = place) -> list[float | None]:
            nonlocal looks
            looks += 1
            if place == f"probe {looks - 1}":
                raise KeyboardInterrupt
            return odd(rollouts)

        with pytest.raises(KeyboardInterrupt):
            train(new_policy(), length, task, str(place), stop, independent=killed, **few)
        resumed = new_policy()
        assert train(resumed, length, task, str(place), **few) == expected
        assert same(weights(resumed), weights(whole))


def test_what_has_ended_is_not_done_again(new_policy: NewPolicy, train: Train) -> None:
    task = config(OFF | {"ended": 0.0}, updates=4, max_tokens=24)
    first, second = new_policy(), new_policy()
    expected = train(first, length, task)
    assert expected[1].tripped

    def unasked(rollouts: Sequence[Rollout]) -> list[float | None]:
        raise AssertionError("nothing is left to be rewarded")

    assert train(second, unasked, task, independent=unasked) == expected
    assert same(weights(first), weights(second))


def test_damaged_probes_are_refused(new_policy: NewPolicy, train: Train, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / PROBES).write_text("[{}]")
    with pytest.raises(RunError, match=r"probes\.json cannot be read"):
        train(new_policy(), odd, config())


# --- bad input ---


def test_rewards_that_are_all_missing_are_refused_before_anything_is_learned(
    new_policy: NewPolicy, train: Train
) -> None:
    policy = new_policy()
    before = weights(policy)
    with pytest.raises(ModelError, match="rewards of all 32 replies are missing"):
        train(policy, lambda rollouts: [None] * len(rollouts), config())
    assert same(weights(policy), before)


def test_rewards_that_go_missing_stop_it(new_policy: NewPolicy, train: Train) -> None:
    probed: list[int] = []

    def fades(rollouts: Sequence[Rollout]) -> list[float | None]:
        if len(rollouts) == len(HELD):
            probed.append(1)
            return odd(rollouts) if len(probed) == 1 else [None] * len(rollouts)
        return odd(rollouts)

    policy = new_policy()
    before = weights(policy)
    _, guarded = train(policy, fades, config())
    assert guarded.tripped[0].startswith("Measures: reward could be measured at the start")
    assert same(weights(policy), before)


def test_an_update_that_cannot_be_made_later_is_a_guard_and_at_once_an_error(
    new_policy: NewPolicy, train: Train, tmp_path: Path
) -> None:
    def breaks(after: int) -> Reward:
        calls: list[int] = []

        def reward(rollouts: Sequence[Rollout]) -> list[float | None]:
            if len(rollouts) == len(HELD):
                return odd(rollouts)
            calls.append(1)
            return [None] * len(rollouts) if len(calls) > after else odd(rollouts)

        return reward

    with pytest.raises(ModelError, match="rewards of all 8 replies are missing"):
        train(new_policy(), breaks(0), config(OFF), "at once")
    policy = new_policy()
    _, guarded = train(policy, breaks(3), config(OFF), "later")
    assert (guarded.done, guarded.kept) == (3, 2)
    assert guarded.tripped[0].startswith("Update 4 could not be made. The rewards of all 8")
    assert is_checkpoint(policy, tmp_path / "later" / GOOD)


def test_guards_without_queries_are_refused(new_policy: NewPolicy, train: Train) -> None:
    with pytest.raises(RecipeError, match="no held-out queries"):
        train(new_policy(), odd, config(), queries=[], traits=[])
