"""PPO on a tiny model: tasks it must solve, the gradient it must follow, kills it must survive."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean as mean
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict

from character.errors import CharacterError, ModelError, RecipeError, RunError
from character.rows import Step
from character.training.config import PpoConfig
from character.training.ppo import (
    CHECKPOINT,
    PpoTrainer,
    train_ppo,
)
from character.training.rollouts import Reward, Rollout, next_queries
from character.training.value_head import ValueHead

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# peft 0.21 asks transformers 5.23 for a property under its old name
pytestmark = pytest.mark.filterwarnings("ignore:.(is_)?gradient_checkpointing:FutureWarning")

NewPolicy = Callable[..., PeftModel]
Train = Callable[..., list[Step]]
QUERIES = ["Why does bread rise?", "Do cats sleep?", "Name a river."]
SEED = 7
SHORT = PpoConfig(
    updates=2,
    rollouts=8,
    max_tokens=6,
    learning_rate=1e-2,
    value_learning_rate=1e-2,
    truncated="score",
    truncated_penalty=0,
)


def config(**changes: Any) -> PpoConfig:
    return PpoConfig.model_validate(SHORT.model_dump() | changes)


def even(rollouts: Sequence[Rollout]) -> list[float | None]:
    """1 for a reply whose first token has an even id."""
    return [float(rollout.ids[0] % 2 == 0) for rollout in rollouts]


def values(steps: list[Step], metric: str) -> list[float]:
    return [step.value for step in steps if step.metric == metric]


def weights(policy: PeftModel) -> dict[str, torch.Tensor]:
    return {name: w.clone() for name, w in get_peft_model_state_dict(policy).items()}


def moved(policy: PeftModel) -> PeftModel:
    """The policy after some training: its adapter does something."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.02 * torch.randn(weight.shape, generator=generator))
    return policy


def plain_logprobs(policy: PeftModel, rollout: Rollout, temperature: float = 1.0) -> torch.Tensor:
    """Of the reply's tokens, (tokens,), from all logits of a plain forward pass."""
    whole = torch.tensor([rollout.prompt + rollout.ids])
    logits = policy(whole).logits[0, len(rollout.prompt) - 1 : -1] / temperature
    chosen = torch.tensor(rollout.ids).unsqueeze(1)
    return logits.log_softmax(-1).gather(1, chosen).squeeze(1)


