"""What a trait will do before any training: a few queries a clause, replies, and their ranking."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean

from character.data.queries import QueriesConfig, drafts_wanted, write_queries, yield_of
from character.data.replies import RepliesConfig, plan_replies, write_replies
from character.errors import SpecError
from character.judging.config import RankingConfig
from character.judging.judgements import judge_replies, plan_judgements
from character.judging.likelihood import foils
from character.judging.ranking import quality_floor, rank_replies
from character.language import language_of
from character.models.base import ChatModel
from character.progress import Reporter
from character.report.preview_content import Averages, Place, Preview, Previewed, Shown
from character.rows import Judgement, Query, Ranking, Reply
from character.spec.constitution import Constitution, Member
from character.spec.schema import Trait

SEED = 2_000_003  # apart from the seeds that builds are given


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is written: queries a clause, and replies a query beside the plain ones."""

    queries: int = 3
    steered: int = 2
    plain: int = 2


def preview(
    trait: Trait,
    model: ChatModel,
    sizes: Sizes,
    reporter: Reporter,
    seed: int = SEED,
) -> Preview:
    """Write, answer and rank; the model is writer, policy and judge.

    Raises SpecError when the writer makes nothing usable of the trait's seed messages.
    """
    alone = Constitution((Member(trait),))
    with reporter.bar("Queries", drafts_wanted(trait, _wanted(trait, sizes)), "drafts") as bar:
        written = write_queries(alone, model, _wanted(trait, sizes), seed, bar.add)
    queries = _each_clause(trait, written, sizes.queries)
    if not queries:
        fates = ", ".join(f"{count} {fate}" for fate, count in yield_of(written).items())
        raise SpecError(
            f"no usable query came of {trait.id!r}'s seed messages ({fates}). Write more of them, "
            "as varied as real ones"
        )
    config = RepliesConfig(steered=sizes.steered, plain=sizes.plain)
    chunks = plan_replies(alone, queries, model.name, config, seed)
    language = language_of(" ".join(f"{e.user} {e.good}" for e in trait.examples))
    with reporter.bar("Replies", sum(map(len, chunks)), "replies") as bar:
        replies: list[Reply] = []
        for part in write_replies(chunks, model, config, language):
            replies += part
            bar.add(len(part))
    with reporter.bar("Judgements", len(replies), "replies") as bar:
        foil = foils(query.text for query in queries)
        asked = plan_judgements([trait], replies, queries, foil, model.name)
        judgements = list(chain(*judge_replies(asked, queries, model)))
        bar.add(len(replies))
    ranking = RankingConfig()
    rankings = rank_replies(alone, queries, replies, judgements, ranking)
    floor = quality_floor(replies, judgements, ranking.floor)
    return _told(trait, queries, replies, judgements, rankings, floor.answers)


def _wanted(trait: Trait, sizes: Sizes) -> QueriesConfig:
    """Twice as many as are shown, for the writer makes duplicates."""
    train = 2 * sizes.queries * len(trait.clauses) + len(trait.queries.seeds)
    return QueriesConfig(train=train, held_out=4, unless=0, neutral=0)


def _each_clause(trait: Trait, written: Sequence[Query], most: int) -> list[Query]:
    """The writer's queries of each clause, in as many registers as there are."""
    usable = [q for q in written if q.kind == "on_trait" and not q.dropped and q.split == "train"]
    found: list[Query] = []
    for clause in trait.clauses:
        own = [q for q in usable if q.clause == clause.id]
        own.sort(key=lambda query: query.source != "writer")
        first = {query.register: query for query in reversed(own)}
        rest = [query for query in own if query not in first.values()]
        found += [*first.values(), *rest][:most]
    return found


def _told(
    trait: Trait,
    queries: Sequence[Query],
    replies: Sequence[Reply],
    judgements: Sequence[Judgement],
    rankings: Sequence[Ranking],
    answers: Callable[[float | None], bool | None],
) -> Preview:
    judged = {judgement.reply_id: judgement for judgement in judgements}
    places = {rank.query_id: _places(rank) for rank in rankings}
    by_query: dict[str, list[Reply]] = defaultdict(list)
    for reply in replies:
        by_query[reply.query_id].append(reply)
    shown = []
    for query in queries:
        place = places[query.id]
        ordered = sorted(by_query[query.id], key=lambda reply: place[reply.id])
        shown.append(
            Previewed(
                query.clause,
                query.text,
                query.topic,
                query.register,
                tuple(_shown(reply, judged[reply.id], place[reply.id]) for reply in ordered),
            )
        )
    return Preview(
        trait=trait.id,
        title=trait.title,
        clauses={clause.id: clause.text for clause in trait.clauses},
        queries=tuple(shown),
        plain=_averages(replies, judged, "plain", answers),
        steered=_averages(replies, judged, "steered", answers),
        won=_won(rankings, {reply.id: reply for reply in replies}),
    )


def _places(ranking: Ranking) -> dict[str, Place]:
    found: dict[str, Place] = {}
    for tier, replies in enumerate(ranking.tiers, 1):
        found |= dict.fromkeys(replies, Place(0, tier))
    found |= dict.fromkeys(ranking.below_floor, Place(1))
    found |= dict.fromkeys(ranking.missing, Place(2))
    return found


def _shown(reply: Reply, judgement: Judgement, place: Place) -> Shown:
    return Shown(
        style=reply.style,
        text=reply.text,
        place=place,
        contrast=judgement.contrast,
        checks=judgement.checks,
        relevance=judgement.relevance,
        words=len(reply.text.split()),
        flaws=reply.flaws,
        failed=judgement.failed,
    )


def _averages(
    replies: Sequence[Reply],
    judged: dict[str, Judgement],
    style: str,
    answers: Callable[[float | None], bool | None],
) -> Averages:
    """Means over the replies of one style that have the value; None when none has."""
    own = [reply for reply in replies if reply.style == style]
    found = [judged[reply.id] for reply in own]

    def mean(values: list[float]) -> float | None:
        return fmean(values) if values else None

    answered = [answers(j.relevance) for j in found]
    return Averages(
        replies=len(own),
        contrast=mean([j.contrast for j in found if j.contrast is not None]),
        checks=mean([j.checks for j in found if j.checks is not None]),
        answers=mean([float(answer) for answer in answered if answer is not None]),
        words=mean([float(len(reply.text.split())) for reply in own]),
    )


def _won(rankings: Sequence[Ranking], replies: dict[str, Reply]) -> float | None:
    """Share of the queries whose first tier holds a steered reply; None when none was ranked."""
    firsts = [ranking.tiers[0] for ranking in rankings if ranking.tiers]
    if not firsts:
        return None
    return fmean(any(replies[r].style == "steered" for r in first) for first in firsts)
