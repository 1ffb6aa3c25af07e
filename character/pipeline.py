"""The one page that joins the stages.

spec -> queries -> replies -> judgements -> distilled policy -> its own replies, judged too
     -> rankings -> pairs -> reward model -> policy (-> PPO) -> measure
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path

from datasets import Dataset, DatasetDict

from character.data.anchors import KINDS, anchor_queries
from character.data.pairs import best_replies, pairs_from
from character.data.queries import drafts_wanted, write_queries, yield_of
from character.data.replies import (
    PlannedReply,
    plan_own_replies,
    plan_replies,
    write_replies,
)
from character.diffing.measure import (
    Subject,
    answer_plan,
    answers_each,
    ask,
    count,
    mean_logprobs,
    measurement,
    short_questions,
)
from character.diffing.outcome import BASE, OPPOSITE, PROMPTED, TRAINED, contrast_metric
from character.errors import RunError
from character.judge_pipeline import Bench, card_of, told
from character.judging.card import Card, clauses_at_chance, refusal
from character.judging.checks import CheckError, check_reply
from character.judging.embedding import Embeds
from character.judging.judge import Said, Valuer
from character.judging.kinds import NEED_NO_MODEL, judge_of, valuer_of
from character.judging.likelihood import NAME as LIKELIHOOD
from character.judging.likelihood import (
    contrast,
    foils,
    judge_replies,
    plan_judgements,
    relevance,
)
from character.judging.ranking import quality_floor, rank_replies
from character.judging.tournament import Tournament
from character.language import language_of
from character.models.base import ChatModel, Message, Request
from character.models.local import LocalModel
from character.models.names import has_weights
from character.models.served import ServedModel
from character.opened import Models
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
from character.run import ACCEPTED, CARDS, Chunk, Run, plain
from character.spec.constitution import Constitution
from character.spec.demonstrations import demonstrations
from character.spec.schema import Trait
from character.text import accepted
from character.training.dataset import dataset_of, trl_rows
from character.training.dose import try_doses
from character.training.guards import GUARDED
from character.training.lessons import Lesson, anchor_lessons
from character.training.policy import (
    Anchors,
    adapter_name,
    at_dose,
    distilled_adapter,
    preferred_adapter,
    rewarded_adapter,
)
from character.training.ppo import Watch
from character.training.ppo_reward import disagreement_of, ppo_reward
from character.training.reward_card import (
    examine,
    read_card,
    save_card,
    taught_pairs,
    tried_pairs,
)
from character.training.reward_ensemble import RewardModel, load_reward_model, train_ensemble
from character.training.reward_model import conversation
from character.training.rollouts import Rollout


@dataclass(frozen=True, slots=True)
class _Build:
    """What every stage is given."""

    constitution: Constitution
    recipe: Recipe
    run: Run
    models: Models
    accept_judge: bool = False


def build(
    constitution: Constitution,
    recipe: Recipe,
    run: Run,
    until: str = "report",
    cap: float | None = None,
    accept_judge: bool = False,
) -> None:
    """Run every stage up to `until`; what has finished is read from the run and not done again.

    `cap` is what models behind APIs may cost in all, in dollars. A judge below the bars of its
    card is refused (RunError) unless it is accepted, which is recorded.
    """
    with closing(Models(run, recipe.requests, cap)) as models:
        for stage in _stages(_Build(constitution, recipe, run, models, accept_judge)):
            if stage == until:
                return


def _stages(this: _Build) -> Iterator[str]:
    """The stages in turn; each says its name when it is done."""
    this.run.hold("models", {role: this.models.identity(name) for role, name in this.recipe.roles})
    cards = _judge_cards(this)
    yield "judge_cards"
    queries = _queries(this)
    yield "queries"
    replies = _replies(this, queries)
    yield "replies"
    judgements = _judgements(this, queries, replies)
    yield "judgements"
    anchors = cache(lambda: _anchors(this, queries))
    distilled = _distilled(this, queries, replies, judgements, anchors)
    yield "distilled"
    own = _own_replies(this, queries, distilled)
    yield "own_replies"
    own_judgements = _judgements(this, queries, own, "own_judgements", "Own judgements", replies)
    yield "own_judgements"
    rankings = _rankings(this, queries, replies + own, judgements + own_judgements, cards)
    yield "rankings"
    pairs = _pairs(this, rankings, queries, replies + own, cards)
    yield "pairs"
    dataset = _dataset(this, pairs, queries, replies + own)
    yield "dataset"
    _reward_model(this, dataset["train"], pairs, queries, replies + own)
    yield "reward_model"
    dose = _dose(this, replies + own, judgements + own_judgements)
    trained = _policy(this, distilled, dose, pairs, queries, replies + own, anchors)
    yield "policy"
    trained = _ppo(this, trained, queries)
    yield "ppo"
    _measure(this, trained, queries, replies, judgements)
    yield "measure"


def _judge_cards(this: _Build) -> list[Card]:
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


def _card(this: _Build, trait: Trait) -> Card:
    roles = this.recipe.roles
    kind = this.recipe.ranking.judge
    judge = judge_of(kind, _asked_judge(this), _embedder(this))
    bench = Bench(kind, judge, this.models[roles.policy], this.recipe.card)
    return card_of(trait, bench, this.run.reporter)[0]


def _queries(this: _Build) -> list[Query]:
    recipe = this.recipe

    def make(bar: Bar) -> list[Query]:
        writer = this.models.any(recipe.roles.writer)

        def drafted(count: int) -> None:
            bar.add(count)
            if isinstance(writer, ServedModel):
                bar.note(f"${writer.budget.spent:.4f}")

        return write_queries(this.constitution, writer, recipe.queries, recipe.seed, drafted)

    drafts = sum(drafts_wanted(trait, recipe.queries) for trait in this.constitution.traits)
    return this.run.once("queries", "Queries", Query, make, drafts, "drafts")


def _replies(this: _Build, queries: Sequence[Query]) -> list[Reply]:
    _check_split(this.constitution, queries)
    recipe, policy = this.recipe, this.recipe.roles.policy
    planned = plan_replies(
        this.constitution, queries, this.models.identity(policy), recipe.replies, recipe.seed
    )
    language = _language(this.constitution)
    found = this.run.each(
        "replies",
        "Replies",
        Reply,
        [Chunk(chunk[0].id, len(chunk), chunk) for chunk in planned],
        lambda todo: write_replies(todo, this.models[policy], recipe.replies, language),
    )
    return [reply for reply in found if reply.style != "own"]


def _own_replies(this: _Build, queries: Sequence[Query], distilled: Path) -> list[Reply]:
    """What the distilled policy says by itself to the training queries, at every dose."""
    recipe, doses = this.recipe, this.recipe.training.dose.tried
    name = adapter_name(distilled)
    planned = plan_own_replies(
        queries, [f"{name} x{dose:g}" for dose in doses], recipe.replies, recipe.seed
    )
    language = _language(this.constitution)

    def make(todo: Iterable[Sequence[PlannedReply]]) -> Iterator[list[Reply]]:
        for sample, chunks in groupby(todo, key=lambda chunk: chunk[0].sample):
            policy, tokenizer = at_dose(
                this.models.folder(recipe.roles.policy), distilled, doses[sample]
            )
            model = LocalModel(policy.merge_and_unload(), tokenizer, f"{name} x{doses[sample]:g}")
            yield from write_replies(chunks, model, recipe.replies, language)

    found = this.run.each(
        "own_replies",
        "Own replies",
        Reply,
        [Chunk(chunk[0].id, len(chunk), chunk) for chunk in planned],
        make,
    )
    return [reply for reply in found if reply.style == "own"]


def _judgements(
    this: _Build,
    queries: Sequence[Query],
    replies: Sequence[Reply],
    stage: str = "judgements",
    title: str = "Judgements",
    beside: Sequence[Reply] = (),
) -> list[Judgement]:
    """Of all these replies; a judge that compares two has those `beside` them to compare with."""
    traits, roles, kind = this.constitution.traits, this.recipe.roles, this.recipe.ranking.judge
    likely = kind == LIKELIHOOD  # the default opens no model before it is needed
    valuer = None if likely else _valuer(this, queries, replies, beside)
    name = valuer.name if valuer else this.models.identity(roles.judge)
    planned = plan_judgements(traits, replies, name, kind)
    found = this.run.each(
        stage,
        title,
        Judgement,
        [Chunk(first, len(chunk) * len(traits), chunk) for first, chunk in planned],
        lambda todo: judge_replies(todo, traits, queries, _scorer(this), valuer, kind),
    )
    judged = {reply.id for reply in replies}
    return [judgement for judgement in found if judgement.reply_id in judged]


def _scorer(this: _Build) -> LocalModel:
    """Whose log-probabilities are read: the judge where its weights are here, else the policy."""
    roles = this.recipe.roles
    return this.models[roles.judge if has_weights(roles.judge) else roles.policy]


def _asked_judge(this: _Build) -> ChatModel | None:
    """The model that judges; None for a kind that needs none."""
    without = this.recipe.ranking.judge in NEED_NO_MODEL
    return None if without else this.models.any(this.recipe.roles.judge)


def _embedder(this: _Build) -> Embeds | None:
    return this.models.embedder() if this.recipe.ranking.judge == "embedding" else None


def _valuer(
    this: _Build, queries: Sequence[Query], replies: Sequence[Reply], beside: Sequence[Reply]
) -> Valuer:
    ranking, model = this.recipe.ranking, _asked_judge(this)
    if valuer := valuer_of(ranking.judge, model, _embedder(this)):
        return valuer
    text = {query.id: query.text for query in queries}
    plain: dict[str, list[Said]] = defaultdict(list)
    others: dict[str, list[Said]] = defaultdict(list)
    for reply in beside or replies:
        said = Said(text[reply.query_id], reply.text, reply.ended)
        if reply.style == "plain":
            plain[said.query].append(said)
        elif beside:
            others[said.query].append(said)
    listed = ranking.judge == "listwise"
    return Tournament(judge_of(ranking.judge, model), ranking.comparisons, plain, others, listed)


def _rankings(
    this: _Build,
    queries: Sequence[Query],
    replies: Sequence[Reply],
    judgements: Sequence[Judgement],
    cards: Sequence[Card],
) -> list[Ranking]:
    def make(bar: Bar) -> list[Ranking]:
        config = this.recipe.ranking
        found = rank_replies(this.constitution, queries, replies, judgements, config)
        return [replace(rank, cards=tuple(card.id for card in cards)) for rank in found]

    return this.run.once("rankings", "Rankings", Ranking, make)


def _pairs(
    this: _Build,
    rankings: Sequence[Ranking],
    queries: Sequence[Query],
    replies: Sequence[Reply],
    cards: Sequence[Card],
) -> list[Pair]:
    """No pair comes of a clause on which the judge is at chance."""
    chance = clauses_at_chance(cards)
    guessed = {query.id for query in queries if (query.trait, query.clause) in chance}
    judged = [ranking for ranking in rankings if ranking.query_id not in guessed]
    return this.run.once(
        "pairs", "Pairs", Pair, lambda bar: pairs_from(judged, queries, replies, this.recipe.pairs)
    )


def _dataset(
    this: _Build, pairs: Sequence[Pair], queries: Sequence[Query], replies: Sequence[Reply]
) -> DatasetDict:
    if not any(pair.split == "train" for pair in pairs):
        raise RunError(_no_pairs(this.run.store.all(Ranking)))
    dataset = dataset_of(pairs, {q.id: q for q in queries}, {r.id: r for r in replies})

    def make(checkpoints: Path, target: Path, bar: Bar) -> list[Row]:
        dataset.save_to_disk(target)
        return []

    this.run.artefact("dataset", "Dataset", make)
    return dataset


def _reward_model(
    this: _Build,
    train: Dataset,
    pairs: Sequence[Pair],
    queries: Sequence[Query],
    replies: Sequence[Reply],
) -> None:
    policy, training = this.recipe.roles.policy, this.recipe.training
    query, reply = {q.id: q for q in queries}, {r.id: r for r in replies}

    def make(checkpoints: Path, target: Path, bar: Bar) -> list[Row]:
        tokenizer = this.models[policy].tokenizer
        model, steps = train_ensemble(
            this.models.folder(policy),
            tokenizer,
            train,
            training.lora,
            training.reward,
            this.recipe.seed,
            checkpoints,
            target,
            bar.to,
        )

        def rewards_of(said: Sequence[tuple[str, str]]) -> list[float]:
            return model.rewards([conversation(query, text) for query, text in said])

        held = [pair for pair in pairs if pair.split == "held_out"]
        said = [
            (query[pair.query_id].text, reply[side].shown)
            for pair in held
            for side in (pair.chosen_id, pair.rejected_id)
        ]
        found = rewards_of(said)
        rows = [
            Reward(content_id("reward", pair.id), pair.id, chosen, rejected)
            for pair, chosen, rejected in zip(held, found[::2], found[1::2], strict=True)
        ]
        if card := examine(rewards_of, tried_pairs(held, rows, query, reply), taught_pairs(train)):
            save_card(card, target)
        return [*steps, *rows]

    this.run.artefact("reward_model", "Reward model", make)


def _distilled(
    this: _Build,
    queries: Sequence[Query],
    replies: Sequence[Reply],
    judgements: Sequence[Judgement],
    anchors: Anchors,
) -> Path:
    policy, training = this.recipe.roles.policy, this.recipe.training
    query, reply = {q.id: q for q in queries}, {r.id: r for r in replies}

    def make(checkpoints: Path, target: Path, bar: Bar) -> Sequence[Row]:
        rankings = rank_replies(
            this.constitution, queries, replies, judgements, this.recipe.ranking
        )
        chosen = [
            (query[best.query_id], best)
            for best in best_replies(rankings, reply, training.distill.replies_per_query)
        ]
        if not chosen:
            raise RunError(_nothing_to_learn(rankings))
        return distilled_adapter(
            this.models[policy],
            this.models.folder(policy),
            this.constitution,
            {
                trait.id: [
                    (asked.text, best)
                    for asked, best in chosen
                    if asked.trait == trait.id and asked.split == "train"
                ]
                for trait in this.constitution.traits
            },
            anchors,
            training,
            this.recipe.seed,
            checkpoints,
            target,
            bar.to,
        )

    return this.run.artefact("distilled", "Distillation", make)


def _dose(this: _Build, replies: Sequence[Reply], judgements: Sequence[Judgement]) -> float:
    """How much of the distillation the policy goes on from; all of it when none was tried."""
    floor = quality_floor(replies, judgements, this.recipe.ranking.floor)
    tried = try_doses(replies, judgements, floor.answers, this.recipe.training.dose)
    return tried.chosen if tried else 1.0


def _policy(
    this: _Build,
    distilled: Path,
    dose: float,
    pairs: Sequence[Pair],
    queries: Sequence[Query],
    replies: Sequence[Reply],
    anchors: Anchors,
) -> Path:
    """DPO on pairs whose rejected reply is the policy's own, or on all when there are none."""
    own = {reply.id for reply in replies if reply.style == "own"}
    train = [pair for pair in pairs if pair.split == "train"]
    used = [pair for pair in train if pair.rejected_id in own] or train

    def make(checkpoints: Path, target: Path, bar: Bar) -> Sequence[Row]:
        return preferred_adapter(
            this.models.folder(this.recipe.roles.policy),
            distilled,
            dose,
            trl_rows(used, {q.id: q for q in queries}, {r.id: r for r in replies}),
            anchors,
            this.recipe.training,
            this.recipe.seed,
            checkpoints,
            target,
            bar.to,
        )

    return this.run.artefact("policy", "DPO", make)


