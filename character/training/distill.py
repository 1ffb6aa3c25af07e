"""Context distillation: the plain policy becomes the model it is when prompted with the examples.

Anchors hold it to itself everywhere else: on factual, neutral and formatted queries the teacher is
the plain base model. Character without anchors costs the facts (tests/benchmarks/LOG.md).
(Askell et al. 2021, section 2.3, with the teacher's whole distribution instead of its samples.)
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.utils.data import Sampler
from transformers import Trainer, TrainingArguments

from character.rows import Step
from character.training.config import DistillConfig
from character.training.distillation_loss import linear_kl
from character.training.lessons import Lesson, LessonBatch, collate
from character.training.runner import OnStep, Recorder, arguments, last_states, steps_of, train

STAGE = "distill"


def distill(
    policy: PeftModel,
    lessons: Sequence[Lesson],
    config: DistillConfig,
    seed: int,
    folder: Path,
    on_step: OnStep,
) -> list[Step]:
    """Train the policy's adapter in place; checkpoints go to `folder`."""
    trainer = DistillTrainer(
        model=policy,
        args=TrainingArguments(**arguments(config, folder, seed), remove_unused_columns=False),
        train_dataset=list(lessons),
        data_collator=lambda rows: {"batch": collate(rows)},
        callbacks=[Recorder(STAGE, on_step)],
    )
    train(trainer, folder)
    return steps_of(STAGE, trainer.state)


def lesson_loss(policy: PeftModel, batch: LessonBatch) -> torch.Tensor:
    """Weighted mean KL a token, in nats; 0 when no token has a weight."""
    states, embedding = last_states(policy, batch.input_ids, batch.attention_mask)
    total = linear_kl(states[batch.taught], batch.teacher, batch.weights, embedding, batch.barred)
    return total / batch.weights.sum().clamp_min(torch.finfo(torch.float32).tiny)


class DistillTrainer(Trainer):
    """transformers' Trainer on lessons, whose teacher is part of the data."""

    def compute_loss(
        self, model: PeftModel, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        return lesson_loss(model, inputs["batch"])

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        lengths = [len(lesson.prompt) + len(lesson.reply) for lesson in self.train_dataset]
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return BatchesByLength(lengths, batch, self.args.seed)


class BatchesByLength(Sampler[int]):
    """Shuffled batches, each sorted by length inside, so that its micro-batches hardly pad."""

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed = lengths, batch, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        order = list(range(len(self.lengths)))
        random.Random(f"{self.seed}/{self.epoch}").shuffle(order)
        for start in range(0, len(order), self.batch):
            yield from sorted(order[start : start + self.batch], key=self.lengths.__getitem__)
