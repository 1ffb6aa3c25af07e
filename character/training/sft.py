"""Fine-tuning on texts word for word with TRL, held by anchors.

Replies are learned behind their plain conversation, documents from their first token on: the loss
is the mean negative log-likelihood of the learned tokens, plus the KL to the base model on anchor
queries. Whatever brought a text about (examples, a criticism, a question that told the model what
it is) is not in its conversation, so that the policy learns to say it unprompted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig as TrlSftConfig
from trl import SFTTrainer

from character.errors import ModelError
from character.models.base import Conversation, Scorable
from character.models.local import LocalModel
from character.rows import Step
from character.training.anchoring import AnchorTurns
from character.training.config import SftConfig
from character.training.dataset import WEIGHT, CarryingCollator
from character.training.distill import BatchesByLength, lesson_loss
from character.training.lessons import Lesson
from character.training.logprobs import linear_logprobs
from character.training.runner import OnStep, Recorder, arguments, last_states, steps_of, train

STAGE = "sft"
IGNORED = -100  # the label of a token that is read and not learned


@dataclass(frozen=True, slots=True)
class Target:
    """A text to learn: a reply behind its conversation, or behind none a document.

    `learned_id` names the row it comes from, `weight` is its trait's.
    """

    learned_id: str
    source: str
    conversation: Conversation
    text: str
    ended: bool = True
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Tokens:
    """A target as the policy reads it; `read` tokens come before those that are learned."""

    ids: list[int]
    read: int
    weight: float


def tokens_of(target: Target, model: LocalModel) -> Tokens:
    """The very tokens that the model would be asked with, and would say."""
    if target.conversation:
        asked = model.conversation_ids(target.conversation)
        said = model.reply_ids(Scorable(target.conversation, target.text, target.ended))
        return Tokens(asked + said, len(asked), target.weight)
    ids = model.tokenizer(target.text).input_ids
    return Tokens(ids + [model.end] * target.ended, 1, target.weight)  # nothing predicts the first


def fitting(tokens: Sequence[Tokens], model: LocalModel) -> list[bool]:
    """Whether each is within the model's window and has something to learn."""
    window = getattr(model.model.config, "max_position_embeddings", None)
    return [t.read < len(t.ids) and (not window or len(t.ids) <= window) for t in tokens]


def train_sft(
    policy: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    targets: Sequence[Tokens],
    anchors: Sequence[Lesson],
    config: SftConfig,
    seed: int,
    folder: Path,
    on_step: OnStep,
) -> list[Step]:
    """Train the policy's adapter in place; checkpoints go to `folder`.

    Raises ModelError when the loss or the adapter is no longer finite.
    """
    trainer = AnchoredSFTTrainer(
        anchors=anchors if config.anchors else (),
        config=config,
        model=policy,
        args=TrlSftConfig(
            **arguments(config, folder, seed),
            max_length=None,  # what is too long was left out, and counted
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=_rows(targets),
        processing_class=tokenizer,
        callbacks=[Recorder(STAGE, on_step)],
    )
    train(trainer, folder)
    if not all(weight.isfinite().all() for weight in policy.parameters() if weight.requires_grad):
        raise _diverged("the adapter is no longer finite", trainer.state.global_step, config)
    return steps_of(STAGE, trainer.state)


class AnchoredSFTTrainer(SFTTrainer):
    """TRL's SFTTrainer with weighted rows, and a micro-batch of anchors added to each of its.

    The vocabulary is run over the learned tokens alone, as in the other trainers.
    """

    data_collator: Any

    def __init__(self, anchors: Sequence[Lesson], config: SftConfig, **kwargs: Any) -> None:
        self._config = config
        super().__init__(**kwargs)
        self.model_accepts_loss_kwargs = False  # a micro-batch's loss is a mean of its own
        self.data_collator = CarryingCollator(self.data_collator, (WEIGHT,))
        self._anchors = AnchorTurns(anchors, self.args.per_device_train_batch_size, self.args.seed)

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        policy = self.accelerator.unwrap_model(model)
        states, embedding = last_states(policy, inputs["input_ids"], inputs["attention_mask"])
        learned = inputs["labels"][:, 1:] != IGNORED
        found = linear_logprobs(
            states[:, :-1][learned], inputs["labels"][:, 1:][learned], embedding
        )
        weights = inputs[WEIGHT].unsqueeze(1).expand_as(learned)[learned]
        loss = -(found @ weights) / weights.sum()
        told = {"nll": -found.detach().mean()}
        if self._anchors:
            turn = self._anchors.next(self.state.global_step, self.args.gradient_accumulation_steps)
            kl = lesson_loss(policy, turn.to(self.args.device))
            told["anchor_kl"] = kl.detach()
            loss = loss + self._config.anchors * kl
        if not loss.isfinite():  # the trainer would log the mean of the losses before it
            raise _diverged(f"the loss is {loss.item()}", self.state.global_step + 1, self._config)
        for metric, value in told.items():
            self._metrics["train"][metric].append(value.item())
        return loss

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        lengths = [len(ids) for ids in self.train_dataset["input_ids"]]
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return BatchesByLength(lengths, batch, self.args.seed)

    def _set_signature_columns_if_needed(self) -> None:
        """What is not named here is dropped from the rows before they are collated."""
        super()._set_signature_columns_if_needed()
        if WEIGHT not in self._signature_columns:
            self._signature_columns.append(WEIGHT)


def _rows(targets: Sequence[Tokens]) -> Dataset:
    return Dataset.from_list(
        [
            {
                "input_ids": t.ids,
                "labels": [IGNORED] * t.read + t.ids[t.read :],
                WEIGHT: t.weight,
            }
            for t in targets
        ]
    )


def _diverged(found: str, step: int, config: SftConfig) -> ModelError:
    return ModelError(
        f"At step {step} of fine-tuning {found}. Start again in another folder with"
        f" training.sft.learning_rate below {config.learning_rate}."
    )
