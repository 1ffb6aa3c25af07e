"""A trait edited and built again beside its earlier run: what is made anew, and what is not."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from making import a_trait
from rich.console import Console
from test_pipeline import Silent, identity_of, recipe_for, rows_in

from character import opened
from character.earlier import EARLIER, HELD_BEFORE, TAKEN, choose_earlier, find_earlier
from character.errors import RunError
from character.models.base import Generation, Request, Sampling, Scorable, Score
from character.models.loading import load_local
from character.models.local import LocalModel
from character.pipeline import build
from character.recipe import Recipe
from character.rows import Draft, Judgement, Query, Reply, Row
from character.run import DATABASE, Run
from character.spec.constitution import Constitution, Member
from character.spec.schema import Trait
from character.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore:.(is_)?gradient_checkpointing:FutureWarning")

CLAUSES = ("answers", "asks", "names", "thanks", "stops")


@dataclass
class Calls:
    """What all models of a build were asked."""

    drafts: list[Request] = field(default_factory=list)
    replies: list[Request] = field(default_factory=list)
    scored: list[Scorable] = field(default_factory=list)

    def clear(self) -> None:
        self.drafts, self.replies, self.scored = [], [], []


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    made = Calls()

    class Counted(LocalModel):
        def generate(
            self,
            requests: Any,
            sampling: Sampling,
            on_done: Callable[[int], object] = lambda count: None,
        ) -> list[Generation]:
            made.drafts.extend(request for request in requests if request.text)
            made.replies.extend(request for request in requests if request.conversation)
            return super().generate(requests, sampling, on_done)

        def score(self, items: Any) -> list[Score]:
            made.scored.extend(items)
            return super().score(items)

    def load(name: str, report: Any) -> LocalModel:
        model = load_local(name, report)
        return Counted(model.model, model.tokenizer, model.name)

    monkeypatch.setattr(opened, "load_local", load)
    return made


@pytest.fixture(scope="module")
def recipe(tiny_folder: Path) -> Recipe:
    """More queries than the trait brings, so that the writer has something to write."""
    told = recipe_for(tiny_folder).model_dump()
    told["queries"] |= {"train": 30}
    return Recipe.model_validate(told)


@pytest.fixture(scope="module")
def five(small_trait: Trait) -> Trait:
    """Five clauses, an example each."""
    told = small_trait.model_dump(by_alias=True)
    examples = [
        {
            "clause": clause,
            "user": f"Where is the {thing} now?",
            "good": f"The {thing} is here. What is yours?",
            "bad": f"The {thing} is here.",
            "why": "It asks.",
        }
        for clause, thing in zip(CLAUSES, ("oven", "flask", "yeast", "drum", "bulb"), strict=True)
    ]
    clauses = [{"id": name, "text": f"I do {name}."} for name in CLAUSES]
    return Trait.model_validate(told | {"clauses": clauses, "examples": examples})


def reworded(trait: Trait) -> Trait:
    first, *others = trait.clauses
    clauses = [first.model_copy(update={"text": "I say it first.", "weight": 2.0}), *others]
    return trait.model_copy(update={"clauses": clauses, "rationale": "Because."})


def with_example(trait: Trait, clause: str, **changes: str) -> Trait:
    examples = [e.model_copy(update=changes) if e.clause == clause else e for e in trait.examples]
    return trait.model_copy(update={"examples": examples})


def built(
    folder: Path, trait: Trait, recipe: Recipe, until: str = "judgements", **how: Any
) -> Path:
    constitution = Constitution((Member(trait),))
    identity = identity_of(constitution, recipe) | {"character": "1"}
    with Run.open(folder, identity, Silent()) as run:
        run.record(spec=constitution.plain)
        earlier = choose_earlier(run, constitution, identity, **how)
        build(constitution, recipe, run, until, earlier=earlier)
    return folder


def facts(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return found


R = TypeVar("R", bound=Row)


@dataclass
class Rows:
    """Everything a run stored."""

    run: Path

    def all(self, kind: type[R]) -> list[R]:
        with Store(self.run / DATABASE, read_only=True) as opened:
            return opened.all(kind)


def by_id(run: Path) -> dict[str, dict[str, tuple[Any, ...]]]:
    return {table: {row[0]: row for row in rows} for table, rows in rows_in(run).items()}


# --- one clause of five is edited ---


def test_rewording_a_clause_makes_no_data_anew(
    five: Trait, recipe: Recipe, tmp_path: Path, calls: Calls
) -> None:
    """Nobody reads a clause's words in a build whose judge goes by likelihoods."""
    first = built(tmp_path / "first", five, recipe, "pairs")
    calls.clear()
    second = built(tmp_path / "second", reworded(five), recipe, "pairs")
    assert not calls.drafts and not calls.scored
    anchors = [request for request in calls.replies if request.conversation]
    fresh = built(tmp_path / "fresh", reworded(five), recipe, "pairs", fresh=True)
    assert len(anchors) < 20  # what the anchors are, which is training and no data
    assert rows_in(second) == rows_in(fresh) == rows_in(first)  # row for row, in order
    told = facts(second)
    assert told[EARLIER] == {"from": str(first)}
    with Store(second / DATABASE, read_only=True) as found:
        assert told[TAKEN] == {
            "drafts": len(found.all(Draft)),
            "replies": sum(reply.style != "own" for reply in found.all(Reply)),
            "judgements": sum(reply.style != "own" for reply in found.all(Reply)),
            "own_replies": sum(reply.style == "own" for reply in found.all(Reply)),
            "own_judgements": sum(reply.style == "own" for reply in found.all(Reply)),
        }
    assert facts(fresh)[EARLIER] == {"from": None} and TAKEN not in facts(fresh)


