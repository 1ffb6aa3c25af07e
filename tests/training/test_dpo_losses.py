"""What DPO can minimise: by hand, beside TRL, and in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf, log, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from datasets import Dataset, load_from_disk
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel, get_peft_model_state_dict
from pydantic import ValidationError
from trl import DPOConfig as TrlDpoConfig
from trl import DPOTrainer

from character.errors import ModelError, RecipeError
from character.recipe import load_recipe
from character.rows import Reply, Step
from character.training.config import DpoConfig
from character.training.dataset import counted
from character.training.dpo import AnchoredDPOTrainer, train_dpo
from character.training.dpo_loss import dpo_loss, pair_losses, reply_scores
from character.training.runner import arguments

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# peft 0.21 asks transformers 5.23 for a property under its old name
pytestmark = pytest.mark.filterwarnings("ignore:.(is_)?gradient_checkpointing:FutureWarning")

NewPolicy = Callable[..., PeftModel]
SMALL: dict[str, Any] = {"nll": 0, "learning_rate": 1e-2, "batch": 2, "micro_batch": 2}
SEED = 5

LOSSES = [
    {"loss": "sigmoid"},
    {"loss": "ipo"},
    {"loss": "ipo", "length": "sum"},
    {"loss": "robust"},
    {"length": "normalised", "beta": 2.0},
    {"length": "desensitised"},
    {"weights": "probability"},
    {"weights": "soft"},
]


def costs(margins: Sequence[float], **options: Any) -> tuple[list[float], list[float]]:
    """Of each pair: its loss, and the slope of the loss in its margin."""
    h = torch.tensor(margins, dtype=torch.float64, requires_grad=True)
    losses = pair_losses(h, DpoConfig(**options))
    (slopes,) = torch.autograd.grad(losses.sum(), h)
    return losses.tolist(), slopes.tolist()


# --- a pair, by hand ---


def test_sigmoid_by_hand() -> None:
    # sigmoid(log 4) = 4/5, and a slope is minus the other side: -1/5; sigmoid(0) = 1/2
    found, slopes = costs([log(4), 0.0, -log(4)])
    assert found == pytest.approx([log(5 / 4), log(2), log(5)])
    assert slopes == pytest.approx([-1 / 5, -1 / 2, -4 / 5])


def test_ipo_by_hand() -> None:
    # beta 1/2: log-ratios should lie 1/(2 beta) = 1 apart. They lie h/beta = 4, 1, 0 and -2 apart:
    # 3^2, 0, 1 and 3^2. Slopes 2 (distance - 1)/beta: 12, 0, -4, -12: beyond the goal it pulls back
    found, slopes = costs([2.0, 0.5, 0.0, -1.0], loss="ipo", beta=0.5)
    assert found == pytest.approx([9, 0, 1, 9])
    assert slopes == pytest.approx([12, 0, -4, -12])


def test_robust_by_hand() -> None:
    # e = 1/5. h = log 4: (4/5 log(5/4) - 1/5 log 5) / (3/5) = (4 log(5/4) - log 5) / 3, and its
    # slope -(4/5 1/5 + 1/5 4/5) / (3/5) = -8/15. h = 0: log 2, -(4/5 1/2 + 1/5 1/2) / (3/5) = -5/6
    found, slopes = costs([log(4), 0.0], loss="robust", label_noise=0.2)
    assert found == pytest.approx([(4 * log(5 / 4) - log(5)) / 3, log(2)])
    assert slopes == pytest.approx([-8 / 15, -5 / 6])


def test_robust_without_noise_is_sigmoid() -> None:
    margins = [-30.0, -1.0, 0.0, 0.3, 30.0]
    assert costs(margins, loss="robust", label_noise=0) == costs(margins)


@given(st.floats(-20, 20), st.floats(0, 0.45))
def test_on_swapped_pairs_robust_is_on_average_the_sigmoid_loss_of_the_true_ones(
    margin: float, noise: float
) -> None:
    (right, wrong), _ = costs([margin, -margin], loss="robust", label_noise=noise)
    (true,), _ = costs([margin])
    assert (1 - noise) * right + noise * wrong == pytest.approx(true, abs=1e-9)


# --- how likely a reply is, by hand ---

# two pairs behind a token of prompt: 3 tokens beat 1, and 1 token beats 2
TOKENS = [[0, -1, -2, -4], [0, -3, 0, 0], [0, -5, 0, 0], [0, -1, -8, 0]]
SAID = [[0, 1, 1, 1], [0, 1, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0]]


@pytest.mark.parametrize(
    ("options", "expected", "weights"),
    [
        ({}, [-7, -3, -5, -9], [1, 1, 1, 1, 1, 1, 1]),
        (
            {"length": "normalised"},
            [-7 / 3, -3, -5, -9 / 2],
            [1 / 3, 1 / 3, 1 / 3, 1, 1, 1 / 2, 1 / 2],
        ),
        # the chosen reply is 2 tokens longer in the first pair, the rejected 1 in the second:
        # -1 - (2 + 4)/4 = -2.5 and -1 - 8/4 = -3
        (
            {"length": "desensitised", "length_alpha": 0.25},
            [-2.5, -3, -5, -3],
            [1, 1 / 4, 1 / 4, 1, 1, 1, 1 / 4],
        ),
        ({"length": "desensitised", "length_alpha": 0}, [-1, -3, -5, -1], None),
        ({"length": "desensitised", "length_alpha": 1}, [-7, -3, -5, -9], None),
    ],
)
def test_how_replies_are_measured(
    options: dict[str, Any], expected: list[float], weights: list[float] | None
) -> None:
    tokens = torch.tensor(TOKENS, dtype=torch.float32, requires_grad=True)
    said = torch.tensor(SAID).bool()
    scores = reply_scores(tokens, said, DpoConfig(**options))
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float32))
    if weights:
        (slopes,) = torch.autograd.grad(scores.sum(), tokens)
        assert slopes[said].tolist() == pytest.approx(weights)


# --- how much a pair counts, by hand ---

# beta 1/2; margins log 4 and 0
NOW = torch.tensor([2 * log(4) - 7, -3.0]), torch.tensor([-9.0, -5.0])
BEFORE = torch.tensor([-7.0, -3.0]), torch.tensor([-9.0, -5.0])


def test_weights_multiply_the_losses() -> None:
    # (3/2 log(5/4) + 1/2 log 2) / 2
    weights = torch.tensor([1.5, 0.5])
    loss, chosen, _ = dpo_loss(NOW, BEFORE, DpoConfig(beta=0.5), weights)
    assert loss.item() == pytest.approx((1.5 * log(5 / 4) + 0.5 * log(2)) / 2)
    torch.testing.assert_close(chosen, torch.tensor([log(4), 0.0]))  # rewards are not weighted


def test_equal_weights_change_nothing() -> None:
    for options in ({}, {"loss": "ipo"}, {"loss": "robust"}):
        config = DpoConfig(beta=0.5, **options)
        assert dpo_loss(NOW, BEFORE, config, torch.ones(2))[0] == dpo_loss(NOW, BEFORE, config)[0]


def test_soft_labels_by_hand() -> None:
    # 3/4 log(5/4) + 1/4 log 5, and log 2 either way
    probabilities = torch.tensor([0.75, 0.9])
    loss, *_ = dpo_loss(NOW, BEFORE, DpoConfig(beta=0.5), None, probabilities)
    assert loss.item() == pytest.approx((0.75 * log(5 / 4) + 0.25 * log(5) + log(2)) / 2)
    # ipo: distances of 4 and 0 should be 1, or -1: 3/4 9 + 1/4 25 = 13, and 1 either way
    now, before = (torch.tensor([4.0, 0.0]), torch.zeros(2)), (torch.zeros(2), torch.zeros(2))
    loss, *_ = dpo_loss(now, before, DpoConfig(beta=0.5, loss="ipo"), None, probabilities)
    assert loss.item() == pytest.approx((13 + 1) / 2)


@pytest.mark.parametrize("probability", [0.25, 0.5, 0.8, 1.0])
def test_soft_labels_end_at_the_margin_whose_sigmoid_they_are(probability: float) -> None:
    # the slope in h is sigmoid(h) - p; of log-ratios gained, beta times that
    gained = torch.tensor([log(4) / 0.5], requires_grad=True)
    zero, p = torch.zeros(1), torch.tensor([probability])
    loss, *_ = dpo_loss((gained, zero), (zero, zero), DpoConfig(beta=0.5), None, p)
    (slope,) = torch.autograd.grad(loss, gained)
    assert slope.item() == pytest.approx(0.5 * (0.8 - probability), abs=1e-6)


def test_certain_labels_change_nothing() -> None:
    config = DpoConfig(beta=0.5)
    certain, _, _ = dpo_loss(NOW, BEFORE, config, None, torch.ones(2))
    assert certain == dpo_loss(NOW, BEFORE, config)[0]


# --- the configuration ---


def test_the_default_is_the_sigmoid_of_summed_and_unweighted_pairs() -> None:
    config = DpoConfig()
    assert (config.loss, config.length, config.weights) == ("sigmoid", "sum", "none")


def test_ipo_takes_the_mean_a_token_unless_told() -> None:
    assert DpoConfig(loss="ipo").length == "normalised"
    summed = DpoConfig(loss="ipo", length="sum")
    assert summed.length == "sum"
    assert DpoConfig.model_validate(summed.model_dump()) == summed


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loss", "ipo"),
        ("loss", "robust"),
        ("length", "normalised"),
        ("length", "desensitised"),
        ("weights", "probability"),
        ("weights", "soft"),
    ],
)
def test_a_recipe_reaches_every_option(key: str, value: str) -> None:
    recipe = load_recipe("default", [f"training.dpo.{key}={value}"])
    assert getattr(recipe.training.dpo, key) == value


def test_a_recipe_reaches_the_numbers_of_an_option() -> None:
    settings = ["loss=robust", "label_noise=0.3", "length=desensitised", "length_alpha=0"]
    found = load_recipe("default", [f"training.dpo.{each}" for each in settings]).training.dpo
    assert (found.label_noise, found.length_alpha) == (0.3, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, "'sigmoid', 'ipo' or 'robust'"),
        ({"loss": "robust", "label_noise": 0.5}, "less than 0.5"),
        ({"length": "desensitised", "length_alpha": 1.5}, "less than or equal to 1"),
        ({"label_noise": 0.2}, "label_noise is read with loss=robust only"),
        ({"length_alpha": 0.1}, "length_alpha is read with length=desensitised only"),
        ({"loss": "robust", "weights": "soft"}, "use one"),
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DpoConfig(**options)


def test_a_recipe_says_which_key_is_set_in_vain() -> None:
    with pytest.raises(RecipeError, match="label_noise is read with loss=robust only"):
        load_recipe("default", ["training.dpo.label_noise=0.2"])


# --- in training ---


@pytest.fixture
def pairs(said: list[tuple[str, Reply]]) -> Dataset:
    return pairs_of(said, [0.7] * len(said))


def pairs_of(said: Sequence[tuple[str, Reply]], probabilities: Sequence[float]) -> Dataset:
    """Replies that ask back are chosen over the same replies without their question."""
    return Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": query}],
                "chosen": [{"role": "assistant", "content": reply.text}],
                "rejected": [
                    {"role": "assistant", "content": reply.text.rpartition(". ")[0] + "."}
                ],
                "probability": probability,
            }
            for (query, reply), probability in zip(said, probabilities, strict=True)
        ]
    )


def moved(policy: PeftModel, seed: int = 3) -> PeftModel:
    """The policy after some training: its adapter does something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name and weight.requires_grad:  # TRL adds a frozen copy
                weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
    return policy