@pytest.fixture
def train(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Train:
    def run(
        policy: PeftModel,
        reward: Reward = even,
        changed: PpoConfig = SHORT,
        folder: str = "work",
        queries: Sequence[str] = QUERIES,
        on_step: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Step]:
        return train_ppo(
            policy, tiny_tokenizer, queries, reward, changed, SEED, tmp_path / folder, on_step
        )

    return run


@pytest.fixture
def trainer(
    new_policy: NewPolicy, tiny_tokenizer: PreTrainedTokenizerFast
) -> Callable[..., PpoTrainer]:
    def make(reward: Reward = even, policy: PeftModel | None = None, **changes: Any) -> PpoTrainer:
        return PpoTrainer(
            policy or moved(new_policy()), tiny_tokenizer, QUERIES, reward, config(**changes), SEED
        )

    return make


# --- tasks ---


def test_it_solves_a_two_armed_bandit(new_policy: NewPolicy, train: Train) -> None:
    bandit = config(
        updates=20, rollouts=16, max_tokens=1, kl_coefficient=0, epochs=1, value_head="shared"
    )
    drawn = values(train(new_policy(), even, bandit, queries=QUERIES[:1]), "reward")
    assert mean(drawn[:3]) < 0.7
    assert mean(drawn[-3:]) > 0.95


def test_it_learns_to_prefer_a_token(new_policy: NewPolicy, train: Train) -> None:
    def share(rollouts: Sequence[Rollout]) -> list[float | None]:
        return [rollout.ids.count(590) / len(rollout.ids) for rollout in rollouts]

    task = config(updates=26, rollouts=16, max_tokens=4, kl_coefficient=0)
    steps = train(new_policy(), share, task)
    assert mean(values(steps, "reward")[:3]) < 0.05
    assert mean(values(steps, "reward")[-3:]) > 0.6
    assert values(steps, "entropy")[-1] < 0.7 * values(steps, "entropy")[0]
    assert max(values(steps, "explained_variance")) > 0.2  # the value head has learned as well


# --- the gradient ---


@pytest.mark.parametrize("micro_batch", [2, 8])
def test_one_epoch_without_baseline_follows_reinforce(
    new_policy: NewPolicy, train: Train, micro_batch: int
) -> None:
    drawn: list[Rollout] = []

    def reward(rollouts: Sequence[Rollout]) -> list[float | None]:
        drawn.extend(rollouts)
        return [len(set(rollout.ids)) - 3.5 for rollout in rollouts]

    limit = config(
        updates=1,
        epochs=1,
        batch=8,
        micro_batch=micro_batch,
        lam=1.0,
        kl_coefficient=0,
        whiten_rewards=False,
        whiten_advantages=False,
        max_grad_norm=1e9,
    )
    trained = moved(new_policy())
    train(trained, reward, limit)
    fresh = moved(new_policy())
    # before its first step every value is 0, so there is no baseline: -sum R log pi / tokens
    scores = [len(set(rollout.ids)) - 3.5 for rollout in drawn]
    loss = -sum(s * plain_logprobs(fresh, r).sum() for s, r in zip(scores, drawn, strict=True))
    (loss / sum(len(rollout.ids) for rollout in drawn)).backward()
    found = dict(trained.named_parameters())
    compared = 0
    for name, weight in fresh.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(found[name].grad, weight.grad, rtol=1e-3, atol=1e-5)
            compared += int(weight.grad.abs().max() > 1e-3)
    assert compared > 20


def test_a_policy_that_stands_still_has_ratios_of_1(new_policy: NewPolicy, train: Train) -> None:
    still = config(updates=1, learning_rate=1e-9)
    steps = train(moved(new_policy()), even, still)
    assert values(steps, "clip_fraction") == [0.0]
    assert values(steps, "approx_kl") == pytest.approx([0.0], abs=1e-8)


def test_how_far_the_policy_went_is_told(trainer: Callable[..., PpoTrainer]) -> None:
    made = trainer(epochs=1, batch=8, learning_rate=1e-9)
    drawn = made.experience([(rollout, 0.0) for rollout in made.roll_out()])
    with torch.no_grad():
        for weight in made.weights.values():
            weight.mul_(1.2)
        now = torch.cat([plain_logprobs(made.policy, experience.rollout) for experience in drawn])
    log_ratio = now - torch.cat([experience.logprobs for experience in drawn])
    told = made.learn(drawn)
    ratio = log_ratio.exp()
    assert told["approx_kl"] == pytest.approx((ratio - 1 - log_ratio).mean().item(), rel=1e-3)
    assert told["approx_kl"] > 1e-3
    outside = (ratio < 0.8) | (ratio > 1.2)
    assert told["clip_fraction"] == pytest.approx(outside.float().mean().item())
    assert 0 < told["clip_fraction"] < 1


def test_micro_batches_change_nothing(new_policy: NewPolicy, train: Train) -> None:
    told = {}
    for size in (1, 8):
        part = config(updates=2, batch=8, micro_batch=size)
        told[size] = train(moved(new_policy()), even, part, folder=str(size))
    for one, other in zip(told[1], told[8], strict=True):
        assert one.value == pytest.approx(other.value, rel=0.02, abs=1e-3), one.metric


@pytest.mark.parametrize(
    ("kind", "trains"), [("shared", True), ("detached", False), ("separate", False)]
)
def test_only_the_shared_value_head_trains_the_policy(kind: str, trains: bool) -> None:
    head = ValueHead(kind, 8, SEED)
    states = torch.randn(5, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert head(states).tolist() == [0.0] * 5
    torch.nn.init.ones_(head.layers[-1].weight)
    head(states).square().sum().backward()
    assert (states.grad is not None) == trains
    assert all(weight.grad is not None for weight in head.parameters())


def test_a_policy_in_bfloat16_is_trained(new_policy: NewPolicy, train: Train) -> None:
    policy = moved(new_policy(dtype=torch.bfloat16))
    before = weights(policy)
    steps = train(policy, even, config(updates=1, batch=8, epochs=1))
    assert values(steps, "approx_kl") == pytest.approx([0.0], abs=1e-3)
    assert any(not torch.equal(weight, before[name]) for name, weight in weights(policy).items())


# --- what is drawn ---


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_replies_are_drawn_from_the_distribution_that_is_trained(
    trainer: Callable[..., PpoTrainer], temperature: float
) -> None:
    made = trainer(rollouts=3000, max_tokens=1, temperature=temperature)
    made.queries = QUERIES[:1]
    drawn = made.roll_out()
    with torch.no_grad():
        logits = made.policy.get_base_model()(torch.tensor([drawn[0].prompt])).logits[0, -1]
    expected = (logits / temperature).softmax(-1)
    counts = torch.bincount(torch.tensor([r.ids[0] for r in drawn]), minlength=len(expected))
    # cells of at least 5 expected draws, the rest as one; chi-squared has mean n and variance 2n
    large = expected * len(drawn) >= 5
    seen = torch.cat([counts[large].double(), counts[~large].sum().double().unsqueeze(0)])
    due = torch.cat([expected[large], expected[~large].sum().unsqueeze(0)]).double() * len(drawn)
    cells = len(seen) - 1
    assert cells > 50
    assert abs(((seen - due) ** 2 / due).sum().item() - cells) < 4 * (2 * cells) ** 0.5


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probabilities_are_of_the_tokens_that_were_drawn(
    trainer: Callable[..., PpoTrainer], temperature: float
) -> None:
    made = trainer(temperature=temperature, rollouts=16, max_tokens=12)
    rollouts = made.roll_out()
    assert any(rollout.ended for rollout in rollouts)
    assert any(not rollout.ended for rollout in rollouts)
    for rollout in rollouts:
        # the end token, which also pads, is a token of the reply that it ends
        assert rollout.ended == (rollout.ids[-1] == made.writer.end)
        assert made.writer.end not in rollout.ids[:-1]
    for experience in made.experience([(rollout, 0.0) for rollout in rollouts]):
        with torch.no_grad():
            expected = plain_logprobs(made.policy, experience.rollout, temperature)
        torch.testing.assert_close(experience.logprobs, expected, rtol=1e-4, atol=1e-4)


def test_seeds_come_from_the_run_the_update_and_the_place(
    trainer: Callable[..., PpoTrainer],
) -> None:
    made = trainer()
    first, again = made.roll_out(), made.roll_out()
    assert first == again
    assert len({rollout.ids for rollout in first if rollout.query == first[0].query}) > 1
    made.done = len(QUERIES)  # the same queries turn up in some other order
    assert {rollout.ids for rollout in made.roll_out()} != {rollout.ids for rollout in first}


def test_queries_take_turns() -> None:
    queries = list("abcde")
    stream = [query for k in range(0, 20, 4) for query in next_queries(queries, k, 4, SEED)]
    assert stream == next_queries(queries, 0, 20, SEED)
    rounds = [stream[start : start + 5] for start in range(0, 20, 5)]
    assert all(sorted(turn) == queries for turn in rounds)
    assert len({tuple(turn) for turn in rounds}) > 1
    assert next_queries(["a"], 3, 2, SEED) == ["a", "a"]


# --- the reference ---


@pytest.mark.parametrize("reference", ["base", "start"])
def test_the_reference_stays_where_it_was(
    trainer: Callable[..., PpoTrainer], new_policy: NewPolicy, reference: str
) -> None:
    made = trainer(reference=reference)
    made.update()
    rollouts = made.roll_out()
    found = made.experience([(rollout, 0.0) for rollout in rollouts])
    held_to = new_policy() if reference == "base" else moved(new_policy())
    for experience in found:
        with torch.no_grad():
            now = plain_logprobs(made.policy, experience.rollout)
            before = plain_logprobs(held_to, experience.rollout)
        torch.testing.assert_close(experience.log_ratio, now - before, rtol=1e-3, atol=1e-4)
    assert max(experience.log_ratio.abs().max() for experience in found) > 0.1
    assert all(weight.requires_grad for weight in made.weights.values())


@pytest.mark.parametrize("reference", ["base", "start"])
def test_the_divergence_is_told_in_nats_a_reply(
    trainer: Callable[..., PpoTrainer], new_policy: NewPolicy, reference: str
) -> None:
    made = trainer(reference=reference, updates=1)
    rollouts, base = made.roll_out(), new_policy()
    with torch.no_grad():
        ratios = [plain_logprobs(made.policy, r) - plain_logprobs(base, r) for r in rollouts]
    made.update()
    told = {metric: value for _, metric, value in made.log}
    expected = sum(ratio.sum().item() for ratio in ratios) / len(ratios)
    assert told["kl"] == pytest.approx(expected if reference == "base" else 0.0, abs=1e-3)
    assert (told["kl_k3"] > 0.01) == (reference == "base")


def test_the_divergence_holds_the_policy(new_policy: NewPolicy, train: Train) -> None:
    drift = {}
    for coefficient in (0.0, 2.0):
        held = config(updates=10, kl_coefficient=coefficient, kl_target=None, learning_rate=3e-3)
        steps = train(new_policy(), even, held, folder=str(coefficient))
        drift[coefficient] = mean(values(steps, "kl_k3")[-3:])
        assert values(steps, "kl_coefficient") == [coefficient] * 10
    assert drift[2.0] < 0.5 * drift[0.0]


def test_the_coefficient_is_controlled(new_policy: NewPolicy, train: Train) -> None:
    aimed = config(updates=4, kl_coefficient=0.1, kl_target=0.2, kl_horizon=16)
    steps = train(new_policy(), even, aimed)
    expected = [0.1]
    for kl in values(steps, "kl")[:-1]:
        error = min(0.2, max(-0.2, kl / 0.2 - 1))
        expected.append(expected[-1] * (1 + 0.5 * error))  # 8 replies of a horizon of 16
    assert values(steps, "kl_coefficient") == pytest.approx(expected)
    assert expected[-1] != pytest.approx(0.1)


def test_the_coefficient_follows_the_divergence_that_is_charged(
    trainer: Callable[..., PpoTrainer],
) -> None:
    first = trainer(reference="base")
    first.update()
    (kl,) = [value for _, metric, value in first.log if metric == "kl"]
    made = trainer(reference="base", kl_coefficient=0.1, kl_target=kl / 1.1, kl_horizon=16)
    made.update()
    # e = 1.1 - 1, K = 8 / 16
    assert made.coefficient == pytest.approx(0.1 * (1 + 0.5 * 0.1))


# --- rewards ---


def test_a_missing_reward_leaves_its_reply_out(trainer: Callable[..., PpoTrainer]) -> None:
    def every_other(rollouts: Sequence[Rollout]) -> list[float | None]:
        return [None if i % 2 else 6.0 + i for i, _ in enumerate(rollouts)]

    made = trainer(every_other, whiten_rewards=False, reward_clip=None)
    rollouts = made.roll_out()
    kept, told = made.judge(rollouts)
    assert kept == [(rollouts[i], 6.0 + i) for i in (0, 2, 4, 6)]
    assert told["missing_rewards"] == 4
    assert told["reward"] == 9.0  # (6 + 8 + 10 + 12) / 4, the missing ones are no zeros
    made.update()
    assert made.done == 1


def test_a_constant_reward_is_told(new_policy: NewPolicy, train: Train) -> None:
    steps = train(new_policy(), lambda rollouts: [0.1 for _ in rollouts], config(updates=1))
    assert values(steps, "constant_rewards") == [1.0]
    assert values(steps, "policy_loss") == pytest.approx([0.0], abs=1e-6)
    steps = train(new_policy(), even, config(updates=1), folder="other")
    assert values(steps, "constant_rewards") == [0.0]


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda rollouts: [None for _ in rollouts], "rewards of all 8 replies are missing"),
        (lambda rollouts: [float("nan") for _ in rollouts], "give None"),
        (lambda rollouts: [1.0], "1 numbers for 8 replies"),
    ],
)
def test_rewards_that_cannot_be_learned_from_are_refused(
    new_policy: NewPolicy, train: Train, reward: Reward, message: str
) -> None:
    policy = new_policy()
    before = weights(policy)
    with pytest.raises(ModelError, match=message):
        train(policy, reward)
    assert all(torch.equal(weight, before[name]) for name, weight in weights(policy).items())


