"""A judge's card for one trait: what was tried, what came of it, and what keeps the judge out.

Every test asks the judge for verdicts whose answer is known from how the replies were made, and has
a bar (trials.py, habits.py). A test that is `required` and does not reach its bar keeps the judge
out of a build, also when it could not be measured; the others are shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from character.judging.calibration import Calibration

FEW = 8  # contests of a clause, before it is said that the judge cannot tell


@dataclass(frozen=True, slots=True)
class Failed:
    """A contest that the judge got wrong: the better reply, the worse, and what it said."""

    query: str
    better: str
    worse: str
    preference: float | None
    """Probability that went to the better reply; None when there was no verdict."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Test:
    """One row of the card. `value` None: not measured, and `note` says why.

    `passed` None when there is no bar or no value. The interval is 95 %.
    """

    __test__ = False  # not one of pytest's

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    count: int = 0
    missing: int = 0
    bar: str = ""
    passed: bool | None = None
    required: bool = False
    note: str = ""
    failed: tuple[Failed, ...] = ()

    @property
    def shown(self) -> str:
        return "missing" if self.value is None else f"{self.value:.2f}"

    @property
    def interval(self) -> str:
        """ "[0.71, 0.86]"; empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"[{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True, slots=True)
class ClauseTest:
    """How often the judge was right on one clause's queries; at chance no pair is made there."""

    clause: str
    value: float
    low: float
    high: float
    count: int

    @property
    def at_chance(self) -> bool:
        return self.count >= FEW and self.low <= 0.5


@dataclass(frozen=True, slots=True)
class Card:
    """One judge and one trait. `id` is the hash of everything that decides the card."""

    id: str
    trait: str
    judge: str
    planter: str
    tests: tuple[Test, ...]
    clauses: tuple[ClauseTest, ...]
    calibration: Calibration | None
    seconds: float = 0.0

    @property
    def refusals(self) -> tuple[Test, ...]:
        """The required tests below their bars."""
        return tuple(test for test in self.tests if test.required and not test.passed)

    @property
    def temperature(self) -> float:
        return self.calibration.temperature if self.calibration else 1.0

    @property
    def band(self) -> float:
        """Log-odds within which the judge abstains on this trait; it always does when at chance.

        A judge that is refused, and used all the same, is taken at its word: 0.
        """
        return self.calibration.band if self.calibration and not self.refusals else 0.0

    @property
    def same_family(self) -> bool:
        """Whether the judge is the model that planted: its agreement is then partly with itself."""
        return judged_by(self.judge, self.planter)

    def test(self, name: str) -> Test:
        return next(test for test in self.tests if test.name == name)


def judged_by(judge: str, model: str) -> bool:
    """Whether a judge of this name, or a member of a panel, asks the model of that name."""
    return re.search(rf" by {re.escape(model)}(?=[ ,;]|$)", judge) is not None


def clauses_at_chance(cards: Iterable[Card]) -> set[tuple[str, str]]:
    """(trait, clause) for every clause on which the judge is not shown to do more than guess."""
    return {(card.trait, c.clause) for card in cards for c in card.clauses if c.at_chance}


def refusal(card: Card) -> list[str]:
    """Why the judge may not judge this trait, test by test with its worst examples."""
    lines: list[str] = []
    for test in card.refusals:
        note = f" ({test.note})" if test.note else ""
        lines.append(
            f"{card.trait}: {test.name} is {test.shown} {test.interval}, and the bar is "
            f"{test.bar}{note}."
        )
        for failed in test.failed:
            said = failed.why or f"gave the better reply {failed.preference:.2f}"
            lines += [
                f"  {_line(failed.query, 90)}  ({said})",
                f"    better: {_line(failed.better, 160)}",
                f"    worse:  {_line(failed.worse, 160)}",
            ]
    return lines


def _line(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