def test_editing_an_examples_message_makes_its_clauses_drafts_anew_and_keeps_plain_replies(
    five: Trait, recipe: Recipe, tmp_path: Path, calls: Calls
) -> None:
    edited = with_example(five, "asks", user="Whose ladder stands behind the old chimney?")
    old = Rows(built(tmp_path / "first", five, recipe))
    calls.clear()
    second = built(tmp_path / "second", edited, recipe)
    new = Rows(second)
    drafts = {draft.id for draft in old.all(Draft)}
    anew = [draft for draft in new.all(Draft) if draft.id not in drafts]
    assert {draft.clause for draft in anew} == {"asks"} and len(calls.drafts) == len(anew)
    known = {query.id: query for query in old.all(Query)}
    for query in new.all(Query):
        if query.clause != "asks":
            assert query.id in known
            if known[query.id].split != "none" and not query.dropped:
                assert query.split == known[query.id].split
    plain = [reply for reply in old.all(Reply) if reply.style == "plain"]
    there = {reply.id: reply for reply in new.all(Reply)}
    assert len(plain) > 10 and all(there[reply.id] == reply for reply in plain)
    steered = {reply.id for reply in old.all(Reply) if reply.style == "steered"}
    assert not steered & there.keys()  # every one was shown the example
    assert len(calls.replies) == len(there) - len(plain)
    assert not {j.id for j in old.all(Judgement)} & {j.id for j in new.all(Judgement)}
    assert facts(second)[TAKEN]["replies"] == len(plain)

    fresh = by_id(built(tmp_path / "fresh", edited, recipe, fresh=True))
    found = by_id(second)
    assert found["drafts"].keys() == fresh["drafts"].keys()
    same = [found["drafts"][key] == row for key, row in fresh["drafts"].items()]
    assert sum(same) > 0.8 * len(same)  # a batch of others rounds otherwise, and may draw otherwise
    asked = [{row[1] for row in run["queries"].values() if row[7] == "seed"}
             for run in (found, fresh)]  # fmt: skip
    assert asked[0] == asked[1]
    shared = found["replies"].keys() & fresh["replies"].keys()
    assert len(shared) > 20  # the others are of queries on another side
    assert all(found["replies"][key] == fresh["replies"][key] for key in shared)


