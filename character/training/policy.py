"""Train the policy: distillation, SFT and PPO where asked for, DPO; one adapter throughout."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path

import torch
from datasets import Dataset
from peft import PeftModel
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from transformers import PreTrainedTokenizerBase

from character.errors import ModelError
from character.models.checkpoint import open_checkpoint
from character.models.local import LocalModel
from character.rows import Reply, Step, Taught, content_id, taught
from character.spec.constitution import Constitution
from character.training.config import PpoConfig, TrainingConfig
from character.training.dataset import PROBABILITY, pair_weights
from character.training.distill import distill
from character.training.dpo import train_dpo
from character.training.grouped import train_grouped
from character.training.guarded import train_guarded
from character.training.guards import Guarded
from character.training.lessons import Lesson, character_lessons
from character.training.ppo import Watch
from character.training.rollouts import Reward
from character.training.runner import ADAPTER, OnStep, add_adapter, for_training
from character.training.sft import STAGE, Target, fitting, tokens_of, train_sft

Said = Sequence[tuple[str, Reply]]  # query text, reply
Anchors = Callable[[], Sequence[Lesson]]  # made when first asked for


def distilled_adapter(
    base: LocalModel,
    folder: Path,
    constitution: Constitution,
    best: Mapping[str, Said],
    anchors: Anchors,
    config: TrainingConfig,
    seed: int,
    checkpoints: Path,
    target: Path,
    on_step: OnStep,
) -> list[Step | Taught]:
    """Distil each trait's prompted self into one fresh adapter, saved to `target`.

    `best` holds, per trait id, the replies to learn from; `folder` the base model's weights.
    """
    lessons = [
        lesson
        for member in constitution.members
        for lesson in character_lessons(
            base, member.trait, best[member.trait.id], config.distill, member.weight
        )
    ]
    lessons += anchors()
    model, _ = open_checkpoint(folder)
    torch.manual_seed(seed)  # half of the adapter starts at random
    policy = add_adapter(model, config.lora, "CAUSAL_LM")
    steps = distill(policy, lessons, config.distill, seed, checkpoints, on_step)
    policy.save_pretrained(target)
    learned = [
        taught("distilled", reply.id, member.weight)
        for member in constitution.members
        for _, reply in best[member.trait.id]
    ]
    return [*steps, *learned]


def finetuned_adapter(
    base: LocalModel,
    folder: Path,
    distilled: Path,
    targets: Sequence[Target],
    anchors: Anchors,
    config: TrainingConfig,
    seed: int,
    checkpoints: Path,
    target: Path,
    on_step: OnStep,
) -> list[Step | Taught]:
    """Continue the distilled adapter on texts word for word; save it to `target`.

    Texts past the model's window are left out, and counted in the step `too_long`.
    """
    tokens = [tokens_of(text, base) for text in targets]
    fits = fitting(tokens, base)
    if not any(fits):
        raise ModelError(
            f"Each of the {len(targets)} texts to learn is longer than {base.name} can read. Write"
            " shorter ones: --set documents.sampling.max_tokens=120"
        )
    kept = list(compress(targets, fits))
    policy, tokenizer = at_dose(folder, distilled, 1.0)
    held = [replace(lesson, weight=1.0) for lesson in anchors()] if config.sft.anchors else []
    learned = list(compress(tokens, fits))
    steps = train_sft(policy, tokenizer, learned, held, config.sft, seed, checkpoints, on_step)
    policy.save_pretrained(target)
    by_row: dict[str, float] = {}
    for text in kept:  # a talk is learned from once a reply
        by_row[text.learned_id] = by_row.get(text.learned_id, 0.0) + text.weight
    left_out = Step(
        content_id("step", STAGE, 0, "too_long"), STAGE, 0, "too_long", float(len(fits) - sum(fits))
    )
    return [*steps, left_out, *(taught(STAGE, row, weight) for row, weight in by_row.items())]


def preferred_adapter(
    folder: Path,
    distilled: Path,
    dose: float,
    pairs: Dataset,
    anchors: Anchors,
    config: TrainingConfig,
    seed: int,
    checkpoints: Path,
    target: Path,
    on_step: OnStep,
) -> list[Step | Taught]:
    """Continue the distilled adapter at this dose with DPO; save it, and merged beside it."""
    policy, tokenizer = at_dose(folder, distilled, dose)
    rows: list[Step | Taught] = []
    if config.dpo.epochs:
        # among themselves; how much they count beside the pairs is config.dpo.anchors
        held = [replace(lesson, weight=1.0) for lesson in anchors()] if config.dpo.anchors else []
        widest = pairs.sort(PROBABILITY, reverse=True)
        widest = widest.select(range(min(len(pairs), config.dpo.pairs)))
        rows += train_dpo(policy, tokenizer, widest, held, config.dpo, seed, checkpoints, on_step)
        by_probability = config.dpo.weights == "probability"
        weights = pair_weights(widest[PROBABILITY]) if by_probability else [1.0] * len(widest)
        rows += [
            taught("policy", pair_id, weight)
            for pair_id, weight in zip(widest["pair_id"], weights, strict=True)
        ]
    save_policy(policy, tokenizer, target)
    return rows


def rewarded_adapter(
    folder: Path,
    preferred: Path,
    queries: Sequence[str],
    reward: Reward,
    watch: Watch,
    config: PpoConfig,
    seed: int,
    checkpoints: Path,
    target: Path,
    on_step: OnStep,
) -> tuple[list[Step], Guarded]:
    """Continue the preferred adapter with PPO or its kin, under guards; save it, and merged too."""
    policy, tokenizer = at_dose(folder, preferred, 1.0)
    train = train_guarded if config.optimizer == "ppo" else train_grouped
    steps, guarded = train(
        policy, tokenizer, queries, reward, watch, config, seed, checkpoints, on_step
    )
    save_policy(policy, tokenizer, target)
    return steps, guarded


def at_dose(base: Path, adapter: Path, dose: float) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """The adapter on its base model, its effect times `dose`, ready to be trained further."""
    model, tokenizer = open_checkpoint(base)
    policy = PeftModel.from_pretrained(for_training(model), adapter, is_trainable=True)
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                weight.mul_(dose)
    return policy, tokenizer


def adapter_name(adapter: Path) -> str:
    """Names an adapter by its weights; its other files list layers in no fixed order."""
    weights = (adapter / SAFETENSORS_WEIGHTS_NAME).read_bytes()
    return f"{adapter.name}@{hashlib.sha256(weights).hexdigest()[:12]}"


def save_policy(policy: PeftModel, tokenizer: PreTrainedTokenizerBase, target: Path) -> None:
    """The adapter in `target`, and the same model merged in `target/merged`."""
    policy.save_pretrained(target, selected_adapters=[ADAPTER])
    tokenizer.save_pretrained(target)
    for adapter in set(policy.peft_config) - {ADAPTER}:
        policy.delete_adapter(adapter)
    policy.merge_and_unload().save_pretrained(target / "merged")
    tokenizer.save_pretrained(target / "merged")
