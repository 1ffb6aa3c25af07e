"""character.convert: files in, trait files and a list out; nothing is overwritten or guessed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from character import build, check, convert
from character.shipped import shipped
from character.spec.loading import load_trait

CALM = [{"trait": "I stay calm.", "questions": ["My train left.", "Fire!"], "note": "\x1b[2J"}]
SPEC = "## Be kind {#be_kind authority=root}\n\nKind.\n\n## Be kind {#be_kind authority=user}\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def calm(elsewhere: Path) -> str:
    Path("calm.json").write_text(json.dumps(CALM))
    return "calm.json"


def call(*args: str) -> Result:
    result = CliRunner().invoke(convert.main, args)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result


def refused(*args: str) -> str:
    result = call(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("Error: ") == 1
    return result.stderr


# --- imports ---


def test_an_import_says_what_was_carried_what_is_to_write_and_what_was_left_out(calm: str) -> None:
    result = call(calm)
    assert result.exit_code == 0
    path = Path("traits/calm.yaml")
    assert result.stdout.splitlines()[:3] == [
        f"{path}: Calm",
        "  carried: title, clauses.text, queries.seeds (2)",
        "  to write: statement, opposite, rationale, examples.user (3), examples.good (3),"
        " examples.bad (3), examples.why (3), queries.seeds (2)",
    ]
    assert "  left out: note\n" in result.stdout
    assert load_trait("calm").clauses[0].text == "I stay calm."


def test_check_lists_what_is_missing_and_build_refuses(calm: str) -> None:
    call(calm)
    checked = CliRunner().invoke(check.main, ["calm"])
    assert checked.exit_code == 0 and checked.stdout.count("warning [draft]") == 3 + 12 + 2
    built = CliRunner().invoke(build.main, ["--traits", "calm", "--dry-run"])
    assert built.exit_code == 2 and "has 17 texts that are still drafts" in built.stderr


def test_every_trait_of_a_file_gets_a_file_of_its_own() -> None:
    Path("spec.md").write_text(SPEC)
    assert call("spec.md", "--out", "mine").exit_code == 0
    assert sorted(path.name for path in Path("mine").iterdir()) == [
        "be-kind-2.yaml", "be-kind.yaml"
    ]  # fmt: skip
    assert load_trait("mine/be-kind.yaml").authority == "root"


def test_nothing_is_written_when_one_file_exists() -> None:
    Path("spec.md").write_text(SPEC)
    Path("traits").mkdir()
    Path("traits/be-kind-2.yaml").write_text("mine")
    assert "be-kind-2.yaml exists" in refused("spec.md")
    assert [path.name for path in Path("traits").iterdir()] == ["be-kind-2.yaml"]
    assert Path("traits/be-kind-2.yaml").read_text() == "mine"


BAD: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"hello", "is in none of the formats that can be imported:\n  open-character: a"),
    "wrong shape": (b'[{"trait": ["x"]}]', "expected a JSON list (or lines) of {"),
    "binary": (b"\x89PNG\r\n\x1a\n\x00\xff", "is not UTF-8 text"),
    "10 MB": (b"[" + b" " * 10_000_000 + b"]", "is larger than 1 MB"),
    "deeply nested": (b'{"criteria":' + b"[" * 200_000, "is in none of the formats"),
    "empty": (b"", "is empty"),
    "blank": (b" \n\n", "is empty"),
    "control characters": (b'{"\\u001b[2J": 1}', "is in none of the formats"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_by_name_before_anything_is_written(
    case: str, elsewhere: Path
) -> None:
    content, message = BAD[case]
    Path("bad.json").write_bytes(content)
    told = refused("bad.json")
    assert told.startswith("Error: bad.json: ") and message in told and "\x1b" not in told
    assert [path.name for path in elsewhere.iterdir()] == ["bad.json"]


def test_files_that_cannot_be_read_and_unknown_formats_are_refused(calm: str) -> None:
    assert "nowhere.json: cannot be read: No such file" in refused("nowhere.json")
    Path("folder").mkdir()
    assert "folder: cannot be read: Is a directory" in refused("folder")
    assert "calm.json: there is no format 'yaml'; expected one of" in refused(
        calm, "--from", "yaml"
    )
    assert "calm.json: expected a JSON mapping {" in refused(calm, "--from", "persona-vectors")
    assert "give one of them" in refused(calm, "--from", "model-spec", "--to", "markdown")
    assert "calm.json is a file. Traits are written into a folder" in refused(calm, "--out", calm)


def test_a_byte_order_mark_is_no_part_of_the_file(calm: str) -> None:
    Path(calm).write_bytes(b"\xef\xbb\xbf" + Path(calm).read_bytes())
    assert call(calm).exit_code == 0


# --- exports ---


def test_an_export_goes_to_stdout_and_says_beside_it_what_it_leaves_out() -> None:
    result = call("curious", "--to", "open-character")
    assert (result.exit_code, len(json.loads(result.stdout))) == (0, 1 + 3)
    assert result.stderr.startswith("Left out: opposite, rationale, ")
    document = call("curious", "--to", "markdown")
    assert document.stdout.startswith("# Curious\n") and "Left out: queries" in document.stderr


def test_an_export_goes_into_a_new_file_only() -> None:
    assert call("curious", "--to", "markdown", "--out", "docs/curious.md").stdout == ""
    assert Path("docs/curious.md").read_text(encoding="utf-8").startswith("# Curious\n")
    assert "exists" in refused("curious", "--to", "markdown", "--out", "docs/curious.md")


def test_what_is_no_trait_or_still_a_draft_is_not_exported(calm: str) -> None:
    assert "There is no trait 'curios'. Did you mean" in refused("curios", "--to", "markdown")
    assert "calm.json" in refused(calm, "--to", "markdown")
    call(calm)
    assert "17 texts are still drafts" in refused("calm", "--to", "markdown")


@pytest.mark.parametrize("target", convert.TARGETS)
def test_every_shipped_trait_can_be_exported(target: str) -> None:
    for path in sorted(shipped("traits").glob("*.yaml")):
        assert call(str(path), "--to", target).exit_code == 0


def test_the_real_process_loads_nothing_heavy(calm: str) -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['convert', 'calm.json']\n"
        "try: runpy.run_module('character.convert', run_name='__main__')\n"
        "finally: print('loaded:', *sorted({'torch', 'transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "loaded:" and Path("traits/calm.yaml").is_file()