def _ppo(this: _Build, preferred: Path, queries: Sequence[Query]) -> Path:
    """PPO on the reward model and the traits' checks, watched on held-out queries; without
    updates the policy as DPO left it.
    """
    recipe, models, config = this.recipe, this.models, this.recipe.training.ppo
    if not config.updates:
        return preferred
    traits = {trait.id: trait for trait in this.constitution.traits}
    used = [q for q in queries if q.kind == "on_trait" and q.split != "none"]
    asked = {query.text: traits[query.trait] for query in used}

    def checked(rollouts: Sequence[Rollout]) -> list[float | None]:
        return [_checked(asked[r.query], r.query, r.text) for r in rollouts]

    def make(checkpoints: Path, target: Path, bar: Bar) -> Sequence[Row]:
        folder = this.run.folder / "reward_model"
        base, tokenizer = models.folder(recipe.roles.policy), models[recipe.roles.policy].tokenizer
        model = load_reward_model(folder, base, tokenizer, recipe.training.reward.pessimism)
        reward = ppo_reward(
            model,
            read_card(folder),
            checked if any(trait.checks for trait in traits.values()) else None,
            config.checks,
            config.floor,
            recipe.replies.looping,
            _language(this.constitution),
        )
        steps, guarded = rewarded_adapter(
            base,
            preferred,
            [query.text for query in used if query.split == "train"],
            reward,
            _watch(this, [query for query in used if query.split == "held_out"], model),
            config,
            recipe.seed,
            checkpoints,
            target,
            bar.to,
        )
        this.run.record(**{GUARDED: plain(guarded)})
        return steps

    return this.run.artefact("ppo", "PPO", make)


