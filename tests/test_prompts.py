"""Templates are read once a process, so every test here writes one of its own name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from character import prompts
from character.errors import RecipeError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("prompts").mkdir()
    return Path("prompts")


def test_values_are_filled_in_as_they_are(folder: Path) -> None:
    (folder / "greet.jinja").write_text("To {{ who }}:\n{% if more %}\n{{ more }}\n{% endif %}\n")
    told = prompts.render("greet", who="<b>{{ 1 }}</b>", more="")
    assert told == "To <b>{{ 1 }}</b>:\n"
    assert prompts.render("greet", who="you", more="Hello.") == "To you:\nHello.\n"


def test_a_missing_value_is_an_error(folder: Path) -> None:
    (folder / "lonely.jinja").write_text("To {{ who }}: {{ what }}")
    with pytest.raises(RecipeError, match=r"'lonely' cannot be .*'what' is undefined.*given: who$"):
        prompts.render("lonely", who="you")


@pytest.mark.parametrize("number", range(3))
def test_a_template_reaches_nothing_but_its_values(folder: Path, number: int) -> None:
    escape = ["{{ ''.__class__.__mro__ }}", "{{ words.append('x') }}", "{{ open('a') }}"][number]
    (folder / f"escape{number}.jinja").write_text(escape)
    with pytest.raises(RecipeError, match="cannot be filled in"):
        prompts.render(f"escape{number}", words=["a"])


def test_a_faulty_template_is_told_by_line(folder: Path) -> None:
    (folder / "broken.jinja").write_text("Hello\n{% for %}\n")
    with pytest.raises(RecipeError, match=r"broken\.jinja:2: is not a template: "):
        prompts.digest("broken")


def test_a_template_that_is_no_text_is_told_as_such(folder: Path) -> None:
    (folder / "bytes.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match=r"bytes\.jinja: cannot be read as text"):
        prompts.digest("bytes")


def test_an_unknown_template_says_which_there_are() -> None:
    with pytest.raises(RecipeError, match=r"no template 'nowhere' .*there are: .*continue_queries"):
        prompts.render("nowhere")


def test_the_digest_names_the_text(folder: Path) -> None:
    (folder / "one.jinja").write_text("same")
    (folder / "two.jinja").write_text("same")
    (folder / "three.jinja").write_text("same.")
    assert re.fullmatch("[0-9a-f]{64}", prompts.digest("one"))
    assert prompts.digest("one") == prompts.digest("two") != prompts.digest("three")
