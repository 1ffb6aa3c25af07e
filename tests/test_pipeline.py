"""The whole build on a tiny model: what it leaves, and that no kill changes it."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import load_from_disk
from faulty_server import Server, serving
from peft import PeftModel
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from character.building.context import Build
from character.building.sources import finetune
from character.data.examples import example_id
from character.earlier import TAKEN, open_earlier
from character.errors import ModelError, RunError
from character.finish import _funnel, finish
from character.folder import policy_of
from character.job import Job
from character.judge_pipeline import cards_in, keep_card
from character.judging.card import ClauseTest
from character.lineage import Lineage
from character.pipeline import build
from character.progress import Bar, Reporter
from character.recipe import Recipe
from character.rows import (
    Answer,
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
    Step,
    Talk,
    Taught,
)
from character.run import Run
from character.spec.constitution import Constitution, Member
from character.spec.schema import Trait
from character.store.store import TABLES, Store
from character.training.guards import guarded_in
from character.training.ppo import CHECKPOINT
from character.training.reward_card import RewardCard, RewardTest, save_card

# peft 0.21 asks transformers 5.23 for a property under its old name
pytestmark = pytest.mark.filterwarnings("ignore:.(is_)?gradient_checkpointing:FutureWarning")

SUBJECTS = {"base", "trained", "prompted", "opposite"}


def recipe_for(model: Path) -> Recipe:
    """Every stage as small as it can be, with an epoch to resume after."""
    name = f"local:{model}"
    sampling = {"max_tokens": 8}
    return Recipe.model_validate(
        {
            "title": "Tiny",
            "roles": {"writer": name, "policy": name, "judge": name},
            "queries": {
                "train": 10,
                "held_out": 6,
                "unless": 4,
                "neutral": 1,
                "spare": 1,
                "sampling": sampling,
            },
            "replies": {"steered": 2, "plain": 1, "sampling": sampling, "looping": 1},
            "card": {"enabled": False},  # random weights are no judge
            "ranking": {"floor": 0},
            "pairs": {"margin": 0.1},
            "training": {
                "lora": {"rank": 2},
                "anchors": {
                    "facts": 2,
                    "instructions": 1,
                    "formats": 1,
                    "max_tokens": 4,
                },
                "distill": {"replies_per_query": 1, "epochs": 2, "batch": 8, "micro_batch": 4},
                "dose": {"tried": [0.5, 1.0]},
                "dpo": {"epochs": 2, "batch": 4, "micro_batch": 4},
                "reward": {"batch": 4, "micro_batch": 4},
            },
            "measure": {"questions": 3, "sampling": sampling, "short_sampling": sampling},
        }
    )


def identity_of(constitution: Constitution, recipe: Recipe) -> dict[str, Any]:
    return {"traits": constitution.digest, "recipe": recipe.model_dump(mode="json")}


class Silent(Reporter):
    """Prints nothing, and remembers which stages it was told of."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.stages: list[str] = []

    @contextmanager
    def bar(self, title: str, total: int | None, unit: str) -> Iterator[Bar]:
        self.stages.append(title)
        with super().bar(title, total, unit) as bar:
            yield bar


class Deadly(Silent):
    """Kills its process at the given call of one stage's bar."""

    def __init__(self, title: str, event: int) -> None:
        super().__init__()
        self.title, self.event = title, event

    @contextmanager
    def bar(self, title: str, total: int | None, unit: str) -> Iterator[Bar]:
        with super().bar(title, total, unit) as bar:
            yield DeadlyBar(bar, self.event) if title == self.title else bar


class DeadlyBar(Bar):
    def __init__(self, bar: Bar, event: int) -> None:
        super().__init__(bar._progress, bar._task)
        self.left = event

    def add(self, count: int) -> None:
        self.die_in_time()

    def to(self, done: int, total: int) -> None:
        self.die_in_time()

    def die_in_time(self) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)


def build_until_killed(
    folder: Path, constitution: Constitution, recipe: Recipe, title: str, event: int
) -> None:
    with Run.open(folder, identity_of(constitution, recipe), Deadly(title, event)) as run:
        build(constitution, recipe, run)


@pytest.fixture(scope="module")
def constitution(small_trait: Trait) -> Constitution:
    return Constitution((Member(small_trait),))


@pytest.fixture(scope="module")
def recipe(tiny_folder: Path) -> Recipe:
    return recipe_for(tiny_folder)


