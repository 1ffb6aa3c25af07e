"""GRPO and RLOO on a tiny model: they learn, are stopped, and go on to the same end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from pydantic import ValidationError
from test_ppo_guarded import HELD, OFF, QUERIES, odd, same, weights

from character.errors import ModelError
from character.rows import Step
from character.training.config import PpoConfig
from character.training.grouped import penalised, steps_per_update, train_grouped
from character.training.guarded import GOOD
from character.training.guards import Guarded
from character.training.ppo import Watch
from character.training.rollouts import Reward, Rollout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

pytestmark = pytest.mark.filterwarnings("ignore:.(is_)?gradient_checkpointing:FutureWarning")

NewPolicy = Callable[..., PeftModel]


def config(optimizer: str, guards: dict[str, Any] | None = None, **changes: Any) -> PpoConfig:
    small = {
        "optimizer": optimizer,
        "updates": 6,
        "rollouts": 16,
        "group": 4,
        "epochs": 1,
        "max_tokens": 8,
        "learning_rate": 1e-2,
        "truncated": "score",
        "truncated_penalty": 0,
        "kl_coefficient": 0.01,
        "kl_target": None,
    }
    told = {"every": 2} | (OFF if guards is None else guards)
    return PpoConfig.model_validate(small | changes | {"guards": told})


def train(
    policy: PeftModel,
    tokenizer: PreTrainedTokenizerFast,
    reward: Reward,
    changed: PpoConfig,
    folder: Path,
    on_step: Callable[[int, int], None] = lambda done, total: None,
    **watched: Any,
) -> tuple[list[Step], Guarded]:
    watch = Watch(**{"queries": HELD, "traits": ["t"] * len(HELD), "independent": odd} | watched)
    return train_grouped(policy, tokenizer, QUERIES, reward, watch, changed, 7, folder, on_step)


@pytest.mark.parametrize("optimizer", ["grpo", "rloo"])
def test_it_learns_what_is_rewarded_and_stays_near_its_start(
    optimizer: str, new_policy: NewPolicy, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    def brief(rollouts: Sequence[Rollout]) -> list[float | None]:
        return [-float(len(rollout.ids)) for rollout in rollouts]

    task = config(optimizer, {"every": 3} | OFF, rollouts=32, batch=16, max_tokens=12)
    steps, guarded = train(new_policy(), tiny_tokenizer, brief, task, tmp_path, independent=brief)
    assert (guarded.done, guarded.kept, guarded.tripped) == (6, 6, ())
    assert guarded.told == (f"{optimizer.upper()} made 6 updates and tripped no guard.",)
    probed = {step.step: step.value for step in steps if step.metric == "probe/independent"}
    assert list(probed) == [0, 3, 6]
    assert probed[6] > probed[0] + 1  # a token shorter at least
    far = [step.value for step in steps if step.metric == "probe/kl"]
    assert far[0] == 0 and far[-1] > 0  # the reference is the policy as it was found
    assert any(step.metric == "kl" and step.value > 0 for step in steps)


@pytest.mark.parametrize("optimizer", ["grpo", "rloo"])
def test_a_broken_rule_stops_it_and_rolls_it_back(
    optimizer: str, new_policy: NewPolicy, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    def long(rollouts: Sequence[Rollout]) -> list[float | None]:
        return [float(len(rollout.ids)) for rollout in rollouts]

    policy, told = new_policy(), list[str]()
    hackable = config(optimizer, OFF | {"over_optimised": True}, updates=12, max_tokens=24)
    _, guarded = train(policy, tiny_tokenizer, long, hackable, tmp_path, say=told.append)
    assert guarded.tripped[0].startswith("Over-optimisation")
    assert guarded.kept < guarded.done <= 12
    assert told[: len(guarded.rules)] == list(guarded.rules)
    kept = torch.load(tmp_path / GOOD, weights_only=True)["weights"]
    own = {n: w for n, w in policy.named_parameters() if n in kept}
    assert own and same(own, kept)
    # the same command again finds it stopped, and leaves it there
    again = new_policy()
    _, found = train(again, tiny_tokenizer, long, hackable, tmp_path)
    assert found == guarded
    assert same(weights(again), weights(policy))


def test_missing_rewards_are_left_out_and_counted(
    new_policy: NewPolicy, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    def half(rollouts: Sequence[Rollout]) -> list[float | None]:
        return [None if i % 2 else score for i, score in enumerate(odd(rollouts))]

    bars = OFF | {"missing": 0.6}
    steps, guarded = train(
        new_policy(), tiny_tokenizer, half, config("grpo", bars, updates=2), tmp_path
    )
    assert not guarded.tripped
    missing = [step.value for step in steps if step.metric == "probe/missing"]
    assert missing == [0.5, 0.5]
    learned = [step.value for step in steps if step.metric == "grad_norm"]
    assert any(value > 0 for value in learned)
    with pytest.raises(ModelError, match="are missing"):
        train(
            new_policy(), tiny_tokenizer, lambda said: [None] * len(said), config("grpo"),
            tmp_path / "none",
        )  # fmt: skip


def run_until_killed(policy: PeftModel, tokenizer: Any, folder: Path, step: int) -> None:
    def die(done: int, total: int) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    train(policy, tokenizer, odd, config("grpo", epochs=2), folder, die)


@pytest.mark.parametrize("step", [5, 12])
def test_a_killed_training_goes_on_to_the_same_end(
    step: int, new_policy: NewPolicy, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    whole = new_policy()
    train(whole, tiny_tokenizer, odd, config("grpo", epochs=2), tmp_path / "whole")
    process = get_context("fork").Process(
        target=run_until_killed, args=(new_policy(), tiny_tokenizer, tmp_path / "cut", step)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    resumed = new_policy()
    _, guarded = train(resumed, tiny_tokenizer, odd, config("grpo", epochs=2), tmp_path / "cut")
    assert guarded.done == 6
    ours = {n: w for n, w in get_peft_model_state_dict(resumed).items() if ".ref." not in n}
    theirs = {n: w for n, w in get_peft_model_state_dict(whole).items() if ".ref." not in n}
    assert same(ours, theirs)


def test_a_reply_cut_off_loses_standard_deviations_of_the_batch() -> None:
    """Rewards 1 and 3 have a standard deviation of 1."""
    ended, cut = Rollout("q", "a", (), (), True), Rollout("q", "a", (), (), False)
    assert penalised([ended, cut, cut], [1.0, 3.0, None], 2.0) == [1.0, 1.0, None]
    assert penalised([cut], [None], 2.0) == [None]


def test_settings_that_do_not_fit_are_refused() -> None:
    assert steps_per_update(config("grpo", rollouts=16, batch=8, epochs=2)) == 4
    for changes, told in (
        ({"kl_coefficient": 0.0}, "kl_coefficient > 0"),
        ({"group": 3}, "no multiple of group 3"),
        ({"batch": 12, "micro_batch": 4}, "no multiple of batch 12"),
    ):
        with pytest.raises(ValidationError, match=told):
            config("grpo", **changes)
    assert config("ppo", kl_coefficient=0.0, rollouts=6).optimizer == "ppo"