@pytest.fixture
def distilled(new_policy: NewPolicy) -> Callable[[], PeftModel]:
    return lambda: moved(new_policy())


def float32(config: DpoConfig, folder: Path) -> dict[str, Any]:
    return {
        **arguments(config, folder, SEED),
        "bf16": False,
        "beta": config.beta,
        "precompute_ref_log_probs": True,
    }


def our_trainer(
    policy: PeftModel,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    config: DpoConfig,
    folder: Path,
) -> AnchoredDPOTrainer:
    return AnchoredDPOTrainer(
        anchors=(),
        config=config,
        model=policy,
        args=TrlDpoConfig(**float32(config, folder)),
        train_dataset=counted(pairs, config.weights),
        processing_class=tokenizer,
    )


def batch_of(trainer: DPOTrainer) -> dict[str, torch.Tensor]:
    return next(iter(trainer.get_train_dataloader()))


def loss_and_gradient(
    trainer: DPOTrainer, batch: Mapping[str, torch.Tensor]
) -> tuple[float, dict[str, torch.Tensor]]:
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    gradient = {
        name: weight.grad.clone()
        for name, weight in trainer.model.named_parameters()
        if weight.grad is not None
    }
    return loss.item(), gradient


def train(
    policy: PeftModel,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    folder: Path,
    config: DpoConfig,
) -> list[Step]:
    return train_dpo(policy, tokenizer, pairs, [], config, SEED, folder, lambda done, total: None)


