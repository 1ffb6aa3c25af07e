"""Gather what a build made into its report, cards and last words."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from character.building.settling import SETTLED, dose_name
from character.data.queries import yield_of
from character.diffing.outcome import BASE, TRAINED, contrast_metric, outcome_of
from character.earlier import EARLIER, TAKEN
from character.folder import newest, record_of, trained_in
from character.job import Job
from character.judge_pipeline import cards_in
from character.judging.card import Card, clauses_at_chance
from character.judging.front import Front, front_of
from character.judging.kinds import NEED_NO_MODEL
from character.judging.ranking import quality_floor
from character.lineage import Lineage
from character.models.names import has_weights
from character.models.served import tallies
from character.recipe import Recipe
from character.report.cards import dataset_card, model_card
from character.report.content import Comparison, FunnelStep, Report, StageCost
from character.report.html import render_report
from character.report.judge_card import cards_page
from character.report.terminal import outcome_table
from character.rows import (
    Answer,
    Document,
    Judgement,
    Measurement,
    Pair,
    Query,
    Ranking,
    Reply,
    Revision,
    Reward,
    Step,
    Talk,
    Taught,
)
from character.run import ASKED, CARDS, Run, plain, versions
from character.store.store import Store
from character.training.dose import Doses, try_doses
from character.training.guards import GUARDED, Guarded, guarded_in
from character.training.reward_card import RewardCard, read_card, reward_card

REPORT = "report.html"
JUDGE_CARD = "judge-card.html"


def finish(job: Job, run: Run) -> Report:
    """Write report.html, the cards and run.json, and print how it went."""
    report = report_of(job, run.store)
    if report.judge_cards:
        (run.folder / JUDGE_CARD).write_text(cards_page(report.judge_cards), encoding="utf-8")
    (run.folder / REPORT).write_text(render_report(report), encoding="utf-8")
    (run.folder / report.policy / "README.md").write_text(model_card(report), encoding="utf-8")
    named = {"held_out": "test"}  # as the saved dataset calls its splits
    counts = Counter(named.get(pair.split, pair.split) for pair in run.store.all(Pair))
    (run.folder / "dataset" / "README.md").write_text(
        dataset_card(report, counts), encoding="utf-8"
    )
    run.record(
        outcome=plain(report.outcome),
        doses=plain(report.doses),
        reward_card=plain(report.reward_card),
        costs=[plain(cost) for cost in report.costs],
        seconds=report.seconds,
        peak_bytes=report.peak_bytes,
    )
    run.tidy()
    run.reporter.console.print(outcome_table(report))
    return report


def report_of(job: Job, store: Store) -> Report:
    """All that the job's run folder has to show, from its record and its store."""
    record = record_of(job.folder)
    return gather(
        job,
        store,
        record.get(ASKED),
        cards_in(record.get(CARDS)),
        read_card(newest(job.folder, "reward_model") or job.folder),
        guarded_in(record.get(GUARDED)),
        (record.get(SETTLED) or {}).get("told", ""),
        (trained_in(job.folder) or job.folder / "policy").name,
        (record.get(EARLIER) or {}).get("from"),
        record.get(TAKEN),
    )


def gather(
    job: Job,
    store: Store,
    asked: Sequence[Mapping[str, Any]] | None = None,
    cards: Sequence[Card] = (),
    rewarded: RewardCard | None = None,
    improved: Guarded | None = None,
    settled: str = "",
    trained: str = "policy",
    earlier: str | None = None,
    taken: Mapping[str, int] | None = None,
) -> Report:
    """Everything the renderers need, from the stored rows, the record of what was `asked`, the
    judge's cards and the reward model's (without which its rewards still say some of it), how PPO
    ended, the folder of the trained policy, and what was taken over from an `earlier` run."""
    recipe, queries = job.recipe, store.all(Query)
    measurements = store.all(Measurement)
    costs = [StageCost(s.name, s.seconds, s.peak_bytes) for s in store.finished().values()]
    return Report(
        constitution=job.constitution,
        recipe_title=recipe.title,
        smoke=recipe.smoke,
        command=job.command,
        folder=str(job.folder),
        base_model=recipe.roles.policy,
        judge=_judge(recipe),
        measured_by=_measured_by(recipe),
        seed=recipe.seed,
        outcome=outcome_of(job.constitution, queries, measurements, recipe.measure, recipe.seed),
        funnel=_funnel(store, queries, cards),
        coverage=Lineage(
            job.constitution, store, tallies(asked).values(), recipe.roles.writer
        ).coverage(),
        comparisons=_comparisons(job, queries, store.all(Answer), measurements),
        reward_card=rewarded or _reward_card(store),
        doses=_doses(job, store),
        steps=store.all(Step),
        costs=costs,
        asked=tuple(tallies(asked).values()),
        versions=versions(),
        recipe=recipe.model_dump(mode="json"),
        judge_cards=cards,
        ppo=improved,
        front=_front(job, store),
        distances=_distances(recipe, measurements),
        settled=settled,
        policy=trained,
        earlier=earlier or "",
        taken_over=taken or {},
    )


def _distances(recipe: Recipe, measurements: Sequence[Measurement]) -> dict[float, float]:
    """The mean KL of each dose that it was measured of."""
    found: dict[float, float] = {}
    for dose in recipe.training.dose.tried:
        name = dose_name(dose)
        known = [
            row.value
            for row in measurements
            if row.subject == name and row.metric == "kl" and row.value is not None
        ]
        if known:
            found[dose] = fmean(known)
    return found


def _judge(recipe: Recipe) -> str:
    asked = recipe.ranking.judges(recipe.roles.judge)
    names = [j.kind if j.kind in NEED_NO_MODEL else f"{j.kind} by {j.model}" for j in asked]
    return names[0] if len(names) == 1 else f"panel of {', '.join(names)}"


