"""PPO under guards: probes before, while and after it trains; what trips one undoes what it did."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from peft import PeftModel
from pydantic import TypeAdapter, ValidationError
from transformers import PreTrainedTokenizerBase

from character.errors import ModelError, RunError
from character.rows import Step
from character.training.config import PpoConfig
from character.training.guards import Guarded, Probe, rules, tripped, unwatched
from character.training.ppo import CHECKPOINT, PpoTrainer, Watch, steps_from
from character.training.rollouts import Reward
from character.training.runner import OnStep

GOOD = "good.pt"  # the checkpoint after the last probe that broke no rule
PROBES = "probes.json"  # every probe so far
_PROBES = TypeAdapter(list[Probe])


def train_guarded(
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
    """As `train_ppo`, with a probe before the first update, every few updates, and after the last.

    When a guard trips, the training stops, and the policy's adapter is again that of the last good
    probe, to the bit; the checkpoint it comes from stays in `folder` beside the newest. Whatever
    was interrupted goes on to the same end, a training that was stopped included.
    """
    bars = announce(watch, config)
    trainer = PpoTrainer(policy, tokenizer, queries, reward, config, seed)
    trainer.resume(folder / CHECKPOINT)
    probes = read_probes(folder / PROBES)
    while True:
        if trainer.done % config.guards.every == 0 or trainer.done == config.updates:
            if not probes or probes[-1].update < trainer.done:
                probes.append(trainer.probe(watch, probes))
                if not broken_rules(probes, config):
                    trainer.save(folder / GOOD)
                write_probes(folder / PROBES, probes)  # last: what a kill cuts short is repeated
            if broken := broken_rules(probes, config):
                break
        if trainer.done == config.updates:
            break
        try:
            trainer.update()
        except ModelError as error:
            if not trainer.done:  # nothing was learned: what it was given is to blame
                raise
            broken = [f"Update {trainer.done + 1} could not be made. {error}"]
            break
        trainer.save(folder / CHECKPOINT)
        on_step(trainer.done, config.updates)
    guarded = conclude(trainer, watch, bars, probes, broken, folder)
    seen = probe_log(probes)
    stopped = (trainer.done, "guards_tripped", float(len(broken)))
    return steps_from([*trainer.log, *seen, stopped]), guarded


def announce(watch: Watch, config: PpoConfig) -> list[str]:
    """Say the rules that may stop the training, before it starts."""
    bars = rules(config.guards)
    for rule in bars:
        watch.say(rule)
    return bars


def conclude(
    trainer: PpoTrainer,
    watch: Watch,
    bars: Sequence[str],
    probes: Sequence[Probe],
    broken: Sequence[str],
    folder: Path,
) -> Guarded:
    """Roll the policy back where a rule is broken, and say how the training ended."""
    guarded = Guarded(
        updates=trainer.config.updates,
        done=trainer.done,
        kept=trainer.roll_back(folder / GOOD) if broken else trainer.done,
        rules=tuple(bars),
        tripped=tuple(broken),
        unwatched=tuple(unwatched(probes[0], trainer.config.guards)),
        name=trainer.config.optimizer.upper(),
    )
    for sentence in guarded.told:
        watch.say(sentence)
    return guarded


def probe_log(probes: Sequence[Probe]) -> list[tuple[int, str, float]]:
    return [
        (probe.update, f"probe/{metric}", value)
        for probe in probes
        for metric, value in probe.numbers().items()
    ]


def broken_rules(probes: Sequence[Probe], config: PpoConfig) -> list[str]:
    """What the last probe breaks; all before it broke nothing, or there would be no last one."""
    if len(probes) < 2:
        return []
    return tripped(probes[0], probes[-2], probes[-1], config.guards)


def read_probes(path: Path) -> list[Probe]:
    if not path.exists():
        return []
    try:
        return _PROBES.validate_json(path.read_bytes())
    except ValidationError as error:
        raise RunError(f"{path} cannot be read. Delete its folder to train again.") from error


def write_probes(path: Path, probes: list[Probe]) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(_PROBES.dump_json(probes))
    part.replace(path)
