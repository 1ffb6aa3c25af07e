"""Differences of meaning: what the replies of one version are about that the other's are not.

An embedding says above all what the query was about. So each query's two replies are told from
their mean, which takes the topic out; what is left points the same way wherever a version adds the
same thing, and is clustered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from character.diffing.inference import ALPHA, discoveries
from character.diffing.phrases import PhraseTable, halves, mcnemar

Vectors = NDArray[np.float32]
Said = Mapping[str, str]  # query id -> reply

CLUSTERS = 8
PER_CLUSTER = 10  # queries of the proposing half that a cluster takes, at least
WORDS = 4


@dataclass(frozen=True, slots=True)
class Theme:
    """A cluster that holds more replies of one version, and the tested queries that show it.

    `words` occur more in its replies than in the other version's to the same queries (of the half
    that proposed), most telling first; empty when no word does. Shares are of the tested replies.
    """

    words: tuple[str, ...]
    old: float
    new: float
    q: float
    shown_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Themes:
    """`by_chance` is how many OLD against itself gives; None when it was not asked twice."""

    found: tuple[Theme, ...]
    tested: int
    by_chance: int | None
    embedder: str


def themes(
    old: Said, new: Said, vectors: Mapping[str, Vectors], seed: int = 0
) -> tuple[list[Theme], int]:
    """Themes that hold in the tested half, most certain first, and how many were tried.

    `vectors` has each reply's text as a vector of unit length. Replies to one query that are the
    same have no theme.
    """
    # scikit-learn takes two seconds to import
    from sklearn.cluster import KMeans

    queries, first = halves([query for query in old if query in new])
    if not queries:
        return [], 0
    apart = np.stack([vectors[new[q]] - vectors[old[q]] for q in queries])
    length = np.linalg.norm(apart, axis=1, keepdims=True)
    apart = np.divide(apart, length, out=np.zeros_like(apart), where=length > 1e-6)
    differs = length.ravel() > 1e-6
    proposing = apart[first & differs]
    count = min(CLUSTERS, 2 * len(proposing) // PER_CLUSTER)
    if count < 2:
        return [], 0
    both = np.concatenate([proposing, -proposing])  # of a query the other reply is the opposite
    model = KMeans(count, n_init=4, random_state=seed).fit(both)
    members = {
        side: _one_hot(model.predict(sign * apart), count, differs)
        for side, sign in (("old", -1), ("new", 1))
    }
    tested = [q for q, here in zip(queries, first, strict=True) if not here]
    was, now = members["old"][~first], members["new"][~first]
    found = []
    for i, q in enumerate(discoveries(mcnemar(was, now))):
        if q > ALPHA:
            continue
        more = bool(now[:, i].sum() > was[:, i].sum())
        side, sign = ("new", 1) if more else ("old", -1)
        shown = (now if more else was)[:, i]
        order = np.argsort(-(sign * apart[~first] @ model.cluster_centers_[i]), kind="stable")
        own = [
            query for query, here in zip(queries, first & members[side][:, i], strict=True) if here
        ]
        found.append(
            Theme(
                _words(own, new if more else old, old if more else new),
                float(was[:, i].mean()),
                float(now[:, i].mean()),
                q,
                tuple(tested[at] for at in order if shown[at]),
            )
        )
    return sorted(found, key=lambda theme: (theme.q, -abs(theme.new - theme.old))), count


def find_themes(
    old: Said, new: Said, again: Said | None, vectors: Mapping[str, Vectors], embedder: str
) -> Themes:
    """What OLD and NEW give, and how much of it OLD against its fresh replies gives."""
    found, tested = themes(old, new, vectors)
    chance = None if again is None else len(themes(old, again, vectors)[0])
    return Themes(tuple(found), tested, chance, embedder)


def _one_hot(
    labels: NDArray[np.int32], count: int, differs: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = labels[:, None] == np.arange(count)
    return found & differs[:, None]


def _words(queries: Sequence[str], said: Said, other: Said) -> tuple[str, ...]:
    """What stands in these replies more than in the other version's to the same queries."""
    if not queries:
        return ()
    return PhraseTable(queries, other, said).more(WORDS)