def test_editing_a_bad_example_keeps_every_reply(
    five: Trait, recipe: Recipe, tmp_path: Path, calls: Calls
) -> None:
    old = Rows(built(tmp_path / "first", five, recipe))
    calls.clear()
    edited = with_example(five, "asks", bad="The flask is out of sight.")
    new = Rows(built(tmp_path / "second", edited, recipe))
    assert not calls.drafts and not calls.replies
    assert new.all(Query) == old.all(Query) and new.all(Reply) == old.all(Reply)
    assert not {j.id for j in old.all(Judgement)} & {j.id for j in new.all(Judgement)}
    fresh = Rows(built(tmp_path / "fresh", edited, recipe, fresh=True))
    assert new.all(Judgement) == fresh.all(Judgement)


def test_what_another_trait_says_leaves_the_judgements_of_this_one(
    five: Trait, recipe: Recipe, tmp_path: Path, calls: Calls
) -> None:
    other = a_trait("brisk")
    changed = with_example(other, "no-coda", bad="Apples float, as ever and always.")
    runs = []
    for name, second in (("first", other), ("second", changed)):
        constitution = Constitution((Member(five), Member(second)))
        identity = identity_of(constitution, recipe) | {"character": "1"}
        with Run.open(tmp_path / name, identity, Silent()) as run:
            run.record(spec=constitution.plain)
            calls.clear()
            earlier = choose_earlier(run, constitution, identity)
            build(constitution, recipe, run, "judgements", earlier=earlier)
        runs.append(Rows(tmp_path / name))
    old, new = ({j.id: j for j in run.all(Judgement)} for run in runs)
    kept = Counter(old[key].trait for key in old.keys() & new.keys())
    assert kept == {"asking": len(runs[0].all(Reply))} and not calls.replies
    assert {runs[0].all(Reply) == runs[1].all(Reply)} == {True}


# --- over several versions ---


def test_what_any_version_held_out_is_never_trained_on(
    five: Trait, recipe: Recipe, tmp_path: Path
) -> None:
    seeds = five.queries.seeds
    held: set[str] = set()
    kept = seeds
    for number in range(4):
        queries = five.queries.model_copy(update={"seeds": seeds if number == 3 else kept})
        version = five.model_copy(update={"version": f"1.0.{number}", "queries": queries})
        run = built(tmp_path / str(number), version, recipe, "queries")
        os.utime(run / DATABASE, (number, number))
        rows = Rows(run).all(Query)
        assert not held & {query.text for query in rows if query.split == "train"}
        assert set(facts(run).get(HELD_BEFORE, ())) >= held
        own = {query.text for query in rows if query.split == "held_out"}
        assert own
        held |= own
        kept = [seed for seed in kept if seed not in held]  # the next version asks none of them
    assert len(held & set(seeds)) > len(own & set(seeds))


# --- which run ---


def test_a_run_that_made_its_data_otherwise_is_not_taken_over(
    five: Trait, recipe: Recipe, tmp_path: Path
) -> None:
    built(tmp_path / "first", five, recipe, "queries")
    for changes in ({"seed": 1}, {"queries": recipe.queries.model_copy(update={"train": 9})}):
        other = recipe.model_copy(update=changes)
        run = built(tmp_path / f"other {next(iter(changes))}", five, other, "queries")
        assert facts(run)[EARLIER] == {"from": None}
    alike = recipe.model_copy(update={"title": "Other", "pairs": recipe.pairs})
    assert facts(built(tmp_path / "alike", five, alike, "queries"))[EARLIER]["from"]
    renamed = five.model_copy(update={"id": "other"})
    assert facts(built(tmp_path / "renamed", renamed, recipe, "queries"))[EARLIER]["from"] is None


