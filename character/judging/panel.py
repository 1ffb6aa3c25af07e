"""Several judges as one: their probabilities averaged by how far each can be trusted.

    weight of a judge = log(a / (1 - a)),  a = its accuracy on pairs of low dose

the best weights for independent votes (Nitzan & Paroush 1982); a judge at or below chance has
none. Each member's log-odds are first divided by the temperature of its card, so that a judge that
is always sure does not speak for all. How far the members are apart is kept in the verdict, not
averaged away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from character.judging.calibration import Calibrated
from character.judging.card import Card
from character.judging.judge import Contest, Judge, NoVerdict, Outcome, Verdict
from character.spec.schema import Trait

MOST = 0.99  # accuracy of a hundred pairs can be 1, and no judge is infinitely better


def weight_of(accuracy: float) -> float:
    """What a judge's voice counts in a panel; 0 at or below chance."""
    return max(0.0, math.log(min(accuracy, MOST) / (1 - min(accuracy, MOST)))) if accuracy else 0.0


@dataclass(frozen=True, slots=True)
class Seat:
    """What a member's card for one trait says of it: how it is weighed, and how it is cooled."""

    judge: str
    accuracy: float | None  # on pairs of low dose, ties half; None without any verdict
    temperature: float

    @property
    def weight(self) -> float:
        return 0.0 if self.accuracy is None else weight_of(self.accuracy)


def seat(card: Card) -> Seat:
    return Seat(card.judge, card.test("low dose").value, card.temperature)


def seated(judges: Sequence[Judge], seats: Sequence[Seat]) -> Panel:
    """The panel of these judges, in the order of their seats. ValueError when none has a weight."""
    members = [Calibrated(j, s.temperature) for j, s in zip(judges, seats, strict=True)]
    weights = {m.name: s.weight for m, s in zip(members, seats, strict=True)}
    return Panel(members, weights)


@dataclass(frozen=True, slots=True)
class ByTrait:
    """One judge for each trait, by the trait's id; KeyError for another trait."""

    judges: Mapping[str, Judge]

    @property
    def name(self) -> str:
        if len(self.judges) == 1:
            return next(iter(self.judges.values())).name
        return "; ".join(f"{trait}: {judge.name}" for trait, judge in self.judges.items())

    def compare(self, trait: Trait, contests: Sequence[Contest]) -> list[Outcome]:
        return self.judges[trait.id].compare(trait, contests)


@dataclass(frozen=True, slots=True)
class Panel:
    """`weights` by judge name; ValueError when one is missing, negative or not finite, or all 0."""

    judges: Sequence[Judge]
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        missing = [judge.name for judge in self.judges if judge.name not in self.weights]
        if missing:
            raise ValueError(f"a panel needs a weight for each judge; missing: {missing}")
        own = [self.weights[judge.name] for judge in self.judges]
        if not all(0 <= weight < math.inf for weight in own) or not sum(own):
            raise ValueError(
                "the weights of a panel must be finite, not negative, nor all of them 0"
            )

    @property
    def name(self) -> str:
        members = ", ".join(f"{j.name} x{self.weights[j.name]:.2f}" for j in self.judges)
        return f"panel of {members}"

    def compare(self, trait: Trait, contests: Sequence[Contest]) -> list[Outcome]:
        heard = [(self.weights[j.name], j) for j in self.judges if self.weights[j.name] > 0]
        found = [judge.compare(trait, contests) for _, judge in heard]
        weights = [weight for weight, _ in heard]
        return [together(weights, outcomes) for outcomes in zip(*found, strict=True)]


def together(weights: Sequence[float], outcomes: Sequence[Outcome]) -> Outcome:
    """The weighted mean of the verdicts there are; missing when half of the weight is silent."""
    pairs = zip(weights, outcomes, strict=True)
    given = [(weight, found) for weight, found in pairs if isinstance(found, Verdict)]
    voice = sum(weight for weight, _ in given)
    if voice <= sum(weights) / 2:
        reasons = [found.why for found in outcomes if isinstance(found, NoVerdict)]
        return NoVerdict(f"most of the panel is silent: {'; '.join(reasons)}")

    def mean(field: str) -> float:
        return sum(weight * float(getattr(found, field)) for weight, found in given) / voice

    leans = np.array([(1 + found.first - found.second) / 2 for _, found in given])
    shares = np.array([weight for weight, _ in given]) / voice
    spread = float(np.sqrt(shares @ (leans - shares @ leans) ** 2))
    return Verdict(
        mean("first"), mean("second"), mean("tie"), mean("inapplicable"), mean("slot"), spread,
        flipped=mean("flipped") > 0.5,
    )  # fmt: skip
