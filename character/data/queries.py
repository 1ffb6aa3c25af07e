"""Write the messages users might send, per clause, and split them before anything is generated.

A base-style continuation of a list of messages gives a small model's most natural queries (asking
it to "write a query" gives worse ones). Each list mixes the trait's seed messages with the
messages of the examples of one clause, so every query traces back to a clause.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice, product
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from character import prompts
from character.data.anchors import NEUTRAL, anchor_queries
from character.data.splitting import Embeds, Sides, split_fresh, split_queries
from character.models.base import ChatModel, Message, OnDone, Request, Sampling
from character.rows import Draft, Kind, Query, Source, content_id
from character.spec.constitution import Constitution
from character.spec.schema import Trait

CONTINUE, ASK = TEMPLATES = ("continue_queries", "ask_for_query")
FAILED = "failed"  # for the moment: it may be written another time
UNWRITTEN = {"refusal": "refused", "content filter": "filtered", FAILED: "not answered"}


class QueriesConfig(BaseModel):
    """How many queries there are and how they are told apart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: int = Field(default=110, ge=4, description="On-trait queries to train on, per trait.")
    held_out: int = Field(default=48, ge=4, description="On-trait queries kept for measuring.")
    unless: int = Field(
        default=20,
        ge=0,
        description="Queries where the trait must not show, per trait; half are held out.",
    )
    neutral: int = Field(
        default=40, ge=0, description="Everyday queries that ship, on which nothing may change."
    )
    fresh: int = Field(
        default=60, ge=1, description="On-trait queries written for each further round, per trait."
    )
    spare: float = Field(default=1.5, ge=1, description="Drafts written per query wanted.")
    shown: int = Field(default=6, ge=2, description="Messages in the list that is continued.")
    near_duplicate: float = Field(
        default=85, ge=50, le=100, description="Token-set similarity that makes one cluster."
    )
    similarity: Literal["words", "embedding"] = Field(
        default="words",
        description="What near-duplicates are told by: words in common, or an embedder's meaning.",
    )
    near_meaning: float = Field(
        default=0.85, gt=0, le=1, description="Cosine that makes one cluster, with an embedder."
    )
    sampling: Sampling = Sampling(max_tokens=36, temperature=0.8, top_p=0.9, stop=("\n",))


