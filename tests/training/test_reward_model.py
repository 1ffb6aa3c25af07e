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

from character.errors import ModelError, RecipeError
from character.rows import Step
from character.training.config import LoraConfig, RewardConfig
from character.training.reward_model import rewards, soft_label_term, train_reward_model
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


def quietly(done: int, total: int) -> None:
    """Tells nobody how far it is."""


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


def test_soft_labels_and_margins_are_what_the_loss_says(
    tiny_folder: Path, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    one_step = {"epochs": 1, "batch": PAIRS, "micro_batch": PAIRS, "learning_rate": 1e-9}
    pairs = dataset_of(planted(PAIRS, seed=0))
    probability = [0.5 + 0.5 * i / PAIRS for i in range(PAIRS)]
    gap = [0.1 * i for i in range(PAIRS)]
    pairs = pairs.add_column("probability", probability).add_column("gap", gap)
    losses = {}
    for labels in ("hard", "soft", "margin"):
        config = CONFIG.model_copy(update={**one_step, "centre": 0.0, "labels": labels})
        model, steps = train_reward_model(
            tiny_folder, tiny_tokenizer, pairs, LORA, config, 5, tmp_path / labels, quietly
        )
        (losses[labels],) = values(steps, "loss")
    found = rewards(model, tiny_tokenizer, [turns for pair in planted(PAIRS, 0) for turns in pair])
    d = [chosen - rejected for chosen, rejected in zip(found[::2], found[1::2], strict=True)]
    # cross-entropy of sigmoid(d) with the probability; Touvron et al. 2023, equation 2
    both = zip(d, probability, strict=True)
    soft = [p * log(1 + exp(-x)) + (1 - p) * log(1 + exp(x)) for x, p in both]
    margin = [log(1 + exp(m - x)) for x, m in zip(d, gap, strict=True)]
    assert losses["hard"] == pytest.approx(sum(log(1 + exp(-x)) for x in d) / PAIRS, rel=0.01)
    assert losses["soft"] == pytest.approx(sum(soft) / PAIRS, rel=0.01)
    assert losses["margin"] == pytest.approx(sum(margin) / PAIRS, rel=0.01)
    assert len({round(loss, 2) for loss in losses.values()}) == 3


def test_soft_labels_pull_to_their_log_odds_worked_by_hand() -> None:
    d, p = torch.tensor([2.0, -1.0], requires_grad=True), torch.tensor([0.8, 0.6])
    loss = -torch.nn.functional.logsigmoid(d).mean() + soft_label_term(
        torch.cat([d, torch.zeros(2)]), p
    )
    torch.autograd.backward(loss)
    # the gradient of cross-entropy, over two pairs: (sigmoid(d) - p) / 2
    assert d.grad is not None
    assert d.grad.tolist() == pytest.approx(
        [(1 / (1 + exp(-2)) - 0.8) / 2, (1 / (1 + exp(1)) - 0.6) / 2]
    )


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


# --- bad input ---


@pytest.mark.parametrize("labels", ["soft", "margin"])
def test_labels_that_the_pairs_do_not_have_are_refused(
    labels: str, tiny_folder: Path, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"labels": labels})
    column = {"soft": "probability", "margin": "gap"}[labels]
    pairs = dataset_of(planted(2, seed=0))
    with pytest.raises(RecipeError, match=f"no column '{column}'.*labels=hard"):
        train_reward_model(tiny_folder, tiny_tokenizer, pairs, LORA, config, 5, tmp_path, quietly)
    for bad in (-0.1, float("nan")):
        wrong = pairs.add_column(column, [0.7, bad])
        with pytest.raises(RecipeError, match=f"pair 1 has the {column} {bad}"):
            train_reward_model(
                tiny_folder, tiny_tokenizer, wrong, LORA, config, 5, tmp_path, quietly
            )


def test_a_single_pair_is_enough_to_train_on(
    tiny_folder: Path, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"epochs": 2})
    pairs = dataset_of(planted(1, seed=0))
    _, steps = train_reward_model(
        tiny_folder, tiny_tokenizer, pairs, LORA, config, 5, tmp_path, quietly
    )
    assert len(values(steps, "loss")) == 2


def test_pairs_whose_replies_are_the_same_are_refused(
    tiny_folder: Path, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    same = dataset_of([(chosen, chosen) for chosen, _ in planted(3, seed=0)])
    with pytest.raises(ModelError, match=r"In each of the 3 pairs .* are the same"):
        train_reward_model(tiny_folder, tiny_tokenizer, same, LORA, CONFIG, 5, tmp_path, quietly)


def test_pairs_that_are_all_too_long_are_refused(
    tiny_folder: Path, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    (chosen, rejected) = planted(1, seed=0)[0]
    long = [*chosen[:1], {"role": "assistant", "content": "tea water " * 600}]
    pairs = dataset_of([(long, rejected)])
    with pytest.raises(ModelError, match="Each of the 1 pairs is longer than 1024 tokens"):
        train_reward_model(tiny_folder, tiny_tokenizer, pairs, LORA, CONFIG, 5, tmp_path, quietly)


def test_a_training_that_runs_away_is_stopped(
    tiny_folder: Path, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(ModelError, match=r"no finite number.*learning_rate=1e\+29"):
        train(tiny_folder, tiny_tokenizer, tmp_path, config)


def test_a_reward_that_is_no_number_is_refused(
    untrained: PeftModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    classifier: Any = untrained.get_base_model()
    torch.nn.init.constant_(classifier.score.weight, float("nan"))
    with pytest.raises(ModelError, match="no finite reward"):
        rewards(untrained, tiny_tokenizer, planted(1, seed=0)[0])


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