@pytest.mark.parametrize("truncated", ["bootstrap", "score", "drop"])
def test_a_reply_that_was_cut_off(trainer: Callable[..., PpoTrainer], truncated: str) -> None:
    seen: list[Rollout] = []

    def reward(rollouts: Sequence[Rollout]) -> list[float | None]:
        seen.extend(rollouts)
        return [3.0 for _ in rollouts]

    made = trainer(
        reward,
        rollouts=16,
        max_tokens=12,
        truncated=truncated,
        truncated_penalty=0.5,
        whiten_rewards=False,
        whiten_advantages=False,
        kl_coefficient=0,
        lam=1.0,
    )
    torch.nn.init.constant_(made.head.layers[-1].bias, 2.0)  # every state is worth 2
    rollouts = made.roll_out()
    cut_off = [rollout for rollout in rollouts if not rollout.ended]
    assert 0 < len(cut_off) < 16
    kept, told = made.judge(rollouts)
    assert told["ended"] == 1 - len(cut_off) / 16
    assert told["dropped"] == (len(cut_off) if truncated == "drop" else 0)
    assert len(kept) == (16 - len(cut_off) if truncated == "drop" else 16)
    assert any(not rollout.ended for rollout in seen) == (truncated == "score")
    # cut off: -0.5, and the 2 of going on or the score of 3; ended: the score alone
    due = {True: 3.0, False: {"bootstrap": 1.5, "score": 2.5}.get(truncated)}
    for experience in made.experience(kept):
        length = len(experience.rollout.ids)
        assert experience.returns.tolist() == pytest.approx(
            [due[experience.rollout.ended]] * length
        )
        assert experience.values.tolist() == pytest.approx([2.0] * length)