def values(steps: list[Step], metric: str) -> list[float]:
    return [step.value for step in steps if step.metric == metric]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"loss": "ipo"}, {"loss_type": ["ipo"]}),
        (
            {"loss": "robust", "label_noise": 0.2},
            {"loss_type": ["robust"], "label_smoothing": 0.2},
        ),
        ({"length": "normalised"}, {"loss_type": ["sigmoid_norm"]}),
        ({"length": "desensitised", "length_alpha": 0.3}, {"ld_alpha": 0.3}),
    ],
    ids=str,
)
def test_loss_and_gradient_are_those_of_trl(
    new_policy: NewPolicy,
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    tmp_path: Path,
    ours: dict[str, Any],
    theirs: dict[str, Any],
) -> None:
    config = DpoConfig(**{**SMALL, "batch": 6, "micro_batch": 6, "beta": 0.3, **ours})
    trainer = our_trainer(moved(new_policy()), tiny_tokenizer, pairs, config, tmp_path / "ours")
    stock = DPOTrainer(
        model=moved(new_policy()),
        args=TrlDpoConfig(**float32(config, tmp_path / "stock"), **theirs),
        train_dataset=pairs,
        processing_class=tiny_tokenizer,
    )
    for each in (trainer, stock):  # away from the reference, where every margin is 0
        moved(each.model, seed=4)
    loss, gradient = loss_and_gradient(trainer, batch_of(trainer))
    expected, slopes = loss_and_gradient(stock, batch_of(stock))
    assert loss == pytest.approx(expected, rel=1e-5)
    assert gradient.keys() == slopes.keys() and len(slopes) > 4
    for name, slope in slopes.items():
        torch.testing.assert_close(gradient[name], slope, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("options", LOSSES, ids=str)
def test_every_option_draws_the_replies_apart(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    tmp_path: Path,
    options: dict[str, Any],
) -> None:
    # slow enough not to fly past the margin at which ipo and soft labels are content
    config = DpoConfig(**{**SMALL, "epochs": 3, "learning_rate": 1e-3, **options})
    steps = train(distilled(), tiny_tokenizer, pairs, tmp_path, config)
    margins, losses = values(steps, "rewards/margins"), values(steps, "loss")
    assert margins[0] == pytest.approx(0, abs=0.02)  # the reference measures as the policy does
    assert sum(margins[-3:]) / 3 > 0.03
    assert sum(losses[-3:]) / 3 < 0.95 * losses[0]


def test_a_pair_that_carries_all_the_weight_is_trained_on_alone(
    new_policy: NewPolicy,
    tiny_tokenizer: PreTrainedTokenizerFast,
    said: list[tuple[str, Reply]],
    tmp_path: Path,
) -> None:
    # 2p - 1 = 0, 0, .6, 0, 0, 0, over its mean .1: 0, 0, 6, 0, 0, 0
    pairs = pairs_of(said, [0.5, 0.5, 0.8, 0.5, 0.5, 0.5])
    config = DpoConfig(**{**SMALL, "batch": 6, "micro_batch": 6, "weights": "probability"})
    weighed = our_trainer(moved(new_policy()), tiny_tokenizer, pairs, config, tmp_path / "all")
    plain = config.model_copy(update={"weights": "none"})
    alone = our_trainer(
        moved(new_policy()), tiny_tokenizer, pairs.select([2]), plain, tmp_path / "one"
    )
    for each in (weighed, alone):
        moved(each.model, seed=4)
    batch = batch_of(weighed)
    assert sorted(batch["pair_weight"].tolist()) == pytest.approx([0, 0, 0, 0, 0, 6])
    loss, gradient = loss_and_gradient(weighed, batch)
    expected, slopes = loss_and_gradient(alone, batch_of(alone))
    assert loss == pytest.approx(expected, rel=1e-5)
    for name, slope in slopes.items():
        torch.testing.assert_close(gradient[name], slope, rtol=1e-3, atol=1e-5, msg=name)


def test_each_pair_keeps_its_own_soft_label(
    new_policy: NewPolicy,
    tiny_tokenizer: PreTrainedTokenizerFast,
    said: list[tuple[str, Reply]],
    tmp_path: Path,
) -> None:
    probabilities = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    config = DpoConfig(**{**SMALL, "batch": 6, "micro_batch": 6, "weights": "soft"})
    pairs = pairs_of(said, probabilities)
    trainer = our_trainer(moved(new_policy()), tiny_tokenizer, pairs, config, tmp_path)
    batch = batch_of(trainer)
    read = tiny_tokenizer.batch_decode(batch["input_ids"][:6])
    found = {
        query: label
        for text, label in zip(read, batch["probability"].tolist(), strict=True)
        for query, _ in said
        if query in text
    }
    expected = dict(zip((query for query, _ in said), probabilities, strict=True))
    assert found == pytest.approx(expected)
    assert list(found) != list(expected)  # they came shuffled


def test_equally_sure_pairs_train_as_unweighted_ones(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    tmp_path: Path,
) -> None:
    found = {}
    for weights in ("none", "probability"):
        policy = distilled()
        config = DpoConfig(**SMALL, weights=weights)
        steps = train(policy, tiny_tokenizer, pairs, tmp_path / weights, config)
        found[weights] = values(steps, "loss"), get_peft_model_state_dict(policy)
    assert found["none"][0] == found["probability"][0]
    for name, weight in found["none"][1].items():
        assert torch.equal(weight, found["probability"][1][name])


def test_the_reference_is_computed_once(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    tmp_path: Path,
) -> None:
    class Counting(AnchoredDPOTrainer):
        rows = 0

        def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
            self.rows += len(inputs["input_ids"]) // 2
            return super().compute_ref_log_probs(model, inputs)

    config = DpoConfig(**SMALL, epochs=2, length="desensitised")
    trainer = Counting(
        anchors=(),
        config=config,
        model=distilled(),
        args=TrlDpoConfig(**float32(config, tmp_path)),
        train_dataset=pairs,
        processing_class=tiny_tokenizer,
    )
    trainer.train()
    assert trainer.rows == len(pairs)


def test_pairs_on_disk_keep_the_references_of_each_length_apart(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    tmp_path: Path,
) -> None:
    pairs.save_to_disk(tmp_path / "pairs")
    found = []
    for options in (
        {},
        {"length": "normalised"},
        {"length": "desensitised", "length_alpha": 0.3},
        {"length": "desensitised", "length_alpha": 0.6},
        {},
    ):
        read = load_from_disk(tmp_path / "pairs")
        config = DpoConfig(**SMALL, **options)
        trainer = our_trainer(distilled(), tiny_tokenizer, read, config, tmp_path)
        found.append(tuple(trainer.train_dataset["ref_chosen_logps"]))
    assert found[0] == found[-1]
    assert len(set(found)) == 4


# --- bad input ---


@pytest.mark.parametrize("options", LOSSES[:6], ids=str)
def test_equal_replies_move_nothing(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    tmp_path: Path,
    options: dict[str, Any],
) -> None:
    norms = []
    for each in (pairs, pairs.map(lambda pair: {"rejected": pair["chosen"]})):
        trainer = our_trainer(
            distilled(), tiny_tokenizer, each, DpoConfig(**SMALL, **options), tmp_path
        )
        moved(trainer.model, seed=4)
        _, gradient = loss_and_gradient(trainer, batch_of(trainer))
        norms.append(sum(float(slope.norm()) for slope in gradient.values()))
    assert norms[1] < 1e-4 * norms[0]


def test_pairs_of_equal_replies_alone_are_refused(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    tmp_path: Path,
) -> None:
    same = pairs.map(lambda pair: {"rejected": pair["chosen"]})
    with pytest.raises(ModelError, match="In each of the 6 pairs"):
        train(distilled(), tiny_tokenizer, same, tmp_path, DpoConfig(**SMALL))


@pytest.mark.parametrize(
    ("probabilities", "weights", "message"),
    [
        ([0.5] * 6, "probability", "every pair weighs 0"),
        ([0.9, 0.4, 0.9, 0.9, 0.9, 0.9], "probability", "from 0.5 to 1, and pair 1 has 0.4"),
        ([0.9, nan, 0.9, 0.9, 0.9, 0.9], "probability", "pair 1 has nan"),
        ([0.9, 0.9, 1.1, 0.9, 0.9, 0.9], "soft", "from 0 to 1, and pair 2 has 1.1"),
    ],
)
def test_probabilities_that_give_no_weights_are_refused(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    said: list[tuple[str, Reply]],
    tmp_path: Path,
    probabilities: list[float],
    weights: Any,
    message: str,
) -> None:
    pairs = pairs_of(said, probabilities)
    config = DpoConfig(**SMALL, weights=weights)
    with pytest.raises(RecipeError, match=message):
        train(distilled(), tiny_tokenizer, pairs, tmp_path, config)


def test_a_damaged_policy_is_refused(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    tmp_path: Path,
) -> None:
    policy = distilled()
    with torch.no_grad():
        next(weight for weight in policy.parameters() if weight.requires_grad).fill_(nan)
    with pytest.raises(ModelError, match="Before DPO's first step"):
        train(policy, tiny_tokenizer, pairs, tmp_path, DpoConfig(**SMALL))


@pytest.mark.parametrize(
    ("batch", "found"), [(2, "step 2 of DPO the loss is"), (6, "step 1 of DPO the adapter is")]
)
def test_a_training_that_leaves_the_numbers_is_stopped(
    distilled: Callable[[], PeftModel],
    tiny_tokenizer: PreTrainedTokenizerFast,
    pairs: Dataset,
    tmp_path: Path,
    batch: int,
    found: str,
) -> None:
    config = DpoConfig(**{**SMALL, "batch": batch, "learning_rate": inf})
    with pytest.raises(ModelError, match=f"{found}.*learning_rate below"):
        train(distilled(), tiny_tokenizer, pairs, tmp_path, config)
