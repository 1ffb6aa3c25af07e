"""The one page that joins the stages.

spec -> queries -> replies -> judgements -> rankings -> pairs -> reward model -> policy -> measure
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from character.data.anchors import KINDS, anchor_queries
from character.data.pairs import best_replies, pairs_from
from character.data.queries import write_queries, yield_of
from character.data.replies import language_of, plan_replies, write_replies
from character.diffing.measure import (
    Subject,
    answer_plan,
    answers_each,
    ask,
    count,
    mean_logprobs,
    measurement,
)
from character.diffing.outcome import BASE, OPPOSITE, PROMPTED, TRAINED, contrast_metric
from character.errors import RunError
from character.judging.likelihood import (
    Said,
    contrast,
    foils,
    judge_replies,
    plan_judgements,
    relevance,
)
from character.judging.ranking import quality_floor, rank_replies
from character.models.local import LocalModel
from character.models.names import load_model, model_folder, model_identity
from character.plan import STAGES
from character.progress import Bar
from character.recipe import Recipe
from character.rows import (
    Answer,
    Judgement,
    Measurement,
    Pair,
    Query,
    Ranking,
    Reply,
    Reward,
    Row,
    content_id,
)
from character.run import Run
from character.spec.constitution import Constitution
from character.spec.demonstrations import demonstrations
from character.training.dataset import dataset_of, shown
from character.training.lessons import anchor_lessons
from character.training.policy import distilled_adapter, preferred_adapter
from character.training.reward_model import rewards, train_reward_model


def build(constitution: Constitution, recipe: Recipe, run: Run, until: str = "report") -> None:
    """Run every stage up to `until`; what has finished is read from the run and not done again."""
    models = Models(run)
    policy, judge = recipe.roles.policy, recipe.roles.judge
    seed, training = recipe.seed, recipe.training
    run.hold("models", {role: models.identity(name) for role, name in recipe.roles})
    last = STAGES.index(until)

    queries = run.once(
        "queries",
        "Queries",
        Query,
        lambda: write_queries(constitution, models[recipe.roles.writer], recipe.queries, seed),
    )
    if last < 1:
        return

    _check_split(constitution, queries)
    planned = plan_replies(constitution, queries, models.identity(policy), recipe.replies, seed)
    replies = run.each(
        "replies",
        "Replies",
        Reply,
        [(chunk[0].id, chunk) for chunk in planned],
        sum(map(len, planned)),
        lambda todo: write_replies(todo, models[policy], recipe.replies, _language(constitution)),
    )
    if last < 2:
        return

    judgements = run.each(
        "judgements",
        "Judgements",
        Judgement,
        plan_judgements(constitution.traits, replies, models.identity(judge)),
        len(replies) * len(constitution.traits),
        lambda todo: judge_replies(todo, constitution.traits, queries, models[judge]),
    )
    rankings = run.once(
        "rankings",
        "Rankings",
        Ranking,
        lambda: rank_replies(constitution, queries, replies, judgements, recipe.ranking),
    )
    if last < 3:
        return

    pairs = run.once(
        "pairs", "Pairs", Pair, lambda: pairs_from(rankings, queries, replies, recipe.pairs)
    )
    if last < 4:
        return
    if not any(pair.split == "train" for pair in pairs):
        raise RunError(_no_pairs(rankings))

    query, reply = {q.id: q for q in queries}, {r.id: r for r in replies}
    dataset = dataset_of(pairs, query, reply)

    def save_dataset(checkpoints: Path, target: Path, bar: Bar) -> list[Row]:
        dataset.save_to_disk(target)
        return []

    run.artefact("dataset", "Dataset", save_dataset)
    if last < 5:
        return

    def make_reward_model(checkpoints: Path, target: Path, bar: Bar) -> list[Row]:
        tokenizer = models[policy].tokenizer
        model, steps = train_reward_model(
            models.folder(policy),
            tokenizer,
            dataset["train"],
            training.lora,
            training.reward,
            seed,
            checkpoints,
            bar.to,
        )
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
        held = [pair for pair in pairs if pair.split == "held_out"]
        told = [
            [
                {"role": "user", "content": query[pair.query_id].text},
                {"role": "assistant", "content": shown(reply[side])},
            ]
            for pair in held
            for side in (pair.chosen_id, pair.rejected_id)
        ]
        found = rewards(model, tokenizer, told)
        return [
            *steps,
            *(
                Reward(content_id("reward", pair.id), pair.id, chosen, rejected)
                for pair, chosen, rejected in zip(held, found[::2], found[1::2], strict=True)
            ),
        ]

    run.artefact("reward_model", "Reward model", make_reward_model)
    if last < 6:
        return

    anchors = cache(
        lambda: anchor_lessons(models[policy], _anchors(recipe, queries), training.anchors)
    )

    def make_distilled(checkpoints: Path, target: Path, bar: Bar) -> Sequence[Row]:
        best = {
            trait.id: [
                (query[chosen.query_id].text, chosen)
                for chosen in best_replies(rankings, reply, training.distill.replies_per_query)
                if query[chosen.query_id].trait == trait.id
                and query[chosen.query_id].split == "train"
            ]
            for trait in constitution.traits
        }
        return distilled_adapter(
            models[policy],
            models.folder(policy),
            constitution,
            best,
            anchors,
            training,
            seed,
            checkpoints,
            target,
            bar.to,
        )

    distilled = run.artefact("distilled", "Distillation", make_distilled)
    if last < 7:
        return

    def make_policy(checkpoints: Path, target: Path, bar: Bar) -> Sequence[Row]:
        return preferred_adapter(
            models.folder(policy),
            distilled,
            dataset["train"],
            anchors,
            training,
            seed,
            checkpoints,
            target,
            bar.to,
        )

    trained = run.artefact("policy", "DPO", make_policy)
    if last < 8 or "measure" in run.store.finished():
        return
    measure(constitution, recipe, run, models, trained, queries, replies, judgements)


def measure(
    constitution: Constitution,
    recipe: Recipe,
    run: Run,
    models: Models,
    trained: Path,
    queries: Sequence[Query],
    replies: Sequence[Reply],
    judgements: Sequence[Judgement],
) -> None:
    """Ask every subject the held-out queries, then count and score what it said."""
    config, seed = recipe.measure, recipe.seed
    base = models[recipe.roles.policy]
    new = models[f"local:{trained / 'merged'}"]
    held = [q for q in queries if q.split == "held_out" and q.kind in ("on_trait", "unless")]
    good = tuple(turn for t in constitution.traits for turn in demonstrations(t, "good"))
    bad = tuple(turn for t in constitution.traits for turn in demonstrations(t, "bad"))
    subjects = [
        Subject(BASE, base),
        Subject(TRAINED, new),
        Subject(PROMPTED, base, good),
        Subject(OPPOSITE, base, bad),
    ]
    answers = run.each(
        "answers",
        "Answers",
        Answer,
        [(answer_plan(subject, held, seed), subject) for subject in subjects],
        len(subjects) * answers_each(held, config),
        lambda todo: (ask(subject, held, config, seed) for subject in todo),
    )
    floor = quality_floor(replies, judgements, recipe.ranking.floor)

    def score() -> list[Measurement]:
        judge = models[recipe.roles.judge]
        at_queries = [a for a in answers if a.query_id in {q.id for q in held}]
        said = [Said(a.prompt, a.text, a.ended) for a in at_queries]
        rows = count(answers, config)
        for trait in constitution.traits:
            values = contrast(judge, trait, said)
            metric = contrast_metric(trait.id)
            rows += [measurement(a, metric, v) for a, v in zip(at_queries, values, strict=True)]
        foil = foils(query.text for query in held)
        fluency = mean_logprobs(base, at_queries)
        relevant = relevance(judge, said, foil, fluency if judge is base else None)
        for answer, value in zip(at_queries, relevant, strict=True):
            answered = floor.answers(value) if answer.text else False  # silence answers nothing
            rows.append(measurement(answer, "relevance", value))
            rows.append(
                measurement(answer, "answers", None if answered is None else float(answered))
            )
        rows += [measurement(a, "fluency", v) for a, v in zip(at_queries, fluency, strict=True)]
        own = [(a, v) for a, v in zip(at_queries, fluency, strict=True) if a.subject == TRAINED]
        likely = mean_logprobs(new, [answer for answer, _ in own])
        for (answer, under_base), under_new in zip(own, likely, strict=True):
            gap = None if under_base is None or under_new is None else under_new - under_base
            rows.append(measurement(answer, "kl", gap))
        return rows

    run.once("measure", "Measurements", Measurement, score)


class Models:
    """The models of a build, each loaded when it is first needed and only once."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._loaded: dict[str, LocalModel] = {}

    def __getitem__(self, name: str) -> LocalModel:
        if name not in self._loaded:
            model = load_model(name, self._run.reporter.say)
            assert isinstance(model, LocalModel)
            self._loaded[name] = model
        return self._loaded[name]

    def identity(self, name: str) -> str:
        return model_identity(name, self.folder(name), self._run.reporter.say)

    def folder(self, name: str) -> Path:
        return model_folder(name, self._run.reporter.say)


