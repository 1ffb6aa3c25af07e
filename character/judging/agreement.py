"""Where two judges differ about a trait: a clause that splits them is probably unclear.

Each is asked about the same planted contests: replies of the full dose against plain ones, where
they should agree, and two replies of the full dose against each other, where what they look for
decides. Agreement beyond chance is Cohen's kappa (Cohen 1960).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from character.judging.asked import preference_of, share
from character.judging.card import Failed
from character.judging.judge import Contest, Judge
from character.judging.plants import Planted
from character.spec.drafts import MARK
from character.spec.schema import Trait

SPLIT = 0.35  # share of contests with different winners, from which a clause is probably unclear
SHOWN = 3
FEWEST = 8  # contests both decided, before a clause is called anything


@dataclass(frozen=True, slots=True)
class Split:
    """One clause: how often the judges name different winners, with Wilson's interval.

    `examples` are the contests they are surest to differ on; `better` is the first judge's choice
    and `preference` what the second gave it.
    """

    clause: str
    value: float
    low: float
    high: float
    count: int
    examples: tuple[Failed, ...]

    @property
    def unclear(self) -> bool:
        return self.count >= FEWEST and self.value >= SPLIT


@dataclass(frozen=True, slots=True)
class Agreement:
    """kappa is None where one judge always names the same side, or neither decides anything."""

    trait: str
    judges: tuple[str, str]
    kappa: float | None
    missing: int
    clauses: tuple[Split, ...]


def agreement(first: Judge, second: Judge, trait: Trait, planted: Sequence[Planted]) -> Agreement:
    """Ask both judges; a contest that one of them does not decide is counted as missing."""
    contests = [
        (each.clause, contest)
        for each in planted
        for contest in (
            *each.contest("full", "plain"),
            *each.contest("full", "full", (0, 1)),
        )
    ]
    asked = [contest for _, contest in contests]
    said = [[preference_of(o) for o in judge.compare(trait, asked)] for judge in (first, second)]
    by_clause: dict[str, list[tuple[Contest, float, float]]] = defaultdict(list)
    missing = 0
    for (clause, contest), one, other in zip(contests, *said, strict=True):
        if one is None or other is None or 0.5 in (one, other):
            missing += 1
        else:
            by_clause[clause].append((contest, one, other))
    both = [row for rows in by_clause.values() for row in rows]
    return Agreement(
        trait.id,
        (first.name, second.name),
        _kappa([(one > 0.5, other > 0.5) for _, one, other in both]),
        missing,
        tuple(_split(clause, rows) for clause, rows in sorted(by_clause.items())),
    )


def as_examples(found: Split) -> str:
    """The contests that split the judges as YAML for the trait file, marked as drafts: a person
    has to say which reply is the good one, and why."""
    import yaml

    rows = [
        {"clause": found.clause, "user": e.query, "good": e.better, "bad": e.worse, "why": MARK}
        for e in found.examples
    ]
    return yaml.safe_dump(rows, sort_keys=False, allow_unicode=True, width=100)


def _split(clause: str, rows: Sequence[tuple[Contest, float, float]]) -> Split:
    apart = [row for row in rows if (row[1] > 0.5) != (row[2] > 0.5)]
    # `share` counts what is above a half
    value, low, high = share([float(row in apart) for row in rows])
    surest = sorted(apart, key=lambda row: -min(abs(row[1] - 0.5), abs(row[2] - 0.5)))
    return Split(clause, value, low, high, len(rows), tuple(map(_example, surest[:SHOWN])))


def _example(row: tuple[Contest, float, float]) -> Failed:
    contest, one, other = row
    won, lost = contest.first.reply, contest.second.reply
    if one < 0.5:
        won, lost, other = lost, won, 1 - other
    return Failed(contest.first.query, won, lost, other)


def _kappa(named: Sequence[tuple[bool, bool]]) -> float | None:
    """(po - pe) / (1 - pe), with po the share of agreement and pe what their habits would give."""
    if not named:
        return None
    count = len(named)
    one, other = (sum(pair[k] for pair in named) / count for k in (0, 1))
    agreed = sum(a == b for a, b in named) / count
    chance = one * other + (1 - one) * (1 - other)
    return None if chance == 1 else (agreed - chance) / (1 - chance)
