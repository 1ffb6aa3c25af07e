"""Several reward models answer as one, load as they were saved, and drive nothing below a bar."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from pydantic import ValidationError
from transformers import AutoModelForSequenceClassification

from character.errors import ModelError
from character.rows import Step
from character.training.config import LoraConfig, RewardConfig
from character.training.reward_card import reward_card
from character.training.reward_ensemble import (
    RewardModel,
    Scored,
    load_reward_model,
    member_seed,
    reward_of,
    train_ensemble,
)
from character.training.reward_model import conversation, rewards, train_reward_model
from character.training.rollouts import Rollout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# peft 0.21 asks transformers 5.23 for a property under its old name
pytestmark = pytest.mark.filterwarnings("ignore:.(is_)?gradient_checkpointing:FutureWarning")

LORA = LoraConfig(rank=4, alpha=8)
CONFIG = RewardConfig(epochs=2, learning_rate=1e-2, batch=4, micro_batch=4, members=3)
SAID = [
    ("Do cats sleep?", "They do, please."),
    ("Do cats sleep?", "They do."),
    ("Is tea hot?", "Yes."),
    ("Is tea hot?", "Yes, please, very hot. Fill the flask with boiling water first."),
]


def a_dataset(count: int = 8) -> Dataset:
    return Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": f"Number {n}?"}],
                "chosen": [{"role": "assistant", "content": f"{n}, please."}],
                "rejected": [{"role": "assistant", "content": f"It is {n}."}],
            }
            for n in range(count)
        ]
    )


def train(
    base: Path,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    config: RewardConfig = CONFIG,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[RewardModel, list[Step]]:
    target = folder / "target"
    target.mkdir(parents=True, exist_ok=True)
    checkpoints = folder / "checkpoints"
    return train_ensemble(
        base, tokenizer, a_dataset(), LORA, config, 5, checkpoints, target, on_step
    )


@pytest.fixture(scope="module")
def trained(
    tiny_folder: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[RewardModel, list[Step], Path, list[tuple[int, int]]]:
    folder = tmp_path_factory.mktemp("ensemble")
    told: list[tuple[int, int]] = []
    model, steps = train(
        tiny_folder, tiny_tokenizer, folder, on_step=lambda *step: told.append(step)
    )
    return model, steps, folder / "target", told


def conversations() -> list[Any]:
    return [conversation(*said) for said in SAID]


# --- the maths ---


def test_the_mean_less_c_standard_deviations_worked_by_hand() -> None:
    said = Scored((1.0, 2.0, 6.0))
    # mean 3; squares 4 + 1 + 9 over 3
    assert (said.mean, said.disagreement) == (3.0, pytest.approx((14 / 3) ** 0.5))
    assert said.reward(0.5) == pytest.approx(3 - 0.5 * (14 / 3) ** 0.5)
    assert said.reward(0) == 3.0


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=5), st.floats(0, 5))
def test_caution_never_raises_a_reward(members: list[float], pessimism: float) -> None:
    said = Scored(tuple(members))
    assert said.reward(pessimism) <= said.reward(0) + 1e-9
    if len(members) == 1:
        assert (said.reward(pessimism), said.disagreement) == (members[0], 0.0)


def test_members_without_a_common_zero_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"members need centre > 0, for example 0\.01"):
        RewardConfig(members=2, centre=0)
    assert RewardConfig(members=1, centre=0).centre == 0


# --- training and loading ---


def test_members_differ_and_are_told_as_one_training(
    trained: tuple[RewardModel, list[Step], Path, list[tuple[int, int]]],
) -> None:
    model, steps, target, told = trained
    assert told == [(done, 12) for done in range(1, 13)]  # three members, two epochs, two steps
    stages = ["reward_model/member_0", "reward_model/member_1", "reward_model/member_2"]
    assert list(dict.fromkeys(step.stage for step in steps)) == stages
    assert len({step.id for step in steps}) == len(steps)
    assert sorted(path.name for path in target.iterdir()) == ["member_0", "member_1", "member_2"]
    scored = model.score(conversations())
    assert all(said.disagreement > 0 for said in scored)
    assert model.rewards(conversations()) == [
        fmean(said.members) - pstdev(said.members) for said in scored
    ]
    assert model.score([]) == [] == model.rewards([])


def test_every_member_loads_by_itself_with_stock_libraries(
    trained: tuple[RewardModel, list[Step], Path, list[tuple[int, int]]],
    tiny_folder: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    model, _, target, _ = trained
    together = list(zip(*(said.members for said in model.score(conversations())), strict=True))
    dtype = next(iter(model.members[0].model.parameters())).dtype
    for number, found in enumerate(together):
        plain = AutoModelForSequenceClassification.from_pretrained(
            tiny_folder, num_labels=1, dtype=dtype
        )
        alone = PeftModel.from_pretrained(plain, target / f"member_{number}")
        assert rewards(alone, tiny_tokenizer, conversations()) == list(found)


def test_one_base_is_held_for_all(
    trained: tuple[RewardModel, list[Step], Path, list[tuple[int, int]]],
) -> None:
    model = trained[0]
    assert len({id(member.model) for member in model.members}) == 1


def test_the_first_member_is_the_reward_model_of_that_seed(
    trained: tuple[RewardModel, list[Step], Path, list[tuple[int, int]]],
    tiny_folder: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    alone = CONFIG.model_copy(update={"members": 1})
    model, steps = train(tiny_folder, tiny_tokenizer, tmp_path, alone)
    assert {step.stage for step in steps} == {"reward_model"}
    assert (tmp_path / "target" / "adapter_config.json").exists()
    plain, _ = train_reward_model(
        tiny_folder, tiny_tokenizer, a_dataset(), LORA, alone, 5, tmp_path / "plain",
        lambda done, total: None,
    )  # fmt: skip
    expected = rewards(plain, tiny_tokenizer, conversations())
    assert model.rewards(conversations()) == expected
    assert [said.members[0] for said in trained[0].score(conversations())] == expected
    loaded = load_reward_model(tmp_path / "target", tiny_folder, tiny_tokenizer)
    assert loaded.rewards(conversations()) == expected
    assert len({member_seed(5, number) for number in range(4)}) == 4


def test_an_interruption_in_the_second_member_changes_nothing(
    trained: tuple[RewardModel, list[Step], Path, list[tuple[int, int]]],
    tiny_folder: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    whole, steps, _, _ = trained

    def stop(done: int, total: int) -> None:
        if done == 7:  # in its second epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_folder, tiny_tokenizer, tmp_path, on_step=stop)
    told: list[int] = []
    resumed, again = train(
        tiny_folder, tiny_tokenizer, tmp_path, on_step=lambda done, _: told.append(done)
    )
    assert told == list(range(7, 13))
    assert resumed.score(conversations()) == whole.score(conversations())
    assert [(s.id, s.value) for s in again if s.metric == "loss"] == [
        (s.id, s.value) for s in steps if s.metric == "loss"
    ]


def test_all_weights_train_and_load_without_peft(
    tiny_folder: Path, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"full": True, "members": 2, "learning_rate": 1e-3})
    model, _ = train(tiny_folder, tiny_tokenizer, tmp_path, config)
    found = model.score(conversations())
    for number in range(2):
        folder = tmp_path / "target" / f"member_{number}"
        alone = AutoModelForSequenceClassification.from_pretrained(folder)
        assert alone.config.num_labels == 1
        assert rewards(alone, tiny_tokenizer, conversations()) == [s.members[number] for s in found]
    base = AutoModelForSequenceClassification.from_pretrained(tiny_folder, num_labels=1)
    moved = [
        name
        for name, weight in base.named_parameters()
        if not torch.equal(weight, alone.get_parameter(name))
    ]
    assert {"model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight"}\
        <= set(moved)  # fmt: skip


def test_a_folder_without_a_reward_model_is_refused(
    tiny_folder: Path, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="holds no whole reward model"):
        load_reward_model(tmp_path, tiny_folder, tiny_tokenizer)
    (tmp_path / "member_0").mkdir()
    (tmp_path / "member_0" / "adapter_config.json").write_text("{}")
    (tmp_path / "member_1").mkdir()
    with pytest.raises(ModelError, match="holds no whole reward model"):
        load_reward_model(tmp_path, tiny_folder, tiny_tokenizer)


# --- as a reward for rollouts ---


def a_rollout(text: str, ended: bool = True) -> Rollout:
    return Rollout("Is tea hot?", text, (1,), (2,), ended)


def test_a_good_reward_model_drives_and_cut_replies_count_whole_sentences(
    trained: tuple[RewardModel, list[Step], Path, list[tuple[int, int]]],
) -> None:
    model = trained[0]
    good = reward_card([1.0] * 20, [0.0] * 20, [0] * 20)
    reward = reward_of(model, good)
    found = reward([a_rollout("Yes. It is so ho", ended=False), a_rollout("Yes. It is so ho")])
    assert list(found) == model.rewards(
        [conversation("Is tea hot?", "Yes."), conversation("Is tea hot?", "Yes. It is so ho")]
    )
    assert found[0] != found[1]
    assert list(reward([])) == []


def test_below_its_bars_it_may_not_drive(
    trained: tuple[RewardModel, list[Step], Path, list[tuple[int, int]]],
) -> None:
    weak = reward_card([1.0] * 7 + [0.0] * 3, [0.0] * 7 + [1.0] * 3, [0] * 10)
    with pytest.raises(ModelError, match=r"may not drive PPO: accuracy .* 0\.70, and the bar is"):
        reward_of(trained[0], weak)
    with pytest.raises(ModelError, match=r"has no card.*queries\.held_out=48"):
        reward_of(trained[0], None)


def test_a_constant_reward_model_is_refused_by_name(
    trained: tuple[RewardModel, list[Step], Path, list[tuple[int, int]]],
) -> None:
    constant = reward_card([0.3] * 20, [0.3] * 20, [1] * 20)
    with pytest.raises(ModelError, match="same reward; train again, with another learning_rate"):
        reward_of(trained[0], constant)