def _watch(this: _Build, held: Sequence[Query], model: RewardModel) -> Watch:
    """What the guards of PPO look at: contrast, short questions, and where reward models differ."""
    config, sampling = this.recipe.training.ppo.guards, this.recipe.measure.short_sampling
    watched = _evenly(held, config.queries)
    asked = {query.text: query.trait for query in watched}
    questions = short_questions("dev")[: config.questions]  # the others are reported

    def independent(rollouts: Sequence[Rollout]) -> list[float | None]:
        found: dict[int, float | None] = {}
        for trait in this.constitution.traits:
            own = [i for i, r in enumerate(rollouts) if asked[r.query] == trait.id]
            said = [Said(rollouts[i].query, rollouts[i].text, rollouts[i].ended) for i in own]
            found |= dict(zip(own, contrast(_scorer(this), trait, said), strict=True))
        return [found[i] for i in range(len(rollouts))]

    def short(policy: LocalModel) -> float | None:
        requests = [Request((Message("user", question.ask),)) for question in questions]
        right = [
            accepted(reply.text, list(question.accept))
            for question, reply in zip(questions, policy.generate(requests, sampling), strict=True)
        ]
        return sum(right) / len(right) if right else None

    return Watch(
        [query.text for query in watched],
        [query.trait for query in watched],
        independent,
        short,
        disagreement_of(model),
        this.run.reporter.say,
    )


