"""A trait's good examples and the best steered replies: what it looks like when it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from character.rows import Ranking, Reply, content_id
from character.spec.schema import Example, Trait


def example_id(trait: Trait, example: Example) -> str:
    """Names what is learned from an example: its clause, its message and its good reply."""
    return content_id("example", trait.id, example.clause, example.user, example.good)


def best_replies(
    rankings: Sequence[Ranking], replies: Mapping[str, Reply], per_query: int
) -> list[Reply]:
    """The best steered replies of each query, at most `per_query`, in order of rank."""
    best: list[Reply] = []
    for ranking in rankings:
        ordered = [replies[reply_id] for tier in ranking.tiers for reply_id in tier]
        best += [reply for reply in ordered if reply.style == "steered"][:per_query]
    return best
