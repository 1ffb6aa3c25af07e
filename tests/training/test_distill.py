"""Distillation on a tiny model: it learns, anchors hold it, and an interruption changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import get_peft_model_state_dict

from character.rows import Reply, Step
from character.spec.schema import Trait
from character.training.config import AnchorsConfig, DistillConfig
from character.training.distill import BatchesByLength, distill, lesson_loss
from character.training.lessons import Lesson, anchor_lessons, character_lessons, collate

if TYPE_CHECKING:
    from peft import PeftModel

    from character.models.local import LocalModel

# peft 0.21 asks transformers 5.23 for a property under its old name
pytestmark = pytest.mark.filterwarnings("ignore:.(is_)?gradient_checkpointing:FutureWarning")

NewPolicy = Callable[..., "PeftModel"]
CONFIG = DistillConfig(epochs=2, learning_rate=1e-2, batch=4, micro_batch=2)
SEED = 5


@pytest.fixture
def lessons(base: LocalModel, small_trait: Trait, said: list[tuple[str, Reply]]) -> list[Lesson]:
    return character_lessons(base, small_trait, said, CONFIG)


@pytest.fixture
def anchors(base: LocalModel) -> list[Lesson]:
    queries = ["Hi", "Name a river.", "Which day is it?", "Do cats sleep?", "Is tea hot?", "Why?"]
    return anchor_lessons(base, queries, AnchorsConfig(max_tokens=6))


def train(
    policy: PeftModel,
    lessons: list[Lesson],
    folder: Path,
    config: DistillConfig = CONFIG,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> list[Step]:
    return distill(policy, lessons, config, SEED, folder, on_step)


def values(steps: list[Step], metric: str) -> list[float]:
    return [step.value for step in steps if step.metric == metric]


def weights(policy: PeftModel) -> dict[str, torch.Tensor]:
    return {name: w.clone() for name, w in get_peft_model_state_dict(policy).items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def loss_on(policy: PeftModel, lessons: list[Lesson]) -> float:
    with torch.no_grad():
        return lesson_loss(policy, collate(lessons)).item()


# --- learning ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_policy_learns_what_its_prompted_self_would_say(
    new_policy: NewPolicy, lessons: list[Lesson], tmp_path: Path, dtype: torch.dtype
) -> None:
    policy = new_policy(dtype=dtype)
    before = loss_on(policy, lessons)
    steps = train(policy, lessons, tmp_path, CONFIG.model_copy(update={"epochs": 8}))
    after = loss_on(policy, lessons)
    assert after < 0.7 * before
    told = values(steps, "loss")
    assert len(told) == 8 * 2  # six lessons in batches of four
    assert sum(told[-2:]) < 0.8 * sum(told[:2])


def test_the_loss_that_is_told_is_the_mean_over_the_batch(
    new_policy: NewPolicy, lessons: list[Lesson], tmp_path: Path
) -> None:
    for name, micro_batch in (("whole", 6), ("parts", 2)):
        config = CONFIG.model_copy(update={"epochs": 1, "batch": 6, "micro_batch": micro_batch})
        policy = new_policy()
        parts = sorted(lessons, key=lambda lesson: len(lesson.prompt) + len(lesson.reply))
        expected = [loss_on(policy, parts[i : i + micro_batch]) for i in range(0, 6, micro_batch)]
        steps = train(policy, lessons, tmp_path / name, config)
        told = values(steps, "loss")
        assert told == pytest.approx([sum(expected) / len(expected)], rel=0.03), name


def test_anchors_hold_the_policy_and_without_weight_they_do_not(
    new_policy: NewPolicy, lessons: list[Lesson], anchors: list[Lesson], tmp_path: Path
) -> None:
    drift = {}
    for weight in (0.0, 1.0):
        weighted = [replace(anchor, weight=weight) for anchor in anchors]
        policy = new_policy()
        config = CONFIG.model_copy(update={"epochs": 6})
        train(policy, lessons + weighted, tmp_path / str(weight), config)
        drift[weight] = loss_on(policy, anchors)
        assert loss_on(policy, lessons) < loss_on(new_policy(), lessons)
    assert drift[1.0] < 0.5 * drift[0.0]


def test_no_epochs_leave_the_policy_as_it_was(
    new_policy: NewPolicy, lessons: list[Lesson], tmp_path: Path
) -> None:
    policy = new_policy()
    before = weights(policy)
    steps = train(policy, lessons, tmp_path, CONFIG.model_copy(update={"epochs": 0}))
    assert same(weights(policy), before)
    assert values(steps, "loss") == []


# --- progress and resuming ---


def test_progress_and_steps_are_told(
    new_policy: NewPolicy, lessons: list[Lesson], tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    steps = train(new_policy(), lessons, tmp_path, on_step=lambda *at: told.append(at))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert {step.stage for step in steps} == {"distill"}
    assert [step.step for step in steps if step.metric == "loss"] == [1, 2, 3, 4]
    assert len({step.id for step in steps}) == len(steps)


def test_seeds_decide_everything(
    new_policy: NewPolicy, lessons: list[Lesson], tmp_path: Path
) -> None:
    policies = [new_policy() for _ in range(2)]
    told = [train(policy, lessons, tmp_path / str(i)) for i, policy in enumerate(policies)]
    assert same(*map(weights, policies))
    assert values(told[0], "loss") == values(told[1], "loss")
    other = new_policy()
    distill(other, lessons, CONFIG, SEED + 1, tmp_path / "other", lambda *at: None)
    assert not same(weights(other), weights(policies[0]))


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_an_interruption_changes_nothing(
    new_policy: NewPolicy, lessons: list[Lesson], tmp_path: Path, at: int
) -> None:
    whole = new_policy()
    steps = train(whole, lessons, tmp_path / "whole")

    def stop(done: int, total: int) -> None:
        if done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(new_policy(), lessons, tmp_path / "parts", on_step=stop)
    resumed = new_policy(seed=0 if at <= 2 else 1)  # after an epoch the checkpoint decides
    done: list[int] = []
    again = train(resumed, lessons, tmp_path / "parts", on_step=lambda at, total: done.append(at))
    assert done == ([1, 2, 3, 4] if at <= 2 else [3, 4])
    assert same(weights(resumed), weights(whole))
    for metric in ("loss", "grad_norm", "learning_rate"):
        assert values(again, metric) == values(steps, metric)


@pytest.mark.parametrize("interrupted", [False, True])
def test_every_epoch_has_its_own_order(
    new_policy: NewPolicy, lessons: list[Lesson], tmp_path: Path, interrupted: bool
) -> None:
    # steps of one lesson that change nothing, so that a step's loss says which lesson it was
    changes = {"batch": 1, "micro_batch": 1, "learning_rate": 1e-9}
    config = CONFIG.model_copy(update=changes)
    losses = [loss_on(new_policy(), [lesson]) for lesson in lessons]
    if interrupted:

        def stop(done: int, total: int) -> None:
            if done > len(lessons):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(new_policy(), lessons, tmp_path, config, stop)
    told = values(train(new_policy(), lessons, tmp_path, config), "loss")
    order = [min(range(len(losses)), key=lambda i: abs(losses[i] - loss)) for loss in told]
    expected = []
    for epoch in (0, 1):
        sampler = BatchesByLength([0] * len(lessons), 1, SEED)
        sampler.set_epoch(epoch)
        expected += list(sampler)
    assert order == expected
    assert order[: len(lessons)] != order[len(lessons) :]


def test_a_finished_training_is_not_done_again(
    new_policy: NewPolicy, lessons: list[Lesson], tmp_path: Path
) -> None:
    whole = new_policy()
    steps = train(whole, lessons, tmp_path)
    done: list[int] = []
    again = new_policy(seed=1)
    told = train(again, lessons, tmp_path, on_step=lambda at, total: done.append(at))
    assert done == []
    assert same(weights(again), weights(whole))
    assert values(told, "loss") == values(steps, "loss")


def test_half_a_checkpoint_is_not_resumed_from(
    new_policy: NewPolicy, lessons: list[Lesson], tmp_path: Path
) -> None:
    whole = new_policy()
    train(whole, lessons, tmp_path / "whole")
    half = tmp_path / "parts" / "checkpoint-2"
    half.mkdir(parents=True)
    (half / "adapter_model.safetensors").write_bytes(b"half")
    resumed = new_policy()
    train(resumed, lessons, tmp_path / "parts")
    assert same(weights(resumed), weights(whole))


# --- the order of lessons ---

lengths_and_batch = (
    st.lists(st.integers(1, 200), min_size=1, max_size=60),
    st.integers(1, 20),
)


@given(*lengths_and_batch, st.integers(0, 5))
def test_an_epoch_covers_every_lesson_once_in_sorted_batches(
    lengths: list[int], batch: int, epoch: int
) -> None:
    sampler = BatchesByLength(lengths, batch, SEED)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert sorted(order) == list(range(len(lengths)))
    assert len(sampler) == len(order)
    for start in range(0, len(order), batch):
        found = [lengths[i] for i in order[start : start + batch]]
        assert found == sorted(found)


def test_epochs_differ_and_a_seed_gives_its_order_again() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = BatchesByLength(list(range(40)), 8, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6
