"""Further rounds: the policy answers fresh queries, and learns from how its replies are ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from character.building.context import Build
from character.building.judging import make_judgements, make_pairs, make_rankings
from character.building.rewarding import train_with_ppo
from character.building.training import make_dataset, train_policy, train_reward_model
from character.building.writing import make_own_replies, make_queries, make_replies
from character.data.queries import yield_of
from character.judging.card import Card
from character.rows import Pair, Query, Reply
from character.training.policy import Anchors


@dataclass(frozen=True, slots=True)
class Made:
    """What the rounds so far have made."""

    queries: Sequence[Query]
    replies: Sequence[Reply]
    pairs: Sequence[Pair]

    def __add__(self, other: Made) -> Made:
        return Made(
            [*self.queries, *other.queries],
            [*self.replies, *other.replies],
            [*self.pairs, *other.pairs],
        )


def go_on(
    this: Build, trained: Path, before: Made, cards: Sequence[Card], anchors: Anchors
) -> tuple[Path, Made]:
    """One round, by the stages of every build.

    The reward model learns from the pairs of all rounds, the policy from those of this one: its
    own replies to the fresh queries, against the best of anyone's. Without a pair it stays as it
    is, which is said.
    """
    queries = make_queries(this, before.queries)
    replies = make_replies(this, queries)
    judgements = make_judgements(this, queries, replies)
    own = make_own_replies(this, queries, trained)
    judgements += make_judgements(this, queries, own, "own_judgements", "Own judgements", replies)
    replies += own
    rankings = make_rankings(this, queries, replies, judgements, cards)
    pairs = make_pairs(this, rankings, queries, replies, cards)
    made = before + Made(queries, replies, pairs)
    if not pairs:
        fates = ", ".join(f"{n} {fate}" for fate, n in yield_of(queries).items())
        this.run.reporter.say(
            f"Round {this.round}: no reply was clearly better than another, so there is nothing to"
            f" learn and the policy stays. Its fresh queries: {fates}."
        )
        return trained, made
    dataset = make_dataset(this, made.pairs, made.queries, made.replies)
    train_reward_model(this, dataset["train"], made.pairs, made.queries, made.replies)
    trained = train_policy(this, trained, 1.0, pairs, queries, replies, anchors)
    held = [query for query in before.queries if query.split == "held_out"]
    return train_with_ppo(this, trained, [*queries, *held]), made
