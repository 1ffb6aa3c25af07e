"""Differences that nobody named: words and turns of phrase that one version uses more.

Proposed on half of the queries, tested on the other half, which the proposals have not seen. The
same is done with OLD against its own fresh replies: what is found there is chance.
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

Counts = NDArray[np.int64]

LONGEST = 3  # words in a phrase
RAREST = 5  # replies of the first half that must have it
PROPOSED = 40  # phrases tested, at most
PRIOR = 500.0  # pseudo-counts of the informative prior
ALIKE = 0.8  # share of replies two phrases have in common, above which one stands for both
START, END = "[start]", "[end]"

_TOKEN = re.compile(r"\w+(?:['\u2019]\w+)*|[?!\u2026:;]|[\U0001f300-\U0001faff]")


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase that one version uses more, and the queries of the tested half that show it.

    Shares are of the tested replies; `q` is adjusted over all that were tested. `also` are phrases
    of nearly the same replies, longest first.
    """

    text: str
    also: tuple[str, ...]
    old: float
    new: float
    q: float
    shown_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Telling:
    """How often a classifier that saw half of the replies names the version of the others.

    .5 is a coin (Lopez-Paz & Oquab 2017).
    """

    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Discovery:
    """`by_chance` is how many phrases OLD against itself gives, None when it was not asked twice.

    `left` is the classifier's share without the phrases found.
    """

    phrases: tuple[Phrase, ...]
    tested: int
    queries: int
    by_chance: int | None
    telling: Telling | None
    left: Telling | None
    telling_by_chance: Telling | None


def discover(
    old: Mapping[str, str], new: Mapping[str, str], again: Mapping[str, str] | None = None
) -> Discovery | None:
    """What tells two versions' replies (query id -> reply) apart; None with under 40 queries.

    `again` are fresh replies of OLD to the same queries.
    """
    shared = [query for query in old if query in new]
    if len(shared) < 40:
        return None
    table = _Table(shared, old, new)
    phrases, tested = table.phrases()
    chance = None
    if again is not None:
        asked = [query for query in shared if query in again]
        chance = _Table(asked, old, again) if len(asked) >= 40 else None
    return Discovery(
        tuple(phrases),
        tested,
        len(shared),
        len(chance.phrases()[0]) if chance else None,
        table.telling(),
        table.telling([p for phrase in phrases for p in (phrase.text, *phrase.also)])
        if phrases
        else None,
        chance.telling() if chance else None,
    )


class _Table:
    """Which phrases occur in which reply: a row is a reply, OLD's first, to the same queries."""

    def __init__(
        self, queries: Sequence[str], old: Mapping[str, str], new: Mapping[str, str]
    ) -> None:
        # by hash, so that a half is no stratum
        self._queries = sorted(queries, key=content_id)
        replies = [old[q] for q in self._queries] + [new[q] for q in self._queries]
        self._vocabulary, self._has = _occurrences(replies)
        count = len(self._queries)
        self._first = np.arange(count) % 2 == 0  # the half that proposes

    def phrases(self) -> tuple[list[Phrase], int]:
        """The phrases that hold in the tested half, most telling first, and how many were tried."""
        count = len(self._queries)
        old, new = self._has[:count], self._has[count:]
        columns = self._proposed(old[self._first], new[self._first])
        rows = [q for q, first in zip(self._queries, self._first, strict=True) if not first]
        tested_old = old[~self._first][:, columns].toarray().astype(bool)
        tested_new = new[~self._first][:, columns].toarray().astype(bool)
        p_values = [_mcnemar(tested_old[:, i], tested_new[:, i]) for i in range(len(columns))]
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
                    )
                )
        found.sort(key=lambda phrase: (phrase.q, -abs(phrase.new - phrase.old), phrase.text))
        return found, len(columns)

    def telling(self, without: Iterable[str] = ()) -> Telling | None:
        """A classifier on phrases, trained on the first half and tried on the other."""
        # scikit-learn takes two seconds to import
        from sklearn.linear_model import LogisticRegression

        named = set(without)
        keep = [i for i, phrase in enumerate(self._vocabulary) if not _part_of(phrase, named)]
        first = np.concatenate([self._first, self._first])
        version = np.repeat([0, 1], len(self._queries))
        has = self._has[:, keep]
        if not keep or not has[first].nnz:
            return None
        model = LogisticRegression(C=0.1, max_iter=1000).fit(has[first], version[first])
        right = int((model.predict(has[~first]) == version[~first]).sum())
        total = int((~first).sum())
        return Telling(right / total, *wilson(right, total))

    def _alike(self, column: int) -> tuple[str, ...]:
        """The phrases that occur in nearly the same replies."""
        here = self._has[:, [column]]
        both = np.asarray((self._has.T @ here).todense()).ravel()
        either = np.asarray(self._has.sum(axis=0)).ravel() + here.sum() - both
        alike = np.flatnonzero(both >= ALIKE * either)
        found = [self._vocabulary[i] for i in alike if i != column]
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
        said: list[set[int]] = []
        for column in np.argsort(-np.abs(z), kind="stable"):
            if len(chosen) == PROPOSED or abs(z[column]) < 1:
                break
            rows = set(halves[:, [column]].nonzero()[0].tolist())
            if all(len(rows & other) < ALIKE * len(rows | other) for other in said):
                chosen.append(int(column))
                said.append(rows)
        return chosen


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


def _part_of(phrase: str, named: Iterable[str]) -> bool:
    """Whether one is inside the other: what is left must not say the same again."""
    padded = f" {phrase} "
    return any(f" {name} " in padded or padded in f" {name} " for name in named)


def _mcnemar(old: NDArray[np.bool_], new: NDArray[np.bool_]) -> float:
    lost, won = int((old & ~new).sum()), int((new & ~old).sum())
    return float(stats.binomtest(lost, lost + won).pvalue) if lost + won else 1.0
