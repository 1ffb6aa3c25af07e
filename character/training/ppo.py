"""PPO on replies that the policy draws as it learns, for any reward of a whole reply.

Each update: draw replies to the next queries; score them; spread score and KL penalty over their
tokens (Ziegler et al. 2019, equation 2); estimate advantages (Schulman et al. 2016, equation 16);
climb the clipped surrogate (Schulman et al. 2017, equation 7) while a value head learns the
returns. The formulas are in `ppo_math`.

The policy is the softmax at `temperature` over the whole vocabulary: it is what replies are drawn
from, with no top-k or top-p in between, and what every log-probability here is of. The reference is
the same model with its adapter off, or with the adapter's first weights in place, so there is no
second model. No random state is carried from update to update: whatever is drawn has a seed made
from the run's seed and its own place, so a resumed training repeats the one that was not stopped.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from statistics import fmean
from typing import Any, TypeVar

import torch
from peft import PeftModel
from peft.helpers import disable_input_dtype_casting
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from character.errors import ModelError, RecipeError, RunError
from character.models import shared_prefix
from character.models.base import Sampling
from character.models.local import LocalModel
from character.rows import Step, content_id
from character.text import refuses, repeated_share
from character.training.config import PpoConfig
from character.training.guards import Probe
from character.training.logprobs import linear_logprobs
from character.training.ppo_math import (
    estimate_advantages,
    explained_variance,
    is_constant,
    kl_estimates,
    next_coefficient,
    shape_scores,
    surrogate_losses,
    token_rewards,
    value_losses,
    whiten,
)
from character.training.rollouts import Reward, Rollout, Writer, next_queries
from character.training.runner import OnStep, for_training, last_states
from character.training.value_head import ValueHead

STAGE = "ppo"
CHECKPOINT = "ppo.pt"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Watch:
    """What guards look at besides the rewards; nothing here is learned from.

    `independent` gives one number a reply, None where it has none: a measure that the reward was
    not trained on. `others` gives each trait's measure of the replies to queries of the other
    traits, always in the same order. `short` asks the policy short questions and gives the share
    that was right. `disagreement` says by how much reward models differ on each reply.
    """

    queries: Sequence[str]
    traits: Sequence[str]
    """Whose query each is."""
    independent: Reward
    others: Callable[[Sequence[Rollout]], Mapping[str, Sequence[float | None]]] = lambda said: {}
    short: Callable[[LocalModel], float | None] = lambda policy: None
    disagreement: Callable[[Sequence[Rollout]], Sequence[float]] | None = None
    say: Callable[[str], None] = lambda told: None


@dataclass(frozen=True, slots=True)
class Experience:
    """A rollout and what is learned from it; each tensor is (tokens of the reply,)."""

    rollout: Rollout
    logprobs: Tensor  # of the policy that drew it, and
    values: Tensor  # of its value head
    log_ratio: Tensor  # of that policy to the reference
    advantages: Tensor
    returns: Tensor


def train_ppo(
    policy: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    reward: Reward,
    config: PpoConfig,
    seed: int,
    folder: Path,
    on_step: OnStep,
) -> list[Step]:
    """Train the policy's adapter in place; the checkpoint, one after every update, is in `folder`.

    A checkpoint there is continued, and belongs to the same start, queries and config (RunError).
    A reply whose reward is None is left out and counted. ModelError or RecipeError when there is
    nothing to learn from, or when the loss is no longer a number.
    """
    trainer = PpoTrainer(policy, tokenizer, queries, reward, config, seed)
    trainer.resume(folder / CHECKPOINT)
    while trainer.done < config.updates:
        trainer.update()
        trainer.save(folder / CHECKPOINT)
        on_step(trainer.done, config.updates)
    return steps_from(trainer.log)


class PpoTrainer:
    """A policy in training; `update` and `save` take turns."""

    def __init__(
        self,
        policy: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        queries: Sequence[str],
        reward: Reward,
        config: PpoConfig,
        seed: int,
    ) -> None:
        self.config, self.seed = config, seed
        self.queries, self.reward = list(queries), reward
        self.policy = policy.eval()  # dropout would change the ratios of a policy that stands still
        self.weights = {n: w for n, w in policy.named_parameters() if w.requires_grad}
        _check(self.weights, tokenizer, self.queries)
        self.start = _copied(self.weights) if config.reference == "start" else {}
        self.model = for_training(policy.get_base_model())
        self.trains_with = self.model.config._attn_implementation
        self.writer = Writer(self.model, tokenizer, STAGE)
        self.model.set_attn_implementation(self.trains_with)
        self.writer.check(self.queries, config.max_tokens)
        vocabulary, width = self.model.get_output_embeddings().weight.shape
        self.sampling = Sampling(
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            top_k=vocabulary,
            top_p=1.0,
        )
        self.head = ValueHead(config.value_head, width, seed).to(self.model.device)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [*self.weights.values()], "lr": config.learning_rate},
                {"params": [*self.head.parameters()], "lr": config.value_learning_rate},
            ],
            weight_decay=0.0,
        )
        self.identity = content_id(config.model_dump(), seed, self.queries, _digest(self.weights))
        self.coefficient = config.kl_coefficient
        self.done = 0
        self.log: list[tuple[int, str, float]] = []

    def update(self) -> None:
        """Draw replies, learn from them, and log what happened."""
        rollouts = self.roll_out()
        kept, told = self.judge(rollouts)
        # PEFT would keep a float32 copy of the input of every adapted layer; autocast needs none
        with disable_input_dtype_casting(self.policy):
            experiences = self.experience(kept)
            told |= {"kl_coefficient": self.coefficient, **_summary(experiences)}
            told |= self.learn(experiences)
        config = self.config
        if config.kl_target:
            self.coefficient = next_coefficient(
                self.coefficient, told["kl"], config.kl_target, config.kl_horizon, len(experiences)
            )
        self.done += 1
        self.log += [(self.done, metric, float(value)) for metric, value in sorted(told.items())]

    # --- what is learned from ---

    def roll_out(self) -> list[Rollout]:
        """One reply to each of this update's queries, drawn from the policy."""
        count = self.config.rollouts
        queries = next_queries(self.queries, self.done * count, count, self.seed)
        seeds = [_seed(self.seed, self.done, i) for i in range(count)]
        with self._writing():
            return self.writer.draw(queries, seeds, self.sampling)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Inside, the policy writes; outside, it is trained."""
        half = self.model.dtype == torch.bfloat16
        self.model.set_attn_implementation(shared_prefix.IMPLEMENTATION)
        try:
            # autocast as in last_states: what is drawn from should be what is trained
            with torch.autocast(self.model.device.type, torch.bfloat16, enabled=half):
                yield
        finally:
            self.model.set_attn_implementation(self.trains_with)

    def judge(
        self, rollouts: Sequence[Rollout]
    ) -> tuple[list[tuple[Rollout, float]], dict[str, float]]:
        """The rollouts to learn from, each with what its last token is rewarded with.

        A reply that was cut off is scored as it stands (`score`), left out (`drop`), or taken for
        the beginning of a longer one (`bootstrap`): then the value of its last state stands for
        all that was to come, the score with it (partial-episode bootstrapping, Pardo et al. 2018).
        Where it is kept the penalty is taken off, after whitening.
        """
        config = self.config
        asked = [r for r in rollouts if r.ended or config.truncated == "score"]
        found = list(self.reward(asked)) if asked else []
        _check_scores(found, asked, config)
        scored = [(r, score) for r, score in zip(asked, found, strict=True) if score is not None]
        raw = torch.tensor([score for _, score in scored], dtype=torch.float64)
        shaped = shape_scores(raw, config.whiten_rewards, config.reward_clip).tolist()
        kept = [(rollout, score) for (rollout, _), score in zip(scored, shaped, strict=True)]
        cut_off = [rollout for rollout in rollouts if not rollout.ended]
        if config.truncated == "bootstrap":
            kept += [(rollout, 0.0) for rollout in cut_off]
        told = {
            "reward": raw.mean().item(),
            "missing_rewards": len(asked) - len(scored),
            "constant_rewards": is_constant(raw),
            "dropped": len(cut_off) if config.truncated == "drop" else 0,
            "ended": 1 - len(cut_off) / len(rollouts),
            "length": sum(len(rollout.ids) for rollout in rollouts) / len(rollouts),
        }
        return [(r, s if r.ended else s - config.truncated_penalty) for r, s in kept], told

    @torch.no_grad()
    def experience(self, kept: Sequence[tuple[Rollout, float]]) -> list[Experience]:
        """Advantages and returns of every token, from one pass of the policy and one of the
        reference.
        """
        config = self.config
        rollouts = [rollout for rollout, _ in kept]
        now = self._read_all(rollouts)
        with self._reference():
            before = self._read_all(rollouts)
        found = []
        for (rollout, score), (p, values), (q, _) in zip(kept, now, before, strict=True):
            if rollout.ended or config.truncated == "score":
                values[-1] = 0.0  # nothing comes after
            rewards = token_rewards(score, p - q, self.coefficient)
            gains = estimate_advantages(rewards, values, config.gamma, config.lam)
            old = values[:-1]
            found.append(Experience(rollout, p, old, p - q, gains, gains + old))
        if config.whiten_advantages:
            whole = whiten(torch.cat([e.advantages for e in found]))
            parts = torch.split(whole, [len(rollout.ids) for rollout in rollouts])
            found = [replace(e, advantages=a) for e, a in zip(found, parts, strict=True)]
        return found

    def _read_all(self, rollouts: Sequence[Rollout]) -> list[tuple[Tensor, Tensor]]:
        """As `_read`, a micro-batch of like lengths at a time, and kept on the CPU."""
        order = sorted(range(len(rollouts)), key=lambda i: _length(rollouts[i]))
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for rows in _parts(order, self.config.micro_batch):
            for i, (p, v) in zip(rows, self._read([rollouts[i] for i in rows]), strict=True):
                found[i] = p.cpu(), v.cpu()
        return [found[i] for i in range(len(rollouts))]

    def _read(self, rollouts: Sequence[Rollout]) -> list[tuple[Tensor, Tensor]]:
        """Each reply's log-probabilities, (tokens,), and the values of the states that it went
        through, (tokens + 1,), the one behind its last token included.
        """
        sequences = [torch.tensor(rollout.prompt + rollout.ids) for rollout in rollouts]
        # what is padding is known from lengths: the padding token may well be the end token
        input_ids = pad_sequence(sequences, batch_first=True).to(self.model.device)
        mask = pad_sequence([torch.ones_like(ids) for ids in sequences], batch_first=True)
        states, embedding = last_states(self.policy, input_ids, mask.to(self.model.device))
        lengths = [len(rollout.ids) for rollout in rollouts]
        visited = [
            row[len(rollout.prompt) - 1 : _length(rollout)]
            for row, rollout in zip(states, rollouts, strict=True)
        ]
        before = torch.cat([row[:-1] for row in visited]) / self.config.temperature
        tokens = torch.tensor([token for rollout in rollouts for token in rollout.ids])
        logprobs = linear_logprobs(before, tokens.to(before.device), embedding)
        values = self.head(torch.cat(visited))
        ends = [length + 1 for length in lengths]
        return list(zip(torch.split(logprobs, lengths), torch.split(values, ends), strict=True))

    @contextmanager
    def _reference(self) -> Iterator[None]:
        """Inside, the policy is its own reference."""
        if self.config.reference == "base":
            with self.policy.disable_adapter():
                yield
            return
        now = _copied(self.weights)
        _put(self.weights, self.start)
        try:
            yield
        finally:
            _put(self.weights, now)

    # --- how it is learned ---

    def learn(self, experiences: Sequence[Experience]) -> dict[str, float]:
        """Some epochs of minibatches; means over all their tokens, and of the gradients' norms."""
        totals: dict[str, float] = defaultdict(float)
        tokens = steps = 0
        for epoch in range(self.config.epochs):
            order = list(experiences)
            random.Random(f"{self.seed}/{self.done}/{epoch}").shuffle(order)
            for batch in _parts(order, self.config.batch):
                size = sum(len(experience.logprobs) for experience in batch)
                totals["grad_norm"] += self._step(batch, size, totals)
                tokens, steps = tokens + size, steps + 1
        norm = totals.pop("grad_norm") / steps
        return {"grad_norm": norm, **{name: total / tokens for name, total in totals.items()}}

    def _step(self, batch: Sequence[Experience], size: int, totals: dict[str, float]) -> float:
        """One step on the mean loss of the batch's tokens; the norm of the adapter's gradient."""
        self.optimizer.zero_grad()
        for part in _parts(
            sorted(batch, key=lambda e: _length(e.rollout)), self.config.micro_batch
        ):
            losses = self._losses(part)
            loss = losses["policy_loss"] + self.config.value_weight * losses["value_loss"]
            torch.autograd.backward(loss / size)
            for name, value in losses.items():
                totals[name] += value.item()
        norms = [
            clip_grad_norm_(group["params"], self.config.max_grad_norm)
            for group in self.optimizer.param_groups  # apart: values must not slow the policy
        ]
        if not all(map(math.isfinite, (*map(float, norms), *totals.values()))):
            raise ModelError(
                f"In update {self.done + 1} of PPO the loss or its gradient is no finite number."
                f" Start again in another folder with a learning_rate below"
                f" {self.config.learning_rate}."
            )
        self.optimizer.step()
        return float(norms[0])

    def _losses(self, part: Sequence[Experience]) -> dict[str, Tensor]:
        """Sums over the tokens of some rollouts."""
        read = self._read([experience.rollout for experience in part])
        logprobs = torch.cat([p for p, _ in read])
        values = torch.cat([v[:-1] for _, v in read])

        def column(name: str) -> Tensor:
            whole = torch.cat([getattr(experience, name) for experience in part])
            return whole.to(logprobs.device)

        log_ratio = logprobs - column("logprobs")
        policy, outside = surrogate_losses(log_ratio, column("advantages"), self.config.clip)
        value = value_losses(values, column("values"), column("returns"), self.config.value_clip)
        return {
            "policy_loss": policy.sum(),
            "value_loss": value.sum(),
            "clip_fraction": outside.sum(),
            "approx_kl": kl_estimates(-log_ratio.detach()).k3.sum(),
        }

    # --- what guards look at ---

    def probe(self, watch: Watch, before: Sequence[Probe]) -> Probe:
        """The policy on the watched queries, with the same random numbers at every probe."""
        if not watch.queries:
            raise RecipeError("The guards of PPO have no held-out queries. Give them at least one.")
        seeds = [_seed(self.seed, -1, i) for i in range(len(watch.queries))]
        with self._writing():
            rollouts = self.writer.draw(watch.queries, seeds, self.sampling)
            short = watch.short(self.writer)
        rewards = list(self.reward(rollouts))
        if not before or any(reward is not None for reward in rewards):  # else a guard tells
            _check_scores(rewards, rollouts, self.config)
        logprobs, kl = self._distance(rollouts)
        differ = watch.disagreement(rollouts) if watch.disagreement else None
        since = before[-1].update if before else 0
        constant = [v for step, m, v in self.log if m == "constant_rewards" and step > since]
        return Probe(
            update=self.done,
            rewards=tuple(rewards),
            independent=tuple(watch.independent(rollouts)),
            traits=tuple(watch.traits),
            words=fmean(len(rollout.text.split()) for rollout in rollouts),
            entropy=-fmean(logprobs),
            repeated=fmean(repeated_share(rollout.text) for rollout in rollouts),
            ended=fmean(rollout.ended for rollout in rollouts),
            kl=kl,
            refused=fmean(refuses(rollout.text) for rollout in rollouts),
            others={trait: tuple(found) for trait, found in watch.others(rollouts).items()},
            short=short,
            disagreement=None if differ is None else fmean(differ),
            no_signal=fmean(constant) if constant else None,
        )

    @torch.no_grad()
    def _distance(self, rollouts: Sequence[Rollout]) -> tuple[list[float], float]:
        """The log-probability of every token drawn, and the KL to the reference, nats a reply."""
        with disable_input_dtype_casting(self.policy):
            now = torch.cat([p for p, _ in self._read_all(rollouts)])
            with self._reference():
                before = torch.cat([p for p, _ in self._read_all(rollouts)])
        return now.tolist(), (now - before).sum().item() / len(rollouts)

    # --- interruptions ---

    def roll_back(self, path: Path) -> int:
        """Take the adapter of the checkpoint at this path, and say after how many updates it was.

        The log, and what was done, stay.
        """
        state = self._state(path)
        _put(self.weights, state["weights"])
        return int(state["done"])

    def save(self, path: Path) -> None:
        """All that the next update depends on, and the log; a kill leaves the old file or this."""
        state = {
            "identity": self.identity,
            "done": self.done,
            "coefficient": self.coefficient,
            "log": self.log,
            "weights": {name: weight.detach() for name, weight in self.weights.items()},
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    def resume(self, path: Path) -> None:
        """Go on from the checkpoint at this path; nothing happens where there is none."""
        if not path.exists():
            return
        state = self._state(path)
        self.done, self.coefficient = state["done"], state["coefficient"]
        self.log = [tuple(entry) for entry in state["log"]]
        _put(self.weights, state["weights"])
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _state(self, path: Path) -> dict[str, Any]:
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, UnpicklingError) as error:
            raise RunError(f"{path} cannot be read. Delete it to train from the start.") from error
        if state["identity"] != self.identity:
            raise RunError(
                f"{path} belongs to a training with another policy, config, seed or queries."
                " Delete it, or name another folder."
            )
        return state


