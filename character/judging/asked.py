"""What a judge said of contests whose better reply is known, and how often it was right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from character.intervals import wilson
from character.judging.card import Failed, Test
from character.judging.judge import Contest, NoVerdict, Outcome

MISSING = 0.1  # share of verdicts that may be missing before a test says nothing
FAILED_SHOWN = 3
NO_PLACE = "the trait has no place"


@dataclass(frozen=True, slots=True)
class Asked:
    """Contests whose first reply is the better one, with what the judge said of each."""

    contests: Sequence[Contest]
    outcomes: Sequence[Outcome]

    @property
    def preferences(self) -> list[float | None]:
        return [preference_of(outcome) for outcome in self.outcomes]

    @property
    def known(self) -> list[float]:
        return [p for p in self.preferences if p is not None]


def preference_of(outcome: Outcome) -> float | None:
    return None if isinstance(outcome, NoVerdict) else outcome.preference


def accuracy(
    name: str,
    asked: Asked,
    *,
    at_least: float,
    point: bool = False,
    required: bool = False,
) -> Test:
    """Share of contests won by the better reply, ties half, with Wilson's interval.

    The bar is for the interval's lower end, or for the share itself with `point`.
    """
    bar = f"{'' if point else 'lower end '}>= {at_least:.2f}"
    known, count = asked.known, len(asked.contests)
    if not count:
        return Test(name, None, bar=bar, required=required, note="no such replies came out")
    missing = count - len(known)
    failed = _failures(asked)
    if not known:
        return Test(
            name, None, count=count, missing=missing, bar=bar, passed=False, required=required,
            note=f"no verdict at all: {_commonest(asked)}", failed=failed,
        )  # fmt: skip
    value, low, high = share(known)
    enough = missing <= MISSING * count
    return Test(
        name, value, low, high, count, missing, bar,
        passed=enough and (value if point else low) >= at_least,
        required=required,
        note="" if enough else f"{missing} of {count} verdicts missing: {_commonest(asked)}",
        failed=failed,
    )  # fmt: skip


def share(preferences: Sequence[float]) -> tuple[float, float, float]:
    """Share above a half, ties half, with its 95 % interval (Wilson 1927)."""
    hits = sum(1.0 if p > 0.5 else 0.5 if p == 0.5 else 0.0 for p in preferences)
    low, high = wilson(hits, len(preferences))
    return hits / len(preferences), low, high


def _failures(asked: Asked) -> tuple[Failed, ...]:
    """The contests it got most wrong, then those without a verdict."""
    rows = list(zip(asked.contests, asked.outcomes, asked.preferences, strict=True))
    wrong = sorted(
        (r for r in rows if r[2] is not None and r[2] <= 0.5), key=lambda row: row[2] or 0
    )
    silent = [row for row in rows if row[2] is None]
    return tuple(
        Failed(
            contest.first.query,
            contest.first.reply,
            contest.second.reply,
            p,
            outcome.why if isinstance(outcome, NoVerdict) else NO_PLACE if p is None else "",
        )
        for contest, outcome, p in (wrong + silent)[:FAILED_SHOWN]
    )


def _commonest(asked: Asked) -> str:
    reasons: dict[str, int] = defaultdict(int)
    for outcome in asked.outcomes:
        if isinstance(outcome, NoVerdict):
            reasons[outcome.why] += 1
        elif outcome.preference is None:
            reasons[NO_PLACE] += 1
    return max(reasons, key=reasons.__getitem__) if reasons else ""
