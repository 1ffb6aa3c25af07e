"""Words and turns of phrase that one version uses more than another.

Proposed on half of the queries, tested on the other half, which the proposals have not seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from character.diffing.inference import ALPHA, discoveries
from character.intervals import wilson
from character.rows import content_id

LONGEST = 3  # words in a phrase
RAREST = 5  # replies of the first half that must have it
PROPOSED = 40  # phrases tested, at most
PRIOR = 500.0  # pseudo-counts of the informative prior
OWN = 0.01  # p at which a phrase tells a trait's planted replies apart
ALIKE = 0.8  # share of replies two phrases have in common, above which one stands for both
START, END = "[start]", "[end]"

_TOKEN = re.compile(r"\w+(?:['\u2019]\w+)*|[?!\u2026:;]|[\U0001f300-\U0001faff]")


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase that one version uses more, and the queries of the tested half that show it.

    Shares are of the tested replies; `q` is adjusted over all that were tested. `also` are phrases
    of nearly the same replies, longest first. `trait` is the named trait whose planted replies it
    tells apart, so that it is how that trait shows; empty when nobody named it.
    """

    text: str
    also: tuple[str, ...]
    old: float
    new: float
    q: float
    shown_by: tuple[str, ...]
    trait: str = ""


@dataclass(frozen=True, slots=True)
class Telling:
    """How often a classifier that saw half of the replies names the version of the others.

    .5 is a coin (Lopez-Paz & Oquab 2017).
    """

    share: float
    low: float
    high: float


class PhraseTable:
    """Which phrases occur in which reply: a row is a reply, OLD's first, to the same queries."""

    def __init__(
        self,
        queries: Sequence[str],
        old: Mapping[str, str],
        new: Mapping[str, str],
        own: Mapping[str, str] | None = None,
    ) -> None:
        """`own` has the named trait of each phrase by which one shows."""
        self._own = own or {}
        self._queries, self._first = halves(queries)
        replies = [old[q] for q in self._queries] + [new[q] for q in self._queries]
        self._vocabulary, self._has = _occurrences(replies)

    def phrases(self) -> tuple[list[Phrase], int]:
        """The phrases that hold in the tested half, most telling first, and how many were tried."""
        count = len(self._queries)
        old, new = self._has[:count], self._has[count:]
        columns = self._proposed(old[self._first], new[self._first])
        rows = [q for q, first in zip(self._queries, self._first, strict=True) if not first]
        tested_old = old[~self._first][:, columns].toarray().astype(bool)
        tested_new = new[~self._first][:, columns].toarray().astype(bool)
        p_values = mcnemar(tested_old, tested_new)
        found = []
        for i, (column, q) in enumerate(zip(columns, discoveries(p_values), strict=True)):
            if q <= ALPHA:
                more = tested_new[:, i] & ~tested_old[:, i]
                less = tested_old[:, i] & ~tested_new[:, i]
                shown = more if more.sum() >= less.sum() else less
                found.append(
                    Phrase(
                        self._vocabulary[column],
                        self._alike(column),
                        float(tested_old[:, i].mean()),
                        float(tested_new[:, i].mean()),
                        q,
                        tuple(query for query, here in zip(rows, shown, strict=True) if here),
                        self._trait(column),
                    )
                )
        found.sort(key=lambda phrase: (phrase.q, -abs(phrase.new - phrase.old), phrase.text))
        return found, len(columns)

    def telling(self, without: Iterable[str] = ()) -> Telling | None:
        """A classifier on phrases, trained on the first half and tried on the other."""
        # scikit-learn takes two seconds to import
        from sklearn.linear_model import LogisticRegression

        named = _Named(without)
        keep = [i for i, phrase in enumerate(self._vocabulary) if phrase not in named]
        first = np.concatenate([self._first, self._first])
        version = np.repeat([0, 1], len(self._queries))
        has = self._has[:, keep]
        if not keep or not has[first].nnz:
            return None
        model = LogisticRegression(C=0.1, max_iter=1000).fit(has[first], version[first])
        right = int((model.predict(has[~first]) == version[~first]).sum())
        total = int((~first).sum())
        return Telling(right / total, *wilson(right, total))

    def more(self, most: int) -> tuple[str, ...]:
        """The phrases that occur in more replies of the second than of the first, furthest first.

        Of those that go equally far the longest, and none that lies inside another.
        """
        count = len(self._queries)
        gain = np.asarray(self._has[count:].sum(axis=0) - self._has[:count].sum(axis=0)).ravel()
        least = max(3.0, 0.2 * count)
        order = sorted(
            np.flatnonzero(gain >= least),
            key=lambda i: (-gain[i], -len(self._vocabulary[i]), self._vocabulary[i]),
        )
        chosen: list[str] = []
        for column in order:
            phrase = self._vocabulary[column]
            if phrase not in _Named(chosen):
                chosen.append(phrase)
            if len(chosen) == most:
                break
        return tuple(chosen)

    def planted(self) -> set[str]:
        """The phrases by which replies of the one differ from the other's, on all queries.

        Each by itself at 1 %: of a planted trait it is better to name too many than too few.
        """
        count = len(self._queries)
        common = np.asarray(self._has.sum(axis=0)).ravel() >= RAREST
        dense = self._has[:, np.flatnonzero(common)].toarray().astype(bool)
        p_values = mcnemar(dense[:count], dense[count:])
        words = [phrase for phrase, here in zip(self._vocabulary, common, strict=True) if here]
        return {word for word, p in zip(words, p_values, strict=True) if p <= OWN}

    def _alike(self, column: int) -> tuple[str, ...]:
        """The phrases that occur in nearly the same replies."""
        here = self._has[:, [column]]
        both = np.asarray((self._has.T @ here).todense()).ravel()
        either = np.asarray(self._has.sum(axis=0)).ravel() + here.sum() - both
        alike = np.flatnonzero(both >= ALIKE * either)
        same = [int(i) for i in alike if self._trait(int(i)) == self._trait(column)]
        found = [self._vocabulary[i] for i in same if i != column]
        return tuple(sorted(found, key=lambda phrase: (-len(phrase), phrase)))

    def _proposed(self, old: sparse.csr_matrix, new: sparse.csr_matrix) -> list[int]:
        """The columns with the largest |z| of the log-odds, no two of them nearly the same.

        Log-odds with an informative Dirichlet prior (Monroe, Colaresi & Quinn 2008, equations 16,
        19 and 22), counted in replies.
        """
        y_old, y_new = (np.asarray(half.sum(axis=0)).ravel() for half in (old, new))
        both = y_old + y_new
        prior = PRIOR * both / max(1, both.sum())
        common = (both >= RAREST) & (both < both.sum())  # a lone phrase has no odds
        odds = [
            np.log((y + prior)[common] / (y.sum() + PRIOR - y - prior)[common])
            for y in (y_new, y_old)
        ]
        variance = 1 / (y_new + prior)[common] + 1 / (y_old + prior)[common]
        z = np.zeros(len(both))
        z[common] = np.nan_to_num((odds[0] - odds[1]) / np.sqrt(variance))
        halves = sparse.vstack([old, new]).tocsc()
        chosen: list[int] = []
        said: list[tuple[str, set[int]]] = []
        for column in np.argsort(-np.abs(z), kind="stable"):
            if len(chosen) == PROPOSED or abs(z[column]) < 1:
                break
            rows = set(halves[:, [column]].nonzero()[0].tolist())
            trait = self._trait(int(column))
            if all(
                trait != whose or len(rows & other) < ALIKE * len(rows | other)
                for whose, other in said
            ):
                chosen.append(int(column))
                said.append((trait, rows))
        return chosen

    def _trait(self, column: int) -> str:
        return self._own.get(self._vocabulary[column], "")


