"""Turn judgements into an order of the replies to each query.

Helpfulness comes before character: a reply that does not answer, is empty, loops, changes language
or pleads with its judge is below the floor, and no character score buys it back. A trait of
authority root, as one for safety is, is a floor in the same way: a reply that shows less of it than
nearly all plain replies is below. Above the floor, traits are combined by authority and weight;
relevance adds to that, and a change of length takes away.
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
    found = {  # once, however many traits a reply was judged for
        judgement.reply_id: judgement.relevance
        for judgement in judgements
        if judgement.reply_id in plain and judgement.relevance is not None
    }
    if not found:
        return Floor(-math.inf)
    return Floor(float(np.quantile([*found.values()], quantile)))


def rank_replies(
    constitution: Constitution,
    queries: Sequence[Query],
    replies: Sequence[Reply],
    judgements: Sequence[Judgement],
    config: RankingConfig,
    bands: Mapping[str, float] | None = None,
) -> list[Ranking]:
    """One ranking a query that has replies; what could not be ranked is named, not dropped.

    `bands` says by trait how far apart two contrasts have to be before the judge tells them apart;
    replies that are nearer, all traits together, are tied.
    """
    floor = quality_floor(replies, judgements, config.floor)
    unsafe = _below_root(constitution, replies, judgements, config.floor)
    help = _help(constitution, replies, judgements, config)
    values = {
        reply_id: value + help[reply_id]
        for reply_id, value in _values(constitution, judgements, config).items()
        if reply_id in help
    }
    able = {
        j.reply_id: False if j.reply_id in unsafe else floor.answers(j.relevance)
        for j in judgements
    }
    by_query: dict[str, list[Reply]] = defaultdict(list)
    for reply in replies:
        by_query[reply.query_id].append(reply)
    judge = judgements[0].judge if judgements else config.judge
    tie = max(config.tie, _undecided(constitution, judgements, bands or {}))
    return [
        _ranking(query.id, by_query[query.id], values, able, judge, tie)
        for query in queries
        if query.id in by_query
    ]


def _below_root(
    constitution: Constitution,
    replies: Sequence[Reply],
    judgements: Sequence[Judgement],
    quantile: float,
) -> set[str]:
    """Replies that show less of a trait of authority root than all but `quantile` of the plain."""
    plain = {reply.id for reply in replies if reply.style == "plain"}
    below: set[str] = set()
    for trait in constitution.traits:
        if trait.authority == "root":
            own = {j.reply_id: j.contrast for j in judgements if j.trait == trait.id}
            known = {reply: value for reply, value in own.items() if value is not None}
            usual = [value for reply, value in known.items() if reply in plain]
            if usual:
                least = float(np.quantile(usual, quantile))
                below |= {reply for reply, value in known.items() if value < least}
    return below


def trait_values(
    judgements: Sequence[Judgement], config: RankingConfig
) -> dict[str, dict[str, float]]:
    """By trait, what each reply is worth in spreads (standard deviations) of the contrast.

    contrast / spread + k checks

    A reply without a contrast, or whose judgement failed, has no value. Checks that do not apply
    add nothing: they apply by query, so to none of its replies.
    """
    per_trait: dict[str, dict[str, Judgement]] = defaultdict(dict)
    for judgement in judgements:
        per_trait[judgement.trait][judgement.reply_id] = judgement
    found: dict[str, dict[str, float]] = {}
    for trait, by_reply in per_trait.items():
        rows = by_reply.values()
        spread = _spread(rows)
        found[trait] = {
            j.reply_id: j.contrast / spread + config.checks * (j.checks or 0.0)
            for j in rows
            if j.contrast is not None and not j.failed
        }
    return found


def _values(
    constitution: Constitution, judgements: Sequence[Judgement], config: RankingConfig
) -> dict[str, float]:
    """The mean of the traits' values by w = authority x weight, where every trait has one."""
    by_trait = trait_values(judgements, config)
    weights = _weights(constitution)
    if not weights.keys() <= by_trait.keys():
        return {}
    first, *others = (by_trait[trait] for trait in weights)
    everywhere = [reply for reply in first if all(reply in other for other in others)]
    whole = sum(weights.values())
    return {
        reply: sum(weight * by_trait[trait][reply] for trait, weight in weights.items()) / whole
        for reply in everywhere
    }


def _weights(constitution: Constitution) -> dict[str, float]:
    return {m.trait.id: m.weight * AUTHORITY[m.trait.authority] for m in constitution.members}


def _spread(judgements: Iterable[Judgement]) -> float:
    """Standard deviation of one trait's contrasts; 1 where they do not differ."""
    contrasts = [j.contrast for j in judgements if j.contrast is not None]
    return (pstdev(contrasts) if contrasts else 0.0) or 1.0


def _undecided(
    constitution: Constitution, judgements: Sequence[Judgement], bands: Mapping[str, float]
) -> float:
    """How near two values are, in spreads, when every trait's contrasts are a band apart."""
    weights = _weights(constitution)
    nearest = {
        trait: band / _spread([j for j in judgements if j.trait == trait])
        for trait, band in bands.items()
        if trait in weights
    }
    return sum(weights[trait] * near for trait, near in nearest.items()) / sum(weights.values())


def enough_relevance(replies: Sequence[Reply], judgements: Iterable[Judgement]) -> float:
    """The plain replies' median, above which relevance earns nothing; infinite if unknown."""
    plain = {reply.id for reply in replies if reply.style == "plain"}
    found = {j.reply_id: j.relevance for j in judgements if j.relevance is not None}
    answering = [value for reply_id, value in found.items() if reply_id in plain]
    return median(answering) if answering else math.inf


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
    plain = [words[reply.id] for reply in replies if reply.style == "plain"]
    enough = enough_relevance(replies, judgements)
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
    able: Mapping[str, bool | None],
    judge: str,
    tie: float,
) -> Ranking:
    missing = tuple(
        r.id
        for r in replies
        if "empty" not in r.flaws and (r.id not in values or able[r.id] is None)
    )
    below = tuple(
        r.id
        for r in replies
        if r.id not in missing and (DISQUALIFYING & set(r.flaws) or not able[r.id])
    )
    ranked = [r.id for r in replies if r.id not in missing and r.id not in below]
    tiers = _tiers({reply_id: values[reply_id] for reply_id in ranked}, tie)
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
