"""One reward from one reward model or several: their mean less c standard deviations.

Where members disagree, the policy has left what their pairs cover, and an optimist among them
would be exploited (Coste et al. 2023; Eisenstein et al. 2023). Members are adapters with heads of
their own, over one frozen base that is held once; a folder per member, each of which loads by
itself with transformers and peft. A single reward model lies in the folder itself. With `full`
every member is a whole model, and all are held at once.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from character.errors import ModelError
from character.models.checkpoint import hardware
from character.rows import Step
from character.text import whole_sentences
from character.training.config import LoraConfig, RewardConfig
from character.training.reward_card import RewardCard
from character.training.reward_model import (
    STAGE,
    Turns,
    conversation,
    rewards,
    train_reward_model,
)
from character.training.rollouts import Reward, Rollout
from character.training.runner import OnStep

MEMBER = "member_"  # folders and adapters are named member_0, member_1, ...


@dataclass(frozen=True, slots=True)
class Scored:
    """One reply's reward, by every member."""

    members: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.members)

    @property
    def disagreement(self) -> float:
        """The members' standard deviation, over these and no others; 0 of one."""
        return pstdev(self.members)

    def reward(self, pessimism: float) -> float:
        """mean - pessimism * disagreement; of one member, exactly what it says."""
        if len(self.members) == 1:
            return self.members[0]
        return self.mean - pessimism * self.disagreement


@dataclass(frozen=True, slots=True)
class Member:
    """A reward model; `adapter` names which of the model's adapters it is, if it has several."""

    model: Any
    adapter: str = ""


class RewardModel:
    """Reward models that answer as one."""

    def __init__(
        self, members: Sequence[Member], tokenizer: PreTrainedTokenizerBase, pessimism: float = 1.0
    ) -> None:
        self.members, self.tokenizer, self.pessimism = list(members), tokenizer, pessimism

    def score(self, conversations: Sequence[Turns]) -> list[Scored]:
        """Every member's reward for each conversation's last turn."""
        return [Scored(said) for said in zip(*self._by_member(conversations), strict=True)]

    def rewards(self, conversations: Sequence[Turns]) -> list[float]:
        return [said.reward(self.pessimism) for said in self.score(conversations)]

    def _by_member(self, conversations: Sequence[Turns]) -> list[list[float]]:
        found = []
        for member in self.members:
            if member.adapter:
                member.model.set_adapter(member.adapter, inference_mode=True)
            found.append(rewards(member.model, self.tokenizer, conversations))
        return found


def train_ensemble(
    base: Path,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Dataset,
    lora: LoraConfig,
    config: RewardConfig,
    seed: int,
    checkpoints: Path,
    target: Path,
    on_step: OnStep,
) -> tuple[RewardModel, list[Step]]:
    """Train all members, save them to `target`, and give them back with what was logged.

    Each draws its own pairs, in its own order, and starts from its own head. Those that have
    finished are read from their last checkpoint after an interruption. `on_step` counts the steps
    of all of them.
    """
    if config.members == 1:
        model, steps = train_reward_model(
            base, tokenizer, pairs, lora, config, seed, checkpoints, on_step
        )
        _save(model, tokenizer, target)
        return RewardModel([Member(model)], tokenizer, config.pessimism), steps
    steps = []
    for number in range(config.members):

        def told(done: int, total: int, number: int = number) -> None:
            on_step(number * total + done, config.members * total)

        name = f"{MEMBER}{number}"
        model, logged = train_reward_model(
            base,
            tokenizer,
            pairs,
            lora,
            config,
            member_seed(seed, number),
            checkpoints / name,
            told,
            f"{STAGE}/{name}",
        )
        _save(model, tokenizer, target / name)
        steps += logged
    return load_reward_model(target, base, tokenizer, config.pessimism), steps


def member_seed(seed: int, number: int) -> int:
    """The first member is the reward model that the seed would give alone."""
    return random.Random(f"{seed}/{MEMBER}{number}").getrandbits(31) if number else seed


def load_reward_model(
    folder: Path, base: Path, tokenizer: PreTrainedTokenizerBase, pessimism: float = 1.0
) -> RewardModel:
    """What `train_ensemble` saved to `folder`, adapters over the base model in `base`.

    ModelError when there is no reward model, or only a part of one.
    """
    folders = _member_folders(folder)
    adapters = {(member / "adapter_config.json").exists() for member in folders}
    if adapters == {True}:
        model = _classifier(base, tokenizer, dtype=hardware()[1])
        first, *others = folders
        adapted: Any = PeftModel.from_pretrained(model, first, adapter_name=first.name)
        for other in others:
            adapted.load_adapter(other, adapter_name=other.name)
        members = [Member(adapted, member.name) for member in folders]
    elif adapters == {False} and all((member / "config.json").exists() for member in folders):
        members = [Member(_classifier(member, tokenizer, dtype="auto")) for member in folders]
    else:
        raise ModelError(
            f"{folder} holds no whole reward model: where there is neither an adapter_config.json"
            " nor a config.json, it is missing. Name the folder reward_model of a finished run."
        )
    return RewardModel(members, tokenizer, pessimism)


def reward_of(model: RewardModel, card: RewardCard | None) -> Reward:
    """The reward model as a reward for rollouts; a reply cut off counts up to its last sentence,
    as in training.

    ModelError when the card is missing or below its bars: such a model may not drive PPO.
    """
    if card is None:
        raise ModelError(
            "The reward model has no card, so nothing is known of it and it may not drive PPO."
            " Write more held-out queries: --set queries.held_out=48"
        )
    if not card.may_drive:
        raise ModelError(
            f"The reward model may not drive PPO: {'; '.join(card.refusals)}. Train it on more"
            " pairs, or longer: --set training.reward.pairs=500 --set training.reward.epochs=3"
        )

    def reward(rollouts: Sequence[Rollout]) -> list[float | None]:
        return list(
            model.rewards(
                [
                    conversation(
                        said.query, said.text if said.ended else whole_sentences(said.text)
                    )
                    for said in rollouts
                ]
            )
        )

    return reward


def _member_folders(folder: Path) -> list[Path]:
    """In the order they were trained in; the folder itself when it has one member."""
    found = [path for path in folder.glob(f"{MEMBER}*") if path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(MEMBER))) or [folder]


def _classifier(folder: Path, tokenizer: PreTrainedTokenizerBase, dtype: Any) -> Any:
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=1, dtype=dtype, use_safetensors=True
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    return model.to(hardware()[0])


def _save(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