def _evenly(queries: Sequence[Query], count: int) -> list[Query]:
    """At most so many of them, of each trait as many as of the others where there are enough."""
    place: dict[str, int] = defaultdict(int)
    turns: list[tuple[int, int, Query]] = []
    for query in queries:
        turns.append((place[query.trait], len(turns), query))
        place[query.trait] += 1
    return [query for *_, query in sorted(turns, key=lambda turn: turn[:2])[:count]]


def _checked(trait: Trait, query: str, reply: str) -> float | None:
    """The share of its checks that a reply passes; None when it cannot be found out.

    Where none applies, none applies to any reply to the query, and all have the same.
    """
    try:
        return check_reply(trait, query, reply) or 0.0
    except CheckError:
        return None


def _measure(
    this: _Build,
    trained: Path,
    queries: Sequence[Query],
    replies: Sequence[Reply],
    judgements: Sequence[Judgement],
) -> None:
    """Ask every subject the held-out queries, then count and score what it said."""
    if "measure" in this.run.store.finished():
        return
    constitution, recipe, models = this.constitution, this.recipe, this.models
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
    each = answers_each(held, config)
    answers = this.run.each(
        "answers",
        "Answers",
        Answer,
        [Chunk(answer_plan(subject, held, seed), each, subject) for subject in subjects],
        lambda todo: (ask(subject, held, config, seed) for subject in todo),
    )
    floor = quality_floor(replies, judgements, recipe.ranking.floor)

    def score(bar: Bar) -> list[Measurement]:
        judge = _scorer(this)
        at_queries = [a for a in answers if a.query_id in {q.id for q in held}]
        said = [Said(a.prompt, a.text, a.ended) for a in at_queries]
        rows = count(answers, config)
        for trait in constitution.traits:
            values = contrast(judge, trait, said)
            metric = contrast_metric(trait.id)
            rows += [measurement(a, metric, v) for a, v in zip(at_queries, values, strict=True)]
            bar.add(1)
        foil = foils(query.text for query in held)
        fluency = mean_logprobs(base, at_queries)
        bar.add(1)
        relevant = relevance(judge, said, foil, fluency if judge is base else None)
        bar.add(1)
        for answer, value in zip(at_queries, relevant, strict=True):
            answered = floor.answers(value) if answer.text else False  # silence answers nothing
            rows.append(measurement(answer, "relevance", value))
            rows.append(
                measurement(answer, "answers", None if answered is None else float(answered))
            )
        rows += [measurement(a, "fluency", v) for a, v in zip(at_queries, fluency, strict=True)]
        own = [(a, v) for a, v in zip(at_queries, fluency, strict=True) if a.subject == TRAINED]
        likely = mean_logprobs(new, [answer for answer, _ in own])
        bar.add(1)
        for (answer, under_base), under_new in zip(own, likely, strict=True):
            gap = None if under_base is None or under_new is None else under_new - under_base
            rows.append(measurement(answer, "kl", gap))
        return rows

    passes = len(constitution.traits) + 3  # contrast for each trait, fluency, relevance, KL
    this.run.once("measure", "Measurements", Measurement, score, passes, "passes")


