"""The whole build on a tiny model: what it leaves, and that no kill changes it."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import load_from_disk
from peft import PeftModel
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from character.errors import RunError
from character.judge_pipeline import cards_in, keep_card
from character.judging.card import ClauseTest
from character.pipeline import build
from character.progress import Bar, Reporter
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
    Step,
)
from character.run import Run
from character.spec.constitution import Constitution, Member
from character.spec.schema import Trait
from character.store.store import TABLES, Store

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


# --- what a build leaves ---


def test_every_table_is_filled_and_every_stage_recorded(store: Store) -> None:
    assert all(store.all(kind) for kind in TABLES)
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
    measured = store.all(Measurement)
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
        ("queries", "queries"),
        ("replies", "queries replies"),
        ("rankings", "queries replies judgements rankings taught steps"),
        ("pairs", "queries replies judgements rankings pairs taught steps"),
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
