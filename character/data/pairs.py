"""Pairs (chosen, rejected) from rankings, picked so that length does not tell them apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product

from pydantic import BaseModel, ConfigDict, Field

from character.rows import Pair, Query, Ranking, Reply, content_id


class PairsConfig(BaseModel):
    """Which pairs of a ranking are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_query: int = Field(default=1, ge=1)
    margin: float = Field(default=0.5, gt=0, description="Smallest gap of a pair, in spreads.")
    balance: float = Field(
        default=2.0, ge=0, description="What a log-ratio of lengths costs, in spreads of margin."
    )


def pairs_from(
    rankings: Sequence[Ranking],
    queries: Sequence[Query],
    replies: Sequence[Reply],
    config: PairsConfig,
) -> list[Pair]:
    """The widest pairs of each query, each chosen reply at most once, lengths balanced overall.

    Tied replies yield no pair, nor do replies below the floor or without a judgement. Picking is
    greedy: a pair's margin counts less the further from zero it would leave its split's running
    sum of log(chosen length / rejected length).
    """
    tokens = {reply.id: max(1, reply.tokens) for reply in replies}
    split = {query.id: query.split for query in queries}
    pairs: list[Pair] = []
    imbalance = {"train": 0.0, "held_out": 0.0, "none": 0.0}
    for ranking in rankings:
        side = split[ranking.query_id]
        open_pairs = [p for p in _implied(ranking) if p[2] >= config.margin]
        for _ in range(config.per_query):
            if not open_pairs:
                break
            chosen, rejected, margin = max(
                open_pairs,
                key=lambda p: (
                    p[2]
                    - config.balance * abs(imbalance[side] + math.log(tokens[p[0]] / tokens[p[1]]))
                ),
            )
            imbalance[side] += math.log(tokens[chosen] / tokens[rejected])
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
                    split=side,
                )
            )
    return pairs


def best_replies(
    rankings: Sequence[Ranking], replies: Mapping[str, Reply], per_query: int
) -> list[Reply]:
    """The best steered replies of each query, at most `per_query`, in order of rank."""
    best: list[Reply] = []
    for ranking in rankings:
        ordered = [replies[reply_id] for tier in ranking.tiers for reply_id in tier]
        best += [reply for reply in ordered if reply.style == "steered"][:per_query]
    return best


def _implied(ranking: Ranking) -> Iterator[tuple[str, str, float]]:
    tiers = zip(ranking.tiers, ranking.values, strict=True)
    for (better, high), (worse, low) in combinations(tiers, 2):
        for chosen, rejected in product(better, worse):
            yield chosen, rejected, high - low