@pytest.fixture(scope="module")
def built(
    constitution: Constitution, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with Run.open(folder, identity_of(constitution, recipe), Silent()) as run:
        build(constitution, recipe, run)
    return folder


@pytest.fixture
def store(built: Path) -> Iterator[Store]:
    with Store(built / "character.duckdb", read_only=True) as opened:
        yield opened


def rows_in(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row, in its order."""
    with Store(folder / "character.duckdb", read_only=True) as store:
        return {table: [astuple(row) for row in store.all(kind)] for kind, table in TABLES.items()}


# --- the judge has to earn its place ---


def carded(recipe: Recipe) -> Recipe:
    few = {"plants": {"queries": 10, "dosed": 10, "sampling": {"max_tokens": 8}}, "attacks": 0}
    told = recipe.model_dump() | {"card": few}
    return Recipe.model_validate(told)


def test_a_judge_below_its_bars_is_refused_until_it_is_accepted(
    constitution: Constitution, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARACTER_CACHE", str(tmp_path / "cache"))
    tried = carded(recipe)
    with Run.open(tmp_path / "run", identity_of(constitution, tried), Silent()) as run:
        with pytest.raises(RunError, match="--accept-judge") as refused:
            build(constitution, tried, run, "rankings")
        told = str(refused.value)
        assert "asking: planted order is 0." in told and told.count("better:") >= 3
        assert run.store.all(Query) == []
        build(constitution, tried, run, "rankings", accept_judge=True)
        (card,) = cards_in(run.recorded("judge_cards"))
        assert card.refusals and run.recorded("judge_accepted") is True
        rankings = run.store.all(Ranking)
        assert rankings and {ranking.cards for ranking in rankings} == {(card.id,)}
        assert "judge_cards" in run.store.finished()
    with Run.open(tmp_path / "run", identity_of(constitution, tried), Silent()) as run:
        build(constitution, tried, run, "rankings")  # what was accepted once stays accepted
        assert not [title for title in run.reporter.stages if title.startswith("Plants")]  # type: ignore[attr-defined]


def test_no_pair_comes_of_a_clause_on_which_the_judge_guesses(
    constitution: Constitution, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARACTER_CACHE", str(tmp_path / "cache"))
    tried = carded(recipe)
    with Run.open(tmp_path / "run", identity_of(constitution, tried), Silent()) as run:
        build(constitution, tried, run, "rankings", accept_judge=True)
        (card,) = cards_in(run.recorded("judge_cards"))
        clauses = (ClauseTest("answers", 0.5, 0.3, 0.7, 20), ClauseTest("asks", 0.9, 0.7, 1.0, 20))
        keep_card(replace(card, clauses=clauses))
        build(constitution, tried, run, "pairs")
        asked = {query.id: query.clause for query in run.store.all(Query)}
        assert {asked[pair.query_id] for pair in run.store.all(Pair)} == {"asks"}
        assert "answers" in {asked[ranking.query_id] for ranking in run.store.all(Ranking)}


@pytest.mark.parametrize("kind", ["likelihood-plain", "checks"])
def test_other_kinds_of_judge_rank_too(
    kind: str, constitution: Constitution, recipe: Recipe, tmp_path: Path
) -> None:
    told = recipe.model_dump()
    told["ranking"] |= {"judge": kind}
    other = Recipe.model_validate(told)
    with Run.open(tmp_path / "run", identity_of(constitution, other), Silent()) as run:
        build(constitution, other, run, "rankings")
        judgements, rankings = run.store.all(Judgement), run.store.all(Ranking)
        assert all(judgement.judge.startswith(kind.partition("-")[0]) for judgement in judgements)
        assert any(judgement.contrast is not None for judgement in judgements)
        assert {ranking.query_id for ranking in rankings} == {
            reply.query_id for reply in run.store.all(Reply)
        }
        made = len(judgements)
    with Run.open(tmp_path / "run", identity_of(constitution, other), Silent()) as run:
        build(constitution, other, run, "rankings")
        assert len(run.store.all(Judgement)) == made


def test_a_panel_ranks_weighed_by_its_members_cards_and_says_where_it_was_split(
    constitution: Constitution, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARACTER_CACHE", str(tmp_path / "cache"))
    told = carded(recipe).model_dump()
    told["ranking"] |= {"judge": "panel", "panel": ("likelihood", "checks")}
    panel = Recipe.model_validate(told)
    with Run.open(tmp_path / "run", identity_of(constitution, panel), Silent()) as run:
        build(constitution, panel, run, "rankings", accept_judge=True)
        (card,) = cards_in(run.recorded("judge_cards"))
        assert card.judge.startswith("panel of likelihood by ")
        seats = run.recorded("panel")["asking"]
        assert [seat["judge"].partition(" ")[0] for seat in seats] == ["likelihood", "checks"]
        judged = [j for j in run.store.all(Judgement) if j.contrast is not None]
        assert judged and {j.judge for j in judged} == {card.judge}
        assert all(j.spread is not None and 0 <= j.spread <= 0.5 for j in judged)
        assert run.store.all(Ranking)
        made = len(run.store.all(Judgement))
    shutil.rmtree(tmp_path / "cache" / "judge-cards")  # a build keeps the weights it began with
    with Run.open(tmp_path / "run", identity_of(constitution, panel), Silent()) as run:
        build(constitution, panel, run, "rankings")
        assert len(run.store.all(Judgement)) == made


def test_a_judge_that_gives_no_verdict_teaches_nothing(
    constitution: Constitution, recipe: Recipe, tmp_path: Path
) -> None:
    """Random weights give the four letters next to no probability."""
    told = recipe.model_dump()
    told["ranking"] |= {"judge": "verdict"}
    other = Recipe.model_validate(told)
    with Run.open(tmp_path / "run", identity_of(constitution, other), Silent()) as run:
        with pytest.raises(RunError, match=r"34 could not be judged"):
            build(constitution, other, run)
        failed = {j.failed.partition(" have ")[0] for j in run.store.all(Judgement)}
        assert failed == {"the letters"}


# --- what a build leaves ---


def test_every_table_is_filled_and_every_stage_recorded(store: Store) -> None:
    off = {Revision, Talk, Document}
    assert {kind for kind in TABLES if not store.all(kind)} == off
    assert list(store.finished()) == [
        "queries",
        "replies",
        "judgements",
        "distilled",
        "own_replies",
        "own_judgements",
        "rankings",
        "pairs",
        "dataset",
        "reward_model",
        "policy",
        "distances",
        "answers",
        "measure",
    ]


def test_every_pair_leads_back_to_a_clause(store: Store, small_trait: Trait) -> None:
    queries = {query.id: query for query in store.all(Query)}
    replies = {reply.id: reply for reply in store.all(Reply)}
    rankings = {ranking.id: ranking for ranking in store.all(Ranking)}
    clauses = {clause.id for clause in small_trait.clauses}
    pairs = store.all(Pair)
    for pair in pairs:
        query, ranking = queries[pair.query_id], rankings[pair.ranking_id]
        assert (query.trait, query.dropped, query.split) == (small_trait.id, "", pair.split)
        assert query.clause in clauses
        assert ranking.query_id == query.id
        tier = {reply: at for at, tier in enumerate(ranking.tiers) for reply in tier}
        if pair.rejected_id not in ranking.below_floor:
            assert tier[pair.chosen_id] < tier[pair.rejected_id]
        for side in (pair.chosen_id, pair.rejected_id):
            assert replies[side].query_id == query.id
    assert {pair.split for pair in pairs} == {"train", "held_out"}


def test_every_reply_is_judged_and_ranked(store: Store) -> None:
    replies = {reply.id for reply in store.all(Reply)}
    assert {judgement.reply_id for judgement in store.all(Judgement)} == replies
    placed = [
        reply
        for ranking in store.all(Ranking)
        for reply in (*sum(ranking.tiers, ()), *ranking.below_floor, *ranking.missing)
    ]
    assert sorted(placed) == sorted(replies)


def test_the_reward_model_is_tried_on_held_out_pairs(store: Store) -> None:
    held = [pair.id for pair in store.all(Pair) if pair.split == "held_out"]
    assert [reward.pair_id for reward in store.all(Reward)] == held


def test_training_never_sees_a_held_out_query(store: Store, built: Path) -> None:
    dataset = load_from_disk(built / "dataset")
    by_split = {"train": "train", "test": "held_out"}
    texts = {
        split: {query.text for query in store.all(Query) if query.split == split}
        for split in by_split.values()
    }
    assert not texts["train"] & texts["held_out"]
    for name, split in by_split.items():
        pairs = [pair.id for pair in store.all(Pair) if pair.split == split]
        assert list(dataset[name]["pair_id"]) == pairs
        assert {prompt[0]["content"] for prompt in dataset[name]["prompt"]} <= texts[split]


def test_every_subject_answers_the_same_and_is_measured(store: Store) -> None:
    answers = store.all(Answer)
    asked = {
        subject: [answer.query_id for answer in answers if answer.subject == subject]
        for subject in SUBJECTS
    }
    assert len({tuple(queries) for queries in asked.values()}) == 1
    assert sum(query.startswith("short/") for query in asked["base"]) == 3
    held = {query.id for query in store.all(Query) if query.split == "held_out"}
    assert held == {query for query in asked["base"] if not query.startswith("short/")}
    known = {answer.id: answer for answer in answers}
    measured = [row for row in store.all(Measurement) if row.subject in SUBJECTS]
    assert {row.answer_id for row in measured} == set(known)
    for row in measured:
        answer = known[row.answer_id]
        assert (row.subject, row.query_id) == (answer.subject, answer.query_id)
    assert {"contrast/asking", "relevance", "fluency", "kl", "short_right"} <= {
        row.metric for row in measured
    }
    base = {a.query_id: a.text for a in answers if a.subject == "base"}
    trained = {a.query_id: a.text for a in answers if a.subject == "trained"}
    assert base != trained


def test_each_training_is_logged(store: Store) -> None:
    steps = store.all(Step)
    for stage, count in (("reward_model", 1), ("distill", 2), ("dpo", 2)):
        told = [step.step for step in steps if step.stage == stage and step.metric == "loss"]
        assert told == list(range(1, len(told) + 1))
        assert len(told) >= count
    assert any(step.metric == "anchor_kl" for step in steps)


def test_the_artefacts_load_with_stock_libraries(built: Path, tiny_folder: Path) -> None:
    ids = torch.tensor([[5, 6, 7, 8]])

    def logits(model: Any) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = model.eval()(ids).logits
        return found

    plain = logits(AutoModelForCausalLM.from_pretrained(tiny_folder))
    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    adapted = logits(PeftModel.from_pretrained(base, built / "policy"))
    merged = logits(AutoModelForCausalLM.from_pretrained(built / "policy" / "merged"))
    assert not torch.equal(adapted, plain)
    torch.testing.assert_close(merged.float(), adapted, rtol=0.05, atol=0.2)  # may be bfloat16
    classifier = AutoModelForSequenceClassification.from_pretrained(tiny_folder, num_labels=1)
    reward = logits(PeftModel.from_pretrained(classifier, built / "reward_model"))
    assert reward.shape == (1, 1)
    assert not (built / "policy" / "ref").exists()


# --- again, and interrupted ---


def test_a_second_run_asks_no_model_and_changes_no_row(
    constitution: Constitution, recipe: Recipe, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("character.opened.load_local", None)  # none could be loaded
    before, record = rows_in(built), (built / "run.json").read_bytes()
    files = {file: file.stat().st_mtime_ns for file in (built / "policy").rglob("*")}
    reporter = Silent()
    with Run.open(built, identity_of(constitution, recipe), reporter) as run:
        build(constitution, recipe, run)
    assert reporter.stages == []
    assert rows_in(built) == before
    assert (built / "run.json").read_bytes() == record
    assert {file: file.stat().st_mtime_ns for file in (built / "policy").rglob("*")} == files


@pytest.mark.parametrize(
    ("until", "filled"),
    [
        ("queries", "drafts queries"),
        ("replies", "drafts queries replies"),
        ("rankings", "drafts queries replies judgements rankings taught steps"),
        ("pairs", "drafts queries replies judgements rankings pairs taught steps"),
    ],
)
def test_a_build_can_stop_early_and_go_on(
    constitution: Constitution, recipe: Recipe, built: Path, tmp_path: Path, until: str, filled: str
) -> None:
    with Run.open(tmp_path, identity_of(constitution, recipe), Silent()) as run:
        build(constitution, recipe, run, until)
    found, whole = rows_in(tmp_path), rows_in(built)
    assert {table for table, rows in found.items() if rows} == set(filled.split())
    for table, rows in found.items():
        assert rows == whole[table][: len(rows)]


def test_a_build_without_pairs_says_so(
    constitution: Constitution, recipe: Recipe, tmp_path: Path
) -> None:
    hopeless = recipe.model_copy(update={"pairs": recipe.pairs.model_copy(update={"margin": 1e9})})
    with Run.open(tmp_path, identity_of(constitution, hopeless), Silent()) as run:
        for _ in range(2):
            with pytest.raises(RunError, match=r"nothing to train on.*--set"):
                build(constitution, hopeless, run)
    assert not (tmp_path / "reward_model").exists()


@pytest.mark.parametrize(
    ("title", "event"),
    [
        ("Replies", 2),  # after the first chunk
        ("Own replies", 2),  # after the first dose
        ("Reward model", 1),  # before any checkpoint
        ("Distillation", 1),  # before any checkpoint, after a stage that drew numbers
        ("Distillation", 3),  # in the second epoch
        ("DPO", 3),  # in the second epoch
        ("Answers", 2),  # after the first subject
    ],
)
def test_a_killed_build_goes_on_to_the_same_end(
    constitution: Constitution,
    recipe: Recipe,
    built: Path,
    tmp_path: Path,
    title: str,
    event: int,
) -> None:
    workers = multiprocessing.get_context("forkserver")  # imports torch once for all of them
    workers.set_forkserver_preload(["character.pipeline"])
    worker = workers.Process(
        target=build_until_killed, args=(tmp_path, constitution, recipe, title, event)
    )
    worker.start()
    worker.join(120)
    assert worker.exitcode == -signal.SIGKILL
    with Store(tmp_path / "character.duckdb", read_only=True) as store:
        assert "measure" not in store.finished()

    reporter = Silent()
    with Run.open(tmp_path, identity_of(constitution, recipe), reporter) as run:
        build(constitution, recipe, run)
    assert reporter.stages[0] == title  # what had finished was not done again
    found, whole = rows_in(tmp_path), rows_in(built)
    for table, rows in whole.items():
        assert found[table] == rows, table
    for adapter in ("distilled", "policy", "reward_model"):
        name = f"{adapter}/adapter_model.safetensors"
        assert (tmp_path / name).read_bytes() == (built / name).read_bytes(), adapter


# --- other sources, when they are asked for ---


@pytest.fixture(scope="module")
def tuned_recipe(recipe: Recipe) -> Recipe:
    """Every source, in two chunks where there is more than one kind of row."""
    told = recipe.model_dump()
    sampling = {"max_tokens": 8}
    told["revisions"] = {"replies": 6, "critique": sampling}
    told["introspection"] = {"reflections": 3, "dialogues": 2, "replies": 2, "sampling": sampling}
    told["documents"] = {"count": 4, "name": "Pip", "sampling": sampling}
    told["training"]["sft"] = {"demonstrations": 1, "epochs": 2, "batch": 8, "micro_batch": 4}
    return Recipe.model_validate(told)


@pytest.fixture(scope="module")
def untuned(
    constitution: Constitution, tuned_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A build up to its distillation."""
    folder = tmp_path_factory.mktemp("runs") / "untuned"
    with Run.open(folder, identity_of(constitution, tuned_recipe), Silent()) as run:
        build(constitution, tuned_recipe, run, "distilled")
    return folder


@pytest.fixture(scope="module")
def tuned(
    constitution: Constitution,
    tuned_recipe: Recipe,
    untuned: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tuned"
    shutil.copytree(untuned, folder)
    with Run.open(folder, identity_of(constitution, tuned_recipe), Silent()) as run:
        build(constitution, tuned_recipe, run)
    return folder


def test_every_source_is_learned_and_leads_back_to_a_clause(
    built: Path, tuned: Path, constitution: Constitution, tiny_folder: Path
) -> None:
    weights = "adapter_model.safetensors"
    assert (tuned / "distilled" / weights).read_bytes() == (
        built / "distilled" / weights
    ).read_bytes()
    assert (tuned / "sft" / weights).read_bytes() != (tuned / "distilled" / weights).read_bytes()
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_folder), tuned / "sft")
    (trait,) = constitution.traits
    clauses = {clause.id for clause in trait.clauses}
    with Store(tuned / "character.duckdb", read_only=True) as store:
        stages = list(store.finished())
        first = stages.index("distilled")
        assert stages[first : first + 6] == [
            "distilled", "revisions", "revision_judgements", "introspection", "documents", "sft",
        ]  # fmt: skip
        learned = {row.learned_id for row in store.all(Taught) if row.stage == "sft"}
        replies = {reply.id: reply for reply in store.all(Reply)}
        queries = {query.id: query for query in store.all(Query)}
        revisions, talks, documents = store.all(Revision), store.all(Talk), store.all(Document)
        assert (len(revisions), len(talks), len(documents)) == (6, 5, 4)
        for row in (*revisions, *talks, *documents):
            assert (row.trait, row.clause in clauses) == (trait.id, True)
        for revision in revisions:
            assert replies[revision.reply_id].style == "plain"
            if revision.revised_id:
                assert replies[revision.revised_id].query_id == replies[revision.reply_id].query_id
        usable = {row.id for row in (*talks, *documents) if not row.failure}
        assert usable <= learned
        assert not learned & {row.id for row in (*talks, *documents) if row.failure}
        shown = {example_id(trait, example) for example in trait.examples}
        assert shown <= learned
        own = [replies[row] for row in learned - usable - shown]
        assert {reply.style for reply in own} <= {"steered", "revised"} and own
        assert {queries[reply.query_id].split for reply in own} == {"train"}
        judged = {judgement.reply_id for judgement in store.all(Judgement)}
        assert {reply.id for reply in replies.values() if reply.style == "revised"} <= judged
        lineage = Lineage(constitution, store)
        assert sum(row.finetuned for row in lineage.coverage()) == len(learned)
        told = {step.stage for step in _funnel(store, list(queries.values()))}
        assert {"Revisions learned", "Talks learned", "Documents learned"} <= told
        nll = [s.step for s in store.all(Step) if (s.stage, s.metric) == ("sft", "nll")]
        assert nll == list(range(1, len(nll) + 1)) and len(nll) >= 2


def test_sources_of_which_nothing_is_of_use_are_told(
    constitution: Constitution, recipe: Recipe, tmp_path: Path
) -> None:
    told = recipe.model_dump()
    told["documents"] = {"count": 2, "name": "Pip", "sampling": {"max_tokens": 4}}
    told["replies"]["looping"] = 1e-9
    hopeless = Recipe.model_validate(told)
    with Run.open(tmp_path, identity_of(constitution, hopeless), Silent()) as run:
        build(constitution, hopeless, run, "documents")
        failed = [replace(row, failure="refused") for row in run.store.all(Document)]
        with pytest.raises(RunError, match=r"no source gave a text.*roles\.writer"):
            finetune(
                Build(constitution, hopeless, run, None),  # type: ignore[arg-type]
                tmp_path / "distilled", [], [], [], [], failed, list,
            )  # fmt: skip


@pytest.mark.parametrize(
    ("title", "event"),
    [("Revisions", 2), ("Introspection", 2), ("Documents", 1), ("Fine-tuning", 1),
     ("Fine-tuning", 4)],
)  # fmt: skip
def test_a_build_killed_in_a_source_goes_on_to_the_same_end(
    constitution: Constitution,
    tuned_recipe: Recipe,
    untuned: Path,
    tuned: Path,
    tmp_path: Path,
    title: str,
    event: int,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(untuned, folder)
    workers = multiprocessing.get_context("forkserver")
    workers.set_forkserver_preload(["character.pipeline"])
    worker = workers.Process(
        target=build_until_killed, args=(folder, constitution, tuned_recipe, title, event)
    )
    worker.start()
    worker.join(120)
    assert worker.exitcode == -signal.SIGKILL
    reporter = Silent()
    with Run.open(folder, identity_of(constitution, tuned_recipe), reporter) as run:
        build(constitution, tuned_recipe, run, "sft")
    assert reporter.stages[0] == title
    found, whole = rows_in(folder), rows_in(tuned)
    for table in ("queries", "replies", "revisions", "talks", "documents", "judgements", "taught"):
        assert found[table] and found[table] == whole[table][: len(found[table])], table
    assert found["documents"] == whole["documents"] and found["revisions"] == whole["revisions"]
    name = "sft/adapter_model.safetensors"
    assert (folder / name).read_bytes() == (tuned / name).read_bytes()


# --- further rounds, when they are asked for ---


def message(asked: str) -> str:
    """Another one for every list of messages, like no other: random weights write none."""
    draw = random.Random(asked)
    words = ("".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=9)) for _ in range(5))
    return f"Why does {' '.join(words)}?"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("cache"))
        patch.setenv("CHARACTER_CACHE", folder)
        yield folder


