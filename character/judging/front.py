"""What a ranking had to choose between: the Pareto front of the traits and of answering.

A reply is on its query's front when no other reply there has as much of everything and more of
something (Pareto 1906). Traits can pull apart; what the combination by authority and weight gave up
of one for another is told and not left to be guessed. A reply below the quality floor is on no
front, whatever its character.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

import numpy as np

from character.judging.config import RankingConfig
from character.judging.ranking import enough_relevance, trait_values
from character.rows import Judgement, Ranking, Reply
from character.spec.constitution import Constitution

RELEVANCE = "relevance"


@dataclass(frozen=True, slots=True)
class Point:
    """One reply: a value for each aim, and what became of it. `chosen`: in the best tier."""

    query_id: str
    values: tuple[float, ...]
    below_floor: bool
    on_front: bool
    chosen: bool


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Of one aim: the mean over queries of the best that a ranked reply had, and of the chosen."""

    aim: str
    best: float
    chosen: float


@dataclass(frozen=True, slots=True)
class Front:
    """`aims` are the traits, in spreads, and last the relevance in nats a token, up to what half of
    the plain replies have. Points come query by query."""

    aims: tuple[str, ...]
    points: tuple[Point, ...]

    @property
    def queries(self) -> int:
        """Queries with two ranked replies or more: where there was something to choose."""
        return len(self._choices())

    @property
    def chosen_on_front(self) -> int:
        """In how many of them a chosen reply is on the front."""
        return sum(any(p.chosen and p.on_front for p in points) for points in self._choices())

    def given_up(self) -> list[GivenUp]:
        """What choosing cost of each aim; nothing where there was no choice."""
        choices = self._choices()
        if not choices:
            return []
        return [
            GivenUp(
                aim,
                fmean(max(p.values[k] for p in points) for points in choices),
                fmean(fmean(p.values[k] for p in points if p.chosen) for points in choices),
            )
            for k, aim in enumerate(self.aims)
        ]

    def _choices(self) -> list[list[Point]]:
        ranked = (point for point in self.points if not point.below_floor)
        groups = (list(points) for _, points in groupby(ranked, lambda point: point.query_id))
        return [points for points in groups if len(points) > 1]


def front_of(
    constitution: Constitution,
    replies: Sequence[Reply],
    judgements: Sequence[Judgement],
    rankings: Sequence[Ranking],
    config: RankingConfig,
) -> Front:
    """Every reply whose worth is known for all aims; a ranking's replies make one front."""
    traits = [trait.id for trait in constitution.traits]
    worth = trait_values(judgements, config)
    relevant = {j.reply_id: j.relevance for j in judgements if j.relevance is not None}
    enough = enough_relevance(replies, judgements)

    def values(reply_id: str) -> tuple[float, ...] | None:
        found = [worth.get(trait, {}).get(reply_id) for trait in traits]
        found.append(min(relevant[reply_id], enough) if reply_id in relevant else None)
        return None if None in found else tuple(v for v in found if v is not None)

    points: list[Point] = []
    for ranking in rankings:
        chosen = set(ranking.tiers[0]) if ranking.tiers else set()
        ranked = [r for tier in ranking.tiers for r in tier if values(r) is not None]
        standing = [values(reply_id) or () for reply_id in ranked]
        for reply_id, value, best in zip(ranked, standing, pareto(standing), strict=True):
            points.append(Point(ranking.query_id, value, False, best, reply_id in chosen))
        for reply_id in ranking.below_floor:
            if value_below := values(reply_id):
                points.append(Point(ranking.query_id, value_below, True, False, False))
    return Front((*traits, RELEVANCE), tuple(points))


def pareto(values: Sequence[Sequence[float]]) -> list[bool]:
    """Which of these no other dominates: none has as much of everything and more of something."""
    if not values:
        return []
    table = np.asarray(values, dtype=float)  # (replies, aims)
    as_much = (table[:, None] >= table[None]).all(axis=2)  # row dominates column, or is equal
    more = (table[:, None] > table[None]).any(axis=2)
    dominated = np.any(as_much & more, axis=0)
    return [not dominated[reply] for reply in range(len(values))]


def conflicts(front: Front) -> list[tuple[int, int]]:
    """Pairs of traits, by number, those that pull apart most first; the lone trait and relevance.

    By the correlation of their values over all points.
    """
    traits = len(front.aims) - 1
    if traits == 1:
        return [(0, 1)]
    table = np.array([point.values for point in front.points]).T
    pairs: dict[tuple[int, int], float] = defaultdict(float)
    for a in range(traits):
        for b in range(a + 1, traits):
            moves = len(front.points) > 1 and table[a].std() > 0 and table[b].std() > 0
            pairs[a, b] = float(np.corrcoef(table[a], table[b])[0, 1]) if moves else math.inf
    return sorted(pairs, key=lambda pair: pairs[pair])
