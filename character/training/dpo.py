"""DPO on the ranked pairs with TRL, started from the distilled policy and held by anchors.

The loss on pairs (dpo_loss.py), plus the NLL of the chosen reply (Pang et al. 2024) and the KL to
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

from character.errors import ModelError
from character.rows import Step, content_id
from character.training.anchoring import AnchorTurns
from character.training.config import DpoConfig
from character.training.dataset import PROBABILITY, WEIGHT, CarryingCollator, counted
from character.training.distill import lesson_loss
from character.training.dpo_loss import dpo_loss, reply_scores
from character.training.lessons import Lesson
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
CARRIED = {"none": (), "probability": (WEIGHT,), "soft": (PROBABILITY,)}  # columns the loss reads


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
    """Train the policy's adapter in place; checkpoints go to `folder`.

    Raises RecipeError when config.weights does not fit the pairs, and ModelError when no pair's
    replies differ or when the loss or the adapter is no longer finite.
    """
    # a single pair of equal replies does no harm: in every loss its gradients cancel
    if all(pair["chosen"] == pair["rejected"] for pair in pairs):
        raise ModelError(
            f"In each of the {len(pairs)} pairs the chosen and the rejected reply are the same, so"
            " DPO has nothing to learn. Draw replies that differ: raise the temperature of"
            " replies.sampling."
        )
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
        train_dataset=counted(pairs, config.weights),
        processing_class=tokenizer,
        callbacks=[Recorder(STAGE, on_step)],
    )
    train(trainer, folder)
    if not all(weight.isfinite().all() for weight in policy.parameters() if weight.requires_grad):
        raise _diverged("the adapter is no longer finite", trainer.state.global_step, config)
    return steps_of(STAGE, trainer.state)


class AnchoredDPOTrainer(DPOTrainer):
    """TRL's DPOTrainer with a loss of our own, and a micro-batch of anchors added to each of its.

    TRL's loss runs the vocabulary over prompts and padding too, forward and twice backward; this
    one runs it over the replies' tokens, once.
    """

    data_collator: Any
    _precompute_model_hash: Any

    def __init__(self, anchors: Sequence[Lesson], config: DpoConfig, **kwargs: Any) -> None:
        self._config = config  # before TRL computes the reference
        super().__init__(**kwargs)
        if columns := CARRIED[config.weights]:
            self.data_collator = CarryingCollator(self.data_collator, columns)
        size = self.args.per_device_train_batch_size
        self._anchors = AnchorTurns(anchors, size, self.args.seed)

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> tuple[Tensor, Tensor]:
        """Of the policy as it is before the first step: chosen and rejected, each (pairs,)."""
        with torch.no_grad():
            scores = self._scores(self._reply_logprobs(model, inputs), inputs)
        if not scores.isfinite().all():
            raise ModelError(
                "Before DPO's first step, the policy already gives a reply no finite"
                " log-probability. Its weights are damaged; make them anew."
            )
        chosen, rejected = scores.chunk(2)
        return chosen, rejected

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        tokens = self._reply_logprobs(model, inputs)
        chosen, rejected = tokens.sum(1).chunk(2)
        better, worse = self._scores(tokens, inputs).chunk(2)
        reference = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        loss, gained, lost = dpo_loss(
            (better, worse), reference, self._config, inputs.get(WEIGHT), inputs.get(PROBABILITY)
        )
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
        if self._anchors:
            turn = self._anchors.next(self.state.global_step, self.args.gradient_accumulation_steps)
            batch = turn.to(self.args.device)
            kl = lesson_loss(self.accelerator.unwrap_model(model), batch)
            told["anchor_kl"] = kl.detach()
            loss = loss + self._config.anchors * kl
        if not loss.isfinite():  # the trainer would log the mean of the losses before it
            raise _diverged(f"the loss is {loss.item()}", self.state.global_step + 1, self._config)
        for metric, value in told.items():
            self._metrics["train"][metric].append(value.mean().item())
        return loss

    def _scores(self, tokens: Tensor, inputs: Any) -> Tensor:
        return reply_scores(tokens, inputs["completion_mask"][:, 1:].bool(), self._config)

    def _reply_logprobs(self, model: Any, inputs: Any) -> Tensor:
        """(rows, tokens - 1) of the replies' tokens, 0 elsewhere; chosen rows come first."""
        policy = self.accelerator.unwrap_model(model)
        states, embedding = last_states(policy, inputs["input_ids"], inputs["attention_mask"])
        said = inputs["completion_mask"][:, 1:].bool()
        tokens = inputs["input_ids"][:, 1:][said]
        found = linear_logprobs(states[:, :-1][said], tokens, embedding)
        return found.new_zeros(said.shape).masked_scatter(said, found)

    def _set_signature_columns_if_needed(self) -> None:
        """What is not named here is dropped from the pairs before they are collated."""
        super()._set_signature_columns_if_needed()
        for column in CARRIED[self._config.weights]:
            if column not in self._signature_columns:
                self._signature_columns.append(column)

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """TRL keeps these beside pairs read from disk, named by pairs and model.

        How replies are measured joins the name, or one measure would find another's.
        """
        config = self._config
        if config.length != "sum":
            self._precompute_model_hash = content_id(
                self._precompute_model_hash, config.length, config.length_alpha
            )
        return super()._precompute_ref_logps(dataset, name, batch_size)


def _diverged(found: str, step: int, config: DpoConfig) -> ModelError:
    return ModelError(
        f"At step {step} of DPO {found}. Start again in another folder with"
        f" training.dpo.learning_rate below {config.learning_rate}."
    )
