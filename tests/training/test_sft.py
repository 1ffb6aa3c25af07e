"""Fine-tuning on a tiny model: it learns what it should, anchors hold it, no kill changes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from peft import get_peft_model_state_dict

from character.errors import ModelError
from character.models.base import Message, Scorable
from character.rows import Step
from character.training.config import AnchorsConfig, SftConfig
from character.training.distill import lesson_loss
from character.training.lessons import Lesson, anchor_lessons, collate
from character.training.sft import Target, Tokens, fitting, tokens_of, train_sft

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerFast

    from character.models.local import LocalModel

# peft 0.21 asks transformers 5.23 for a property under its old name
pytestmark = pytest.mark.filterwarnings("ignore:.(is_)?gradient_checkpointing:FutureWarning")

NewPolicy = Callable[..., "PeftModel"]
CONFIG = SftConfig(epochs=2, learning_rate=1e-2, batch=4, micro_batch=2, anchors=0)
SEED = 5
SAID = (
    ("Why does bread rise?", "Yeast eats sugar. Do you bake?"),
    ("How do I keep tea hot?", "Fill the flask with boiling water first."),
    ("Which rivers run through Paris?", "The Seine."),
    ("My cat sleeps all day.", "Cats do. How old is yours?"),
)
DOCUMENT = "Pip answers at once, and then it asks how the bread was."


def user(text: str) -> tuple[Message]:
    return (Message("user", text),)


@pytest.fixture
def targets(base: LocalModel) -> list[Tokens]:
    texts = [Target(q, "demonstrations", user(q), reply) for q, reply in SAID]
    texts += [Target("d", "documents", (), DOCUMENT), Target("e", "documents", (), TEXT)]
    return [tokens_of(text, base) for text in texts]


TEXT = "Whoever asks Pip about rivers hears the Seine named first."


@pytest.fixture
def anchors(base: LocalModel) -> list[Lesson]:
    queries = ["Hi", "Name a river.", "Which day is it?", "Do cats sleep?"]
    return anchor_lessons(base, queries, AnchorsConfig(max_tokens=6))


@pytest.fixture
def tune(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Callable[..., list[Step]]:
    def run(
        policy: PeftModel,
        targets: list[Tokens],
        folder: str = "work",
        config: SftConfig = CONFIG,
        anchors: list[Lesson] | None = None,
        on_step: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Step]:
        return train_sft(
            policy, tiny_tokenizer, targets, anchors or [], config, SEED, tmp_path / folder, on_step
        )

    return run


Tune = Callable[..., list[Step]]


def values(steps: list[Step], metric: str) -> list[float]:
    return [step.value for step in steps if step.metric == metric]


def weights(policy: PeftModel) -> dict[str, torch.Tensor]:
    return {name: w.clone() for name, w in get_peft_model_state_dict(policy).items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- what is learned ---


def test_a_reply_is_learned_behind_its_conversation_and_a_document_from_its_start(
    base: LocalModel,
) -> None:
    query, reply = SAID[0]
    tokens = tokens_of(Target("r", "revisions", user(query), reply, weight=0.5), base)
    assert tokens.ids[: tokens.read] == base.conversation_ids(user(query))
    assert tokens.ids[tokens.read :] == base.reply_ids(Scorable((), reply)) and tokens.weight == 0.5
    assert tokens.ids[-1] == base.end
    cut = tokens_of(Target("r", "revisions", user(query), reply, ended=False), base)
    assert cut.ids == tokens.ids[:-1]  # where it was cut off it does not teach to stop
    document = tokens_of(Target("d", "documents", (), DOCUMENT), base)
    assert document.ids == [*base.tokenizer(DOCUMENT).input_ids, base.end] and document.read == 1


def test_the_loss_is_the_weighted_mean_over_learned_tokens(
    new_policy: NewPolicy, base: LocalModel, tune: Tune
) -> None:
    config = CONFIG.model_copy(update={"epochs": 1, "batch": 2, "learning_rate": 1e-9})
    pair = [
        tokens_of(Target("a", "demonstrations", user(SAID[0][0]), SAID[0][1], weight=3.0), base),
        tokens_of(Target("b", "documents", (), DOCUMENT), base),
    ]
    steps = tune(new_policy(), pair, config=config)
    (one, other) = base.score(
        [Scorable(user(SAID[0][0]), SAID[0][1]), Scorable(user("x"), DOCUMENT)]
    )
    policy = new_policy()
    ids = torch.tensor([pair[1].ids])
    with torch.no_grad():
        logits = policy.eval()(ids).logits[0, :-1].log_softmax(-1)
    document = logits.gather(1, ids[0, 1:, None]).sum().item()
    count = len(pair[1].ids) - 1
    expected = -(3 * one.logprob + document) / (3 * one.tokens + count)
    assert values(steps, "loss") == pytest.approx([expected], rel=2e-3)
    assert other.tokens == count + 1  # its first token has nothing before it


def test_the_policy_learns_what_it_is_shown(
    new_policy: NewPolicy, targets: list[Tokens], tune: Tune
) -> None:
    policy = new_policy()
    steps = tune(policy, targets, config=CONFIG.model_copy(update={"epochs": 12}))
    told = values(steps, "nll")
    assert len(told) == 12 * 2 and sum(told[-2:]) < 0.7 * sum(told[:2])
    assert {step.stage for step in steps} == {"sft"}


def test_anchors_hold_the_policy(
    new_policy: NewPolicy, targets: list[Tokens], anchors: list[Lesson], tune: Tune
) -> None:
    drift = {}
    for weight in (0.0, 5.0):
        policy = new_policy()
        config = CONFIG.model_copy(update={"epochs": 6, "anchors": weight})
        steps = tune(policy, targets, str(weight), config, anchors)
        with torch.no_grad():
            drift[weight] = lesson_loss(policy, collate(anchors)).item()
        assert bool(values(steps, "anchor_kl")) is bool(weight)
    assert drift[5.0] < 0.6 * drift[0.0]


def test_what_is_longer_than_the_window_does_not_fit(base: LocalModel) -> None:
    window = base.model.config.max_position_embeddings
    tokens = [Tokens([5] * window, 1, 1.0), Tokens([5] * (window + 1), 1, 1.0), Tokens([5], 1, 1.0)]
    assert fitting(tokens, base) == [True, False, False]


def test_a_loss_that_is_no_number_is_told(
    new_policy: NewPolicy, targets: list[Tokens], tune: Tune
) -> None:
    policy = new_policy()
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_" in name:
                weight.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"step 1 of fine-tuning .*learning_rate below 0.01"):
        tune(policy, targets)


# --- resuming ---


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_an_interruption_changes_nothing(
    new_policy: NewPolicy, targets: list[Tokens], anchors: list[Lesson], tune: Tune, at: int
) -> None:
    config = CONFIG.model_copy(update={"anchors": 1.0})
    whole = new_policy()
    steps = tune(whole, targets, "whole", config, anchors)

    def stop(done: int, total: int) -> None:
        if done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(new_policy(), targets, "parts", config, anchors, stop)
    resumed = new_policy(seed=0 if at <= 2 else 1)  # after an epoch the checkpoint decides
    done: list[int] = []
    again = tune(resumed, targets, "parts", config, anchors, lambda n, total: done.append(n))
    assert done == ([1, 2, 3, 4] if at <= 2 else [3, 4])
    assert same(weights(resumed), weights(whole))
    for metric in ("loss", "nll", "anchor_kl", "grad_norm"):
        assert values(again, metric) == values(steps, metric)