def _occurrences(replies: Sequence[str]) -> tuple[list[str], sparse.csr_matrix]:
    """Every phrase that occurs, and a replies x phrases matrix of 0 and 1."""
    index: dict[str, int] = {}
    rows, columns = [], []
    for row, reply in enumerate(replies):
        tokens = [START, *(token.lower() for token in _TOKEN.findall(reply)), END]
        phrases = {
            " ".join(tokens[at : at + n])
            for n in range(1, LONGEST + 1)
            for at in range(len(tokens) - n + 1)
        }
        for phrase in phrases - {START, END}:
            rows.append(row)
            columns.append(index.setdefault(phrase, len(index)))
    shape = (len(replies), max(1, len(index)))
    matrix = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
    return list(index) or [""], matrix


def halves(queries: Sequence[str]) -> tuple[list[str], NDArray[np.bool_]]:
    """The queries in an order of their own, and which of them propose; the others test.

    By hash, so that a half is no stratum.
    """
    ordered = sorted(queries, key=content_id)
    return ordered, np.arange(len(ordered)) % 2 == 0


def mcnemar(old: NDArray[np.bool_], new: NDArray[np.bool_]) -> list[float]:
    """Exact two-sided p of each column, from the rows in which one has it and the other has not."""
    lost, won = (old & ~new).sum(axis=0), (new & ~old).sum(axis=0)
    tail = stats.binom.cdf(np.minimum(lost, won), lost + won, 0.5)
    return [float(p) for p in np.minimum(1.0, 2 * tail)]


class _Named:
    """Phrases, and whatever lies inside one or holds one: the rest must not say the same again."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._named = set(phrases)
        self._parts = {part for phrase in self._named for part in _parts(phrase)}

    def __contains__(self, phrase: str) -> bool:
        return phrase in self._parts or not self._named.isdisjoint(_parts(phrase))


def _parts(phrase: str) -> list[str]:
    words = phrase.split(" ")
    return [" ".join(words[a:b]) for a in range(len(words)) for b in range(a + 1, len(words) + 1)]
