"""Whether a trait's examples are filed under the right clauses: a confusion matrix of clauses.

What one example teaches about another is how much its good reply, shown as an earlier turn,
raises the other's good reply over the other's bad one, beyond what its own bad reply does:

    lesson(f -> e) = (log p(g_e | g_f) - log p(g_e | b_f)) / |g_e|
                   - (log p(b_e | g_f) - log p(b_e | b_f)) / |b_e|

in nats a token, every term behind the messages of f and e. What the two are about falls out, and
no example is ever shown to itself. Examples of one clause should teach each other the most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from statistics import fmean

from scipy import stats

from character.models.base import ChatModel, Message, Scorable
from character.spec.schema import Example, Trait

POLES = ("good", "bad")


@dataclass(frozen=True, slots=True)
class Nearness:
    """One clause beside another: what its examples learn from their own, less from the other's.

    The mean over the clause's examples with Student's 95 % interval; the value None where one of
    them has no lesson to give (a clause of one example has none of its own), the interval where
    fewer than two examples have both.
    """

    clause: str
    other: str
    value: float | None
    low: float | None
    high: float | None
    count: int

    @property
    def nearer(self) -> bool:
        """Whether the other clause's examples teach more, with an interval that excludes 0."""
        return self.high is not None and self.high < 0


@dataclass(frozen=True, slots=True)
class Confusion:
    """Rows learn, columns teach, in nats a token; None where there is no lesson."""

    clauses: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    beside: tuple[Nearness, ...]
    """Of every clause, the other one that teaches it most; none when there is no other."""


def confusion(model: ChatModel, trait: Trait) -> Confusion:
    """Every lesson of one example to another, put together by clause."""
    examples = trait.examples
    lessons = _lessons(model, examples)
    clauses = tuple(clause.id for clause in trait.clauses)
    own = {name: [k for k, e in enumerate(examples) if e.clause == name] for name in clauses}

    def learnt(learner: int, teachers: Sequence[int]) -> float | None:
        found = [lessons[teacher, learner] for teacher in teachers if teacher != learner]
        return fmean(found) if found else None

    def cell(row: str, column: str) -> float | None:
        found = [learnt(k, own[column]) for k in own[row]]
        known = [value for value in found if value is not None]
        return fmean(known) if known else None

    def beside(name: str, other: str) -> Nearness:
        both = [(learnt(k, own[name]), learnt(k, own[other])) for k in own[name]]
        return _nearness(name, other, [a - b for a, b in both if a is not None and b is not None])

    values = tuple(tuple(cell(row, column) for column in clauses) for row in clauses)
    nearest = []
    for name, row in zip(clauses, values, strict=True):
        known = [
            (value, other)
            for value, other in zip(row, clauses, strict=True)
            if value is not None and other != name
        ]
        if known:
            nearest.append(beside(name, max(known)[1]))
    return Confusion(clauses, values, tuple(nearest))


def _lessons(model: ChatModel, examples: Sequence[Example]) -> dict[tuple[int, int], float]:
    """(teacher, learner) -> nats a token."""
    keys = [
        (teacher, learner, shown, said)
        for teacher, learner in permutations(range(len(examples)), 2)
        for shown, said in product(POLES, POLES)
    ]
    items = [_item(examples[f], examples[e], shown, said) for f, e, shown, said in keys]
    mean = {key: score.mean for key, score in zip(keys, model.score(items), strict=True)}
    return {
        (f, e): mean[f, e, "good", "good"]
        - mean[f, e, "bad", "good"]
        - mean[f, e, "good", "bad"]
        + mean[f, e, "bad", "bad"]
        for f, e in permutations(range(len(examples)), 2)
    }


def _item(teacher: Example, learner: Example, shown: str, said: str) -> Scorable:
    turns = (
        Message("user", teacher.user),
        Message("assistant", getattr(teacher, shown)),
        Message("user", learner.user),
    )
    return Scorable(turns, getattr(learner, said))


def _nearness(name: str, other: str, gaps: Sequence[float]) -> Nearness:
    if not gaps:
        return Nearness(name, other, None, None, None, 0)
    low, high = t_interval(gaps) or (None, None)
    return Nearness(name, other, fmean(gaps), low, high, len(gaps))


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95 % interval of a mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    reach = float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
    return fmean(values) - reach, fmean(values) + reach