def steps_from(log: Sequence[tuple[int, str, float]]) -> list[Step]:
    """Rows of (update, metric, value)."""
    return [
        Step(content_id("step", STAGE, step, metric), STAGE, step, metric, value)
        for step, metric, value in log
    ]


def _summary(experiences: Sequence[Experience]) -> dict[str, float]:
    """What the replies say of the policy that drew them: KL in nats a reply, entropy a token.

    Both are estimates from the tokens drawn; the entropy is the mean of -log pi.
    """
    log_ratio = torch.cat([experience.log_ratio for experience in experiences])
    values = torch.cat([experience.values for experience in experiences])
    returns = torch.cat([experience.returns for experience in experiences])
    estimates = kl_estimates(log_ratio)
    explained = explained_variance(values, returns)
    return {
        "kl": estimates.k1.sum().item() / len(experiences),
        "kl_k2": estimates.k2.sum().item() / len(experiences),
        "kl_k3": estimates.k3.sum().item() / len(experiences),
        "entropy": -torch.cat([experience.logprobs for experience in experiences]).mean().item(),
        **({} if explained is None else {"explained_variance": explained}),
    }


def _check(
    weights: Mapping[str, Tensor], tokenizer: PreTrainedTokenizerBase, queries: Sequence[str]
) -> None:
    if not queries:
        raise RecipeError("PPO has no queries to draw replies to. Give it at least one.")
    if not weights:
        raise ModelError("The policy's adapter is frozen. Load it with is_trainable=True.")
    if not tokenizer.chat_template or tokenizer.eos_token_id is None:
        raise ModelError(
            "The policy's tokenizer has no chat template, or no end token, so it can neither be"
            " asked nor end its replies. Use an instruction-tuned model."
        )