class Writer(Protocol):
    """All of a writer that decides what it is asked."""

    @property
    def name(self) -> str: ...

    @property
    def can_continue(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class PlannedDraft:
    """A draft that has not been written yet; see Draft."""

    id: str
    ground: str
    trait: str
    kind: Kind
    clause: str
    topic: str
    register: str
    request: Request


@dataclass(frozen=True, slots=True)
class Before:
    """What an earlier build of the same traits made and another can use."""

    drafts: Sequence[Draft] = ()
    queries: Sequence[Query] = ()
    held_out: Sequence[str] = ()
    """Messages that builds before that one held out."""


NOTHING = Before()


def write_queries(
    constitution: Constitution,
    writer: ChatModel,
    config: QueriesConfig,
    seed: int,
    on_draft: OnDone = lambda count: None,
    embedder: Embeds | None = None,
) -> list[Query]:
    """Every query there is, dropped ones included with the reason, split by cluster.

    `on_draft` is told how many more drafts there are. With an embedder, near-duplicates are those
    that mean nearly the same.
    """
    drafts = write_drafts(constitution, writer, config, seed, on_draft)
    return queries_from(constitution, drafts, config, seed, embedder=embedder)


def write_drafts(
    constitution: Constitution,
    writer: ChatModel,
    config: QueriesConfig,
    seed: int,
    on_draft: OnDone = lambda count: None,
    before: Before = NOTHING,
    number: int = 0,
) -> list[Draft]:
    """What the writer makes of every trait's messages; what there is from before is not asked for.

    In a further round, `number`, there are only fresh ones to train on. `on_draft` is told how many
    more drafts there are.
    """
    drafts: list[Draft] = []
    for trait in constitution.traits:
        for planned in _plans(trait, writer, config, seed, number):
            found = taken_over(planned, before.drafts)
            left = [one for one, draft in zip(planned, found, strict=True) if draft is None]
            on_draft(len(planned) - len(left))
            requests = [one.request for one in left]
            generations = writer.generate(requests, config.sampling, on_draft) if left else []
            written = (
                Draft(
                    one.id, one.ground, one.trait, one.kind, one.clause, one.topic, one.register,
                    generation.text, generation.finish, number,
                )
                for one, generation in zip(left, generations, strict=True)
            )  # fmt: skip
            drafts += [draft or next(written) for draft in found]
    return drafts


def queries_from(
    constitution: Constitution,
    drafts: Sequence[Draft],
    config: QueriesConfig,
    seed: int,
    before: Before = NOTHING,
    embedder: Embeds | None = None,
) -> list[Query]:
    """Every query there is, dropped ones included with the reason, split by cluster.

    Each trait contributes its seed messages, its `unless` messages and what was drafted from
    either; neutral queries ship. Clusters of near-duplicates never straddle the split, and what an
    earlier build held out stays held out.
    """
    queries: list[Query] = []
    for trait in constitution.traits:
        queries += _given(trait, before.queries)
        queries += [_drafted(draft) for draft in drafts if draft.trait == trait.id]
    queries += [
        _query(text, "neutral", "", "", source="shipped")
        for text in anchor_queries(NEUTRAL)[: config.neutral]
    ]
    sides = Sides.of(before.queries, before.held_out)
    return split_queries(queries, constitution, config, seed, sides, embedder)


def taken_over(planned: Sequence[PlannedDraft], before: Sequence[Draft]) -> list[Draft | None]:
    """For each planned draft the earlier one that serves: the very same, or one of its ground.

    With a clause more or less a build plans other lists for every clause. What was made from the
    same messages is as good as what it would make.
    """
    known = {draft.id: draft for draft in before if draft.finish != FAILED}
    found = [known.get(one.id) for one in planned]
    used = {draft.id for draft in found if draft}
    spare: dict[str, list[Draft]] = defaultdict(list)
    for draft in known.values():
        if draft.id not in used:
            spare[draft.ground].append(draft)
    left: dict[str, Iterator[Draft]] = {ground: iter(drafts) for ground, drafts in spare.items()}
    return [
        # the same list may by now be about a clause of another name
        replace(draft, ground=one.ground, clause=one.clause)
        if draft
        else next(left.get(one.ground, iter(())), None)
        for one, draft in zip(planned, found, strict=True)
    ]


def fresh_queries(
    constitution: Constitution,
    drafts: Sequence[Draft],
    config: QueriesConfig,
    number: int,
    known: Sequence[Query],
    held_out: Sequence[str] = (),
    embedder: Embeds | None = None,
) -> list[Query]:
    """On-trait queries for one more round, all to train on; dropped ones included with the reason.

    None is a near-duplicate of a query that is known, held-out ones above all, of an example, or
    of a message that a build before this one held out.
    """
    fresh = []
    for query in map(_drafted, drafts):
        identity = content_id("fresh", number, query.id)
        fresh.append(replace(query, id=identity, round=number))
    return split_fresh(fresh, known, constitution, config, held_out, embedder)


def fresh_drafts(config: QueriesConfig) -> int:
    """How many drafts the writer is asked for, for a trait in a further round."""
    return round(config.fresh * config.spare)


def yield_of(queries: Iterable[Query]) -> Counter[str]:
    """How many queries each fate met: a split, or a reason for dropping."""
    return Counter(query.dropped or query.split for query in queries)


def drafts_wanted(trait: Trait, config: QueriesConfig) -> int:
    """How many drafts the writer is asked for, beside the trait's own messages."""
    wanted = config.train + config.held_out - len(trait.queries.seeds)
    return max(0, round(wanted * config.spare)) + _unless_wanted(trait, config)


def _unless_wanted(trait: Trait, config: QueriesConfig) -> int:
    """A list of two or more can be continued; commands are more alike than chat, so more drafts."""
    given = len(trait.queries.unless)
    return max(0, round((config.unless - given) * 2 * config.spare)) if given > 1 else 0


def _plans(
    trait: Trait, writer: Writer, config: QueriesConfig, seed: int, number: int
) -> list[list[PlannedDraft]]:
    if number:
        return [plan_drafts(trait, writer, config, seed, fresh_drafts(config))]
    return [
        plan_drafts(trait, writer, config, seed),
        plan_unless_drafts(trait, writer, config, seed),
    ]


def plan_drafts(
    trait: Trait, writer: Writer, config: QueriesConfig, seed: int, count: int | None = None
) -> list[PlannedDraft]:
    """The lists that the writer is to continue, each about a clause, a topic, in a register.

    As many as the first round wants, unless a `count` is given.
    """
    if count is None:
        count = drafts_wanted(trait, config) - _unless_wanted(trait, config)
    queries = trait.queries
    clauses = [clause.id for clause in trait.clauses]
    rooms = list(product(queries.registers or [""], queries.topics or [""], clauses))
    random.Random(f"{seed}/{trait.id}/rooms").shuffle(rooms)
    of_clause = {clause: _messages(trait, clause) for clause in clauses}
    grounds = clause_grounds(trait, writer, config, seed)
    drafts = []
    for i, (register, topic, clause) in enumerate(islice(cycle(rooms), count)):
        draw = random.Random(f"{seed}/{trait.id}/{i}")
        theirs = of_clause[clause]
        messages = draw.sample(theirs, min(2, len(theirs)))
        seeds = draw.sample(queries.seeds, min(config.shown, len(queries.seeds)))
        messages += seeds[: config.shown - len(messages)]
        draw.shuffle(messages)
        request = _request(writer, messages, draw.getrandbits(31), topic, register)
        drafts.append(
            PlannedDraft(
                _draft_id(writer, config, request), grounds[clause], trait.id, "on_trait", clause,
                topic, register, request,
            )
        )  # fmt: skip
    return drafts


def plan_unless_drafts(
    trait: Trait, writer: Writer, config: QueriesConfig, seed: int
) -> list[PlannedDraft]:
    """The lists of messages where the trait must not show."""
    given = trait.queries.unless
    ground = unless_ground(trait, writer, config, seed)
    drafts = []
    for i in range(_unless_wanted(trait, config)):
        draw = random.Random(f"{seed}/{trait.id}/unless/{i}")
        messages = draw.sample(given, min(config.shown, len(given)))
        request = _request(writer, messages, draw.getrandbits(31))
        identity = _draft_id(writer, config, request)
        drafts.append(PlannedDraft(identity, ground, trait.id, "unless", "", "", "", request))
    return drafts


def clause_grounds(
    trait: Trait, writer: Writer, config: QueriesConfig, seed: int
) -> dict[str, str]:
    """By clause, the hash of all that its drafts are made from; its text is not among it."""
    queries = trait.queries
    shared = (queries.seeds, queries.topics, queries.registers)
    return {
        clause.id: _ground(
            writer, config, seed, trait.id, clause.id, _messages(trait, clause.id), *shared
        )
        for clause in trait.clauses
    }


def unless_ground(trait: Trait, writer: Writer, config: QueriesConfig, seed: int) -> str:
    return _ground(writer, config, seed, trait.id, "unless", trait.queries.unless)


def _messages(trait: Trait, clause: str) -> list[str]:
    return [example.user for example in trait.examples if example.clause == clause]


def _ground(writer: Writer, config: QueriesConfig, seed: int, *made_from: object) -> str:
    template = prompts.digest(_template(writer))
    settings = (config.shown, config.sampling.model_dump(), seed)
    return content_id("ground", writer.name, template, settings, made_from)


def _draft_id(writer: Writer, config: QueriesConfig, request: Request) -> str:
    asked = (request.text, request.conversation, request.seed)
    return content_id("draft", writer.name, config.sampling.model_dump(), asked)


def _template(writer: Writer) -> str:
    return CONTINUE if writer.can_continue else ASK


def _request(
    writer: Writer, messages: Sequence[str], seed: int, topic: str = "", register: str = ""
) -> Request:
    """One more message like these: as a list to continue where the writer can, else asked for."""
    text = prompts.render(_template(writer), topic=topic, register=register, messages=messages)
    if writer.can_continue:
        return Request(text=text, seed=seed)
    return Request((Message("user", text),), seed=seed)


def _given(trait: Trait, before: Sequence[Query]) -> list[Query]:
    """The trait's own messages, shared out to its clauses; one that had a clause before keeps it.

    So a clause more or less does not make new queries of them all.
    """
    ids = {clause.id for clause in trait.clauses}
    had = {
        query.text: query.clause
        for query in before
        if query.source == "seed" and query.trait == trait.id and query.clause in ids
    }
    clauses = cycle(clause.id for clause in trait.clauses)
    seeds = [
        _query(text, "on_trait", trait.id, had.get(text, clause))
        for text, clause in zip(trait.queries.seeds, clauses, strict=False)
    ]
    return seeds + [_query(text, "unless", trait.id, "") for text in trait.queries.unless]


def _drafted(draft: Draft) -> Query:
    query = _query(
        _first_line(draft.text), draft.kind, draft.trait, draft.clause, draft.topic,
        draft.register, "writer",
    )  # fmt: skip
    if draft.finish in UNWRITTEN:
        return replace(query, text="", dropped=UNWRITTEN[draft.finish])
    return replace(query, dropped=_unusable(query.text))


def _query(
    text: str,
    kind: Kind,
    trait: str,
    clause: str,
    topic: str = "",
    register: str = "",
    source: Source = "seed",
) -> Query:
    identity = content_id("query", text, kind, trait, clause, topic, register, source)
    return Query(identity, text, kind, trait, clause, topic, register, source, -1, "none", "")


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0].strip(" -\"'")


def _unusable(text: str) -> str:
    words = text.split()
    if len(words) < 4:
        return "too short"
    if len(words) > 40:
        return "too long"
    if not re.search(r"[.?!]$", text):
        return "not a whole sentence"
    if re.search(r"https?:|@\w|[<>{}|]", text):
        return "not a message"
    if len(set(words)) < 0.6 * len(words):
        return "repeats itself"
    return ""
