"""A Bradley-Terry reward model on the ranked pairs, with TRL.

loss = -log sigmoid(r(chosen) - r(rejected)) + c (r(chosen) + r(rejected))^2
(Ouyang et al. 2022, equation 1; Eisenstein et al. 2023, section 4 for the centring term).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase
from trl import RewardConfig as TrlRewardConfig
from trl import RewardTrainer

from character.models.checkpoint import hardware
from character.rows import Step
from character.training.config import LoraConfig, RewardConfig
from character.training.runner import OnStep, Recorder, add_adapter, arguments, steps_of, train

STAGE = "reward_model"


def train_reward_model(
    base: Path,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Dataset,
    lora: LoraConfig,
    config: RewardConfig,
    seed: int,
    folder: Path,
    on_step: OnStep,
) -> tuple[PeftModel, list[Step]]:
    """A sequence classifier with one output, an adapter on the base model in `base`."""
    torch.manual_seed(seed)  # the score head starts at random
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=1, dtype=hardware()[1], use_safetensors=True
    )
    loads_with = model.config._attn_implementation
    drawn = pairs.shuffle(seed=seed).select(range(min(len(pairs), config.pairs)))
    model.config.pad_token_id = tokenizer.pad_token_id
    trainer = RewardTrainer(
        model=add_adapter(model, lora, "SEQ_CLS"),
        args=TrlRewardConfig(
            **arguments(config, folder, seed),
            center_rewards_coefficient=config.centre or None,
        ),
        train_dataset=drawn,
        processing_class=tokenizer,
        callbacks=[Recorder(STAGE, on_step)],
    )
    train(trainer, folder)
    # without the trainer's autocast and attention, so that its rewards are those of the saved model
    plain = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    plain.set_attn_implementation(loads_with)
    return plain, steps_of(STAGE, trainer.state)


@torch.no_grad()
def rewards(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[list[dict[str, str]]],
    rows: int = 16,
) -> list[float]:
    """The reward of each conversation's last turn, in the order given."""
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
    return found