def _check_scores(
    found: Sequence[float | None], asked: Sequence[Rollout], config: PpoConfig
) -> None:
    scores = [score for score in found if score is not None]
    if not asked:
        raise ModelError(
            f"No reply ended within {config.max_tokens} tokens, so there is none to reward. Raise"
            " max_tokens, or set truncated to 'score'."
        )
    if len(found) != len(asked):
        raise ModelError(
            f"The reward gave {len(found)} numbers for {len(asked)} replies. It should give one"
            " for each, in their order, and None where it has none."
        )
    if not scores:
        raise ModelError(
            f"The rewards of all {len(asked)} replies are missing, so there is nothing to learn."
            " Look at what the reward does with such replies, or draw more of them (rollouts)."
        )
    if not all(map(math.isfinite, scores)):
        raise ModelError("A reward is no finite number. Where a reply has none, give None.")


def _seed(*place: int) -> int:
    return int(content_id("rollout", *place), 16)


def _length(rollout: Rollout) -> int:
    return len(rollout.prompt) + len(rollout.ids)


def _parts(rows: Sequence[T], size: int) -> list[Sequence[T]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in weights.items()}


@torch.no_grad()
def _put(weights: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, weight in weights.items():
        weight.copy_(values[name])


def _digest(weights: Mapping[str, Tensor]) -> str:
    """Names these weights by every bit of them."""
    found = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        found.update(name.encode())
        found.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
