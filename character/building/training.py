"""From pairs to a reward model and a policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset, DatasetDict

from character.building.context import Build
from character.building.judging import no_pairs
from character.data.anchors import KINDS, anchor_queries
from character.data.examples import best_replies
from character.errors import RunError
from character.judging.ranking import quality_floor, rank_replies
from character.progress import Bar
from character.rows import (
    Judgement,
    Pair,
    Query,
    Ranking,
    Reply,
    Reward,
    Row,
    content_id,
)
from character.training.dataset import dataset_of, trl_rows
from character.training.dose import try_doses
from character.training.lessons import Lesson, anchor_lessons
from character.training.policy import (
    Anchors,
    distilled_adapter,
    preferred_adapter,
)
from character.training.reward_card import (
    examine,
    save_card,
    taught_pairs,
    tried_pairs,
)
from character.training.reward_ensemble import train_ensemble
from character.training.reward_model import conversation


def make_dataset(
    this: Build, pairs: Sequence[Pair], queries: Sequence[Query], replies: Sequence[Reply]
) -> DatasetDict:
    if not any(pair.split == "train" for pair in pairs):
        raise RunError(no_pairs(this.run.store.all(Ranking)))
    dataset = dataset_of(pairs, {q.id: q for q in queries}, {r.id: r for r in replies})

    def make(checkpoints: Path, target: Path, bar: Bar) -> list[Row]:
        dataset.save_to_disk(target)
        return []

    this.run.artefact(this.stage("dataset"), this.title("Dataset"), make)
    return dataset


def make_anchors(this: Build, queries: Sequence[Query]) -> list[Lesson]:
    """Shipped anchors of every kind, neutral queries, and those where a trait must not show."""
    config = this.recipe.training.anchors
    shipped = [text for kind in KINDS for text in anchor_queries(kind)[: getattr(config, kind)]]
    off_trait = [q.text for q in queries if q.kind != "on_trait" and q.split == "train"]
    return anchor_lessons(this.models[this.recipe.roles.policy], shipped + off_trait, config)


def distil(
    this: Build,
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


def _nothing_to_learn(rankings: Sequence[Ranking]) -> str:
    below = sum(len(ranking.below_floor) for ranking in rankings)
    missing = sum(len(ranking.missing) for ranking in rankings)
    return (
        f"No steered reply was good enough to learn from: to {len(rankings)} queries {below} "
        f"replies were below the quality floor and {missing} could not be judged. Mend the trait's "
        "good examples, or lower the floor: --set ranking.floor=0.05"
    )


def choose_dose(this: Build, replies: Sequence[Reply], judgements: Sequence[Judgement]) -> float:
    """How much of the distillation the policy goes on from; all of it when none was tried."""
    floor = quality_floor(replies, judgements, this.recipe.ranking.floor)
    tried = try_doses(replies, judgements, floor.answers, this.recipe.training.dose)
    return tried.chosen if tried else 1.0


def train_reward_model(
    this: Build,
    train: Dataset,
    pairs: Sequence[Pair],
    queries: Sequence[Query],
    replies: Sequence[Reply],
) -> None:
    policy, training = this.recipe.roles.policy, this.recipe.training
    query, reply = {q.id: q for q in queries}, {r.id: r for r in replies}

    def make(checkpoints: Path, target: Path, bar: Bar) -> Sequence[Row]:
        tokenizer = this.models[policy].tokenizer
        model, steps = train_ensemble(
            this.models.folder(policy),
            tokenizer,
            train,
            training.lora,
            training.reward,
            this.seed,
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
        return this.own([*steps, *rows])

    this.run.artefact(this.stage("reward_model"), this.title("Reward model"), make)


def train_policy(
    this: Build,
    distilled: Path,
    dose: float,
    pairs: Sequence[Pair],
    queries: Sequence[Query],
    replies: Sequence[Reply],
    anchors: Anchors,
) -> Path:
    """DPO on pairs whose rejected reply is the policy's own, or on all when there are none; and on
    those whose chosen reply is a revision of the rejected one.
    """
    own, revised = (
        {reply.id for reply in replies if reply.style == style} for style in ("own", "revised")
    )
    train = [pair for pair in pairs if pair.split == "train"]
    used = train
    if any(pair.rejected_id in own for pair in train):
        used = [p for p in train if p.rejected_id in own or p.chosen_id in revised]

    def make(checkpoints: Path, target: Path, bar: Bar) -> Sequence[Row]:
        rows = preferred_adapter(
            this.models.folder(this.recipe.roles.policy),
            distilled,
            dose,
            trl_rows(used, {q.id: q for q in queries}, {r.id: r for r in replies}),
            anchors,
            this.recipe.training,
            this.seed,
            checkpoints,
            target,
            bar.to,
        )
        return this.own(rows)

    return this.run.artefact(this.stage("policy"), this.title("DPO"), make)
