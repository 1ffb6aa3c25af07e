"""Tell near-duplicate queries apart, and split what is left into train and held-out.

Clusters of near-duplicates never straddle the split. Where an earlier build of the same trait had
them, they stay: what it held out is never trained on later, and what it trained on is held out only
when nothing else is left to hold out.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from rapidfuzz import fuzz, process, utils
from scipy.sparse.csgraph import connected_components

from character.models.vectors import Vectors, near_duplicates
from character.rows import Query, Split
from character.spec.constitution import Constitution

if TYPE_CHECKING:
    from character.data.queries import QueriesConfig

EXAMPLE = "near-duplicate of an example"
NOT_NEEDED, HELD_BEFORE = "not needed", "held out before"

Fate = tuple[Split, str]  # and why there is none


class Embeds(Protocol):
    def embed(self, texts: Sequence[str]) -> Vectors:
        """(texts, width), each row of unit length."""
        ...


@dataclass(frozen=True, slots=True)
class Sides:
    """On which side an earlier build had its queries, by their text."""

    split: Mapping[str, Split] = field(default_factory=dict)
    spare: frozenset[str] = frozenset()
    """Queries it could have used and did not need."""

    @classmethod
    def of(cls, queries: Iterable[Query], held_out: Iterable[str] = ()) -> Sides:
        """`held_out` are texts that builds before that one held out."""
        used = [query for query in queries if query.kind != "neutral"]
        split: dict[str, Split] = {q.text: q.split for q in used if q.split != "none"}
        split |= dict.fromkeys(held_out, "held_out")
        return cls(split, frozenset(q.text for q in used if q.dropped == NOT_NEEDED))

    def place(self, text: str) -> int:
        """Whose turn it is to stand for its cluster: lower goes first."""
        return {"held_out": 0, "train": 1}.get(self.split.get(text, ""), 2)


def split_queries(
    queries: Sequence[Query],
    constitution: Constitution,
    config: QueriesConfig,
    seed: int,
    sides: Sides,
    embedder: Embeds | None = None,
) -> list[Query]:
    """All queries with their cluster, split and reason for dropping.

    A cluster that holds an example's message is dropped: examples steer, so they must not also
    measure.
    """
    examples = [example.user for trait in constitution.traits for example in trait.examples]
    numbered, bound = _clustered(queries, examples, config, sides, embedder)
    return _dealt(numbered, constitution, config, seed, bound, sides)


def split_fresh(
    fresh: Sequence[Query],
    known: Sequence[Query],
    constitution: Constitution,
    config: QueriesConfig,
    held_out: Iterable[str] = (),
    embedder: Embeds | None = None,
) -> list[Query]:
    """The queries of a further round, as many of them to train on as it wants.

    None of these is near a known one, an example, or a message that an earlier build held out.
    """
    examples = [example.user for trait in constitution.traits for example in trait.examples]
    used = [query for query in known if not query.dropped]
    sides = Sides.of((), held_out)
    numbered, bound = _clustered([*used, *fresh], examples, config, sides, embedder)
    left = dict.fromkeys((trait.id for trait in constitution.traits), config.fresh)
    found = []
    for query in numbered[len(used) :]:
        if not query.dropped and bound.get(query.cluster) == "held_out":
            query = replace(query, dropped=HELD_BEFORE)
        elif not query.dropped and left[query.trait]:
            left[query.trait] -= 1
            query = replace(query, split="train")
        elif not query.dropped:
            query = replace(query, dropped=NOT_NEEDED)
        found.append(query)
    return found


def _clustered(
    queries: Sequence[Query],
    examples: Sequence[str],
    config: QueriesConfig,
    sides: Sides,
    embedder: Embeds | None,
) -> tuple[list[Query], dict[int, Split]]:
    """Number the near-duplicate clusters and drop all but the first of each, examples first.

    Also the side that a cluster is bound to because an earlier query is in it.
    """
    usable = [query for query in queries if not query.dropped]
    earlier = list(sides.split)
    texts = [*examples, *earlier, *(query.text for query in usable)]
    if embedder:
        labels: list[int] = near_duplicates(embedder.embed(texts), config.near_meaning).tolist()
    else:
        labels = _by_words(texts, config.near_duplicate)
    of_examples = set(labels[: len(examples)])
    bound: dict[int, Split] = {}
    for label, text in zip(labels[len(examples) :], earlier, strict=False):
        if bound.get(label) != "held_out":
            bound[label] = sides.split[text]
    own = labels[len(examples) + len(earlier) :]
    first: dict[int, int] = {}
    for i in sorted(range(len(usable)), key=lambda i: sides.place(usable[i].text)):
        first.setdefault(own[i], i)
    found = iter(enumerate(own))
    numbered = []
    for query in queries:
        if query.dropped:
            numbered.append(query)
            continue
        i, cluster = next(found)
        reason = "" if first[cluster] == i else "near-duplicate"
        if cluster in of_examples:
            reason = EXAMPLE
        numbered.append(replace(query, cluster=cluster, dropped=reason))
    return numbered, bound


def _by_words(texts: Sequence[str], threshold: float) -> list[int]:
    """A number for each text; texts that a chain of near-duplicates joins have the same."""
    similar = process.cdist(
        texts,
        texts,
        scorer=fuzz.token_set_ratio,
        processor=utils.default_process,
        score_cutoff=threshold,
        workers=1,
    )
    _, labels = connected_components(np.asarray(similar) > 0, directed=False)
    numbers: list[int] = labels.tolist()
    return numbers


def _dealt(
    queries: Sequence[Query],
    constitution: Constitution,
    config: QueriesConfig,
    seed: int,
    bound: Mapping[int, Split],
    sides: Sides,
) -> list[Query]:
    """Deal each trait's usable queries out to held-out and train; what is left over is dropped.

    Neutral queries are all for training: they are anchors.
    """
    fate: dict[str, Fate] = {}
    for query in queries:
        if query.kind == "neutral":
            held = bound.get(query.cluster) == "held_out"
            fate[query.id] = ("none", HELD_BEFORE) if held else ("train", "")
    for trait in constitution.traits:
        usable = [q for q in queries if q.trait == trait.id and not q.dropped]
        for kind, held_out, train in (
            ("on_trait", config.held_out, config.train),
            ("unless", config.unless // 2, config.unless - config.unless // 2),
        ):
            draw = random.Random(f"{seed}/split/{trait.id}/{kind}")
            of_kind = [query for query in usable if query.kind == kind]
            fate |= _shared_out(of_kind, held_out, train, draw, bound, sides)
    return [
        replace(query, split=fate[query.id][0], dropped=fate[query.id][1])
        if query.id in fate and not query.dropped  # a draft written twice has one id
        else query
        for query in queries
    ]


def _shared_out(
    queries: Sequence[Query],
    held_out: int,
    train: int,
    draw: random.Random,
    bound: Mapping[int, Split],
    sides: Sides,
) -> dict[str, Fate]:
    """Each query's side; those that are bound first, those an earlier build did not need last."""
    ids = [query.id for query in queries]
    side = {query.id: bound.get(query.cluster) for query in queries}
    own = {query.id for query in queries if query.source == "seed"}
    spare = {query.id for query in queries if query.text in sides.spare}
    draw.shuffle(ids)
    # the trait's own are not left over
    ids.sort(key=lambda query_id: (not side[query_id], query_id in spare, query_id not in own))
    needed = ids[: held_out + train]
    draw.shuffle(needed)
    ids[: held_out + train] = needed
    # too few: keep the proportion, so that neither side starves
    fair = round(len(ids) * held_out / (held_out + train)) if held_out else 0
    held_out = min(held_out, max(1, fair)) if held_out and len(ids) > 1 else 0
    free = [query_id for query_id in ids if not side[query_id]]
    before = [i for i in ids if side[i] == "train"]
    held = ([i for i in ids if side[i] == "held_out"] + free + before)[:held_out]
    taken = set(held)
    trained = [i for i in before + free if i not in taken]
    fate: dict[str, Fate] = dict.fromkeys(ids, ("none", NOT_NEEDED))
    fate |= dict.fromkeys(held, ("held_out", ""))
    return fate | dict.fromkeys(trained[:train], ("train", ""))