def test_when_no_reply_ends_it_says_what_to_change(new_policy: NewPolicy, train: Train) -> None:
    with pytest.raises(ModelError, match="No reply ended within 1 tokens"):
        train(new_policy(), even, config(max_tokens=1, rollouts=2, truncated="bootstrap"))


# --- what is told ---


def test_every_update_is_told(new_policy: NewPolicy, train: Train) -> None:
    progress: list[tuple[int, int]] = []
    policy = new_policy()
    steps = train(policy, on_step=lambda done, total: progress.append((done, total)))
    assert progress == [(1, 2), (2, 2)]
    assert {step.metric for step in steps} == {
        "approx_kl", "clip_fraction", "constant_rewards", "dropped", "ended", "entropy",
        "explained_variance", "grad_norm", "kl", "kl_coefficient", "kl_k2", "kl_k3", "length",
        "missing_rewards", "policy_loss", "reward", "value_loss",
    }  # fmt: skip
    assert {(step.stage, step.step) for step in steps} == {("ppo", 1), ("ppo", 2)}
    assert len({step.id for step in steps}) == len(steps)
    # as it came: ready for another trainer, and to be saved
    assert policy.get_base_model().config._attn_implementation == "eager"
    assert policy.active_adapters == ["default"]


def test_no_updates_change_nothing(new_policy: NewPolicy, train: Train) -> None:
    policy = new_policy()
    before = weights(policy)
    assert train(policy, even, config(updates=0)) == []
    assert all(torch.equal(weight, before[name]) for name, weight in weights(policy).items())


