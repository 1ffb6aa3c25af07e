"""A preview on the tiny model, and what its page says of made-up replies."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from rich.console import Console

from character import preview as command
from character.errors import SpecError
from character.models.local import LocalModel
from character.preview_pipeline import Sizes, preview
from character.progress import Reporter
from character.report.preview import preview_page, preview_text
from character.report.preview_content import Averages, Place, Preview, Previewed, Shown
from character.spec.schema import Trait

SCRIPT = "<script>alert(1)</script>\x1b[31m"


@pytest.fixture
def model(tiny_folder: Path) -> LocalModel:
    from character.models.loading import load_local

    return load_local(f"local:{tiny_folder}")


def quiet() -> Reporter:
    return Reporter(Console(file=io.StringIO()))


def test_every_clause_gets_queries_and_every_reply_a_place(
    model: LocalModel, small_trait: Trait
) -> None:
    found = preview(small_trait, model, Sizes(queries=2, steered=1, plain=2), quiet())
    assert set(found.clauses) == {"answers", "asks"}
    for clause in found.clauses:
        assert 1 <= len(found.of(clause)) <= 2
    for query in found.queries:
        assert sorted(reply.style for reply in query.replies) == ["plain", "plain", "steered"]
        places = [reply.place for reply in query.replies]
        assert places == sorted(places)
    assert (found.plain.replies, found.steered.replies) == (
        2 * len(found.queries), len(found.queries),
    )  # fmt: skip
    again = preview(small_trait, model, Sizes(queries=2, steered=1, plain=2), quiet())
    assert again == found


def reply(style: str, group: int, contrast: float | None, text: str = "Yes.") -> Shown:
    return Shown(style, text, Place(group, 1), contrast, 1.0, 0.2, 1, (), "")


GOOD = Preview(
    trait="brisk",
    title="Brisk",
    clauses={"first": "I answer.", "last": "I stop."},
    queries=(
        Previewed("first", SCRIPT, "tea", "", (reply("steered", 0, 0.3), reply("plain", 1, -0.1))),
        Previewed("last", "Why?", "", "", (reply("plain", 2, None, SCRIPT),)),
    ),
    plain=Averages(18, -0.1, 0.2, 0.9, 50.0),
    steered=Averages(18, 0.3, 0.9, 0.85, 45.0),
    won=0.8,
)


def test_good_replies_call_for_no_advice() -> None:
    assert GOOD.advice == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"contrast": -0.09}, "no more of the trait"),
        ({"answers": 0.4}, "Steered replies answer in 40% of cases"),
        ({"words": 20.0}, "20 words"),
        ({"checks": 0.2}, "checks pass plain replies as often"),
    ],
)
def test_what_went_wrong_is_said(change: dict[str, float], says: str) -> None:
    bad = replace(GOOD, steered=replace(GOOD.steered, **change))  # type: ignore[arg-type]
    (line,) = bad.advice
    assert says in line


def test_a_clause_without_queries_and_missing_values_are_said() -> None:
    silent = Averages(0, None, None, None, None)
    bare = replace(GOOD, queries=GOOD.queries[:1], steered=silent, won=None)
    assert bare.advice == ["No query came of the clause 'last'. Give it an example."]
    page = preview_page(bare, "t.yaml")
    assert "missing" in page and "No query came of this clause" in page


def test_nothing_that_was_written_is_markup() -> None:
    page = preview_page(GOOD, "<b>.yaml")
    assert "<script" not in page and "&lt;script&gt;" in page and "\x1b" not in page
    assert "&lt;b&gt;.yaml" in page and "80%" in page
    console = Console(file=io.StringIO(), width=100)
    console.print(preview_text(GOOD))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in ("below the floor", "not judged", "contrast +0.30", "contrast missing", "(tea)"):
        assert part in text
    assert "\x1b[31m" not in text


def test_a_trait_without_usable_queries_says_so(model: LocalModel, small_trait: Trait) -> None:
    seeds = small_trait.queries.model_copy(update={"seeds": ["Why do cats sleep?"] * 4})
    alike = small_trait.model_copy(update={"queries": seeds})
    with pytest.raises(SpecError, match="seed messages"):
        preview(alike, model, Sizes(queries=0), quiet())


def test_the_command_writes_a_page(
    tiny_folder: Path, small_trait: Trait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "asking.yaml"
    path.write_text(yaml.safe_dump(small_trait.model_dump(mode="json", by_alias=True)))
    arguments = [str(path), "--model", f"local:{tiny_folder}", "--queries", "1"]
    found = CliRunner().invoke(command.main, arguments)
    assert found.exit_code == 0, found.output
    assert "Asking, before training" in found.output
    assert "Asking" in (tmp_path / "preview-asking.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere"),
        (["curious", "--model", "openai:gpt-5-mini"], "openai"),
        (["curious", "--model", "local:/nowhere"], "/nowhere"),
    ],
)
def test_mistakes_are_told_before_a_model_is_loaded(arguments: list[str], says: str) -> None:
    found = CliRunner().invoke(command.main, arguments)
    assert found.exit_code == 2 and says in found.output and "Traceback" not in found.output


def test_a_watched_file_is_seen_when_it_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("a")
    seen = path.stat().st_mtime_ns
    assert not command._saved_since(path, seen)
    assert command._saved_since(path, seen - 1)
    path.unlink()
    assert not command._saved_since(path, seen)
