"""What may import what, read from the source: the rooms of the house stay apart."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "character"
STAGES = ("data", "judging", "training", "diffing")
FRONT = (
    "__main__",
    "build",
    "building",
    "cache",
    "chat",
    "check",
    "commands",
    "compose",
    "compose_job",
    "compose_pipeline",
    "export",
    "export_job",
    "export_pipeline",
    "finish",
    "job",
    "pipeline",
    "run",
)
SQL = re.compile(
    r"\b(SELECT\b.+\bFROM|INSERT\b.*\bINTO|CREATE (TABLE|INDEX|VIEW)|DELETE FROM"
    r"|UPDATE \w+ SET|(DROP|ALTER) TABLE)\b",
    re.DOTALL,
)


def modules(folder: str = "") -> list[Path]:
    return sorted((PACKAGE / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imports(source: str) -> Iterator[str]:
    """Every module that is imported anywhere in the source, also where types alone need it.

    `from a import b` gives `a.b`, since b may be a module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{a.name}" for a in node.names)


def strings(source: str) -> Iterator[str]:
    """Every string in the source; an f-string comes in one piece, its values as {}."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def importers(*packages: str) -> set[str]:
    """The files of the package that import one of these."""
    return {
        name_of(path)
        for path in modules()
        if any(within(module, *packages) for module in imports(path.read_text(encoding="utf-8")))
    }


def test_imports_are_seen_wherever_they_hide() -> None:
    source = (
        "import trl.trainer as t, os\n"
        "from character import store\n"
        "if TYPE_CHECKING:\n    from character.data.pairs import PairsConfig\n"
        "def f():\n    from . import near\n    import duckdb\n"
    )
    assert set(imports(source)) == {
        "trl.trainer", "os", "character.store", "character.data.pairs.PairsConfig", "..near",
        "duckdb",
    }  # fmt: skip
    assert within("trl.trainer", "peft", "trl") and not within("trlx.trainer", "trl")


def test_sql_is_seen_in_strings_of_every_kind() -> None:
    source = "a = 'SELECT 1 FROM x'; b = f'INSERT INTO {t} VALUES'; c = 'select one from x'"
    assert {text for text in strings(source) if SQL.search(text)} == {
        "SELECT 1 FROM x", "INSERT INTO {} VALUES", "INSERT INTO ",
    }  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_knows_no_other_room(stage: str) -> None:
    others = [f"character.{name}" for name in (*STAGES, *FRONT, "store", "report") if name != stage]
    files = modules(stage)
    assert len(files) > 2
    for path in files:
        found = list(imports(path.read_text(encoding="utf-8")))
        assert not [module for module in found if within(module, *others)], name_of(path)


def test_what_stages_share_knows_no_stage() -> None:
    stages = [f"character.{stage}" for stage in STAGES]
    for folder in ("spec", "models", "store"):
        for path in modules(folder):
            found = imports(path.read_text(encoding="utf-8"))
            assert not [module for module in found if within(module, *stages)], name_of(path)


def test_a_renderer_reads_no_store_and_runs_nothing() -> None:
    doors = [f"character.{name}" for name in (*FRONT, "store")]
    for path in modules("report"):
        found = imports(path.read_text(encoding="utf-8"))
        assert not [module for module in found if within(module, *doors)], name_of(path)


def test_trl_and_peft_stay_in_training() -> None:
    assert {name.partition("/")[0] for name in importers("trl")} == {"training"}
    elsewhere = {name for name in importers("peft") if not name.startswith("training/")}
    assert elsewhere == {"models/checkpoint.py"}  # merges an adapter into its base


def test_every_sdk_has_one_adapter() -> None:
    assert importers("openai") == {"models/openai_api.py"}
    assert importers("anthropic") == {"models/anthropic_api.py"}
    assert importers("lmdb") == {"models/cache.py"}


def test_only_the_store_speaks_sql() -> None:
    assert importers("duckdb") == {"store/store.py"}
    speakers = {
        name_of(path)
        for path in modules()
        if any(SQL.search(text) for text in strings(path.read_text(encoding="utf-8")))
    }
    assert speakers == {"store/store.py"}


def test_imports_name_their_module_in_full() -> None:
    for path in modules():
        found = imports(path.read_text(encoding="utf-8"))
        assert not [module for module in found if module.startswith(".")], name_of(path)


def test_nothing_is_called_utils() -> None:
    names = {path.stem for path in modules()} | {path.parent.name for path in modules()}
    assert "queries" in names and "judging" in names
    assert not names & {"utils", "util", "helpers", "common", "misc"}
