"""The one page that joins the stages.

spec -> queries -> replies -> judgements -> distilled policy (-> fine-tuned on other sources)
     -> its own replies, judged too -> rankings -> pairs -> reward model -> policy (-> PPO)
     (-> further rounds: fresh queries, its replies, rankings, pairs, reward model, policy)
     (-> settled: only as much of it as is wanted)
     -> measure
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import cache

from character.building.context import Build
from character.building.judging import make_judge_cards, make_judgements, make_pairs, make_rankings
from character.building.measuring import measure
from character.building.rewarding import train_with_ppo
from character.building.rounds import Made, go_on
from character.building.settling import measure_distances, settle
from character.building.sources import (
    finetune,
    make_documents,
    make_introspection,
    make_revisions,
)
from character.building.training import (
    choose_dose,
    distil,
    make_anchors,
    make_dataset,
    train_policy,
    train_reward_model,
)
from character.building.writing import make_own_replies, make_queries, make_replies
from character.earlier import Earlier
from character.judging.kinds import NEED_NO_MODEL
from character.opened import Models
from character.recipe import Recipe
from character.run import Run
from character.spec.constitution import Constitution


def build(
    constitution: Constitution,
    recipe: Recipe,
    run: Run,
    until: str = "report",
    cap: float | None = None,
    accept_judge: bool = False,
    earlier: Earlier | None = None,
) -> None:
    """Run every stage up to `until`; what has finished is read from the run and not done again.

    `cap` is what models behind APIs may cost in all, in dollars. A judge below the bars of its
    card is refused (RunError) unless it is accepted, which is recorded. What an `earlier` run made
    that this one would make too is taken over.
    """
    with closing(Models(run, recipe.requests, cap)) as models:
        this = Build(constitution, recipe, run, models, accept_judge, earlier=earlier)
        for stage in _stages(this):
            if stage == until:
                return


def _parts(this: Build) -> Iterator[tuple[str, str]]:
    """Every part that a model plays, and its name; a panel's members are parts of their own."""
    roles = this.recipe.roles
    yield from roles
    for named in this.recipe.ranking.judges(roles.judge):
        if named.model != roles.judge and named.kind not in NEED_NO_MODEL:
            yield f"judge {named.model}", named.model


def _stages(this: Build) -> Iterator[str]:
    """The stages in turn; each says its name when it is done."""
    this.run.hold("models", {part: this.models.identity(name) for part, name in _parts(this)})
    cards = make_judge_cards(this)
    yield "judge_cards"
    queries = make_queries(this)
    yield "queries"
    replies = make_replies(this, queries)
    yield "replies"
    judgements = make_judgements(this, queries, replies)
    yield "judgements"
    anchors = cache(lambda: make_anchors(this, queries))
    distilled = distil(this, queries, replies, judgements, anchors)
    yield "distilled"
    revised = make_revisions(this, queries, replies)
    yield "revisions"
    judgements += make_judgements(
        this, queries, revised, "revision_judgements", "Revisions judged", replies
    )
    replies += revised
    yield "revision_judgements"
    talks = make_introspection(this, distilled)
    yield "introspection"
    documents = make_documents(this)
    yield "documents"
    tuned = finetune(this, distilled, queries, replies, judgements, talks, documents, anchors)
    yield "sft"
    own = make_own_replies(this, queries, tuned)
    yield "own_replies"
    judgements += make_judgements(this, queries, own, "own_judgements", "Own judgements", replies)
    replies += own
    yield "own_judgements"
    rankings = make_rankings(this, queries, replies, judgements, cards)
    yield "rankings"
    pairs = make_pairs(this, rankings, queries, replies, cards)
    yield "pairs"
    dataset = make_dataset(this, pairs, queries, replies)
    yield "dataset"
    train_reward_model(this, dataset["train"], pairs, queries, replies)
    yield "reward_model"
    dose = choose_dose(this, replies, judgements)
    trained = train_policy(this, tuned, dose, pairs, queries, replies, anchors)
    yield "policy"
    trained = train_with_ppo(this, trained, queries)
    yield "ppo"
    made = Made(queries, replies, pairs)
    for number in range(1, this.recipe.rounds + 1):
        later = replace(this, round=number, earlier=None)
        trained, made = go_on(later, trained, made, cards, anchors)
    yield "rounds"
    trained = settle(this, trained, queries, replies, judgements)
    yield "settled"
    measure_distances(this, distilled, queries, own)
    measure(this, trained, queries, replies, judgements)
    yield "measure"
