"""Pairs (chosen, rejected) from rankings, picked so that length does not tell them apart."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from itertools import combinations, product

from pydantic import BaseModel, ConfigDict, Field

from character.rows import Pair, Query, Ranking, Reply, content_id


class PairsConfig(BaseModel):
    """Which pairs of a ranking are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_query: int = Field(
        default=1,
        ge=1,
        description="Of the base model's replies, again of the policy's own, and of revised ones.",
    )
    margin: float = Field(default=0.5, gt=0, description="Smallest gap of a pair, in spreads.")
    floor: float = Field(
        default=1.0,
        gt=0,
        description="Gap between the worst ranked reply and any below the quality floor.",
    )
    balance: float = Field(
        default=2.0, ge=0, description="What a log-ratio of lengths costs, in spreads of margin."
    )
    matched: float | None = Field(
        default=None,
        gt=1,
        description="How many times as long, in words, one reply of a pair may be as the other; "
        "without it lengths are balanced over all pairs only.",
    )


def pairs_from(
    rankings: Sequence[Ranking],
    queries: Sequence[Query],
    replies: Sequence[Reply],
    config: PairsConfig,
) -> list[Pair]:
    """The widest pairs of each query, each chosen reply at most once, lengths balanced overall.

    Each query yields pairs of the base model's replies, pairs whose rejected reply is the
    trained policy's own, with the best of anyone's chosen, and pairs of a revised reply and a plain
    one. Any ranked reply beats one below the
    floor; tied replies yield no pair, nor do replies without a judgement.
    Picking is greedy: a pair's margin counts less the further from zero it would leave the running
    sum of log(chosen length / rejected length) of its split and its author.
    """
    words = {reply.id: max(1, len(reply.shown.split())) for reply in replies}
    split = {query.id: query.split for query in queries}
    silent = {reply.id for reply in replies if not reply.text}  # teaches nothing
    own, revised, plain = (
        {reply.id for reply in replies if reply.style == style} - silent
        for style in ("own", "revised", "plain")
    )
    anyone = words.keys() - silent
    base = anyone - own - revised
    apart = math.log(config.matched) if config.matched else math.inf
    pairs: list[Pair] = []
    imbalance: dict[tuple[str, int], float] = defaultdict(float)
    kinds = ((base, base), (anyone, own), (revised, plain))
    for ranking, (kind, (winners, losers)) in product(rankings, enumerate(kinds)):
        place = (split[ranking.query_id], kind)
        open_pairs = [
            p
            for p in _implied(ranking, winners, losers, config.floor)
            if p[2] >= config.margin and abs(math.log(words[p[0]] / words[p[1]])) <= apart
        ]
        for _ in range(config.per_query):
            if not open_pairs:
                break
            chosen, rejected, margin = max(
                open_pairs,
                key=lambda p: (
                    p[2]
                    - config.balance * abs(imbalance[place] + math.log(words[p[0]] / words[p[1]]))
                ),
            )
            imbalance[place] += math.log(words[chosen] / words[rejected])
            open_pairs = [p for p in open_pairs if p[0] != chosen and p[1] != rejected]
            pairs.append(
                Pair(
                    id=content_id("pair", ranking.id, chosen, rejected),
                    query_id=ranking.query_id,
                    ranking_id=ranking.id,
                    chosen_id=chosen,
                    rejected_id=rejected,
                    margin=margin,
                    probability=1 / (1 + math.exp(-margin)),
                    split=split[ranking.query_id],
                )
            )
    return pairs


def _implied(
    ranking: Ranking, winners: Container[str], losers: Container[str], floor: float
) -> Iterator[tuple[str, str, float]]:
    """(chosen, rejected, margin) of all that the ranking says of these replies.

    A reply below the floor counts as `floor` worse than the worst ranked one.
    """
    ranked = [
        (reply_id, value)
        for tier, value in zip(ranking.tiers, ranking.values, strict=True)
        for reply_id in tier
        if reply_id in winners or reply_id in losers
    ]
    for (chosen, high), (rejected, low) in combinations(ranked, 2):
        # tied replies share their tier's value
        if chosen in winners and rejected in losers and high > low:
            yield chosen, rejected, high - low
    below = [reply_id for reply_id in ranking.below_floor if reply_id in losers]
    for (chosen, high), rejected in product(ranked, below):
        if chosen in winners:
            yield chosen, rejected, high - ranked[-1][1] + floor
