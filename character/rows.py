"""The rows that flow between the stages: a class is a table, a field is a column.

Ids hash whatever determines the content, so the same work has the same id in every run and
finished work is recognised. Each row names the rows it came from: taught -> pair -> ranking ->
replies -> query -> draft -> clause.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from character.text import whole_sentences

Kind = Literal["on_trait", "unless", "neutral"]
Split = Literal["train", "held_out", "none"]
Style = Literal["plain", "steered", "own", "revised"]
"""own: by the policy in training, unprompted; revised: a plain reply that was criticised."""
Guidance = Literal["", "free", "led"]
Source = Literal["seed", "writer", "shipped"]


def content_id(*parts: object) -> str:
    """Sixteen hex digits that name these parts, in this order."""
    canonical = json.dumps(parts, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Draft:
    """What the writer wrote when it was shown one list of messages.

    The id hashes the request and the writer. `ground` hashes what all drafts of its clause are made
    from: while that stays, another version of the trait can use them.
    """

    id: str
    ground: str
    trait: str
    kind: Kind
    clause: str
    topic: str
    register: str
    text: str
    finish: str
    round: int = 0
    """In which it was written, as for queries."""


@dataclass(frozen=True, slots=True)
class Query:
    """A message a user might send; `dropped` says why it is not used, and is empty when it is."""

    id: str
    text: str
    kind: Kind
    trait: str
    clause: str
    topic: str
    register: str
    source: Source
    cluster: int
    split: Split
    dropped: str
    round: int = 0
    """In which it was written; later rounds have queries of their own."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the policy answered; `flaws` marks what is wrong with it, and drops nothing."""

    id: str
    query_id: str
    style: Style
    trait: str  # whose examples steered it; empty when plain
    sample: int
    seed: int
    model: str
    text: str
    tokens: int
    ended: bool
    flaws: tuple[str, ...]

    @property
    def shown(self) -> str:
        """As training sees it: when it was cut off, up to its last whole sentence.

        Trainers end every reply with the end token, and a policy must not learn to stop in the
        middle.
        """
        return self.text if self.ended else whole_sentences(self.text)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one judge found in one reply for one trait. None is missing, never a zero."""

    id: str
    reply_id: str
    trait: str
    judge: str
    contrast: float | None  # nats a token towards the trait
    checks: float | None  # share of check weight that passed; None when no check applies
    relevance: float | None  # nats a token that the query itself explains
    failed: str = ""  # what could not be found out, in words; the reply is then not ranked
    spread: float | None = None  # how far the members of a panel were apart, 0 to .5
    foil: str = ""  # the other query that relevance was held against


@dataclass(frozen=True, slots=True)
class Ranking:
    """The order of the replies to one query, best tier first; a tier's replies are tied.

    `values` gives each tier's mean combined score; replies below the quality floor, and replies
    whose judgement is missing, are not in any tier. `cards` are the ids of the judge's cards.
    """

    id: str
    query_id: str
    judge: str
    tiers: tuple[tuple[str, ...], ...]
    values: tuple[float, ...]
    below_floor: tuple[str, ...]
    missing: tuple[str, ...]
    cards: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replies to one query; `probability` is how sure the ranking is of the order."""

    id: str
    query_id: str
    ranking_id: str
    chosen_id: str
    rejected_id: str
    margin: float
    probability: float
    split: Split


@dataclass(frozen=True, slots=True)
class Revision:
    """A plain reply criticised against its query's clause and written anew.

    The new reply is a row of its own, `revised_id`, unless `failure` says why there is none.
    """

    id: str
    reply_id: str
    revised_id: str
    trait: str
    clause: str
    writer: str
    critique: str
    text: str
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Talk:
    """What the trained policy said about itself, or to itself; not used when it has a `failure`.

    `turns` alternate, a user's first and an assistant's last. A reflection answers one question;
    in a dialogue the policy speaks on both sides, led to a subject or free.
    """

    id: str
    kind: Literal["reflection", "dialogue"]
    trait: str
    clause: str
    guidance: Guidance
    model: str
    turns: tuple[str, ...]
    ended: bool
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A text that speaks of the character in the third person; not used when it has a `failure`."""

    id: str
    type: str
    idea: str
    trait: str
    clause: str
    writer: str
    text: str
    tokens: int
    ended: bool
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Reward:
    """The reward model's verdict on one pair."""

    id: str
    pair_id: str
    chosen: float
    rejected: float


@dataclass(frozen=True, slots=True)
class Taught:
    """A row, or a trait's example, that the policy learned from in one stage, and its weight."""

    id: str
    stage: str
    learned_id: str
    weight: float


@dataclass(frozen=True, slots=True)
class Step:
    """One number a training stage logged."""

    id: str
    stage: str
    step: int
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What one subject said when it was measured; `failure` says why there is no answer.

    The tokens of a reply that was saved elsewhere are unknown, and 0.
    """

    id: str
    subject: str
    query_id: str
    prompt: str
    text: str
    tokens: int
    ended: bool
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One metric of one answer; a missing value is None."""

    id: str
    answer_id: str
    subject: str
    query_id: str
    metric: str
    value: float | None


Row = (
    Draft
    | Query
    | Reply
    | Revision
    | Talk
    | Document
    | Judgement
    | Ranking
    | Pair
    | Reward
    | Taught
    | Step
    | Answer
    | Measurement
)


def taught(stage: str, learned_id: str, weight: float = 1.0) -> Taught:
    return Taught(content_id("taught", stage, learned_id), stage, learned_id, weight)
