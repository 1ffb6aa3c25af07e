"""GRPO and RLOO with TRL, on the same rewards and under the same guards as our PPO.

Neither has a value head: a reply is compared with the other replies to its own query. GRPO (Shao
et al. 2024, equation 3) divides by the group's spread and clips the ratio; RLOO (Ahmadian et al.
2024, equation 8) takes the mean of the others off. Both are held to the policy as it was found
by a KL term that is never 0, since without one short replies win (TRL's own default for GRPO).

Of PpoConfig they read what they know: updates, rollouts, group, epochs, batch, micro_batch,
max_tokens, temperature, learning_rate, max_grad_norm, clip, kl_coefficient, truncated (drop, or
score as it stands) and truncated_penalty. A checkpoint is written where replies are drawn anew, so
that none is resumed with half of its replies gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import pstdev
from typing import Any

from datasets import Dataset
from peft import PeftModel
from transformers import (
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from character.rows import Step
from character.training.config import PpoConfig
from character.training.guarded import (
    GOOD,
    PROBES,
    announce,
    broken_rules,
    conclude,
    probe_log,
    read_probes,
    write_probes,
)
from character.training.guards import Guarded, Probe
from character.training.ppo import STAGE, PpoTrainer, Watch, steps_from
from character.training.rollouts import Reward, Rollout, Writer, next_queries
from character.training.runner import OnStep, Recorder, arguments, steps_of, train

CONSTANT = "frac_reward_zero_std"  # TRL's name for the share of groups without signal


def train_grouped(
    policy: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    queries: Sequence[str],
    reward: Reward,
    watch: Watch,
    config: PpoConfig,
    seed: int,
    folder: Path,
    on_step: OnStep,
) -> tuple[list[Step], Guarded]:
    """As `ppo.train_guarded`, with the trainer that `config.optimizer` names.

    Probes, rules and roll-back are those of PPO. A reply whose reward is None is left out of its
    group (TRL gives it no advantage) and counted by the guards.
    """
    bars = announce(watch, config)
    # never updated: it probes the policy that TRL trains, and keeps and restores its weights
    prober = PpoTrainer(policy, tokenizer, queries, reward, config, seed)
    guard = Guard(prober, watch, config, folder)
    guard.look(0)
    trainer = _trainer(prober, queries, config, seed, folder, [guard, Recorder(STAGE, on_step)])
    if not guard.broken:
        train(trainer, folder)
    guarded = conclude(prober, watch, bars, guard.probes, guard.broken, folder)
    stopped = (prober.done, "guards_tripped", float(len(guard.broken)))
    logged = steps_of(STAGE, trainer.state)
    return [*logged, *steps_from([*probe_log(guard.probes), stopped])], guarded


class Guard(TrainerCallback):
    """Probes the policy every few updates, and stops the trainer at the first broken rule."""

    def __init__(self, prober: PpoTrainer, watch: Watch, config: PpoConfig, folder: Path) -> None:
        self.prober, self.watch, self.config, self.folder = prober, watch, config, folder
        self.probes: list[Probe] = read_probes(folder / PROBES)
        self.broken: list[str] = broken_rules(self.probes, config)
        if self.broken:
            prober.done = self.probes[-1].update

    def look(self, update: int) -> None:
        """A probe, unless there already is one of this update or of a later one."""
        if self.probes and self.probes[-1].update >= update:
            return
        self.prober.done = update
        self.probes.append(self.prober.probe(self.watch, self.probes))
        self.broken = broken_rules(self.probes, self.config)
        if not self.broken:
            self.prober.save(self.folder / GOOD)
        write_probes(self.folder / PROBES, self.probes)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        update, within = divmod(state.global_step, steps_per_update(self.config))
        if within:
            return
        self.prober.done = update
        if update % self.config.guards.every == 0 or update == self.config.updates:
            self.look(update)
        if self.broken:
            control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        told = logs or {}
        per_update = steps_per_update(self.config)
        if CONSTANT in told:
            at = -(-state.global_step // per_update)
            self.prober.log.append((at, "constant_rewards", float(told[CONSTANT])))
        if not all(math.isfinite(told.get(name, 0.0)) for name in ("loss", "grad_norm")):
            self.broken = [
                f"In step {state.global_step} of {self.config.optimizer.upper()} the loss or its"
                f" gradient is no finite number. Start again in another folder with a learning_rate"
                f" below {self.config.learning_rate}."
            ]
            control.should_training_stop = True


def steps_per_update(config: PpoConfig) -> int:
    """Of the optimizer: every reply is learned from `epochs` times, `batch` at a time."""
    return config.epochs * config.rollouts // config.batch


def _trainer(
    prober: PpoTrainer,
    queries: Sequence[str],
    config: PpoConfig,
    seed: int,
    folder: Path,
    callbacks: Sequence[TrainerCallback],
) -> Any:
    """TRL's trainer, on the same stream of queries as PPO draws from.

    The stream is laid out whole: TRL's own shuffling starts anew in a resumed training.
    """
    made, settings = (
        (GRPOTrainer, GRPOConfig) if config.optimizer == "grpo" else (RLOOTrainer, RLOOConfig)
    )
    asked = config.updates * config.rollouts // config.group
    prompts = [
        {"prompt": [{"role": "user", "content": query}]}
        for query in next_queries(queries, 0, asked, seed)
    ]
    per_update = steps_per_update(config)
    given: dict[str, Any] = {
        **arguments(config, folder, seed),
        "max_steps": config.updates * per_update,
        "save_strategy": "steps",
        "save_steps": per_update,
        "max_grad_norm": config.max_grad_norm,
        "lr_scheduler_type": "constant",
        "shuffle_dataset": False,
        "generation_batch_size": config.rollouts,
        "num_generations": config.group,
        "num_iterations": config.epochs,
        "max_completion_length": config.max_tokens,
        "temperature": config.temperature,
        "epsilon": config.clip,
        "beta": config.kl_coefficient,
        "mask_truncated_completions": config.truncated == "drop",
    }
    return made(
        model=prober.policy,
        reward_funcs=[reward_function(prober.reward, prober.writer, config)],
        args=settings(**given),
        train_dataset=Dataset.from_list(prompts),
        processing_class=prober.writer.tokenizer,
        callbacks=list(callbacks),
    )


def reward_function(
    reward: Reward, writer: Writer, config: PpoConfig
) -> Callable[..., list[float | None]]:
    """The reward as TRL calls it: on prompts of one message and the tokens that were drawn.

    A reply cut off loses `truncated_penalty` standard deviations of this batch's rewards.
    """

    def rewarded(prompts: Any, completion_ids: Any, **_: Any) -> list[float | None]:
        rollouts = [
            writer.rollout(prompt[-1]["content"], ids)
            for prompt, ids in zip(prompts, completion_ids, strict=True)
        ]
        return penalised(rollouts, reward(rollouts), config.truncated_penalty)

    return rewarded


def penalised(
    rollouts: Sequence[Rollout], found: Sequence[float | None], penalty: float
) -> list[float | None]:
    known = [score for score in found if score is not None]
    spread = pstdev(known) if known else 0.0
    return [
        score if score is None or rollout.ended else score - penalty * spread
        for rollout, score in zip(rollouts, found, strict=True)
    ]
