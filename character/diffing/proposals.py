"""Differences that a model names after reading replies of both versions, and that are then tested.

It reads half of the queries. Of each reply to the other half it is asked alone whether what was
named is true of it, and never told whose reply it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from rapidfuzz import fuzz, utils

from character import prompts
from character.diffing.inference import ALPHA, Floats, discoveries, movements
from character.diffing.phrases import halves
from character.models.base import ChatModel, Choice, Conversation, Message, Request, Sampling
from character.models.structured import ask_formed
from character.quoting import fence, quoted
from character.rows import content_id

Said = Mapping[str, str]  # query id -> reply

PROPOSE, SHOWS = TEMPLATES = ("propose_differences", "shows_difference")
BATCHES, PAIRS, EACH = 6, 6, 3  # what is read at once, of how many pairs, and named of it
MOST = 12  # statements tested
TRIED = 40  # queries of the tested half
ALIKE = 85.0  # similarity of two statements that say the same
MASS = 0.5  # of all probability: a model that gave Yes and No less was saying something else
OPTIONS = ("Yes", "No")
TELLING = Sampling(max_tokens=256, temperature=0.0)


class Proposed(BaseModel):
    """What the model names, each a statement about one reply."""

    model_config = ConfigDict(extra="forbid")

    differences: list[str] = Field(max_length=EACH)


class Answered(BaseModel):
    model_config = ConfigDict(extra="forbid")

    answer: Literal["Yes", "No"]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A statement that is true of more of one version's replies.

    `old` and `new` are mean probabilities that it is, over the tested queries; `missing` counts
    queries of which one reply got no answer. `q` is adjusted over all that were tested.
    """

    statement: str
    old: float
    new: float
    q: float
    queries: int
    missing: int
    shown_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hypotheses:
    """`unformed` counts readings that gave no list; `untested` statements that got no answers.

    `by_chance` is how many are found between OLD and its own fresh replies, proposed and tested
    anew; None when OLD was not asked twice.
    """

    found: tuple[Hypothesis, ...]
    tested: int
    unformed: int
    untested: int
    by_chance: int | None
    model: str


def find_hypotheses(
    asked: Said, old: Said, new: Said, again: Said | None, model: ChatModel
) -> Hypotheses:
    """`asked` has the query's text by its id."""
    statements, unformed = propose(asked, old, new, model)
    found, untested = tested(statements, asked, old, new, model)
    chance = None
    if again is not None:
        chance = len(tested(propose(asked, old, again, model)[0], asked, old, again, model)[0])
    return Hypotheses(
        tuple(found), len(statements) - untested, unformed, untested, chance, model.name
    )


def propose(asked: Said, old: Said, new: Said, model: ChatModel) -> tuple[list[str], int]:
    """Statements from the first half, none twice, and how many readings gave no list."""
    ordered, first = halves([query for query in old if query in new])
    shown = [query for query, here in zip(ordered, first, strict=True) if here]
    shown = [query for query in shown if old[query] != new[query]][: BATCHES * PAIRS]
    requests = []
    for start in range(0, len(shown), PAIRS):
        part = shown[start : start + PAIRS]
        turned = start // PAIRS % 2 == 1  # either version is assistant 1 as often
        one, two = (new, old) if turned else (old, new)
        requests.append(Request((_reading(part, asked, one, two),), seed=start))
    answers = ask_formed(model, requests, TELLING, Proposed)
    statements: list[str] = []
    for rank in range(EACH):  # every reading's clearest first
        for answer in answers:
            named = answer.value.differences if answer.value else []
            if rank < len(named) and named[rank].strip():
                statements.append(" ".join(named[rank].split()))
    kept: list[str] = []
    for statement in statements:
        if all(_alike(statement, other) < ALIKE for other in kept):
            kept.append(statement)
    return kept[:MOST], sum(answer.value is None for answer in answers)


def tested(
    statements: Sequence[str], asked: Said, old: Said, new: Said, model: ChatModel
) -> tuple[list[Hypothesis], int]:
    """Those that hold in the second half, most certain first, and how many got no answers."""
    ordered, first = halves([query for query in old if query in new])
    queries = [query for query, here in zip(ordered, first, strict=True) if not here][:TRIED]
    each = [(s, q, side[q]) for s in statements for q in queries for side in (old, new)]
    unique = list(dict.fromkeys(each))
    told = dict(zip(unique, _true_of(unique, asked, model), strict=True))
    columns: list[tuple[str, Floats, Floats]] = []
    for statement in statements:
        was, now = (
            np.array([told[statement, q, side[q]] for q in queries], dtype=np.float64)
            for side in (old, new)
        )
        if np.isfinite(now - was).sum() >= 2:
            columns.append((statement, was, now))
    q_values = discoveries([_p(now - was) for _, was, now in columns])
    found = [
        _found(statement, was, now, q, queries)
        for (statement, was, now), q in zip(columns, q_values, strict=True)
        if q <= ALPHA
    ]
    found.sort(key=lambda one: (one.q, -abs(one.new - one.old), one.statement))
    return found, len(statements) - len(columns)


def _found(
    statement: str, was: Floats, now: Floats, q: float, queries: Sequence[str]
) -> Hypothesis:
    known = np.isfinite(now - was)
    gap = np.where(known, now - was, 0.0)
    sign = 1 if gap.sum() > 0 else -1
    order = np.argsort(-sign * gap, kind="stable")
    return Hypothesis(
        statement,
        float(was[known].mean()),
        float(now[known].mean()),
        q,
        int(known.sum()),
        int((~known).sum()),
        tuple(queries[at] for at in order if sign * gap[at] > 0),
    )


def _p(gap: Floats) -> float:
    """By sign flips of whole queries: answers of yes and no are too few values for t."""
    (movement,) = movements(gap[:, None])
    return movement.p if movement else 1.0


def _true_of(
    each: Sequence[tuple[str, str, str]], asked: Said, model: ChatModel
) -> list[float | None]:
    """How probable Yes is for each (statement, query id, reply); None where there is no answer."""
    talks = [_question(statement, asked[query], reply) for statement, query, reply in each]
    if model.can_choose:
        return [_chosen(choice) for choice in model.choose(talks, OPTIONS)]
    requests = [Request(talk, seed=int(content_id("shows", talk)[:7], 16)) for talk in talks]
    answers = ask_formed(model, requests, Sampling(max_tokens=16, temperature=0.0), Answered)
    return [None if a.value is None else float(a.value.answer == "Yes") for a in answers]


def _chosen(choice: Choice) -> float | None:
    if choice.failure or choice.mass < MASS:
        return None
    return choice.probabilities["Yes"]


def _reading(queries: Sequence[str], asked: Said, one: Said, two: Said) -> Message:
    texts = [text for query in queries for text in (asked[query], one[query], two[query])]
    pairs = [
        {"query": quoted(asked[q]), "first": quoted(one[q]), "second": quoted(two[q])}
        for q in queries
    ]
    return Message("user", prompts.render(PROPOSE, pairs=pairs, fence=fence(*texts), most=EACH))


def _question(statement: str, query: str, reply: str) -> Conversation:
    told = prompts.render(
        SHOWS,
        statement=quoted(statement),
        query=quoted(query),
        reply=quoted(reply),
        fence=fence(statement, query, reply),
    )
    return (Message("user", told),)


def _alike(one: str, other: str) -> float:
    return fuzz.token_sort_ratio(one, other, processor=utils.default_process)
