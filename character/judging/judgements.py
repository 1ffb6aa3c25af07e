"""Judge every reply for every trait, each judgement under an id that names what decides it.

A judgement hangs on the reply, on the query that its relevance is held against, and on what its
kind of judge reads of the trait: examples for a judge of likelihoods, the words of the statements
and clauses for one that is asked. What it does not read can be edited without judging again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from character.judging.checks import CheckError, check_reply
from character.judging.config import PANEL
from character.judging.judge import NoVerdict, Said, Valuer
from character.judging.likelihood import NAME, LikelihoodJudge, relevance
from character.judging.tournament import Tournament
from character.models.base import ChatModel
from character.rows import Judgement, Query, Reply, content_id
from character.spec.schema import Trait

CHUNK = 128  # replies judged, and kept, together
# where a reply is worth what the others let it be
COMPARING = ("verdict", "verdict-reasons", "listwise", PANEL)


@dataclass(frozen=True, slots=True)
class PlannedJudgement:
    """A judgement that has not been made yet; `foil` is empty where there is no other query."""

    id: str
    reply: Reply
    trait: Trait
    foil: str


def plan_judgements(
    traits: Sequence[Trait],
    replies: Sequence[Reply],
    queries: Sequence[Query],
    foil: Mapping[str, str],
    judge: object,
    kind: str = NAME,
    beside: Sequence[Reply] = (),
) -> list[list[PlannedJudgement]]:
    """Chunks of judgements, for every trait: what one trait gains, another may lose.

    `judge` is everything that names who judges; `foil` gives for a query's text the other one.
    Where replies are compared with each other and with those `beside` them, the replies to a query
    stay together, and none of them can change without the others being judged again.
    """
    text = {query.id: query.text for query in queries}
    compared = kind in COMPARING
    peers: dict[str, list[str]] = defaultdict(list)
    if compared:
        for reply in (*replies, *beside):
            peers[reply.query_id].append(reply.id)
    seen = {trait.id: read_by(kind, trait) for trait in traits}

    def planned(reply: Reply, trait: Trait) -> PlannedJudgement:
        other = foil.get(text[reply.query_id], "")
        among = sorted(peers[reply.query_id]) if compared else ()
        decided_by = (reply.id, trait.id, seen[trait.id], kind, judge, other, among)
        return PlannedJudgement(content_id("judgement", *decided_by), reply, trait, other)

    return [
        [planned(reply, trait) for trait in traits for reply in chunk]
        for chunk in _chunks(replies, kind)
    ]


def read_by(kind: str, trait: Trait) -> tuple[object, ...]:
    """Everything of a trait that decides what a kind of judge finds in a reply."""
    checks = [check.model_dump() for check in trait.checks]
    examples = trait.examples
    if kind == NAME:
        return checks, [(example.user, example.good, example.bad) for example in examples]
    if kind == "likelihood-plain":
        return checks, [(example.user, example.good) for example in examples]
    if kind == "embedding":
        return checks, [(example.good, example.bad) for example in examples]
    if kind == "checks":
        return (checks,)
    words = (trait.statement, trait.opposite, [clause.text for clause in trait.clauses])
    weights = [clause.weight for clause in trait.clauses]
    if kind == "rubric":
        return checks, words, weights
    if kind == PANEL:  # whoever its members are
        shown = [(example.user, example.good, example.bad) for example in examples]
        return checks, words, weights, shown
    return checks, words


def judge_replies(
    chunks: Iterable[Sequence[PlannedJudgement]],
    queries: Sequence[Query],
    scorer: ChatModel,
    valuer: Valuer | None = None,
    kind: str = NAME,
) -> Iterator[list[Judgement]]:
    """Yield one chunk's judgements at a time.

    `valuer` says how much of a trait a reply shows: by default the scorer's contrast. Relevance is
    always the scorer's.
    """
    valuer = valuer or LikelihoodJudge(scorer)
    text = {query.id: query.text for query in queries}
    apart = valuer.apart if kind == PANEL and isinstance(valuer, Tournament) else None
    for chunk in chunks:
        replies = list({one.reply.id: one.reply for one in chunk}.values())
        said = {r.id: Said(text[r.query_id], r.text, r.ended) for r in replies}
        foil = {text[one.reply.query_id]: one.foil for one in chunk if one.foil}
        found = relevance(scorer, list(said.values()), foil)
        relevant = dict(zip(said, found, strict=True))
        by_trait: dict[str, list[PlannedJudgement]] = defaultdict(list)
        for one in chunk:
            by_trait[one.trait.id].append(one)
        rows = []
        for own in by_trait.values():
            worths = valuer.value(own[0].trait, [said[one.reply.id] for one in own])
            for one, worth in zip(own, worths, strict=True):
                item = said[one.reply.id]
                row = _judgement(one, item, valuer.name, worth, relevant[one.reply.id])
                rows.append(replace(row, spread=apart(one.trait, item)) if apart else row)
        yield rows


def _chunks(replies: Sequence[Reply], kind: str) -> list[list[Reply]]:
    """Judged otherwise than by likelihood, a query's replies stay together."""
    if kind != NAME:
        first = {reply.query_id: at for at, reply in reversed(list(enumerate(replies)))}
        replies = sorted(replies, key=lambda reply: first[reply.query_id])
    chunks: list[list[Reply]] = []
    for reply in replies:
        together = kind != NAME and chunks and chunks[-1][-1].query_id == reply.query_id
        if not chunks or (len(chunks[-1]) >= CHUNK and not together):
            chunks.append([])
        chunks[-1].append(reply)
    return chunks


def _judgement(
    planned: PlannedJudgement,
    said: Said,
    judge: str,
    worth: float | NoVerdict,
    relevant: float | None,
) -> Judgement:
    checks, failed, towards = None, "", None
    if not isinstance(worth, NoVerdict):
        towards = worth
    elif said.reply:  # an empty one is marked as such
        failed = worth.why
    try:
        checks = check_reply(planned.trait, said.query, said.reply)
    except CheckError as error:
        failed = str(error)
    return Judgement(
        id=planned.id,
        reply_id=planned.reply.id,
        trait=planned.trait.id,
        judge=judge,
        contrast=towards,
        checks=checks,
        relevance=relevant,
        failed=failed,
        foil=planned.foil,
    )