def _measured_by(recipe: Recipe) -> str:
    """Movement is always measured by likelihoods, which not every judge has; empty when it does."""
    kind, judge = recipe.ranking.judge, recipe.roles.judge
    if kind == "likelihood":
        return ""
    return f"likelihood by {judge if has_weights(judge) else recipe.roles.policy}"


def _funnel(store: Store, queries: Sequence[Query], cards: Sequence[Card] = ()) -> list[FunnelStep]:
    fates = yield_of(queries)
    kept = fates["train"] + fates["held_out"]
    lost = {reason: n for reason, n in fates.items() if reason not in ("train", "held_out")}
    replies, rankings, pairs = store.all(Reply), store.all(Ranking), store.all(Pair)
    flaws = Counter(flaw for reply in replies for flaw in reply.flaws)
    ranked = sum(len(tier) for ranking in rankings for tier in ranking.tiers)
    below = sum(len(ranking.below_floor) for ranking in rankings)
    missing = sum(len(ranking.missing) for ranking in rankings)
    paired = {pair.query_id for pair in pairs}
    chance = clauses_at_chance(cards)
    clause = {query.id: (query.trait, query.clause) for query in queries}
    guessed = Counter(clause[r.query_id] for r in rankings if clause[r.query_id] in chance)
    unpaired = {f"judge at chance on {name}": n for (_, name), n in guessed.items()}
    unpaired["no clear order"] = len(rankings) - len(paired) - guessed.total()
    return [
        FunnelStep("Queries", kept, lost),
        FunnelStep("Replies", len(replies), {f"marked {flaw}": n for flaw, n in flaws.items()}),
        FunnelStep("Ranked replies", ranked, {"below the floor": below, "not judged": missing}),
        FunnelStep("Queries with a pair", len(paired), unpaired),
        FunnelStep("Pairs", len(pairs), {}),
        *_sources(store, replies, rankings),
    ]


def _sources(
    store: Store, replies: Sequence[Reply], rankings: Sequence[Ranking]
) -> Iterator[FunnelStep]:
    """What was learned word for word of each source that is on, and why the rest was not."""
    learned = {row.learned_id for row in store.all(Taught) if row.stage == "sft"}
    for name, rows in (
        ("Revisions learned", store.all(Revision)),
        ("Talks learned", store.all(Talk)),
        ("Documents learned", store.all(Document)),
    ):
        lost = Counter(row.failure for row in rows if row.failure)
        usable = [row for row in rows if not row.failure]
        ids = [row.revised_id if isinstance(row, Revision) else row.id for row in usable]
        kept = sum(row_id in learned for row_id in ids)
        lost["no better than the reply" if name[0] == "R" else "too long"] = len(ids) - kept
        if rows:
            yield FunnelStep(name, kept, {reason: n for reason, n in lost.items() if n})
    own = {row.id for row in replies if row.style == "revised"}
    own |= {row.id for kind in (Talk, Document) for row in store.all(kind)}
    if shown := len(learned - own):
        yield FunnelStep("Demonstrations learned", shown, {})


def _comparisons(
    job: Job,
    queries: Sequence[Query],
    answers: Sequence[Answer],
    measurements: Sequence[Measurement],
) -> list[Comparison]:
    """Each held-out query with what every subject said first, in a random order."""
    said: dict[str, dict[str, str]] = {}
    shown: set[str] = set()
    for answer in answers:
        replies = said.setdefault(answer.query_id, {})
        if answer.subject not in replies:
            replies[answer.subject] = answer.text
            shown.add(answer.id)
    metrics = {contrast_metric(trait.id) for trait in job.constitution.traits}
    towards: dict[tuple[str, str], float] = {}
    for row in measurements:
        if row.answer_id in shown and row.metric in metrics and row.value is not None:
            key = (row.subject, row.query_id)
            towards[key] = towards.get(key, 0.0) + row.value
    found = [
        Comparison(
            query=query.text,
            replies=said[query.id],
            gain=_gain(towards, query.id),
            kind=query.kind,
        )
        for query in queries
        if query.id in said
    ]
    random.Random(job.recipe.seed).shuffle(found)
    return found


def _gain(towards: Mapping[tuple[str, str], float], query_id: str) -> float | None:
    new, old = towards.get((TRAINED, query_id)), towards.get((BASE, query_id))
    return None if new is None or old is None else new - old


def _front(job: Job, store: Store) -> Front:
    replies, judgements, rankings = store.all(Reply), store.all(Judgement), store.all(Ranking)
    return front_of(job.constitution, replies, judgements, rankings, job.recipe.ranking)


def _doses(job: Job, store: Store) -> Doses | None:
    first = {query.id for query in store.all(Query) if not query.round}
    replies = [reply for reply in store.all(Reply) if reply.query_id in first]
    judged = {reply.id for reply in replies}
    judgements = [found for found in store.all(Judgement) if found.reply_id in judged]
    floor = quality_floor(replies, judgements, job.recipe.ranking.floor)
    return try_doses(replies, judgements, floor.answers, job.recipe.training.dose)


def _reward_card(store: Store) -> RewardCard | None:
    found = {reward.pair_id: reward for reward in store.all(Reward)}
    pairs = [pair for pair in store.all(Pair) if pair.id in found]
    # as long as the model saw them: cut to whole sentences
    words = {reply.id: len(reply.shown.split()) for reply in store.all(Reply)}
    return reward_card(
        [found[pair.id].chosen for pair in pairs],
        [found[pair.id].rejected for pair in pairs],
        [words[pair.chosen_id] - words[pair.rejected_id] for pair in pairs],
    )