def test_a_run_named_by_hand_is_taken_over_or_refused(
    five: Trait, recipe: Recipe, tmp_path: Path
) -> None:
    first = built(tmp_path / "a" / "first", five, recipe, "queries")
    second = built(tmp_path / "b" / "second", reworded(five), recipe, "queries", source=first)
    assert facts(second)[TAKEN]["drafts"] > 0
    with pytest.raises(RunError, match="not a run folder"):
        built(tmp_path / "third", five, recipe, source=tmp_path / "none")
    brisk = a_trait("brisk")
    with pytest.raises(RunError, match=r"is a run of asking.*holds for brisk"):
        built(tmp_path / "fourth", brisk, recipe, source=first)


def test_a_build_goes_on_with_the_run_it_began_with(
    five: Trait, recipe: Recipe, tmp_path: Path, calls: Calls
) -> None:
    first = built(tmp_path / "first", five, recipe)
    again = built(tmp_path / "second", reworded(five), recipe, "queries")
    built(tmp_path / "third", five.model_copy(update={"version": "2.0.0"}), recipe, "queries")
    calls.clear()
    built(again, reworded(five), recipe)
    assert facts(again)[EARLIER] == {"from": str(first)} and not calls.replies
    with pytest.raises(RunError, match=r"begun to take over from .*first.*--out"):
        built(again, reworded(five), recipe, fresh=True)
    with pytest.raises(RunError, match="begun to take over"):
        built(again, reworded(five), recipe, source=tmp_path / "third")
    with pytest.raises(RunError, match="begun without taking over"):
        built(first, five, recipe, source=again)


def test_a_run_that_is_gone_or_broken_is_told_of_and_the_build_goes_on(
    five: Trait, recipe: Recipe, tmp_path: Path
) -> None:
    first = built(tmp_path / "first", five, recipe, "queries")
    (first / DATABASE).write_bytes(b"broken")
    second = built(tmp_path / "second", reworded(five), recipe, "queries")
    assert facts(second)[EARLIER] == {"from": None}
    third = built(tmp_path / "third", five.model_copy(update={"version": "2.0.0"}), recipe,
                  "queries")  # fmt: skip
    assert facts(third)[EARLIER] == {"from": str(second)}
    (second / DATABASE).unlink()
    built(third, five.model_copy(update={"version": "2.0.0"}), recipe, "replies")


def test_the_newest_run_comes_first(five: Trait, recipe: Recipe, tmp_path: Path) -> None:
    runs = [built(tmp_path / name, five, recipe, "queries", fresh=True) for name in "ab"]
    os.utime(runs[0] / DATABASE, (9e9, 9e9))
    constitution = Constitution((Member(five),))
    identity = identity_of(constitution, recipe) | {"character": "1"}
    assert list(find_earlier(tmp_path / "c", constitution, identity)) == runs


def test_flaws_are_marked_as_the_new_recipe_has_them(
    five: Trait, recipe: Recipe, tmp_path: Path
) -> None:
    first = built(tmp_path / "first", five, recipe, "replies")
    assert not any("looping" in reply.flaws for reply in Rows(first).all(Reply))
    strict = recipe.model_copy(
        update={"replies": recipe.replies.model_copy(update={"looping": 1e-9})}
    )
    second = Rows(built(tmp_path / "second", five, strict, "replies", source=first))
    fresh = Rows(built(tmp_path / "fresh", five, strict, "replies", fresh=True))
    assert second.all(Reply) == fresh.all(Reply)
    assert replace(second.all(Reply)[0], flaws=()) == replace(Rows(first).all(Reply)[0], flaws=())


def test_what_was_taken_over_is_said(five: Trait, recipe: Recipe, tmp_path: Path) -> None:
    built(tmp_path / "first", five, recipe, "queries")
    constitution = Constitution((Member(reworded(five)),))
    identity = identity_of(constitution, recipe) | {"character": "1"}
    reporter = Silent()
    with Run.open(tmp_path / "second", identity, reporter) as run:
        earlier = choose_earlier(run, constitution, identity)
        build(constitution, recipe, run, "queries", earlier=earlier)
    file = reporter.console.file
    assert isinstance(file, io.StringIO) and isinstance(reporter.console, Console)
    said = " ".join(file.getvalue().split())
    assert "Takes over from" in said and "--fresh" in said and "drafts from" in said
