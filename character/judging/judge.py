"""What every judge answers: which of two replies to a query shows more of one trait.

A judge that reads two replies at once favours the one it reads first, so it is asked in both
orders and the two answers are averaged as probabilities (never the mode of one). A judge that
values each reply alone has no order to favour.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from scipy.special import expit

from character.spec.schema import Trait

EVEN = 1e-9  # two orders that cancel out leave a half but for rounding, and decide nothing
UNSOUND = "probabilities that do not sum to 1"
LONGEST = 12_000  # characters of a reply; a judge cannot be trusted with what it hardly reads


@dataclass(frozen=True, slots=True)
class Said:
    """A reply with its query, all that a judge sees of either."""

    query: str
    reply: str
    ended: bool = True


@dataclass(frozen=True, slots=True)
class Contest:
    """Two replies to one query. ValueError when the queries differ."""

    first: Said
    second: Said

    def __post_init__(self) -> None:
        if self.first.query != self.second.query:
            raise ValueError("two replies can be compared only when they answer the same query")

    def swapped(self) -> Contest:
        return Contest(self.second, self.first)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How probable it is that the first, or the second, shows more of the trait.

    The four probabilities sum to 1 (ValueError when they do not). `inapplicable`: the trait has
    no place in a reply to this query. `slot` is what being read first gained a reply, from -.5 to
    .5; `spread` is how far the members of a panel are apart, a standard deviation.
    """

    first: float
    second: float
    tie: float = 0.0
    inapplicable: float = 0.0
    slot: float = 0.0
    spread: float = 0.0
    flipped: bool = False
    """Whether the two orders named different winners."""

    def __post_init__(self) -> None:
        shares = (self.first, self.second, self.tie, self.inapplicable)
        if not sound(shares):
            raise ValueError(f"probabilities of a verdict must sum to 1, and these are {shares}")

    @property
    def preference(self) -> float | None:
        """Probability that the first shows more, a tie half; None where the trait has no place."""
        if self.inapplicable >= 0.5:
            return None
        share = (self.first + self.tie / 2) / (1 - self.inapplicable)
        return 0.5 if abs(share - 0.5) < EVEN else share

    def swapped(self) -> Verdict:
        return Verdict(
            self.second, self.first, self.tie, self.inapplicable, self.slot, self.spread,
            self.flipped,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class NoVerdict:
    """Why there is none, and what the judge said instead. It is missing: not a tie, not an A."""

    why: str
    raw: str = ""


Outcome = Verdict | NoVerdict


class Judge(Protocol):
    @property
    def name(self) -> str:
        """The kind of judge with everything that decides its verdicts."""
        ...

    def compare(self, trait: Trait, contests: Sequence[Contest]) -> list[Outcome]:
        """One outcome a contest, in order."""
        ...


class Valuer(Protocol):
    """A judge that values each reply alone."""

    @property
    def name(self) -> str: ...

    def value(self, trait: Trait, said: Sequence[Said]) -> list[float | NoVerdict]:
        """How much of the trait each reply shows, in the judge's own unit."""
        ...


@dataclass(frozen=True, slots=True)
class ByValue:
    """Compares two replies by the values that one judge gives each.

    P(first) = logistic((value of first - value of second) / temperature); equal values tie. With
    temperature 0 the higher value wins for certain. No reply is valued twice.
    """

    valuer: Valuer
    temperature: float = 1.0
    _known: dict[tuple[str, Said], float | NoVerdict] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def name(self) -> str:
        return self.valuer.name

    def compare(self, trait: Trait, contests: Sequence[Contest]) -> list[Outcome]:
        said = dict.fromkeys(said for c in contests for said in (c.first, c.second))
        told = trait.model_dump_json()
        new = [one for one in said if (told, one) not in self._known]
        for one in new:
            if why := unreadable(one.reply):
                self._known[told, one] = NoVerdict(why)
        new = [one for one in new if (told, one) not in self._known]
        for one, value in zip(new, self.valuer.value(trait, new), strict=True):
            self._known[told, one] = value
        return [
            self._outcome(self._known[told, c.first], self._known[told, c.second]) for c in contests
        ]

    def _outcome(self, first: float | NoVerdict, second: float | NoVerdict) -> Outcome:
        if isinstance(first, NoVerdict):
            return first
        if isinstance(second, NoVerdict):
            return second
        if math.isnan(first - second):
            return NoVerdict("no difference between the values", f"{first}, {second}")
        return by_gap(first - second, self.temperature)


def by_gap(gap: float, temperature: float) -> Verdict:
    """The verdict on two values that are `gap` apart."""
    if gap == 0:
        return Verdict(0.0, 0.0, tie=1.0)
    share = float(expit(gap / temperature)) if temperature else float(gap > 0)
    return Verdict(share, 1 - share)


def in_both_orders(there: Outcome, back: Outcome) -> Outcome:
    """The average of a verdict and of the verdict on the same two replies the other way round.

    `back` is told as it was given: its first is the reply that was read first. One order alone
    cannot tell the reply from its place, so when either is missing so is the whole.
    """
    if isinstance(there, NoVerdict):
        return there
    if isinstance(back, NoVerdict):
        return back
    turned = back.swapped()
    mean = Verdict(
        first=(there.first + turned.first) / 2,
        second=(there.second + turned.second) / 2,
        tie=(there.tie + turned.tie) / 2,
        inapplicable=(there.inapplicable + turned.inapplicable) / 2,
        slot=(there.first - there.second + back.first - back.second) / 4,
        flipped=(there.first - there.second) * (turned.first - turned.second) < 0,
    )
    return mean


def sound(shares: Collection[float]) -> bool:
    """Whether these are probabilities of all there is: none negative, and 1 together."""
    return min(shares, default=-1) >= 0 and math.isclose(sum(shares), 1, abs_tol=1e-6)


def unreadable(reply: str) -> str:
    """Why a reply cannot be judged; empty when it can."""
    if not reply.strip():
        return "empty reply"
    if len(reply) > LONGEST:
        return f"a reply of {len(reply)} characters; at most {LONGEST} are judged"
    return ""
