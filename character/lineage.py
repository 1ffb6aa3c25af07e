"""From a clause to its effect and back: which rows of a run came from which.

clause -> queries -> replies -> rankings -> pairs -> what the policy learned -> measured effect
       -> documents, talks and examples -> what the policy learned
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
from scipy import stats

from character.data.examples import example_id
from character.diffing.outcome import BASE, TRAINED, contrast_metric
from character.errors import RunError
from character.models.served import Tally
from character.report.content import Coverage, Effect, Thread
from character.rows import (
    Document,
    Draft,
    Judgement,
    Measurement,
    Pair,
    Query,
    Ranking,
    Reply,
    Revision,
    Reward,
    Talk,
    Taught,
)
from character.spec.constitution import Constitution
from character.store.store import FinishedStage, Store

SHORTEST = 4  # characters that name a row
LEVEL = 0.95
ON_TEXTS = ("queries", "revisions", "documents")
ON_REPLIES = ("replies", "judgements", "revision_judgements", "own_replies", "own_judgements")


class Lineage:
    """A run's rows, joined. Reads the store once.

    `asked` is what models behind APIs were asked, of which the one named `writer` wrote queries.
    """

    def __init__(
        self,
        constitution: Constitution,
        store: Store,
        asked: Iterable[Tally] = (),
        writer: str = "",
    ) -> None:
        self.constitution = constitution
        self._stages = store.finished()
        self._drafts = store.all(Draft)
        self._revisions = store.all(Revision)
        self._asked, self._writer = list(asked), writer
        self.queries = store.all(Query)
        self.replies = store.all(Reply)
        self.rankings = store.all(Ranking)
        self.pairs = store.all(Pair)
        self._judgements = store.all(Judgement)
        self._taught = store.all(Taught)
        self._texts: list[Document | Talk] = [*store.all(Document), *store.all(Talk)]
        self._rewards = store.all(Reward)
        self._measurements = store.all(Measurement)

    def coverage(self) -> list[Coverage]:
        """Every clause of every trait, in the constitution's order."""
        total = sum(row.weight for row in self._taught)
        return [
            self._covered(trait.id, clause.id, clause.text, total)
            for trait in self.constitution.traits
            for clause in trait.clauses
        ]

    def of_clause(self, name: str) -> Coverage:
        """A clause by id, or by `trait/clause`. Raises RunError with the names there are."""
        trait, _, clause = name.rpartition("/")
        found = [c for c in self.coverage() if c.clause == clause and trait in ("", c.trait)]
        if len(found) == 1:
            return found[0]
        names = [f"{c.trait}/{c.clause}" for c in self.coverage()]
        what = "is in several traits" if found else "is neither a clause nor the start of an id"
        raise RunError(f"{name!r} {what}. Clauses: {', '.join(names)}")

    def has_clause(self, name: str) -> bool:
        clauses = {(t.id, c.id) for t in self.constitution.traits for c in t.clauses}
        trait, _, clause = name.rpartition("/")
        return any(clause == c and trait in ("", t) for t, c in clauses)

    def widest(self, clause: Coverage, most: int) -> list[Pair]:
        """The clause's training pairs the judge was surest of."""
        own = {q.id for q in self._of(clause.trait, clause.clause) if q.split == "train"}
        pairs = [pair for pair in self.pairs if pair.query_id in own]
        return sorted(pairs, key=lambda pair: -pair.margin)[:most]

    def thread(self, start: str) -> Thread:
        """The thread of a query, reply or pair, by the start of its id.

        Raises RunError when no row or several rows start so.
        """
        row = self._row(start)
        query_id = row.id if isinstance(row, Query) else row.query_id
        query = self._query[query_id]
        replies = tuple(reply for reply in self.replies if reply.query_id == query_id)
        pairs = tuple(pair for pair in self.pairs if pair.query_id == query_id)
        ids = {reply.id for reply in replies} | {pair.id for pair in pairs}
        taught: dict[str, list[Taught]] = defaultdict(list)
        for found in self._taught:
            if found.learned_id in ids:
                taught[found.learned_id].append(found)
        trait = query.trait or self.constitution.traits[0].id
        texts = (query.source == "writer") + sum(row.reply_id in ids for row in self._revisions)
        return Thread(
            query=query,
            clause=self._clause_text(query),
            replies=replies,
            judgements={j.reply_id: j for j in self._judgements if j.trait == trait
                        and j.reply_id in ids},
            ranking=next((r for r in self.rankings if r.query_id == query_id), None),
            pairs=pairs,
            taught={key: tuple(rows) for key, rows in taught.items()},
            rewards={r.pair_id: r for r in self._rewards if r.pair_id in ids},
            named=row.id,
            seconds=self._seconds(texts, len(replies)),
            dollars=self._dollars(texts, len(replies)),
        )  # fmt: skip

    def _covered(self, trait: str, clause: str, text: str, total: float) -> Coverage:
        queries = self._of(trait, clause)
        train = {q.id for q in queries if q.split == "train"}
        held = [q.id for q in queries if q.split == "held_out"]
        asked = train | set(held)
        replies = [reply.id for reply in self.replies if reply.query_id in asked]
        pairs = [pair for pair in self.pairs if pair.query_id in train]
        learned = {*(pair.id for pair in pairs), *replies, *self._learnable(trait, clause)}
        taught = [row for row in self._taught if row.learned_id in learned]
        texts = [row for row in self._written if (row.trait, row.clause) == (trait, clause)]
        judged = set(replies)
        return Coverage(
            trait=trait,
            clause=clause,
            text=text,
            queries=len(train),
            held_out=len(held),
            replies=len(replies),
            below_floor=sum(len(r.below_floor) for r in self.rankings if r.query_id in asked),
            pairs=len(pairs),
            distilled=sum(row.stage == "distilled" for row in taught),
            preferred=sum(row.stage.startswith("policy") for row in taught),
            finetuned=sum(row.stage == "sft" for row in taught),
            weight=sum(row.weight for row in taught) / total if total else None,
            seconds=self._seconds(len(texts), len(replies)),
            effect=self._effect(trait, held),
            drafts=sum(isinstance(row, Draft) for row in texts),
            judgements=sum(judgement.reply_id in judged for judgement in self._judgements),
            dollars=self._dollars(len(texts), len(replies)),
        )

    @cached_property
    def _written(self) -> list[Draft | Revision | Document]:
        """What the writer wrote."""
        documents = [row for row in self._texts if isinstance(row, Document)]
        return [*self._drafts, *self._revisions, *documents]

    def _seconds(self, texts: int, replies: int) -> float:
        """The share of so many of the writer's texts and of the replies in what all took."""
        return self._share(
            _seconds(self._stages, ON_TEXTS), texts, _seconds(self._stages, ON_REPLIES), replies
        )

    def _dollars(self, texts: int, replies: int) -> float | None:
        if any(tally.unpriced for tally in self._asked):
            return None
        spent = {True: 0.0, False: 0.0}
        for tally in self._asked:
            spent[bool(self._writer) and tally.model.startswith(self._writer)] += tally.dollars
        return self._share(spent[True], texts, spent[False], replies)

    def _share(self, on_texts: float, texts: int, on_replies: float, replies: int) -> float:
        """A run of before there were drafts does not say what a text took."""
        text = on_texts / len(self._written) if self._written else 0.0
        return texts * text + replies * on_replies / max(1, len(self.replies))

    def _learnable(self, trait: str, clause: str) -> set[str]:
        """Ids of its documents, talks and examples."""
        texts = {row.id for row in self._texts if (row.trait, row.clause) == (trait, clause)}
        (spec,) = (found for found in self.constitution.traits if found.id == trait)
        return texts | {example_id(spec, e) for e in spec.examples if e.clause == clause}

    def _effect(self, trait: str, queries: Sequence[str]) -> Effect | None:
        metric = contrast_metric(trait)
        gaps = [
            np.mean(new) - np.mean(old)
            for query in queries
            if (new := self._values.get((TRAINED, metric, query)))
            and (old := self._values.get((BASE, metric, query)))
        ]
        if len(gaps) < 2:
            return None
        value, se = float(np.mean(gaps)), float(stats.sem(gaps))
        half = float(stats.t.ppf((1 + LEVEL) / 2, len(gaps) - 1)) * se
        return Effect(value, value - half, value + half, len(gaps))

    def _of(self, trait: str, clause: str) -> list[Query]:
        return [
            q for q in self.queries
            if q.trait == trait and q.clause == clause and q.kind == "on_trait" and not q.dropped
        ]  # fmt: skip

    def _row(self, start: str) -> Query | Reply | Pair:
        rows: Iterable[Query | Reply | Pair] = (*self.pairs, *self.replies, *self.queries)
        found = {row.id: row for row in rows if row.id.startswith(start)}
        if len(found) == 1 and len(start) >= SHORTEST:
            return next(iter(found.values()))
        if len(start) < SHORTEST or not found:
            self.of_clause(start)  # which names the clauses there are
        raise RunError(f"{start!r} is the start of {len(found)} ids; write more of it.")

    def _clause_text(self, query: Query) -> str:
        for trait in self.constitution.traits:
            for clause in trait.clauses:
                if (trait.id, clause.id) == (query.trait, query.clause):
                    return clause.text
        return ""

    @cached_property
    def _query(self) -> dict[str, Query]:
        return {query.id: query for query in self.queries}

    @cached_property
    def _values(self) -> dict[tuple[str, str, str], list[float]]:
        found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        for row in self._measurements:
            if row.value is not None:
                found[row.subject, row.metric, row.query_id].append(row.value)
        return found


def _seconds(stages: Mapping[str, FinishedStage], names: Iterable[str]) -> float:
    """Of these stages in all rounds."""
    known = set(names)
    return sum(
        found.seconds for stage, found in stages.items() if re.sub(r"-\d+$", "", stage) in known
    )
