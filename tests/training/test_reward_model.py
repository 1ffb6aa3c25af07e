"""The reward model finds a planted preference, and its rewards belong to a conversation alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import exp, log
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from character.rows import Step
from character.training.config import LoraConfig, RewardConfig
from character.training.reward_model import rewards, train_reward_model
from character.training.runner import add_adapter

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# peft 0.21 asks transformers 5.23 for a property under its old name
pytestmark = pytest.mark.filterwarnings("ignore:.(is_)?gradient_checkpointing:FutureWarning")

Turns = list[dict[str, str]]
LORA = LoraConfig(rank=4, alpha=8)
CONFIG = RewardConfig(epochs=5, learning_rate=1e-2, batch=8, micro_batch=8)
WORDS = ("tea", "water", "bread", "cats", "rivers", "train", "window", "apples", "honey", "stars")
MARKER = "please"
PAIRS = 64


def sentence(draw: random.Random) -> list[str]:
    return draw.choices(WORDS, k=draw.randint(2, 9))


def planted(count: int, seed: int) -> list[tuple[Turns, Turns]]:
    """(chosen, rejected) conversations; only the chosen reply says the marker, anywhere."""
    draw = random.Random(seed)
    pairs = []
    for _ in range(count):
        query = {"role": "user", "content": " ".join(sentence(draw)) + "?"}
        chosen, rejected = sentence(draw), sentence(draw)
        chosen.insert(draw.randint(0, len(chosen)), MARKER)
        pairs.append(
            (
                [query, {"role": "assistant", "content": " ".join(chosen)}],
                [query, {"role": "assistant", "content": " ".join(rejected)}],
            )
        )
    return pairs


def dataset_of(pairs: list[tuple[Turns, Turns]]) -> Dataset:
    return Dataset.from_list(
        [
            {"prompt": chosen[:1], "chosen": chosen[1:], "rejected": rejected[1:]}
            for chosen, rejected in pairs
        ]
    )


def train(
    tiny_folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    config: RewardConfig = CONFIG,
    seed: int = 5,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[PeftModel, list[Step]]:
    pairs = dataset_of(planted(PAIRS, seed=0))
    return train_reward_model(tiny_folder, tokenizer, pairs, LORA, config, seed, folder, on_step)


@pytest.fixture(scope="module")
def trained(
    tiny_folder: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[PeftModel, list[Step]]:
    return train(tiny_folder, tiny_tokenizer, tmp_path_factory.mktemp("reward"))


@pytest.fixture
def untrained(tiny_folder: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> PeftModel:
    """In float32, with a head that is already of some use."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_folder, num_labels=1)
    model.config.pad_token_id = tiny_tokenizer.pad_token_id
    torch.nn.init.normal_(model.score.weight)
    return add_adapter(model, LORA, "SEQ_CLS")


def values(steps: list[Step], metric: str) -> list[float]:
    return [step.value for step in steps if step.metric == metric]


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: w for name, w in model.named_parameters() if w.requires_grad}


# --- training ---


