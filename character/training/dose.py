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

import numpy as np
from numpy.typing import NDArray

from character.rows import Judgement, Reply
from character.text import repeated_share
from character.training.config import DoseConfig

STEP = 0.05  # between the doses that are considered


@dataclass(frozen=True, slots=True)
class DoseTrial:
    """What the policy says at one dose, on average; at dose 0 the base model, plain or steered."""

    dose: float
    replies: int
    contrast: float | None  # nats a token; None when no reply has one
    answers: float  # share above the quality floor
    repetition: float  # share of repeated 4-grams
    tokens: float


@dataclass(frozen=True, slots=True)
class Doses:
    """What was tried, beside the base model plain and steered, and what the policy goes on from."""

    plain: DoseTrial
    steered: DoseTrial
    trials: tuple[DoseTrial, ...]
    chosen: float


def try_doses(
    replies: Sequence[Reply],
    judgements: Sequence[Judgement],
    answers: Callable[[float | None], bool | None],
    config: DoseConfig,
) -> Doses | None:
    """From the plain, the steered and the policy's own replies; None when it gave none.

    Each reply counts for the trait its query is about, the one that steered replies to that query
    show. `answers` tells from a reply's relevance whether it answers its query.
    """
    if not any(reply.style == "own" for reply in replies):
        return None
    about = {reply.query_id: reply.trait for reply in replies if reply.style == "steered"}
    judged = {(judgement.reply_id, judgement.trait): judgement for judgement in judgements}

    def trial(dose: float, style: str, sample: int | None = None) -> DoseTrial:
        said = [
            reply
            for reply in replies
            if reply.style == style
            and reply.query_id in about
            and (sample is None or reply.sample == sample)
        ]
        return try_dose(dose, [(r, judged[r.id, about[r.query_id]]) for r in said], answers)

    plain, steered = trial(0.0, "plain"), trial(0.0, "steered")
    trials = tuple(trial(dose, "own", sample) for sample, dose in enumerate(config.tried))
    return Doses(plain, steered, trials, choose_dose(trials, plain, steered, config))


def try_dose(
    dose: float,
    said: Sequence[tuple[Reply, Judgement]],
    answers: Callable[[float | None], bool | None],
) -> DoseTrial:
    """Means over the replies at one dose. A reply whose relevance is missing does not answer."""
    contrasts = [judgement.contrast for _, judgement in said if judgement.contrast is not None]
    return DoseTrial(
        dose=dose,
        replies=len(said),
        contrast=fmean(contrasts) if contrasts else None,
        answers=fmean(bool(answers(judgement.relevance)) for _, judgement in said),
        repetition=fmean(repeated_share(reply.text) for reply, _ in said),
        tokens=fmean(reply.tokens for reply, _ in said),
    )


def choose_dose(
    trials: Sequence[DoseTrial], plain: DoseTrial, steered: DoseTrial, config: DoseConfig
) -> float:
    """The largest dose that keeps `config.answers` of the plain replies' answering, hardly repeats
    itself more than they do, and is no more of the character than the steered replies are; the
    smallest that was tried when none is.

    Between two doses that were tried, what they came to is taken to change in a straight line.
    """
    tried = sorted(trials, key=lambda trial: trial.dose)
    doses = [trial.dose for trial in tried]
    fine = np.arange(doses[0], doses[-1] + STEP / 2, STEP).round(2)

    def between(values: Sequence[float]) -> NDArray[np.float64]:
        return np.interp(fine, doses, values)

    able = between([t.answers for t in tried]) >= config.answers * plain.answers
    able &= between([t.repetition for t in tried]) <= plain.repetition + config.repetition
    contrasts = [t.contrast for t in tried if t.contrast is not None]
    if steered.contrast is not None and len(contrasts) == len(tried):
        able &= between(contrasts) <= steered.contrast
    return float(fine[able].max()) if able.any() else doses[0]


@dataclass(frozen=True, slots=True)
class Strength:
    """How much of the character a policy shows, nats a token, with its adapter at `strength`."""

    strength: float
    contrast: float | None


@dataclass(frozen=True, slots=True)
class Settled:
    """The strength that was chosen, and why, in a sentence."""

    strength: float
    told: str


def weakest_strength(
    tried: Sequence[Strength], plain: float | None, steered: float | None, target: float
) -> Settled:
    """The least strength that comes `target` of the way from the plain to the steered replies.

    Between strengths that were tried, and from the plain replies at 0, contrast is taken to change
    in a straight line. All of the adapter is kept when none reaches the target, and when something
    that is needed is missing.
    """
    known = [(s.strength, s.contrast) for s in tried if s.contrast is not None]
    if plain is None or steered is None or steered <= plain or len(known) < len(tried):
        return Settled(1.0, "All of the training was kept: how far it came could not be measured.")
    points = sorted([(0.0, plain), *known])
    fine = np.arange(STEP, points[-1][0] + STEP / 2, STEP).round(2)
    came = np.interp(fine, [s for s, _ in points], [contrast for _, contrast in points])
    enough = came >= plain + target * (steered - plain)
    if not enough.any():
        most = (max(value for _, value in known) - plain) / (steered - plain)
        return Settled(
            1.0,
            f"All of the training was kept: it came {most:.0%} of the way, and the target is"
            f" {target:.0%}.",
        )
    strength = float(fine[enough][0])
    return Settled(
        strength, f"{strength:.0%} of the training was kept, the least that comes {target:.0%} of"
        " the way to the prompted replies.",
    )  # fmt: skip
