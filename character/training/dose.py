"""How much of the distillation to keep: the most at which the policy still answers.

What a low-rank adapter adds to a weight is linear in its matrix B, so every policy between the base
model and the distilled one is there for the price of a multiplication (as Wortsman et al. 2022
interpolate whole models). Each dose answers the training queries once; how those replies were
judged says how far to go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from character.rows import Judgement, Reply
from character.text import repeated_share
from character.training.config import DoseConfig


@dataclass(frozen=True, slots=True)
class DoseTrial:
    """What the policy says at one dose, on average; dose 0 is the base model."""

    dose: float
    replies: int
    contrast: float | None  # nats a token; None when no reply has one
    answers: float  # share above the quality floor
    repetition: float  # share of repeated 4-grams
    tokens: float


@dataclass(frozen=True, slots=True)
class Doses:
    """What was tried, beside the plain base model, and what the policy goes on from."""

    plain: DoseTrial
    trials: tuple[DoseTrial, ...]
    chosen: float


def try_doses(
    replies: Sequence[Reply],
    judgements: Sequence[Judgement],
    answers: Callable[[float | None], bool | None],
    config: DoseConfig,
) -> Doses | None:
    """From the plain and the policy's own replies; None when it gave none of its own.

    `answers` tells from a reply's relevance whether it answers its query.
    """
    own = [reply for reply in replies if reply.style == "own"]
    if not own:
        return None
    plain = try_dose(0.0, [r for r in replies if r.style == "plain"], judgements, answers)
    trials = tuple(
        try_dose(dose, [r for r in own if r.sample == sample], judgements, answers)
        for sample, dose in enumerate(config.tried)
    )
    return Doses(plain, trials, choose_dose(trials, plain, config))


def try_dose(
    dose: float,
    replies: Sequence[Reply],
    judgements: Sequence[Judgement],
    answers: Callable[[float | None], bool | None],
) -> DoseTrial:
    """Means over the replies at one dose, and over all traits they were judged for.

    A reply whose relevance is missing does not answer.
    """
    by_reply = {judgement.reply_id: judgement for judgement in judgements}
    ids = {reply.id for reply in replies}
    contrasts = [j.contrast for j in judgements if j.reply_id in ids and j.contrast is not None]
    return DoseTrial(
        dose=dose,
        replies=len(replies),
        contrast=fmean(contrasts) if contrasts else None,
        answers=fmean(bool(answers(by_reply[reply.id].relevance)) for reply in replies),
        repetition=fmean(repeated_share(reply.text) for reply in replies),
        tokens=fmean(reply.tokens for reply in replies),
    )


def choose_dose(trials: Sequence[DoseTrial], plain: DoseTrial, config: DoseConfig) -> float:
    """The largest dose that keeps `config.answers` of the plain replies' answering and hardly
    repeats itself more; the smallest when none does.
    """
    able = [
        trial.dose
        for trial in trials
        if trial.answers >= config.answers * plain.answers
        and trial.repetition <= plain.repetition + config.repetition
    ]
    return max(able) if able else min(trial.dose for trial in trials)