def _no_pairs(rankings: Sequence[Ranking]) -> str:
    ranked = sum(len(tier) for ranking in rankings for tier in ranking.tiers)
    below = sum(len(ranking.below_floor) for ranking in rankings)
    return (
        f"No reply was clearly better than another, so there is nothing to train on: {ranked} "
        f"replies to {len(rankings)} queries were ranked, {below} were below the quality floor. "
        "Ask for more replies, or for a smaller gap: --set replies.steered=6 --set pairs.margin=0.2"
    )


def _nothing_to_learn(rankings: Sequence[Ranking]) -> str:
    below = sum(len(ranking.below_floor) for ranking in rankings)
    missing = sum(len(ranking.missing) for ranking in rankings)
    return (
        f"No steered reply was good enough to learn from: to {len(rankings)} queries {below} "
        f"replies were below the quality floor and {missing} could not be judged. Mend the trait's "
        "good examples, or lower the floor: --set ranking.floor=0.05"
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


def _anchors(this: _Build, queries: Sequence[Query]) -> list[Lesson]:
    """Shipped anchors of every kind, neutral queries, and those where a trait must not show."""
    config = this.recipe.training.anchors
    shipped = [text for kind in KINDS for text in anchor_queries(kind)[: getattr(config, kind)]]
    off_trait = [q.text for q in queries if q.kind != "on_trait" and q.split == "train"]
    return anchor_lessons(this.models[this.recipe.roles.policy], shipped + off_trait, config)
