"""From the judge's card to the pairs that its rankings imply."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from character.building.context import Build
from character.building.reuse import foils_of, in_order, stored
from character.data.pairs import pairs_from
from character.errors import RunError
from character.judge_pipeline import Bench, card_of, cards_in, panel_bench, seats_of, told
from character.judging.calibration import Abstaining
from character.judging.card import Card, clauses_at_chance, refusal
from character.judging.config import PANEL, NamedJudge
from character.judging.embedding import Embeds
from character.judging.judge import Judge, Said, Valuer
from character.judging.judgements import COMPARING, judge_replies, plan_judgements
from character.judging.kinds import (
    NEED_NO_MODEL,
    all_at_once,
    decided_by,
    judge_of,
    unit_of,
    valuer_of,
)
from character.judging.likelihood import NAME as LIKELIHOOD
from character.judging.panel import ByTrait, Seat, seated
from character.judging.ranking import rank_replies
from character.judging.tournament import Tournament
from character.models.base import ChatModel
from character.progress import Bar
from character.rows import (
    Judgement,
    Pair,
    Query,
    Ranking,
    Reply,
)
from character.run import ACCEPTED, CARDS, Chunk, plain
from character.spec.schema import Trait

R = TypeVar("R", Ranking, Pair)


def make_judge_cards(this: Build) -> list[Card]:
    """How far the judge can be trusted with each trait; none when the recipe does not ask."""
    if not this.recipe.card.enabled:
        return []
    cards = this.run.step("judge_cards", lambda: [_card(this, t) for t in this.constitution.traits])
    this.run.record(**{CARDS: [told(card) for card in cards]})
    refused = [line for card in cards for line in refusal(card)]
    if refused and not (this.accept_judge or this.run.recorded(ACCEPTED)):
        raise RunError(
            "\n".join(
                [
                    "The judge is below the bars of its card, and whatever it likes would be"
                    " trained:",
                    *refused,
                    "Mend the trait's examples, take another judge model (--set roles.judge=...),"
                    " or build all the same: --accept-judge",
                ]
            )
        )
    if refused:
        this.run.record(**{ACCEPTED: True})
        this.run.reporter.say("The judge is below the bars of its card and was accepted.")
    return cards


def _card(this: Build, trait: Trait) -> Card:
    members = _benches(this)
    bench = members[0]
    if len(members) > 1:
        bench = panel_bench(members, _seats(this, members)[trait.id])
    return card_of(trait, bench, this.run.reporter)[0]


def _benches(this: Build) -> list[Bench]:
    """The judge, or the members of a panel, each on its own."""
    roles = this.recipe.roles
    return [
        Bench((named.kind,), _judge(this, named), this.models[roles.policy], this.recipe.card)
        for named in this.recipe.ranking.judges(roles.judge)
    ]


def _seats(this: Build, members: Sequence[Bench]) -> dict[str, list[Seat]]:
    """How the members are weighed for each trait, as it was when the build first asked."""
    recorded = this.run.recorded(PANEL)
    if recorded is None:
        traits, reporter = this.constitution.traits, this.run.reporter
        seats = {trait.id: seats_of(trait, members, reporter) for trait in traits}
        recorded = {trait: [plain(seat) for seat in found] for trait, found in seats.items()}
        this.run.record(**{PANEL: recorded})
    return {trait: [Seat(**seat) for seat in found] for trait, found in recorded.items()}


def make_judgements(
    this: Build,
    queries: Sequence[Query],
    replies: Sequence[Reply],
    stage: str = "judgements",
    title: str = "Judgements",
    beside: Sequence[Reply] = (),
) -> list[Judgement]:
    """Of all these replies; a judge that compares two has those `beside` them to compare with."""
    if not replies:
        return []
    roles, ranking = this.recipe.roles, this.recipe.ranking
    kind = ranking.judge
    likely = kind == LIKELIHOOD  # the default opens no model before it is needed
    valuer = None if likely else _valuer(this, queries, replies, beside)
    judge = decided_by(
        ranking,
        valuer.name if valuer else this.models.identity(roles.judge),
        this.models.identity(this.scored_by),
        {card.trait: card.band for card in cards_in(this.run.recorded(CARDS))},
        this.run.recorded(PANEL),
    )
    foil = foils_of(this, queries)
    planned = plan_judgements(this.constitution.traits, replies, queries, foil, judge, kind, beside)
    ids = [one.id for chunk in planned for one in chunk]
    there = stored(this, stage, Judgement, ids, _renewed(this, kind))
    left = [[one for one in chunk if one.id not in there] for chunk in planned]
    found = this.run.each(
        this.stage(stage),
        this.title(title),
        Judgement,
        [Chunk(chunk[0].id, len(chunk), chunk) for chunk in left if chunk],
        lambda todo: judge_replies(todo, queries, this.scorer, valuer, kind),
        len(there),
    )
    judged = {reply.id for reply in replies}
    return in_order([judgement for judgement in found if judgement.reply_id in judged], ids)


def _renewed(this: Build, kind: str) -> Callable[[Judgement], Judgement | None]:
    """What failed is judged again, and with it whatever was compared with it."""
    earlier = this.earlier
    asked = {reply.id: reply.query_id for reply in earlier.replies.values()} if earlier else {}
    failed = {
        (asked.get(judgement.reply_id), judgement.trait)
        for judgement in (earlier.judgements.values() if earlier else ())
        if judgement.failed
    }

    def renewed(found: Judgement) -> Judgement | None:
        together = kind in COMPARING and (asked.get(found.reply_id), found.trait) in failed
        return None if found.failed or together else found

    return renewed


def _model(this: Build, named: NamedJudge) -> ChatModel | None:
    """The model that judges; None for a kind that needs none."""
    return None if named.kind in NEED_NO_MODEL else this.models.any(named.model)


def _embedder(this: Build, named: NamedJudge) -> Embeds | None:
    return this.models.embedder() if named.kind == "embedding" else None


def _judge(this: Build, named: NamedJudge) -> Judge:
    return judge_of(named.kind, _model(this, named), _embedder(this, named))


def _valuer(
    this: Build, queries: Sequence[Query], replies: Sequence[Reply], beside: Sequence[Reply]
) -> Valuer:
    ranking = this.recipe.ranking
    asked = ranking.judges(this.recipe.roles.judge)
    if len(asked) == 1:
        (named,) = asked
        if valuer := valuer_of(named.kind, _model(this, named), _embedder(this, named)):
            return valuer
        judge = _judge(this, named)
    else:
        members = _benches(this)
        judges = [bench.judge for bench in members]
        seats = _seats(this, members)
        judge = ByTrait({trait: seated(judges, found) for trait, found in seats.items()})
    text = {query.id: query.text for query in queries}
    unsteered: dict[str, list[Said]] = defaultdict(list)
    others: dict[str, list[Said]] = defaultdict(list)
    for reply in beside or replies:
        said = Said(text[reply.query_id], reply.text, reply.ended)
        if reply.style == "plain":
            unsteered[said.query].append(said)
        elif beside:
            others[said.query].append(said)
    at_once = all_at_once([named.kind for named in asked])
    cards = cards_in(this.run.recorded(CARDS))
    judge = Abstaining(judge, {card.trait: card.band for card in cards})
    return Tournament(judge, ranking.comparisons, unsteered, others, at_once)


def make_rankings(
    this: Build,
    queries: Sequence[Query],
    replies: Sequence[Reply],
    judgements: Sequence[Judgement],
    cards: Sequence[Card],
) -> list[Ranking]:
    def make(bar: Bar) -> list[Ranking]:
        config = this.recipe.ranking
        unit = unit_of(config.judge)
        bands = {card.trait: card.band * unit for card in cards}
        found = rank_replies(this.constitution, queries, replies, judgements, config, bands)
        return [replace(rank, cards=tuple(card.id for card in cards)) for rank in found]

    found = this.run.once(this.stage("rankings"), this.title("Rankings"), Ranking, make)
    return _of(queries, found)


def make_pairs(
    this: Build,
    rankings: Sequence[Ranking],
    queries: Sequence[Query],
    replies: Sequence[Reply],
    cards: Sequence[Card],
) -> list[Pair]:
    """No pair comes of a clause on which the judge is at chance."""
    chance = clauses_at_chance(cards)
    guessed = {query.id for query in queries if (query.trait, query.clause) in chance}
    judged = [ranking for ranking in rankings if ranking.query_id not in guessed]
    found = this.run.once(
        this.stage("pairs"),
        this.title("Pairs"),
        Pair,
        lambda bar: pairs_from(judged, queries, replies, this.recipe.pairs),
    )
    return _of(queries, found)


def _of(queries: Sequence[Query], rows: Sequence[R]) -> list[R]:
    """The rows of these queries: a run holds those of all its rounds."""
    asked = {query.id for query in queries}
    return [row for row in rows if row.query_id in asked]


def no_pairs(rankings: Sequence[Ranking]) -> str:
    ranked = sum(len(tier) for ranking in rankings for tier in ranking.tiers)
    below = sum(len(ranking.below_floor) for ranking in rankings)
    return (
        f"No reply was clearly better than another, so there is nothing to train on: {ranked} "
        f"replies to {len(rankings)} queries were ranked, {below} were below the quality floor. "
        "Ask for more replies, or for a smaller gap: --set replies.steered=6 --set pairs.margin=0.2"
    )
