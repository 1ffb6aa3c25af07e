"""How far each checkpoint moved towards the traits, against what it paid: KL, and answers lost."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from character.diffing.outcome import BASE, PROMPTED, TRAINED, Line
from character.report.content import Report
from character.report.terminal import known

TRAINING, HELD_OUT = "training queries", "held-out queries"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint. Movement is the change of contrast from the base model on the same queries,
    in nats a token, the mean of all traits; KL is to the base model, nats a token. None is missing.
    """

    name: str
    kind: str  # base, dose, trained or prompted
    queries: str
    movement: float | None
    kl: float | None
    answers: float | None
    repetition: float | None


def points_of(report: Report) -> list[Checkpoint]:
    """The base model, each dose of the distillation, and what was measured at the end."""
    found = []
    if doses := report.doses:
        plain, steered = doses.plain, doses.steered
        found.append(Checkpoint("base", BASE, TRAINING, 0.0, 0.0, plain.answers, plain.repetition))
        for trial in doses.trials:
            moved = _gap(trial.contrast, plain.contrast)
            kl = report.distances.get(trial.dose)
            name = f"dose {trial.dose:.0%}"
            found.append(
                Checkpoint(name, "dose", TRAINING, moved, kl, trial.answers, trial.repetition)
            )
        moved = _gap(steered.contrast, plain.contrast)
        found.append(
            Checkpoint("base, prompted", PROMPTED, TRAINING, moved, None, steered.answers,
                  steered.repetition)
        )  # fmt: skip
    changes = [known(trait.contrast.change) for trait in report.outcome.traits]
    moves = [change.value for change in changes if change]
    found.append(
        Checkpoint(
            {"settled": "settled", "ppo": report.ppo.name if report.ppo else ""}.get(
                report.policy.partition("-")[0], "DPO"
            ),
            TRAINED,
            HELD_OUT,
            fmean(moves) if moves and len(moves) == len(changes) else None,
            _level(report, "kl"),
            _level(report, "answers"),
            _level(report, "repetition"),
        )
    )
    return found


def rule_of(report: Report) -> str:
    """Which checkpoint ships, and why."""
    if report.settled:
        return report.settled
    last = report.ppo.name if report.ppo else "DPO"
    if not report.doses:
        return f"What ships is the policy at the end of {last}; no doses were tried."
    return (
        f"{last} went on from {report.doses.chosen:.0%} of the distillation, the largest dose that"
        " still answers, hardly repeats itself and is no more of the character than the prompted"
        f" replies; what ships is the policy at the end of {last}. With --beta auto it would be"
        " the weakest that comes far enough."
    )


def _gap(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value - base


def _level(report: Report, metric: str) -> float | None:
    lines: list[Line] = [line for line in report.outcome.quality if line.metric == metric]
    level = known(lines[0].subjects.get(TRAINED)) if lines else None
    return level.value if level else None