@pytest.fixture(scope="module")
def rounds_recipe(recipe: Recipe, cache: str) -> Iterator[Recipe]:
    told = recipe.model_dump() | {"rounds": 2}
    told["queries"] |= {"fresh": 6, "sampling": {"max_tokens": 36}}
    told["replies"]["own"] = 2
    told["training"]["dose"]["tried"] = [1.0]
    told["measure"]["best_of"] = 3
    with serving(Server(say=message)) as server:
        told["roles"]["writer"] = f"{server.url}#m"
        yield Recipe.model_validate(told)


@pytest.fixture(scope="module")
def one_round(
    constitution: Constitution, rounds_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A build up to its first further round."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    with Run.open(folder, identity_of(constitution, rounds_recipe), Silent()) as run:
        build(constitution, rounds_recipe, run, "ppo")
    return folder


@pytest.fixture(scope="module")
def rounds(
    constitution: Constitution,
    rounds_recipe: Recipe,
    one_round: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "rounds"
    shutil.copytree(one_round, folder)
    with Run.open(folder, identity_of(constitution, rounds_recipe), Silent()) as run:
        build(constitution, rounds_recipe, run)
    return folder


def test_each_round_goes_on_from_the_last_on_fresh_queries(rounds: Path) -> None:
    weights = "adapter_model.safetensors"
    policies = [
        (rounds / name / weights).read_bytes() for name in ("policy", "policy-1", "policy-2")
    ]
    assert len(set(policies)) == 3
    assert policy_of(rounds) == rounds / "policy-2" / "merged"
    with Store(rounds / "character.duckdb", read_only=True) as store:
        queries = {query.id: query for query in store.all(Query)}
        replies = {reply.id: reply for reply in store.all(Reply)}
        pairs = {pair.id: pair for pair in store.all(Pair)}
        fresh = [query for query in queries.values() if query.round and not query.dropped]
        assert {query.round for query in fresh} == {1, 2}
        assert {(query.split, query.kind) for query in fresh} == {("train", "on_trait")}
        texts = [query.text for query in queries.values() if not query.dropped]
        assert len(texts) == len(set(texts))
        for number in (1, 2):
            asked = {query.id for query in fresh if query.round == number}
            own = [r for r in replies.values() if r.query_id in asked and r.style == "own"]
            assert len(own) == 2 * len(asked)  # two of each, by the policy of the round before
            earlier = "policy-1" if number == 2 else "policy"
            assert {reply.model.partition("@")[0] for reply in own} == {earlier}
            learned = [t for t in store.all(Taught) if t.stage == f"policy-{number}"]
            assert learned and {pairs[t.learned_id].query_id for t in learned} <= asked
            trained = load_from_disk(rounds / f"dataset-{number}")["train"]["pair_id"]
            assert set(trained) == {  # old pairs and new ones
                pair.id
                for pair in pairs.values()
                if pair.split == "train" and queries[pair.query_id].round <= number
            }
            logged = {step.stage for step in store.all(Step)}
            assert {f"dpo-{number}", f"reward_model-{number}"} <= logged
        held = [pair.id for pair in pairs.values() if pair.split == "held_out"]
        verdicts = Counter(reward.pair_id for reward in store.all(Reward))
        assert verdicts == dict.fromkeys(held, 3)  # once by each round's reward model


def test_the_best_of_n_is_measured_beside_the_trained(rounds: Path) -> None:
    with Store(rounds / "character.duckdb", read_only=True) as store:
        answers = store.all(Answer)
        assert {answer.subject for answer in answers} == SUBJECTS | {"best-of-n"}
        best, base = (
            {a.query_id: a.text for a in answers if a.subject == subject}
            for subject in ("best-of-n", "base")
        )
        assert best.keys() == base.keys() and best != base
        assert any(best[query] == base[query] for query in best)  # the first has the same seed
        measured = {m.metric for m in store.all(Measurement) if m.subject == "best-of-n"}
        assert {"contrast/asking", "relevance", "fluency", "tokens", "short_right"} <= measured


def test_the_report_is_that_of_the_last_policy(
    constitution: Constitution, rounds_recipe: Recipe, rounds: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(rounds, folder)
    identity = identity_of(constitution, rounds_recipe)
    job = Job(constitution, rounds_recipe, folder, "report", identity, "character build")
    with Run.open(folder, identity, Silent()) as run:
        report = finish(job, run)
    assert report.policy == "policy-2"
    cards = [(folder / name / "README.md").read_text() for name in ("policy-2", "policy-1")]
    assert "best-of-n" in cards[0] and "best-of-n" not in cards[1]  # the other is peft's own
    assert report.outcome.subjects[-1] == "best-of-n"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "DPO, round 2" in page and 'class="dot best-of-n"' in page
    (trial,) = report.doses.trials if report.doses else ()
    with Store(folder / "character.duckdb", read_only=True) as store:
        first = {query.id for query in store.all(Query) if not query.round}
        own = [r for r in store.all(Reply) if r.style == "own" and r.query_id in first]
    assert trial.replies == len(own)  # of the first round alone


def build_with(cache: str, *killed: Any) -> None:
    os.environ["CHARACTER_CACHE"] = cache  # the fork server was started without
    build_until_killed(*killed)


def test_a_round_without_a_fresh_query_leaves_the_policy_and_says_so(
    constitution: Constitution, recipe: Recipe, tmp_path: Path
) -> None:
    told = recipe.model_dump() | {"rounds": 1}
    told["queries"]["fresh"] = 2  # random weights write none of use
    alone = Recipe.model_validate(told)
    reporter = Silent()
    with Run.open(tmp_path, identity_of(constitution, alone), reporter) as run:
        build(constitution, alone, run, "rounds")
    said = " ".join(reporter.console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "Round 1: no reply was clearly better" in said and "Its fresh queries: 2 " in said
    assert policy_of(tmp_path) == tmp_path / "policy" / "merged"


@pytest.mark.parametrize(
    ("title", "event"),
    [("Own replies, round 1", 2), ("DPO, round 1", 2), ("Queries, round 2", 1)],
)  # fmt: skip
def test_a_build_killed_in_a_round_goes_on_to_the_same_end(
    constitution: Constitution,
    rounds_recipe: Recipe,
    one_round: Path,
    rounds: Path,
    cache: str,
    tmp_path: Path,
    title: str,
    event: int,
) -> None:
    workers = multiprocessing.get_context("forkserver")
    workers.set_forkserver_preload(["character.pipeline"])
    folder = tmp_path / "run"
    shutil.copytree(one_round, folder)
    worker = workers.Process(
        target=build_with, args=(cache, folder, constitution, rounds_recipe, title, event)
    )
    worker.start()
    worker.join(180)
    assert worker.exitcode == -signal.SIGKILL
    reporter = Silent()
    with Run.open(folder, identity_of(constitution, rounds_recipe), reporter) as run:
        build(constitution, rounds_recipe, run, "rounds")
    assert reporter.stages[0] == title
    found, whole = rows_in(folder), rows_in(rounds)
    for table in ("queries", "replies", "judgements", "rankings", "pairs", "rewards", "taught"):
        assert found[table] == whole[table], table
    for name in ("policy-2", "reward_model-2"):
        path = f"{name}/adapter_model.safetensors"
        assert (folder / path).read_bytes() == (rounds / path).read_bytes(), name


def test_only_what_the_first_round_made_is_taken_over(
    constitution: Constitution, rounds_recipe: Recipe, rounds: Path, tmp_path: Path
) -> None:
    """A clause's words decide no data here, so every row comes out the same; later ones anew."""
    (member,) = constitution.members
    clauses = [clause.model_copy(update={"text": "I ask."}) for clause in member.trait.clauses]
    reworded = Constitution((Member(member.trait.model_copy(update={"clauses": clauses})),))
    old = tmp_path / "old"
    shutil.copytree(rounds, old)
    with Run.open(old, identity_of(constitution, rounds_recipe), Silent()) as run:
        run.record(spec=constitution.plain)
        queries = {query.id: query for query in run.store.all(Query)}
        first = {reply.id for reply in run.store.all(Reply) if not queries[reply.query_id].round}
        drafts = Counter(draft.round for draft in run.store.all(Draft))
    assert drafts.keys() == {0, 1, 2} and drafts[1] == drafts[2] == 6
    earlier = open_earlier(old)
    assert {row.round for row in (*earlier.queries, *earlier.drafts)} == {0}
    assert earlier.replies.keys() == first
    assert {judgement.reply_id for judgement in earlier.judgements.values()} == first
    reporter = Silent()
    with Run.open(tmp_path / "new", identity_of(reworded, rounds_recipe), reporter) as run:
        build(reworded, rounds_recipe, run, "rounds", earlier=earlier)
        taken = run.recorded(TAKEN)
    assert {"Queries, round 1", "Replies, round 1", "Judgements, round 2"} <= set(reporter.stages)
    assert taken["drafts"] == drafts[0] and not [stage for stage in taken if "-" in stage]
    assert taken["replies"] + taken["own_replies"] == len(first)
    found, whole = rows_in(tmp_path / "new"), rows_in(old)
    for table in ("drafts", "queries", "replies", "judgements", "rankings", "pairs", "taught"):
        assert found[table] == whole[table], table


# --- PPO, when it is asked for ---


@pytest.fixture(scope="module")
def ppo_recipe(recipe: Recipe) -> Recipe:
    told = recipe.model_dump()
    told["training"]["ppo"] |= {
        "updates": 3,
        "rollouts": 4,
        "batch": 4,
        "max_tokens": 8,
        "truncated": "score",
    }
    # four queries and random weights: what they do says nothing
    unguarded = {
        "no_signal": None,
        "over_optimised": False,
        "trait": False,
        "ended": None,
        "length": None,
    }
    told["training"]["ppo"]["guards"] |= {"every": 2, "queries": 4, "questions": 2} | unguarded
    return Recipe.model_validate(told)


@pytest.fixture(scope="module")
def preferred(
    constitution: Constitution, ppo_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A build up to DPO, whose reward model was found fit to drive PPO."""
    folder = tmp_path_factory.mktemp("runs") / "preferred"
    with Run.open(folder, identity_of(constitution, ppo_recipe), Silent()) as run:
        build(constitution, ppo_recipe, run, "policy")
    test = RewardTest("accuracy", 0.9, bar="0.8", passed=True, required=True)
    fit = RewardCard(40, 0.9, 0.8, 0.95, 0.5, 0.05, (test,))
    save_card(fit, folder / "reward_model")
    return folder


@pytest.fixture(scope="module")
def improved(
    constitution: Constitution,
    ppo_recipe: Recipe,
    preferred: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "improved"
    shutil.copytree(preferred, folder)
    with Run.open(folder, identity_of(constitution, ppo_recipe), Silent()) as run:
        build(constitution, ppo_recipe, run)
    return folder


def test_ppo_goes_on_from_dpo_and_is_what_is_measured(
    built: Path, improved: Path, tiny_folder: Path
) -> None:
    policy = "policy/adapter_model.safetensors"
    assert (improved / policy).read_bytes() == (built / policy).read_bytes()
    trained = (improved / "ppo/adapter_model.safetensors").read_bytes()
    assert trained != (improved / policy).read_bytes()
    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    PeftModel.from_pretrained(base, improved / "ppo")
    assert policy_of(improved) == improved / "ppo" / "merged"
    assert policy_of(built) == built / "policy" / "merged"
    with Store(improved / "character.duckdb", read_only=True) as store:
        assert list(store.finished())[-5:] == ["policy", "ppo", "distances", "answers", "measure"]
        assert {answer.subject for answer in store.all(Answer)} == SUBJECTS
        steps = [step for step in store.all(Step) if step.stage == "ppo"]
        assert [s.step for s in steps if s.metric == "reward"] == [1, 2, 3]
        assert [s.step for s in steps if s.metric == "probe/short"] == [0, 2, 3]
        assert [s.value for s in steps if s.metric == "guards_tripped"] == [0.0]
    guarded = guarded_in(json.loads((improved / "run.json").read_bytes())["ppo"])
    assert guarded is not None and guarded.rules and not guarded.tripped
    assert (guarded.updates, guarded.done, guarded.kept) == (3, 3, 3)


def test_a_guard_that_trips_leaves_the_policy_as_it_was_and_says_so(
    constitution: Constitution, ppo_recipe: Recipe, preferred: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(preferred, folder)
    told = ppo_recipe.model_dump()
    told["training"]["ppo"] |= {"kl_target": None, "learning_rate": 3e-2}
    told["training"]["ppo"]["guards"] |= {"kl": 1e-9}
    reporter = Silent()
    with Run.open(folder, identity_of(constitution, ppo_recipe), reporter) as run:
        build(constitution, Recipe.model_validate(told), run, "ppo")
        guarded = guarded_in(run.recorded("ppo"))
    assert guarded is not None and (guarded.done, guarded.kept) == (2, 0)
    assert guarded.tripped[0].startswith("KL: ")
    said = reporter.console.file.getvalue()  # type: ignore[attr-defined]
    assert "PPO was stopped after update 2 of 3, and the policy is as it was before PPO." in said
    trained, before = (
        load_file(folder / stage / "adapter_model.safetensors") for stage in ("ppo", "policy")
    )
    assert trained.keys() == before.keys()
    assert all(torch.equal(trained[name], before[name]) for name in before)


def test_a_reward_model_below_its_bars_stops_the_build_before_ppo(
    constitution: Constitution, ppo_recipe: Recipe, preferred: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(preferred, folder)
    (folder / "reward_model" / "card.json").unlink()
    with (
        Run.open(folder, identity_of(constitution, ppo_recipe), Silent()) as run,
        pytest.raises(ModelError, match=r"may not drive PPO.*--set"),
    ):
        build(constitution, ppo_recipe, run)
    assert policy_of(folder) == folder / "policy" / "merged"


@pytest.mark.parametrize("event", [1, 3])  # before a probe; after the last update
def test_a_build_killed_in_ppo_goes_on_to_the_same_end(
    constitution: Constitution,
    ppo_recipe: Recipe,
    preferred: Path,
    improved: Path,
    tmp_path: Path,
    event: int,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(preferred, folder)
    workers = multiprocessing.get_context("forkserver")
    workers.set_forkserver_preload(["character.pipeline"])
    worker = workers.Process(
        target=build_until_killed, args=(folder, constitution, ppo_recipe, "PPO", event)
    )
    worker.start()
    worker.join(120)
    assert worker.exitcode == -signal.SIGKILL
    assert (folder / ".work" / "ppo" / CHECKPOINT).exists()
    reporter = Silent()
    with Run.open(folder, identity_of(constitution, ppo_recipe), reporter) as run:
        build(constitution, ppo_recipe, run)
    assert reporter.stages[0] == "PPO"
    assert rows_in(folder) == rows_in(improved)
    name = "ppo/adapter_model.safetensors"
    assert (folder / name).read_bytes() == (improved / name).read_bytes()
    told = [json.loads((run / "run.json").read_bytes())["ppo"] for run in (folder, improved)]
    assert told[0] == told[1]
