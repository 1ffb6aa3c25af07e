"""Traits and rows for tests: a plain value for every field that a test does not care about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from character.rows import Answer, Judgement, Measurement, Query, Ranking, Reply, content_id
from character.spec.constitution import Constitution, Member
from character.spec.schema import Trait

EXAMPLES = [
    {
        "clause": "first-word",
        "user": "Is the rain in April cold?",
        "good": "Yes. It comes from high clouds.",
        "bad": "Well, now, that depends on rather many things.",
        "why": "It answers.",
    },
    {
        "clause": "no-coda",
        "user": "Could you name a fruit that floats?",
        "good": "Apples float.",
        "bad": "Apples float, and so on and so forth.",
        "why": "It stops.",
    },
    {
        "clause": "first-word",
        "user": "Our oven door will not close.",
        "good": "Clean the hinge.",
        "bad": "Ovens have a long history.",
        "why": "It helps.",
    },
]
SEEDS = [
    "Is the sea salty everywhere?",
    "Why do cats purr at night?",
    "Can I freeze leek soup?",
    "Tell me something about honey bees.",
]


def a_trait(identity: str = "brisk", **changes: Any) -> Trait:
    """A trait with two clauses, three examples, four seed messages and no checks."""
    return Trait.model_validate(
        {
            "schema": 1,
            "id": identity,
            "title": identity.title(),
            "statement": "I get to the point.",
            "opposite": "I take the scenic route.",
            "rationale": "Time is short.",
            "clauses": [
                {"id": "first-word", "text": "I open with the answer."},
                {"id": "no-coda", "text": "I stop when I am done."},
            ],
            "examples": EXAMPLES,
            "queries": {"seeds": SEEDS},
        }
        | changes
    )


def a_constitution(*members: Trait | Member) -> Constitution:
    found = members or (a_trait(),)
    return Constitution(tuple(m if isinstance(m, Member) else Member(m) for m in found))


def a_query(identity: str = "q", **changes: Any) -> Query:
    text = f"What about {identity}?"
    row = Query(identity, text, "on_trait", "brisk", "no-coda", "", "", "seed", 0, "train", "")
    return replace(row, **changes)


def a_reply(identity: str, query_id: str = "q", **changes: Any) -> Reply:
    text = f"This is what {identity} says."
    row = Reply(identity, query_id, "steered", "brisk", 0, 1, "scripted", text, 10, True, ())
    return replace(row, **changes)


def a_judgement(
    reply_id: str,
    contrast: float | None,
    checks: float | None = None,
    relevance: float | None = 0.0,
    trait: str = "brisk",
    failed: str = "",
) -> Judgement:
    identity = content_id(reply_id, trait)
    return Judgement(identity, reply_id, trait, "scripted", contrast, checks, relevance, failed)


def a_ranking(
    query_id: str, *tiers: tuple[float, tuple[str, ...]], below: str = "", missing: str = ""
) -> Ranking:
    """Each tier as (value, reply ids), best first; `below` and `missing` name replies by words."""
    return Ranking(
        id=content_id(query_id, tiers),
        query_id=query_id,
        judge="scripted",
        tiers=tuple(ids for _, ids in tiers),
        values=tuple(value for value, _ in tiers),
        below_floor=tuple(below.split()),
        missing=tuple(missing.split()),
    )


def an_answer(subject: str = "base", query_id: str = "q", **changes: Any) -> Answer:
    identity = content_id(subject, query_id)
    row = Answer(identity, subject, query_id, "Is it wet?", "Rain is wet.", 4, True)
    return replace(row, **changes)


def a_measurement(
    subject: str, query_id: str, metric: str, value: float | None, sample: int = 0
) -> Measurement:
    answer = content_id(subject, query_id, sample)
    return Measurement(content_id(answer, metric), answer, subject, query_id, metric, value)
