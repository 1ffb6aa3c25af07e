"""A Bradley-Terry reward model on the ranked pairs, with TRL.

With d = r(chosen) - r(rejected),

    loss = -log sigmoid(d) + c (r(chosen) + r(rejected))^2

(Ouyang et al. 2022, equation 1; Eisenstein et al. 2023, section 4 for the centring term). With
margin labels the first term is -log sigmoid(d - m), for the ranking's gap m (Touvron et al. 2023,
equation 2); with soft labels it is -p log sigmoid(d) - (1 - p) log sigmoid(-d), for its
probability p. Queries that resemble each other share a split (data/queries.py), so no pair on
which a reward model is tried has a query like one it was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from trl import RewardConfig as TrlRewardConfig
from trl import RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from character.errors import ModelError, RecipeError
from character.models.checkpoint import hardware
from character.rows import Step
from character.training.config import LoraConfig, RewardConfig
from character.training.runner import (
    OnStep,
    Recorder,
    add_adapter,
    arguments,
    for_training,
    steps_of,
    train,
)

STAGE = "reward_model"
READ = {"hard": None, "soft": "probability", "margin": "gap"}  # the column a loss reads

Turns = list[dict[str, str]]


def train_reward_model(
    base: Path,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Dataset,
    lora: LoraConfig,
    config: RewardConfig,
    seed: int,
    folder: Path,
    on_step: OnStep,
    stage: str = STAGE,
) -> tuple[PeftModel | PreTrainedModel, list[Step]]:
    """A sequence classifier with one output: an adapter on the base model in `base`, or all of it.

    RecipeError when config.labels does not fit the pairs; ModelError when no pair can teach
    anything, or when the loss is no longer a number.
    """
    _check(pairs, config)
    torch.manual_seed(seed)  # the score head starts at random
    model = AutoModelForSequenceClassification.from_pretrained(
        base,
        num_labels=1,
        # steps of all weights are lost in bfloat16; an adapter has a precision of its own
        dtype=torch.float32 if config.full else hardware()[1],
        use_safetensors=True,
    )
    loads_with = model.config._attn_implementation
    drawn = pairs.shuffle(seed=seed).select(range(min(len(pairs), config.pairs)))
    model.config.pad_token_id = tokenizer.pad_token_id
    trainer = PreferenceTrainer(
        model=for_training(model) if config.full else add_adapter(model, lora, "SEQ_CLS"),
        args=TrlRewardConfig(
            **arguments(config, folder, seed),
            center_rewards_coefficient=config.centre or None,
        ),
        data_collator=_WithProbability(tokenizer.pad_token_id) if config.labels == "soft" else None,
        # TRL's own column for the margin
        train_dataset=drawn.rename_column("gap", "margin") if config.labels == "margin" else drawn,
        processing_class=tokenizer,
        callbacks=[Recorder(stage, on_step)],
    )
    if not len(trainer.train_dataset):
        raise ModelError(
            f"Each of the {len(drawn)} pairs is longer than {trainer.args.max_length} tokens, the"
            " most a reward model is trained on. Ask for shorter replies:"
            " --set replies.sampling.max_tokens=200"
        )
    train(trainer, folder)
    # without the trainer's autocast and attention, so that its rewards are those of the saved model
    plain = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    plain.set_attn_implementation(loads_with)
    return plain, steps_of(stage, trainer.state)


class PreferenceTrainer(RewardTrainer):
    """TRL's RewardTrainer, with soft labels where a batch has probabilities, and no silent NaN."""

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "probability" not in self._signature_columns:
            self._signature_columns.append("probability")

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        probability = inputs.pop("probability", None)
        loss, outputs = super().compute_loss(
            model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        if probability is not None:
            loss = loss + soft_label_term(outputs.logits.squeeze(-1), probability)
        if not loss.isfinite():  # the trainer would log the last finite one in its place
            raise ModelError(
                f"In step {self.state.global_step + 1} of the reward model the loss is no finite"
                " number. Build again with smaller steps:"
                f" --set training.reward.learning_rate={self.args.learning_rate / 10:g}"
            )
        return (loss, outputs) if return_outputs else loss


def soft_label_term(rewards: Tensor, probability: Tensor) -> Tensor:
    """What soft labels add to -log sigmoid(d): the mean of (1 - p) d, since log sigmoid(-d) is
    log sigmoid(d) - d.

    rewards: (2 pairs,), all chosen before all rejected; probability: (pairs,).
    """
    chosen, rejected = rewards.chunk(2)
    return ((1 - probability) * (chosen - rejected)).mean()


class _WithProbability(DataCollatorForPreference):
    """TRL's batch, and beside it how sure the ranking is of each pair, (pairs,)."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        batch["probability"] = torch.tensor([float(row["probability"]) for row in examples])
        return batch


@torch.no_grad()
def rewards(
    model: PeftModel | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Turns],
    rows: int = 16,
) -> list[float]:
    """The reward of each conversation's last turn, in the order given.

    ModelError when one is no finite number.
    """
    model.eval()
    texts = [tokenizer.apply_chat_template(turns, tokenize=False) for turns in conversations]
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = [0.0] * len(texts)
    for start in range(0, len(order), rows):
        members = order[start : start + rows]
        batch = tokenizer(
            [texts[i] for i in members],
            return_tensors="pt",
            padding=True,
            padding_side="right",
            add_special_tokens=False,
        ).to(model.device)
        for i, reward in zip(members, model(**batch).logits[:, 0].tolist(), strict=True):
            found[i] = reward
    if not all(map(math.isfinite, found)):
        raise ModelError(
            "The reward model gives a reply no finite reward: its training ran away. Train it again"
            " with a smaller training.reward.learning_rate."
        )
    return found


def conversation(query: str, reply: str) -> Turns:
    return [{"role": "user", "content": query}, {"role": "assistant", "content": reply}]


def _check(pairs: Dataset, config: RewardConfig) -> None:
    # a single pair of equal replies does no harm: its gradients cancel
    if all(pair["chosen"] == pair["rejected"] for pair in pairs):
        raise ModelError(
            f"In each of the {len(pairs)} pairs the chosen and the rejected reply are the same, so"
            " there is nothing to prefer. Draw replies that differ: raise the temperature of"
            " replies.sampling."
        )
    column = READ[config.labels]
    if column is None:
        return
    if column not in pairs.column_names:
        raise RecipeError(
            f"labels are {config.labels!r}, and the pairs have no column {column!r}. Add it, or"
            " train on hard labels: --set training.reward.labels=hard"
        )
    most = 1.0 if config.labels == "soft" else math.inf
    for row, value in enumerate(pairs[column]):
        if value is None or not (0 <= value <= most and math.isfinite(value)):
            raise RecipeError(
                f"pair {row} has the {column} {value}, which cannot be a label: it should be a"
                f" number from 0{' to 1' if config.labels == 'soft' else ' up'}. Mend it, or train"
                " on hard labels: --set training.reward.labels=hard"
            )
