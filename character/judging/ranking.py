"""Turn judgements into an order of the replies to each query.

Helpfulness comes before character: a reply that does not answer, is empty, loops, changes language
or pleads with its judge is below the floor, and no character score buys it back. Above the floor,
traits are combined by authority and weight; relevance adds to that, and a change of length takes
away.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, pstdev

import numpy as np

from character.judging.config import RankingConfig
from character.rows import Judgement, Query, Ranking, Reply, content_id
from character.spec.constitution import Constitution

AUTHORITY = {"guideline": 1, "user": 2, "developer": 4, "system": 8, "root": 16}
DISQUALIFYING = frozenset({"empty", "refused", "filtered", "looping", "wrong language", "pleading"})


@dataclass(frozen=True, slots=True)
class Floor:
    """The least relevance (nats a token) at which a reply still answers its query."""

    relevance: float

    def answers(self, relevance: float | None) -> bool | None:
        return None if relevance is None else relevance >= self.relevance


def quality_floor(
    replies: Sequence[Reply], judgements: Iterable[Judgement], quantile: float
) -> Floor:
    """Where the policy's own plain replies put the floor: a share of `quantile` is below it."""
    plain = {reply.id for reply in replies if reply.style == "plain"}
    found = [
        judgement.relevance
        for judgement in judgements
        if judgement.reply_id in plain and judgement.relevance is not None
    ]
    if not found:
        return Floor(-math.inf)
    return Floor(float(np.quantile(found, quantile)))


def rank_replies(
    constitution: Constitution,
    queries: Sequence[Query],
    replies: Sequence[Reply],
    judgements: Sequence[Judgement],
    config: RankingConfig,
) -> list[Ranking]:
    """One ranking a query that has replies; what could not be ranked is named, not dropped."""
    floor = quality_floor(replies, judgements, config.floor)
    help = _help(constitution, replies, judgements, config)
    values = {
        reply_id: value + help[reply_id]
        for reply_id, value in _values(constitution, judgements, config).items()
        if reply_id in help
    }
    relevant = {j.reply_id: floor.answers(j.relevance) for j in judgements}
    by_query: dict[str, list[Reply]] = defaultdict(list)
    for reply in replies:
        by_query[reply.query_id].append(reply)
    judge = judgements[0].judge if judgements else config.judge
    return [
        _ranking(query.id, by_query[query.id], values, relevant, judge, config)
        for query in queries
        if query.id in by_query
    ]


def _values(
    constitution: Constitution, judgements: Sequence[Judgement], config: RankingConfig
) -> dict[str, float]:
    """Each reply's combined value in spreads (standard deviations) of the contrast.

    sum over traits of w (contrast / spread + k checks) / sum of w, with w = authority x weight.
    A reply that lacks a trait's contrast, or whose judgement failed, has no value. Checks that do
    not apply add nothing: they apply by query, so to none of its replies.
    """
    per_trait: dict[str, dict[str, Judgement]] = defaultdict(dict)
    for judgement in judgements:
        per_trait[judgement.trait][judgement.reply_id] = judgement
    totals: dict[str, float] = defaultdict(float)
    seen: dict[str, int] = defaultdict(int)
    weights = {m.trait.id: m.weight * AUTHORITY[m.trait.authority] for m in constitution.members}
    for trait, found in per_trait.items():
        contrasts = [j.contrast for j in found.values() if j.contrast is not None]
        spread = (pstdev(contrasts) if contrasts else 0.0) or 1.0
        for reply_id, judgement in found.items():
            if judgement.contrast is None or judgement.failed:
                continue
            value = judgement.contrast / spread + config.checks * (judgement.checks or 0.0)
            totals[reply_id] += weights[trait] * value / sum(weights.values())
            seen[reply_id] += 1
    return {reply_id: total for reply_id, total in totals.items() if seen[reply_id] == len(weights)}


def _help(
    constitution: Constitution,
    replies: Sequence[Reply],
    judgements: Sequence[Judgement],
    config: RankingConfig,
) -> dict[str, float]:
    """What a reply is worth beside its character, in spreads, where its relevance is known.

    k min(relevance, enough) / spread - l |log(words / words of a plain reply)|

    Half of the plain replies have enough: a reply that answers as they do earns nothing by
    answering more closely, and the character decides.
    """
    relevant = {j.reply_id: j.relevance for j in judgements if j.relevance is not None}
    spread = (pstdev(relevant.values()) if relevant else 0.0) or 1.0
    words = {reply.id: max(1, len(reply.shown.split())) for reply in replies}
    unsteered = [reply.id for reply in replies if reply.style == "plain"]
    plain = [words[reply_id] for reply_id in unsteered]
    answering = [relevant[reply_id] for reply_id in unsteered if reply_id in relevant]
    enough = median(answering) if answering else math.inf
    free = any(trait.controls.length == "free" for trait in constitution.traits)
    price = 0.0 if free or not plain else config.length
    usual = fmean(plain) if plain else 1.0
    return {
        reply_id: config.relevance * min(found, enough) / spread
        - price * abs(math.log(words[reply_id] / usual))
        for reply_id, found in relevant.items()
        if reply_id in words
    }


def _ranking(
    query_id: str,
    replies: Sequence[Reply],
    values: Mapping[str, float],
    relevant: Mapping[str, bool | None],
    judge: str,
    config: RankingConfig,
) -> Ranking:
    missing = tuple(
        r.id
        for r in replies
        if "empty" not in r.flaws and (r.id not in values or relevant[r.id] is None)
    )
    below = tuple(
        r.id
        for r in replies
        if r.id not in missing and (DISQUALIFYING & set(r.flaws) or not relevant[r.id])
    )
    able = [r.id for r in replies if r.id not in missing and r.id not in below]
    tiers = _tiers({reply_id: values[reply_id] for reply_id in able}, config.tie)
    return Ranking(
        id=content_id("ranking", query_id, judge, tiers, below, missing),
        query_id=query_id,
        judge=judge,
        tiers=tuple(tiers),
        values=tuple(fmean(values[r] for r in tier) for tier in tiers),
        below_floor=below,
        missing=missing,
    )


def _tiers(values: Mapping[str, float], tie: float) -> list[tuple[str, ...]]:
    """Best first; a reply joins the tier above when it is within `tie` of that tier's best."""
    tiers: list[list[str]] = []
    for reply_id in sorted(values, key=lambda r: (-values[r], r)):
        if tiers and values[tiers[-1][0]] - values[reply_id] <= tie:
            tiers[-1].append(reply_id)
        else:
            tiers.append([reply_id])
    return [tuple(tier) for tier in tiers]
