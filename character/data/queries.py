"""Write the messages users might send, per clause, and split them before anything is generated.

A base-style continuation of a list of messages gives a small model's most natural queries (asking
it to "write a query" gives worse ones). Each list mixes the trait's seed messages with the
messages of the examples of one clause, so every query traces back to a clause.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import cycle, islice, product
from typing import Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from rapidfuzz import fuzz, process, utils
from scipy.sparse.csgraph import connected_components

from character import prompts
from character.data.anchors import NEUTRAL, anchor_queries
from character.models.base import ChatModel, Generation, Message, OnDone, Request, Sampling
from character.models.vectors import Indices, Vectors, near_duplicates
from character.rows import Kind, Query, Source, Split, content_id
from character.spec.constitution import Constitution
from character.spec.schema import Trait

CONTINUE, ASK = TEMPLATES = ("continue_queries", "ask_for_query")
EXAMPLE = "near-duplicate of an example"
UNWRITTEN = {"refusal": "refused", "content filter": "filtered", "failed": "not answered"}


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


class Embeds(Protocol):
    def embed(self, texts: Sequence[str]) -> Vectors:
        """(texts, width), each row of unit length."""
        ...


def write_queries(
    constitution: Constitution,
    writer: ChatModel,
    config: QueriesConfig,
    seed: int,
    on_draft: OnDone = lambda count: None,
    embedder: Embeds | None = None,
) -> list[Query]:
    """Every query there is, dropped ones included with the reason, split by cluster.

    Each trait contributes its seed messages, its `unless` messages and what the writer makes of
    either; neutral queries ship. Clusters of near-duplicates never straddle the split, and a
    cluster that holds an example's message is dropped: examples steer, so they must not also
    measure. `on_draft` is told how many more drafts there are. With an embedder, near-duplicates
    are those that mean nearly the same.
    """
    queries: list[Query] = []
    for member in constitution.members:
        trait = member.trait
        queries += _given(trait)
        count = drafts_wanted(trait, config) - _unless_wanted(trait, config)
        queries += _written(trait, writer, count, config, seed, on_draft)
        queries += _written_unless(trait, writer, config, seed, on_draft)
    queries += [
        _query(text, "neutral", None, "", source="shipped")
        for text in anchor_queries(NEUTRAL)[: config.neutral]
    ]
    queries = _clustered(queries, constitution, config, embedder)
    return _split(queries, constitution, config, seed)


def write_fresh_queries(
    constitution: Constitution,
    writer: ChatModel,
    config: QueriesConfig,
    seed: int,
    number: int,
    known: Sequence[Query],
    on_draft: OnDone = lambda count: None,
    embedder: Embeds | None = None,
) -> list[Query]:
    """On-trait queries for one more round, all to train on; dropped ones included with the reason.

    None is a near-duplicate of a query that is known, held-out ones above all, or of an example.
    """
    fresh = [
        replace(query, id=content_id("fresh", number, query.id), round=number)
        for trait in constitution.traits
        for query in _written(trait, writer, fresh_drafts(config), config, seed, on_draft)
    ]
    used = [query for query in known if not query.dropped]
    together = _clustered([*used, *fresh], constitution, config, embedder)
    left = dict.fromkeys((trait.id for trait in constitution.traits), config.fresh)
    found = []
    for query in together[len(used) :]:
        if not query.dropped and left[query.trait]:
            left[query.trait] -= 1
            query = replace(query, split="train")
        found.append(query if query.dropped or query.split != "none" else _not_needed(query))
    return found


def fresh_drafts(config: QueriesConfig) -> int:
    """How many drafts the writer is asked for, for a trait in a further round."""
    return round(config.fresh * config.spare)


def _not_needed(query: Query) -> Query:
    return replace(query, dropped="not needed")


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


def _given(trait: Trait) -> list[Query]:
    clauses = cycle(clause.id for clause in trait.clauses)
    seeds = [_query(text, "on_trait", trait, next(clauses)) for text in trait.queries.seeds]
    return seeds + [_query(text, "unless", trait, "") for text in trait.queries.unless]


def _written(
    trait: Trait,
    writer: ChatModel,
    count: int,
    config: QueriesConfig,
    seed: int,
    on_draft: OnDone,
) -> list[Query]:
    clauses = [clause.id for clause in trait.clauses]
    rooms = list(product(trait.queries.registers or [""], trait.queries.topics or [""], clauses))
    random.Random(f"{seed}/{trait.id}/rooms").shuffle(rooms)
    drafts = list(islice(cycle(rooms), count))
    requests = []
    for i, (register, topic, clause) in enumerate(drafts):
        draw = random.Random(f"{seed}/{trait.id}/{i}")
        theirs = [example.user for example in trait.examples if example.clause == clause]
        messages = draw.sample(theirs, min(2, len(theirs)))
        seeds = draw.sample(trait.queries.seeds, min(config.shown, len(trait.queries.seeds)))
        messages += seeds[: config.shown - len(messages)]
        draw.shuffle(messages)
        requests.append(_draft(writer, messages, draw.getrandbits(31), topic, register))
    return [
        _drafted(generation, "on_trait", trait, clause, topic, register)
        for (register, topic, clause), generation in zip(
            drafts, writer.generate(requests, config.sampling, on_draft), strict=True
        )
    ]


def _written_unless(
    trait: Trait, writer: ChatModel, config: QueriesConfig, seed: int, on_draft: OnDone
) -> list[Query]:
    requests = []
    for i in range(_unless_wanted(trait, config)):
        draw = random.Random(f"{seed}/{trait.id}/unless/{i}")
        messages = draw.sample(trait.queries.unless, min(config.shown, len(trait.queries.unless)))
        requests.append(_draft(writer, messages, draw.getrandbits(31)))
    return [
        _drafted(generation, "unless", trait)
        for generation in writer.generate(requests, config.sampling, on_draft)
    ]


def _draft(
    writer: ChatModel, messages: Sequence[str], seed: int, topic: str = "", register: str = ""
) -> Request:
    """One more message like these: as a list to continue where the writer can, else asked for."""
    template = CONTINUE if writer.can_continue else ASK
    text = prompts.render(template, topic=topic, register=register, messages=messages)
    if writer.can_continue:
        return Request(text=text, seed=seed)
    return Request((Message("user", text),), seed=seed)


def _drafted(
    generation: Generation,
    kind: Kind,
    trait: Trait,
    clause: str = "",
    topic: str = "",
    register: str = "",
) -> Query:
    query = _query(_first_line(generation.text), kind, trait, clause, topic, register, "writer")
    if generation.finish in UNWRITTEN:
        return replace(query, text="", dropped=UNWRITTEN[generation.finish])
    return replace(query, dropped=_unusable(query.text))


def _query(
    text: str,
    kind: Kind,
    trait: Trait | None,
    clause: str,
    topic: str = "",
    register: str = "",
    source: Source = "seed",
) -> Query:
    of = trait.id if trait else ""
    identity = content_id("query", text, kind, of, clause, topic, register, source)
    return Query(identity, text, kind, of, clause, topic, register, source, -1, "none", "")


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


def _clustered(
    queries: Sequence[Query],
    constitution: Constitution,
    config: QueriesConfig,
    embedder: Embeds | None,
) -> list[Query]:
    """Number the near-duplicate clusters and drop all but the first of each, examples first."""
    examples = [example.user for trait in constitution.traits for example in trait.examples]
    usable = [query for query in queries if not query.dropped]
    texts = examples + [query.text for query in usable]
    if embedder:
        labels = near_duplicates(embedder.embed(texts), config.near_meaning)
    else:
        labels = _by_words(texts, config.near_duplicate)
    taken = set(labels[: len(examples)].tolist())
    of_examples = set(taken)
    clusters = iter(labels[len(examples) :].tolist())
    numbered = []
    for query in queries:
        if query.dropped:
            numbered.append(query)
            continue
        cluster = next(clusters)
        reason = ""
        if cluster in taken:
            reason = EXAMPLE if cluster in of_examples else "near-duplicate"
        taken.add(cluster)
        numbered.append(replace(query, cluster=cluster, dropped=reason))
    return numbered


def _by_words(texts: Sequence[str], threshold: float) -> Indices:
    """A label for each text, the same for those that a chain of near-duplicates connects."""
    similar = process.cdist(
        texts,
        texts,
        scorer=fuzz.token_set_ratio,
        processor=utils.default_process,
        score_cutoff=threshold,
        workers=1,
    )
    _, labels = connected_components(np.asarray(similar) > 0, directed=False)
    found: Indices = labels.astype(np.intp)
    return found


def _split(
    queries: list[Query], constitution: Constitution, config: QueriesConfig, seed: int
) -> list[Query]:
    """Deal each trait's usable queries out to held-out and train; what is left over is dropped.

    Neutral queries are all for training: they are anchors.
    """
    fate: dict[str, tuple[Split, str]] = {
        query.id: ("train", "") for query in queries if query.kind == "neutral"
    }
    for trait in constitution.traits:
        usable = [q for q in queries if q.trait == trait.id and not q.dropped]
        for kind, held, train in (
            ("on_trait", config.held_out, config.train),
            ("unless", config.unless // 2, config.unless - config.unless // 2),
        ):
            draw = random.Random(f"{seed}/split/{trait.id}/{kind}")
            ids = [query.id for query in usable if query.kind == kind]
            own = {query.id for query in usable if query.source == "seed"}
            draw.shuffle(ids)
            ids.sort(key=lambda query_id: query_id not in own)  # the trait's own are not left over
            needed = ids[: held + train]
            draw.shuffle(needed)
            ids[: held + train] = needed
            # too few: keep the proportion, so that neither side starves
            fair = round(len(ids) * held / (held + train)) if held else 0
            held = min(held, max(1, fair)) if held and len(ids) > 1 else 0
            for i, query_id in enumerate(ids):
                split: Split = "held_out" if i < held else "train"
                fate[query_id] = (split, "") if i < held + train else ("none", "not needed")
    return [
        replace(query, split=fate[query.id][0], dropped=fate[query.id][1])
        if query.id in fate and not query.dropped  # a draft written twice has one id
        else query
        for query in queries
    ]