def _no_pairs(rankings: Sequence[Ranking]) -> str:
    ranked = sum(len(tier) for ranking in rankings for tier in ranking.tiers)
    below = sum(len(ranking.below_floor) for ranking in rankings)
    return (
        f"No reply was clearly better than another, so there is nothing to train on: {ranked} "
        f"replies to {len(rankings)} queries were ranked, {below} were below the quality floor. "
        "Ask for more replies, or for a smaller gap: --set replies.steered=6 --set pairs.margin=0.2"
    )


def _check_split(constitution: Constitution, queries: Sequence[Query]) -> None:
    """Every trait needs queries on both sides; without, all that follows would be for nothing."""
    for trait in constitution.traits:
        own = [q for q in queries if q.trait == trait.id and q.kind == "on_trait"]
        for split in ("train", "held_out"):
            if not any(query.split == split for query in own):
                fates = ", ".join(f"{n} {fate}" for fate, n in yield_of(own).items())
                raise RunError(
                    f"no {split} query for {trait.id!r} ({fates}). Add seed messages to the trait, "
                    "or write more drafts: --set queries.spare=3"
                )


def _language(constitution: Constitution) -> str:
    """The language its examples are written in."""
    examples = (e for trait in constitution.traits for e in trait.examples)
    return language_of(" ".join(f"{e.user} {e.good}" for e in examples))


def _anchors(recipe: Recipe, queries: Sequence[Query]) -> list[str]:
    """Shipped anchors of every kind, and the queries where a trait must not show."""
    config = recipe.training.anchors
    shipped = [text for kind in KINDS for text in anchor_queries(kind)[: getattr(config, kind)]]
    return shipped + [q.text for q in queries if q.kind == "unless" and q.split == "train"]