# --- interruptions ---


def same(one: Any, other: Any) -> bool:
    """Whether two checkpoints hold the same, to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize(
    ("reference", "head"), [("start", "separate"), ("base", "shared")], ids=str
)
def test_an_interruption_changes_nothing(
    new_policy: NewPolicy, train: Train, tmp_path: Path, reference: str, head: str
) -> None:
    long = config(
        updates=4,
        rollouts=5,
        batch=4,
        micro_batch=2,
        max_tokens=4,
        kl_target=0.1,
        reference=reference,
        value_head=head,
    )
    whole = moved(new_policy())
    steps = train(whole, even, long, "whole")
    expected = torch.load(tmp_path / "whole" / CHECKPOINT, weights_only=True)
    for update in (1, 2, 3):
        for place in ("between updates", "in an update"):
            calls = 0

            def stop(done: int, total: int, update: int = update, place: str = place) -> None:
                if place == "between updates" and done == update:
                    raise KeyboardInterrupt

            def killed(
                rollouts: Sequence[Rollout], update: int = update, place: str = place
            ) -> list[float | None]:
                nonlocal calls
                calls += 1
                if place == "in an update" and calls == update:
                    raise KeyboardInterrupt
                return even(rollouts)

            folder = f"{update} {place}"
            with pytest.raises(KeyboardInterrupt):
                train(moved(new_policy()), killed, long, folder, on_step=stop)
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / "ppo.part").write_bytes(b"half a checkpoint")
            torch.manual_seed(update)  # whatever happened in between
            resumed = moved(new_policy())
            assert train(resumed, even, long, folder) == steps
            assert same(weights(resumed), weights(whole))
            found = torch.load(tmp_path / folder / CHECKPOINT, weights_only=True)
            assert same(found, expected)


def test_a_training_that_is_done_is_not_done_again(new_policy: NewPolicy, train: Train) -> None:
    first, second = new_policy(), new_policy()
    steps = train(first)

    def unasked(rollouts: Sequence[Rollout]) -> list[float | None]:
        raise AssertionError("nothing is left to be rewarded")

    assert train(second, unasked) == steps
    assert same(weights(first), weights(second))


def test_a_checkpoint_of_another_training_is_refused(new_policy: NewPolicy, train: Train) -> None:
    train(new_policy())
    with pytest.raises(RunError, match="another policy, config, seed or queries"):
        train(new_policy(), even, config(clip=0.3))
    with pytest.raises(RunError, match="another policy, config, seed or queries"):
        train(moved(new_policy()))
    with pytest.raises(RunError, match="another policy, config, seed or queries"):
        train(new_policy(), queries=QUERIES[:2])


def test_a_damaged_checkpoint_is_refused(
    new_policy: NewPolicy, train: Train, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / CHECKPOINT).write_bytes(b"no checkpoint")
    with pytest.raises(RunError, match=r"cannot be read\. Delete it"):
        train(new_policy())


# --- bad input ---


def test_no_queries_are_refused(new_policy: NewPolicy, train: Train) -> None:
    with pytest.raises(RecipeError, match="no queries"):
        train(new_policy(), queries=[])


def test_a_frozen_adapter_is_refused(new_policy: NewPolicy, train: Train) -> None:
    frozen = new_policy()
    frozen.requires_grad_(False)
    with pytest.raises(ModelError, match="is_trainable=True"):
        train(frozen)


@pytest.mark.parametrize("lacks", ["chat_template", "eos_token"])
def test_a_tokenizer_that_cannot_chat_is_refused(
    new_policy: NewPolicy, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, lacks: str
) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    setattr(tokenizer, lacks, None)
    with pytest.raises(ModelError, match="no chat template, or no end token"):
        train_ppo(
            new_policy(), tokenizer, QUERIES, even, SHORT, SEED, tmp_path, lambda done, total: None
        )


def test_a_query_that_does_not_fit_is_refused_before_any_reply(
    new_policy: NewPolicy, train: Train
) -> None:
    with pytest.raises(ModelError, match="reads at most 2048 tokens"):
        train(new_policy(), queries=[*QUERIES, "word " * 3000])


@pytest.mark.parametrize("batch", [4, 8])
def test_a_training_that_breaks_down_is_stopped(
    new_policy: NewPolicy, train: Train, batch: int
) -> None:
    with pytest.raises(
        CharacterError, match=r"In update [12] of PPO .* learning_rate below 1e\+30"
    ):
        train(new_policy(), even, config(learning_rate=1e30, batch=batch, epochs=1))
