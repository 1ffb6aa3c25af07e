"""Judge replies, whatever the kind of judge: its worth, the checks, and whether it answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from character.judging.checks import CheckError, check_reply
from character.judging.config import PANEL
from character.judging.judge import NoVerdict, Said, Valuer
from character.judging.likelihood import NAME as LIKELIHOOD
from character.judging.likelihood import LikelihoodJudge, foils, relevance
from character.judging.tournament import Tournament
from character.models.base import ChatModel
from character.rows import Judgement, Query, Reply, content_id
from character.spec.schema import Trait

CHUNK = 128


def plan_judgements(
    traits: Sequence[Trait], replies: Sequence[Reply], judge: str, kind: str = LIKELIHOOD
) -> list[tuple[str, Sequence[Reply]]]:
    """Chunks of replies to judge, each with the id of its first judgement.

    Judged otherwise than by likelihood, a query's replies stay together.
    """
    if kind != LIKELIHOOD:
        first = {reply.query_id: at for at, reply in reversed(list(enumerate(replies)))}
        replies = sorted(replies, key=lambda reply: first[reply.query_id])
    chunks: list[list[Reply]] = []
    for reply in replies:
        together = kind != LIKELIHOOD and chunks and chunks[-1][-1].query_id == reply.query_id
        if not chunks or (len(chunks[-1]) >= CHUNK and not together):
            chunks.append([])
        chunks[-1].append(reply)
    return [(judgement_id(chunk[0].id, traits[0], judge, kind), chunk) for chunk in chunks]


def judge_replies(
    chunks: Iterable[Sequence[Reply]],
    traits: Sequence[Trait],
    queries: Sequence[Query],
    scorer: ChatModel,
    valuer: Valuer | None = None,
    kind: str = LIKELIHOOD,
) -> Iterator[list[Judgement]]:
    """Yield one chunk's judgements at a time, for every trait of the constitution.

    `valuer` says how much of a trait a reply shows: by default the scorer's contrast. Relevance is
    always the scorer's. A reply is judged for the other traits too: what one trait gains, another
    may lose.
    """
    valuer = valuer or LikelihoodJudge(scorer)
    names = (valuer.name, scorer.name if kind == LIKELIHOOD else valuer.name)
    text = {query.id: query.text for query in queries}
    foil = foils(query.text for query in queries if query.split != "none")
    apart = valuer.apart if kind == PANEL and isinstance(valuer, Tournament) else None
    for chunk in chunks:
        said = [Said(text[reply.query_id], reply.text, reply.ended) for reply in chunk]
        relevant = relevance(scorer, said, foil)
        rows = []
        for trait in traits:
            worths = valuer.value(trait, said)
            for at, (reply, item, worth) in enumerate(zip(chunk, said, worths, strict=True)):
                row = _judgement(reply, item, trait, kind, names, worth, relevant[at])
                rows.append(replace(row, spread=apart(trait, item)) if apart else row)
        yield rows


def judgement_id(reply_id: str, trait: Trait, judge: str, kind: str = LIKELIHOOD) -> str:
    return content_id("judgement", reply_id, trait.model_dump_json(), kind, judge)


def _judgement(
    reply: Reply,
    said: Said,
    trait: Trait,
    kind: str,
    names: tuple[str, str],
    worth: float | NoVerdict,
    relevant: float | None,
) -> Judgement:
    """`names` are the judge's, as it is told and as its judgements' ids have it."""
    checks, failed, towards = None, "", None
    if not isinstance(worth, NoVerdict):
        towards = worth
    elif said.reply:  # an empty one is marked as such
        failed = worth.why
    try:
        checks = check_reply(trait, said.query, said.reply)
    except CheckError as error:
        failed = str(error)
    return Judgement(
        id=judgement_id(reply.id, trait, names[1], kind),
        reply_id=reply.id,
        trait=trait.id,
        judge=names[0],
        contrast=towards,
        checks=checks,
        relevance=relevant,
        failed=failed,
    )