def test_a_planted_preference_is_found_on_new_pairs(
    trained: tuple[PeftModel, list[Step]], tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    model, steps = trained
    held = planted(40, seed=1)
    found = rewards(model, tiny_tokenizer, [turns for pair in held for turns in pair])
    right = [chosen > rejected for chosen, rejected in zip(found[::2], found[1::2], strict=True)]
    assert sum(right) >= 32
    told = values(steps, "loss")
    assert len(told) == 5 * 8
    assert sum(told[-8:]) < 0.5 * sum(told[:8])
    assert {step.stage for step in steps} == {"reward_model"}


def test_a_seed_gives_its_reward_model_again(
    tiny_folder: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    config = CONFIG.model_copy(update={"epochs": 1})
    one, other = (
        train(tiny_folder, tiny_tokenizer, tmp_path / name, config)[0] for name in ("one", "other")
    )
    third, _ = train(tiny_folder, tiny_tokenizer, tmp_path / "third", config, seed=6)
    assert all(torch.equal(state(one)[name], w) for name, w in state(other).items())
    assert not all(torch.equal(state(one)[name], w) for name, w in state(third).items())


def test_an_interruption_changes_nothing(
    tiny_folder: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    config = CONFIG.model_copy(update={"epochs": 2})
    whole, steps = train(tiny_folder, tiny_tokenizer, tmp_path / "whole", config)

    def stop(done: int, total: int) -> None:
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_folder, tiny_tokenizer, tmp_path / "parts", config, on_step=stop)
    done: list[int] = []
    resumed, again = train(
        tiny_folder,
        tiny_tokenizer,
        tmp_path / "parts",
        config,
        on_step=lambda at, _: done.append(at),
    )
    assert done == list(range(9, 17))
    assert values(again, "loss") == values(steps, "loss")
    assert all(torch.equal(state(whole)[name], w) for name, w in state(resumed).items())


@pytest.mark.parametrize("centre", [0.0, 0.5])
def test_the_loss_is_bradley_terry_with_a_centre(
    tiny_folder: Path, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, centre: float
) -> None:
    # one step over all pairs that changes nothing
    one_step = {"epochs": 1, "batch": PAIRS, "micro_batch": PAIRS, "learning_rate": 1e-9}
    config = CONFIG.model_copy(update={**one_step, "centre": centre})
    model, steps = train(tiny_folder, tiny_tokenizer, tmp_path, config)
    found = rewards(model, tiny_tokenizer, [turns for pair in planted(PAIRS, 0) for turns in pair])
    pairs = list(zip(found[::2], found[1::2], strict=True))
    expected = [
        log(1 + exp(rejected - chosen)) + centre * (chosen + rejected) ** 2
        for chosen, rejected in pairs
    ]
    assert values(steps, "loss") == pytest.approx([sum(expected) / len(expected)], rel=0.01)
    assert max(abs(chosen + rejected) for chosen, rejected in pairs) > 0.2


def test_where_bfloat16_is_emulated_everything_is_float32(
    tiny_folder: Path,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    config = CONFIG.model_copy(update={"epochs": 1})
    model, steps = train(tiny_folder, tiny_tokenizer, tmp_path, config)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert len(values(steps, "loss")) == 8


# --- rewards ---


def test_a_reward_is_read_at_the_last_token(
    untrained: PeftModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    conversations = [turns for pair in planted(3, seed=2) for turns in pair]
    found = rewards(untrained, tiny_tokenizer, conversations)
    classifier: Any = untrained.get_base_model()
    for turns, reward in zip(conversations, found, strict=True):
        ids = tiny_tokenizer.apply_chat_template(turns, return_dict=False)
        with torch.no_grad():
            states = classifier.model(torch.tensor([ids])).last_hidden_state[0, -1]
        expected = (states @ classifier.score.weight[0]).item()
        assert reward == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_a_reward_does_not_depend_on_its_neighbours(
    untrained: PeftModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    conversations = [turns for pair in planted(10, seed=2) for turns in pair]
    found = rewards(untrained, tiny_tokenizer, conversations)
    assert max(found) - min(found) > 1
    order = list(range(len(conversations)))
    random.Random(0).shuffle(order)
    shuffled = rewards(untrained, tiny_tokenizer, [conversations[i] for i in order])
    assert shuffled == pytest.approx([found[i] for i in order], abs=1e-3)
    for rows in (1, 3, 20):
        again = rewards(untrained, tiny_tokenizer, conversations, rows)
        assert again == pytest.approx(found, abs=1e-3), rows
    assert rewards(untrained, tiny_tokenizer, []) == []


def test_rewards_are_given_without_dropout_or_gradient(
    untrained: PeftModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    untrained.train()
    rewards(untrained, tiny_tokenizer, planted(1, seed=0)[0][:1])
    assert not untrained.training
    assert all(w.grad is None for w in untrained.parameters())


# --- what is saved ---


def test_the_saved_model_loads_with_stock_libraries_and_says_the_same(
    trained: tuple[PeftModel, list[Step]],
    tiny_tokenizer: PreTrainedTokenizerFast,
    tiny_folder: Path,
    tmp_path: Path,
) -> None:
    model, _ = trained
    held = [turns for pair in planted(8, seed=3) for turns in pair]
    expected = rewards(model, tiny_tokenizer, held)
    model.save_pretrained(tmp_path)
    base = AutoModelForSequenceClassification.from_pretrained(
        tiny_folder, num_labels=1, dtype=torch.bfloat16
    )
    fresh = rewards(base, tiny_tokenizer, held)
    loaded = PeftModel.from_pretrained(base, tmp_path)
    found = rewards(loaded, tiny_tokenizer, held)
    assert found == expected
    assert max(abs(a - b) for a, b in zip(fresh, expected, strict=True)) > 1
    for name, weight in state(model).items():
        assert torch.equal(loaded.get_parameter(name), weight), name
