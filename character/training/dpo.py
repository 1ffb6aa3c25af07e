"""DPO on the ranked pairs with TRL, started from the distilled policy and held by anchors.

Rafailov et al. 2023, equation 7, plus the NLL of the chosen reply (Pang et al. 2024) and the KL to
the base model on anchor queries. The reference is the policy as DPO found it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from character.rows import Step
from character.training.config import DpoConfig
from character.training.distill import lesson_loss
from character.training.lessons import Lesson, collate
from character.training.logprobs import linear_logprobs
from character.training.runner import (
    OnStep,
    Recorder,
    arguments,
    last_states,
    steps_of,
    train,
)

STAGE = "dpo"
REFERENCE_ROWS = 16  # pairs whose reference log-probabilities are computed at once


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
        config=config,
        model=policy,
        args=DPOConfig(
            **arguments(config, folder, seed),
            beta=config.beta,
            precompute_ref_log_probs=True,
            precompute_ref_batch_size=REFERENCE_ROWS,
        ),
        train_dataset=pairs,
        processing_class=tokenizer,
        callbacks=[Recorder(STAGE, on_step)],
    )
    train(trainer, folder)
    return steps_of(STAGE, trainer.state)


def dpo_loss(
    policy: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor], beta: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of -log sigmoid(reward of chosen - of rejected), and both rewards, (pairs,), in nats.

    A reward is beta times how much likelier the reply became. `policy` and `reference` hold the
    log-probabilities of the chosen and of the rejected replies.
    """
    chosen, rejected = (
        beta * (now - before) for now, before in zip(policy, reference, strict=True)
    )
    loss = -torch.nn.functional.logsigmoid(chosen - rejected).mean()
    return loss, chosen.detach(), rejected.detach()


class AnchoredDPOTrainer(DPOTrainer):
    """TRL's DPOTrainer with a loss of our own, and a micro-batch of anchors added to each of its.

    TRL's loss runs the vocabulary over prompts and padding too, forward and twice backward; this
    one runs it over the replies' tokens, once.
    """

    def __init__(self, anchors: Sequence[Lesson], config: DpoConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._config = config
        size = self.args.per_device_train_batch_size
        ordered = sorted(anchors, key=lambda lesson: len(lesson.prompt) + len(lesson.reply))
        batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        shuffled = torch.randperm(
            len(batches), generator=torch.Generator().manual_seed(self.args.seed)
        )
        self._anchor_batches = [batches[i] for i in shuffled.tolist()]
        self._turn = (-1, 0)  # step, micro-batch of the step

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> tuple[Tensor, Tensor]:
        """Of the policy as it is before the first step: chosen and rejected, each (pairs,)."""
        with torch.no_grad():
            chosen, rejected = self._reply_logprobs(model, inputs).sum(1).chunk(2)
        return chosen, rejected

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        tokens = self._reply_logprobs(model, inputs)
        chosen, rejected = tokens.sum(1).chunk(2)
        reference = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        loss, gained, lost = dpo_loss((chosen, rejected), reference, self._config.beta)
        if self._config.nll:
            length = inputs["completion_mask"].chunk(2)[0].sum()
            loss = loss - self._config.nll * chosen.sum() / length
        told = {
            "rewards/chosen": gained,
            "rewards/rejected": lost,
            "rewards/margins": gained - lost,
            "rewards/accuracies": (gained > lost).float(),
            "logps/chosen": chosen.detach(),
            "logps/rejected": rejected.detach(),
        }
        if self._anchor_batches:
            batch = collate(self._next_anchors()).to(self.args.device)
            kl = lesson_loss(self.accelerator.unwrap_model(model), batch)
            told["anchor_kl"] = kl.detach()
            loss = loss + self._config.anchors * kl
        for metric, value in told.items():
            self._metrics["train"][metric].append(value.mean().item())
        return loss

    def _reply_logprobs(self, model: Any, inputs: Any) -> Tensor:
        """(rows, tokens - 1) of the replies' tokens, 0 elsewhere; chosen rows come first."""
        policy = self.accelerator.unwrap_model(model)
        states, embedding = last_states(policy, inputs["input_ids"], inputs["attention_mask"])
        said = inputs["completion_mask"][:, 1:].bool()
        tokens = inputs["input_ids"][:, 1:][said]
        found = linear_logprobs(states[:, :-1][said], tokens, embedding)
        return found.new_zeros(said.shape).masked_scatter(said, found)

    def _next_anchors(self) -> Sequence[Lesson]:
        """The batches in turn, counted from the step, which a resumed training knows."""
        step, part = self._turn
        part = part + 1 if step == self.state.global_step else 0
        self._turn = (self.state.global_step, part)
        turn = self.state.global_step * self.args.gradient_accumulation_steps + part
        return self._anchor_batches[turn % len(self._anchor_batches)]
