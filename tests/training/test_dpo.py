"""DPO on a tiny model: TRL's loss, plus the anchors, from the distilled policy as reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp, log
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig as TrlDpoConfig
from trl import DPOTrainer

from character.models.loading import load_model
from character.rows import Pair, Query, Reply, Step
from character.training.config import AnchorsConfig, DpoConfig
from character.training.dataset import trl_rows
from character.training.distill import lesson_loss
from character.training.dpo import train_dpo
from character.training.dpo_loss import dpo_loss
from character.training.lessons import Lesson, anchor_lessons, collate
from character.training.policy import save_policy
from character.training.runner import arguments

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

    from character.models.local import LocalModel

# peft 0.21 asks transformers 5.23 for a property under its old name
pytestmark = pytest.mark.filterwarnings("ignore:.(is_)?gradient_checkpointing:FutureWarning")

NewPolicy = Callable[..., PeftModel]
CONFIG = DpoConfig(epochs=1, nll=0, learning_rate=1e-2, batch=2, micro_batch=2)
SEED = 5


@pytest.fixture
def pairs(said: list[tuple[str, Reply]]) -> Dataset:
    return pairs_of(said)


def pairs_of(said: Sequence[tuple[str, Reply]]) -> Dataset:
    """Replies that ask back are chosen over the same replies without their question."""
    queries, replies, pairs = {}, {}, []
    for i, (query, reply) in enumerate(said):
        queries[f"q{i}"] = Query(
            f"q{i}", query, "on_trait", "asking", "asks", "", "", "seed", i, "train", ""
        )
        replies[reply.id] = reply
        plain = replace(reply, id=f"p{i}", text=reply.text.rpartition(". ")[0] + ".")
        replies[plain.id] = plain
        pairs.append(Pair(f"pair {i}", f"q{i}", "k", reply.id, plain.id, 1.0, 0.7, "train"))
    return trl_rows(pairs, queries, replies)


@pytest.fixture
def anchors(base: LocalModel) -> list[Lesson]:
    queries = ["Hi", "Name a river.", "Which day is it?", "Do cats sleep?"]
    return anchor_lessons(base, queries, AnchorsConfig(max_tokens=6))


def moved(policy: PeftModel) -> PeftModel:
    """The policy after some training: its adapter does something."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
    return policy


@pytest.fixture
def distilled(new_policy: NewPolicy) -> Callable[[], PeftModel]:
    return lambda: moved(new_policy())


