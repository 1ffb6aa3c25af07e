"""DPO on the ranked pairs with TRL, started from the distilled policy and held by anchors.

Rafailov et al. 2023, equation 7, plus a little NLL on the chosen reply (Pang et al. 2024) and the
KL to the base model on anchor queries. The reference is the policy as DPO found it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from character.rows import Step
from character.training.config import DpoConfig
from character.training.distill import lesson_loss
from character.training.lessons import Lesson, collate
from character.training.runner import OnStep, Recorder, arguments, steps_of, train

STAGE = "dpo"


def train_dpo(
    policy: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Dataset,
    anchors: Sequence[Lesson],
    config: DpoConfig,
    seed: int,
    folder: Path,
    on_step: OnStep,
) -> list[Step]:
    """Train the policy's adapter in place; checkpoints go to `folder`."""
    trainer = AnchoredDPOTrainer(
        anchors=anchors if config.anchors else (),
        anchor_weight=config.anchors,
        model=policy,
        args=DPOConfig(
            **arguments(config, folder, seed),
            beta=config.beta,
            loss_type=["sigmoid", "sft"] if config.nll else ["sigmoid"],
            loss_weights=[1.0, config.nll] if config.nll else [1.0],
            precompute_ref_log_probs=True,
            precompute_ref_batch_size=config.micro_batch,
        ),
        train_dataset=pairs,
        processing_class=tokenizer,
        callbacks=[Recorder(STAGE, on_step)],
    )
    train(trainer, folder)
    return steps_of(STAGE, trainer.state)


class AnchoredDPOTrainer(DPOTrainer):
    """TRL's DPOTrainer with one micro-batch of anchors added to each of its own."""

    def __init__(self, anchors: Sequence[Lesson], anchor_weight: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.anchor_weight = anchor_weight
        size = self.args.per_device_train_batch_size
        ordered = sorted(anchors, key=lambda lesson: len(lesson.prompt) + len(lesson.reply))
        batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        shuffled = torch.randperm(
            len(batches), generator=torch.Generator().manual_seed(self.args.seed)
        )
        self._anchor_batches = [batches[i] for i in shuffled.tolist()]
        self._turn = (-1, 0)  # step, micro-batch of the step

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if not self._anchor_batches:
            return loss
        batch = collate(self._next_anchors()).to(self.args.device)
        kl = lesson_loss(self.accelerator.unwrap_model(model), batch)
        self._metrics["train"]["anchor_kl"].append(kl.item())
        return loss + self.anchor_weight * kl

    def _next_anchors(self) -> Sequence[Lesson]:
        """The batches in turn, counted from the step, which a resumed training knows."""
        step, part = self._turn
        part = part + 1 if step == self.state.global_step else 0
        self._turn = (self.state.global_step, part)
        turn = self.state.global_step * self.args.gradient_accumulation_steps + part
        return self._anchor_batches[turn % len(self._anchor_batches)]
