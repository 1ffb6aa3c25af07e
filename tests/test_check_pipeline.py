"""Traits measured on a scripted and on a tiny model, and what is said of them."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from making import EXAMPLES
from rich.console import Console

from character import check as command
from character.check_pipeline import KEPT, SIZES, measure, with_measures
from character.judge_pipeline import Bench, card_id, card_of
from character.judging.agreement import Split
from character.judging.card import ClauseTest, Failed, Test
from character.judging.checks import passes
from character.judging.config import CardConfig
from character.judging.halves import Ambiguity
from character.judging.kinds import judge_of
from character.judging.measures import Measured, Measures
from character.judging.nearness import Confusion, Nearness
from character.judging.plants import PlantsConfig
from character.judging.pull import Pull
from character.kept import kept_in
from character.models.base import Request, Scorable
from character.models.fake import ScriptedModel
from character.progress import Reporter
from character.report.findings import findings_json, findings_text
from character.report.measures import measured_text
from character.spec.lint import Checked, check_files
from character.spec.rules import MEASURED

WORDS = ["tea", "sea", "bee", "fig", "oak", "fox", "owl", "elk", "ant", "yak", "hen", "cod"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARACTER_CACHE", str(tmp_path / "cache"))


def quiet() -> Reporter:
    return Reporter(Console(file=io.StringIO()))


class Model(ScriptedModel):
    """Says `mark` as often as good examples are shown, and finds replies likely that do."""

    def __init__(self, mark: str = "yes") -> None:
        super().__init__(self.answer, self.logprob, name="model")
        self.mark, self.drafts = mark, 0

    def answer(self, request: Request) -> str:
        if request.text:
            self.drafts += 1
            letters = hashlib.sha256(str(self.drafts).encode()).hexdigest()
            return " ".join(letters[at : at + 8] for at in range(0, 48, 8)) + "?"
        said = " ".join(turn.content for turn in request.conversation[:-1])
        return f"It is {request.seed}. " + " ".join([self.mark] * (1 + said.count(self.mark)))

    def logprob(self, item: Scorable) -> float:
        shown = sum(self.mark in turn.content for turn in item.conversation)
        return float(shown * item.reply.count(self.mark) - len(item.reply))


def a_file(
    folder: Path, name: str = "mine", good: str = "yes", bad: str = "no", **more: Any
) -> str:
    examples = [
        e | {"good": f"{good} {n} {n}", "bad": f"{bad} {n} {n}", "clause": clause}
        for n, (e, clause) in enumerate(
            zip([*EXAMPLES, *EXAMPLES], ["one", "two", "one", "two", "one", "two"], strict=True)
        )
    ]
    content = {
        "schema": 1, "id": name, "title": name, "statement": "I agree.", "opposite": "I refuse.",
        "rationale": "Why not.",
        "clauses": [{"id": "one", "text": "I say so."}, {"id": "two", "text": "I do so."}],
        "examples": [e | {"user": f"Question {n} {e['user']}"} for n, e in enumerate(examples)],
        "queries": {"seeds": [f"What is a {word} good for?" for word in WORDS]},
    }  # fmt: skip
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content | more, sort_keys=False), encoding="utf-8")
    return str(path)


def checked(*paths: str) -> Checked:
    return check_files(paths, passes)


def codes(found: Checked) -> set[str]:
    return {finding.code for finding in found.findings} & set(MEASURED)


def test_a_trait_that_works_has_measures_and_no_findings(tmp_path: Path) -> None:
    found = checked(a_file(tmp_path))
    measured = measure(found.sources, Model(), quiet())
    (one,) = measured.traits
    order = one.tests[0]
    assert (order.name, order.value, order.count) == ("planted order", 1.0, 40)
    assert [c.clause for c in one.clauses] == ["one", "two"]
    assert all(a.split and a.split.value == 0 for a in one.ambiguities)
    assert one.confusion and one.confusion.clauses == ("one", "two")
    assert measured.pulls == ()
    assert codes(with_measures(found, measured)) == set()


def test_a_trait_that_does_nothing_is_told_so(tmp_path: Path) -> None:
    found = checked(a_file(tmp_path, good="perhaps"))  # the model knows no such word
    told = with_measures(found, measure(found.sources, Model(), quiet()))
    assert codes(told) == {"examples-do-not-steer", "clause-at-chance"}
    text = findings_text(told)
    assert "warning [examples-do-not-steer] the better reply won 0.50 [0.35, 0.65] of 40" in text
    assert "Let good and bad replies differ in the trait and in nothing else" in text
    assert told.worst == "warning"


def test_traits_that_pull_apart_are_told_with_the_interval(tmp_path: Path) -> None:
    found = checked(a_file(tmp_path), a_file(tmp_path, "other", good="no", bad="yes"))
    measured = measure(found.sources, Model(), quiet())
    assert [(p.planted, p.judged) for p in measured.pulls] == [
        ("mine", "mine"), ("mine", "other"), ("other", "mine"), ("other", "other"),
    ]  # fmt: skip
    told = with_measures(found, measured)
    (pulled,) = [f for f in told.findings if f.code == "traits-pull-apart"]
    assert pulled.path.endswith("other.yaml") and pulled.line == 4
    assert pulled.what.startswith("planting 'mine' moves 'other' by -")


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    found = checked(a_file(tmp_path), a_file(tmp_path, "other", bad="nay"))
    first = measure(found.sources, Model(), quiet())
    again = Model()
    second = measure(found.sources, again, quiet())
    assert replace(second, seconds=first.seconds) == first
    assert again.requests == [] and again.scored == []
    for path in kept_in(KEPT).glob("*.json"):
        path.write_text(path.read_text()[:50])
    assert replace(measure(found.sources, again, quiet()), seconds=first.seconds) == first
    assert again.requests


def test_a_builds_card_serves(tmp_path: Path) -> None:
    found = checked(a_file(tmp_path))
    trait = found.sources[0].trait
    bench = Bench(("likelihood",), judge_of("likelihood", Model()), Model(), CardConfig())
    card, _ = card_of(trait, bench, quiet())
    (one,) = measure(found.sources, Model(), quiet()).traits
    assert one.tests[0].count == card.test("planted order").count == 100
    assert card.id != card_id(trait, replace(bench, config=SIZES))


def test_drafts_and_traits_without_messages_are_missing(tmp_path: Path) -> None:
    mute = Model()
    mute._reply = lambda request: "" if request.text else "Yes."
    few = {"queries": {"seeds": ["Tea or milk?", "Sea or sand?", "Bee or bug?", "Fig or pear?"]}}
    found = checked(a_file(tmp_path, statement="DRAFT"), a_file(tmp_path, "few", **few))
    measured = measure(found.sources, mute, quiet())
    draft, silent = measured.traits
    assert draft.missing == "1 of its texts are still drafts"
    assert "at least ten queries" in silent.missing
    told = with_measures(found, measured)
    missing = [f for f in told.findings if f.code == "not-measured"]
    assert [(Path(f.path).name, f.line) for f in missing] == [("few.yaml", 2), ("mine.yaml", 2)]
    assert measured.pulls == ()


# --- from what was measured to what is said ---

SPLIT = Split("two", 0.6, 0.4, 0.78, 20, (Failed("Why?", "a", "b", 0.4),))
FOUND = Measures(
    "mine",
    (Test("planted order", None, count=40, bar="b", note="no verdict at all: \x1b[31mshy"),),
    (ClauseTest("one", 0.5, 0.3, 0.7, 20), ClauseTest("two", 0.9, 0.7, 0.97, 20)),
    (Ambiguity("one", None, "it has fewer than two examples"), Ambiguity("two", SPLIT)),
    Confusion(
        ("one", "two"), ((0.1, 0.3), (0.2, None)),
        (Nearness("one", "two", -0.2, -0.3, -0.1, 3), Nearness("two", "one", None, None, None, 0)),
    ),
)  # fmt: skip
PULLS = (
    Pull("mine", "other", -0.3, -0.4, -0.2, 40, 0),
    Pull("mine", "mine", 0.4, 0.3, 0.5, 40, 0),
    Pull("other", "mine", None, None, None, 1, 39),
    Pull("other", "other", -0.4, -0.5, -0.3, 40, 0),
)


def test_every_measured_rule_fires_at_its_place(tmp_path: Path) -> None:
    found = checked(a_file(tmp_path), a_file(tmp_path, "other"))
    measured = Measured("model", (FOUND, Measures("other", missing="it is shy")), PULLS)
    told = with_measures(found, measured)
    assert codes(told) == set(MEASURED) - {"examples-do-not-steer"}
    lines = Path(found.sources[0].path).read_text().splitlines()
    places = {
        (f.code, lines[f.line - 1].strip(" -"))
        for f in told.findings
        if f.path.endswith("mine.yaml") and f.code in MEASURED
    }
    assert places == {
        ("clause-at-chance", "id: one"),
        ("clause-ambiguous", "id: two"),
        ("nearer-another-clause", "clause: one"),
        ("not-measured", "examples:"),
        ("not-measured", "id: mine"),  # what other does to mine
    }
    data = json.loads(findings_json(told, measured))
    assert data["measured"]["traits"][0]["tests"][0]["value"] is None
    assert data["measured"]["pulls"][0]["low"] == -0.4
    assert "\x1b" not in findings_text(told)


def test_tables_have_intervals_and_say_what_is_missing() -> None:
    measured = Measured("model", (FOUND, Measures("other", missing="it is shy")), PULLS, 61.0)
    page = io.StringIO()
    Console(file=page, width=200).print(measured_text(measured))
    text = page.getvalue()
    assert "other: not measured. it is shy" in text
    assert "0.60 [0.40, 0.78] of 20, ambiguous" in text
    assert "missing: it has fewer than two examples" in text
    assert "0.50 [0.30, 0.70] of 20, at chance" in text
    assert "-0.20 [-0.30, -0.10], 3 examples, confused" in text
    assert "-0.30 [-0.40, -0.20]" in text
    assert "Measured on model in 61 s." in text


# --- the front door ---


def run(*arguments: str) -> Any:
    return CliRunner().invoke(command.main, list(arguments))


def test_the_command_measures_on_a_real_model(
    tiny_folder: Path, tmp_path: Path, small_trait: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = CardConfig(plants=PlantsConfig(queries=10, dosed=10), attacks=0)
    monkeypatch.setattr("character.check_pipeline.SIZES", small)
    path = tmp_path / "asking.yaml"
    content = small_trait.model_dump(mode="json", by_alias=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    result = run(str(path), "--model", f"local:{tiny_folder}", "--json")
    data = json.loads(result.stdout)
    (trait,) = data["measured"]["traits"]
    assert trait["tests"][0]["name"] == "planted order" and trait["tests"][0]["count"] > 5
    again = run(str(path), "--model", f"local:{tiny_folder}")
    assert again.exit_code == result.exit_code == (2 if data["worst"] == "error" else 0)
    text = again.stdout
    assert "low dose" in text and "Measured on" in text


def test_a_model_that_cannot_be_opened_here_is_refused(tmp_path: Path) -> None:
    path = a_file(tmp_path)
    for name, message in (("nobody", "is not a model name"), ("local:/nowhere", "nowhere")):
        result = run(path, "--model", name)
        assert result.exit_code == 2 and message in result.stderr


def test_nothing_is_measured_in_a_faulty_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("schema: 1\n", encoding="utf-8")
    result = run(str(path), "--measure")
    assert result.exit_code == 2 and "[format]" in result.stdout
    assert "Measured on" not in result.stdout