def train(
    policy: PeftModel,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    folder: Path,
    config: DpoConfig = CONFIG,
    anchors: Sequence[Lesson] = (),
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> list[Step]:
    return train_dpo(policy, tokenizer, pairs, anchors, config, SEED, folder, on_step)


def values(steps: list[Step], metric: str) -> list[float]:
    return [step.value for step in steps if step.metric == metric]


def weights(policy: PeftModel) -> dict[str, torch.Tensor]:
    return {name: w.clone() for name, w in get_peft_model_state_dict(policy).items()}


def logprob(policy: PeftModel, tokenizer: PreTrainedTokenizerFast, row: dict, side: str) -> float:
    """Of the reply's tokens and its end, in a plain forward pass."""
    prompt = tokenizer.apply_chat_template(
        row["prompt"], add_generation_prompt=True, return_dict=False
    )
    whole = tokenizer.apply_chat_template([*row["prompt"], *row[side]], return_dict=False)
    with torch.no_grad():
        logits = policy(torch.tensor([whole])).logits[0, len(prompt) - 1 : -1]
    reply = torch.tensor(whole[len(prompt) :]).unsqueeze(1)
    return float(logits.log_softmax(-1).gather(1, reply).sum())


def logprobs(
    policy: PeftModel, tokenizer: PreTrainedTokenizerFast, pairs: Dataset
) -> list[tuple[float, float]]:
    return [
        (logprob(policy, tokenizer, row, "chosen"), logprob(policy, tokenizer, row, "rejected"))
        for row in pairs
    ]


# --- the loss ---


@pytest.mark.parametrize("nll", [0.0, 0.1])
def test_without_anchors_it_is_the_loss_of_trl(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    tmp_path: Path,
    nll: float,
) -> None:
    config = CONFIG.model_copy(update={"nll": nll, "batch": 4})
    ours = distilled()
    steps = train(ours, tiny_tokenizer, pairs, tmp_path / "ours", config)
    stock = distilled()
    trainer = DPOTrainer(
        model=stock,
        args=TrlDpoConfig(
            **arguments(config, tmp_path / "stock", SEED),
            beta=0.1,
            loss_type=["sigmoid", "sft"] if nll else ["sigmoid"],
            loss_weights=[1.0, nll] if nll else [1.0],
            precompute_ref_log_probs=True,
            precompute_ref_batch_size=2,
        ),
        train_dataset=pairs,
        processing_class=tiny_tokenizer,
    )
    trainer.train()
    told = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(told) == 2
    assert values(steps, "loss") == pytest.approx(told, rel=0.02)  # it trains in bfloat16
    for metric in ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"):
        theirs = [entry[metric] for entry in trainer.state.log_history if metric in entry]
        assert values(steps, metric) == pytest.approx(theirs, abs=0.1), metric
    before, found, expected = weights(distilled()), weights(ours), weights(stock)
    gap = sum((found[name] - expected[name]).abs().sum() for name in expected)
    way = sum((before[name] - expected[name]).abs().sum() for name in expected)
    assert gap < 0.1 * way


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_anchors_add_their_divergence_times_their_weight(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    anchors: list[Lesson],
    tmp_path: Path,
    weight: float,
) -> None:
    config = CONFIG.model_copy(update={"batch": 4, "micro_batch": 4, "anchors": weight})
    kl = lesson_loss(distilled(), collate(anchors)).item()
    assert kl > 0.1
    plain = train(distilled(), tiny_tokenizer, pairs, tmp_path / "plain", config)
    anchored = train(distilled(), tiny_tokenizer, pairs, tmp_path / "anchored", config, anchors)
    told = values(anchored, "anchor_kl")
    assert told[0] == pytest.approx(kl, rel=0.02)  # trained in bfloat16
    added = values(anchored, "loss")[0] - values(plain, "loss")[0]
    assert added == pytest.approx(weight * told[0], rel=1e-4)
    assert values(plain, "anchor_kl") == []


def test_anchors_count_the_same_however_the_batch_is_cut(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    anchors: list[Lesson],
    tmp_path: Path,
) -> None:
    config = CONFIG.model_copy(update={"batch": 4, "micro_batch": 2})
    plain = train(distilled(), tiny_tokenizer, pairs, tmp_path / "plain", config)
    anchored = train(distilled(), tiny_tokenizer, pairs, tmp_path / "anchored", config, anchors)
    added = values(anchored, "loss")[0] - values(plain, "loss")[0]
    assert added == pytest.approx(values(anchored, "anchor_kl")[0], rel=1e-4)


def test_without_weight_anchors_are_left_out(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    anchors: list[Lesson],
    tmp_path: Path,
) -> None:
    config = CONFIG.model_copy(update={"anchors": 0.0})
    steps = train(distilled(), tiny_tokenizer, pairs, tmp_path, config, anchors)
    assert values(steps, "anchor_kl") == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_anchors_hold_the_policy(
    new_policy: NewPolicy,
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    anchors: list[Lesson],
    tmp_path: Path,
    dtype: torch.dtype,
) -> None:
    drift = {}
    for weight in (0.0, 2.0):
        config = CONFIG.model_copy(update={"epochs": 4, "anchors": weight})
        policy = new_policy(dtype=dtype)
        train(policy, tiny_tokenizer, pairs, tmp_path / str(weight), config, anchors)
        drift[weight] = lesson_loss(policy, collate(anchors)).item()
    assert drift[2.0] < 0.5 * drift[0.0]


def test_the_reference_is_the_policy_as_dpo_found_it(
    distilled: Callable[[], PeftModel],
    new_policy: NewPolicy,
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    tmp_path: Path,
) -> None:
    steps = train(distilled(), tiny_tokenizer, pairs, tmp_path)
    for side in ("chosen", "rejected"):
        assert values(steps, f"rewards/{side}")[0] == pytest.approx(0, abs=0.02)
    assert values(steps, "loss")[0] == pytest.approx(log(2), abs=0.01)
    # against the base model they would not have been zero
    found = logprobs(distilled(), tiny_tokenizer, pairs)
    base = logprobs(new_policy(), tiny_tokenizer, pairs)
    gaps = [abs(now[0] - before[0]) for now, before in zip(found, base, strict=True)]
    assert sum(gaps) / len(gaps) * CONFIG.beta > 0.1


def test_the_loss_of_log_probabilities_worked_by_hand() -> None:
    # rewards: 0.5 (log 4) = log 2 and 0.5 (-log 4) = -log 2, so sigmoid(log 4) = 4/5; and 0, 0
    policy = torch.tensor([log(4) - 7, -3.0]), torch.tensor([-9 - log(4), -5.0])
    reference = torch.tensor([-7.0, -3.0]), torch.tensor([-9.0, -5.0])
    loss, chosen, rejected = dpo_loss(policy, reference, DpoConfig(beta=0.5))
    assert loss.item() == pytest.approx((log(5 / 4) + log(2)) / 2)
    torch.testing.assert_close(chosen, torch.tensor([log(2), 0.0]))
    torch.testing.assert_close(rejected, torch.tensor([-log(2), 0.0]))


def test_the_loss_of_two_pairs_worked_by_hand(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    said: list[tuple[str, Reply]],
    tmp_path: Path,
) -> None:
    pairs = pairs_of(said[:2])
    config = CONFIG.model_copy(update={"epochs": 4, "beta": 0.3})
    policy = distilled()
    reference = logprobs(policy, tiny_tokenizer, pairs)
    found: list[float] = []

    def expect(done: int, total: int) -> None:
        """The loss of the next step: the mean of -log sigmoid(beta (gain of chosen - rejected))."""
        now = logprobs(policy, tiny_tokenizer, pairs)
        gaps = [
            (chosen - chosen_before) - (rejected - rejected_before)
            for (chosen, rejected), (chosen_before, rejected_before) in zip(
                now, reference, strict=True
            )
        ]
        found.append(sum(log(1 + exp(-0.3 * gap)) for gap in gaps) / 2)

    steps = train(policy, tiny_tokenizer, pairs, tmp_path, config, on_step=expect)
    expected = [log(2), *found[:-1]]
    assert values(steps, "loss") == pytest.approx(expected, rel=0.05, abs=0.01)
    assert expected[-1] < 0.8 * log(2)


# --- interruptions ---


@pytest.mark.parametrize("anchored", [False, True])
def test_an_interruption_changes_nothing(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    anchors: list[Lesson],
    tmp_path: Path,
    anchored: bool,
) -> None:
    config = CONFIG.model_copy(update={"epochs": 2, "batch": 4})
    held = anchors if anchored else []
    whole = distilled()
    steps = train(whole, tiny_tokenizer, pairs, tmp_path / "whole", config, held)

    def stop(done: int, total: int) -> None:
        if done == 3:  # two steps an epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(distilled(), tiny_tokenizer, pairs, tmp_path / "parts", config, held, stop)
    resumed = distilled()
    again = train(resumed, tiny_tokenizer, pairs, tmp_path / "parts", config, held)
    for metric in ("loss", "grad_norm", "rewards/chosen", "anchor_kl"):
        assert values(again, metric) == values(steps, metric), metric
    found, expected = weights(resumed), weights(whole)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


# --- what is saved ---


def test_the_saved_policy_loads_with_stock_libraries(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    tiny_folder: Path,
    tmp_path: Path,
) -> None:
    policy = distilled()
    train(policy, tiny_tokenizer, pairs, tmp_path / "work")
    ids = torch.tensor([tiny_tokenizer("Why does bread rise? Yeast eats sugar.").input_ids])
    with torch.no_grad():
        expected = policy.base_model(ids).logits  # the trainer left bfloat16 around the policy
    target = tmp_path / "policy"
    save_policy(policy, tiny_tokenizer, target)

    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    with torch.no_grad():
        untrained = base(ids).logits
        adapted = PeftModel.from_pretrained(base, target).eval()(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(target / "merged")(ids).logits
    assert (untrained - expected).abs().max() > 0.5
    torch.testing.assert_close(adapted, expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-3)
    for folder in (target, target / "merged"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer("Why?").input_ids == tiny_tokenizer("Why?").input_ids
        assert tokenizer.chat_template == tiny_tokenizer.chat_template


def test_nothing_but_the_trained_adapter_is_saved(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    tmp_path: Path,
) -> None:
    policy = distilled()
    train(policy, tiny_tokenizer, pairs, tmp_path / "work")
    target = tmp_path / "policy"
    save_policy(policy, tiny_tokenizer, target)
    assert [file.name for file in target.iterdir() if file.is_dir()] == ["merged"]
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {
        file.name for file in target.iterdir()
    }
    assert not list((target / "merged").glob("adapter*"))


def test_the_saved_policy_loads_by_name(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    save_policy(distilled(), tiny_tokenizer, tmp_path)
    adapter = load_model(f"local:{tmp_path}")
    merged = load_model(f"local:{tmp_path / 'merged'}")
    assert "+local:tiny-llama@" in adapter.name  # on its base
    assert merged.name.startswith("local:merged@")


def test_gradient_checkpointing_learns_the_same_from_less_memory(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    anchors: list[Lesson],
    tmp_path: Path,
) -> None:
    found = []
    for name, checkpointing in (("held", False), ("again", True)):
        policy = distilled()
        config = CONFIG.model_copy(update={"gradient_checkpointing": checkpointing})
        train(policy, tiny_tokenizer, pairs, tmp_path / name, config, anchors)
        assert policy.get_base_model().is_activation_checkpointing == checkpointing
        found.append(weights(policy))
    held, again = found
    assert all(torch.allclose(held[name], again[name], atol=1e-6) for name in held)
    moved_from = weights(distilled())
    assert any((held[name] - moved_from[name]).abs().max() > 1e-4 for name in held)
