import importlib.util
import shutil
from pathlib import Path

import pytest

from character import shipped as module
from character.shipped import find, names, shipped


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the test runs in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("reference", ["curious", "curious.yaml", "traits/curious.yaml"])
def test_a_shipped_trait_is_found_from_any_folder(elsewhere: Path, reference: str) -> None:
    found = find("traits", reference, ".yaml")
    assert found == shipped("traits") / "curious.yaml"
    assert found.is_file()


@pytest.mark.parametrize("reference", ["curious", "curious.yaml", "traits/curious.yaml"])
def test_the_users_folder_wins_over_the_shipped_one(elsewhere: Path, reference: str) -> None:
    mine = write(elsewhere / "traits/curious.yaml")
    found = find("traits", reference, ".yaml")
    assert found is not None
    assert found.samefile(mine)


def test_a_file_at_the_very_path_wins_over_the_users_folder(elsewhere: Path) -> None:
    write(elsewhere / "traits/curious.yaml")
    beside = write(elsewhere / "curious.yaml")
    assert find("traits", "curious.yaml", ".yaml") == Path("curious.yaml")
    assert find("traits", str(beside), ".yaml") == beside


@pytest.mark.parametrize(
    "reference",
    ["mine/curious.yaml", "../curious.yaml", "/nowhere/curious", "curios", "", "x" * 5000],
)
def test_nothing_else_falls_back_to_a_shipped_file(elsewhere: Path, reference: str) -> None:
    assert find("traits", reference, ".yaml") is None


def test_a_folder_is_not_found_as_a_file(elsewhere: Path) -> None:
    (elsewhere / "curious").mkdir()
    assert find("traits", "curious", ".yaml") == shipped("traits") / "curious.yaml"
    assert find("traits", str(elsewhere), ".yaml") is None


def test_kind_and_suffix_choose_the_folder(elsewhere: Path) -> None:
    write(elsewhere / "prompts/own.jinja")
    assert find("prompts", "own", ".jinja") == Path("prompts/own.jinja")
    assert find("traits", "own", ".jinja") is None
    assert find("prompts", "own", ".yaml") is None


def test_names_are_the_users_and_the_shipped_sorted_each_once(elsewhere: Path) -> None:
    there = names("traits", ".yaml")
    assert {"curious", "warm", "concise"} <= set(there)
    assert "trait.schema" not in there
    write(elsewhere / "traits/curious.yaml")
    write(elsewhere / "traits/aloof.yaml")
    (elsewhere / "traits/folder.yaml").mkdir()
    assert names("traits", ".yaml") == sorted([*there, "aloof"])


def test_an_installed_copy_reads_what_it_carries(elsewhere: Path) -> None:
    site = elsewhere / "site-packages"
    carried = write(site / "character/_shipped/traits/curious.yaml")
    write(site / "traits/curious.yaml")  # another project's folder of the same name
    copy = Path(shutil.copy(module.__file__, site / "character/shipped.py"))
    spec = importlib.util.spec_from_file_location("installed_shipped", copy)
    assert spec is not None
    assert spec.loader is not None
    installed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(installed)
    assert installed.shipped("traits").samefile(carried.parent)
    assert installed.find("traits", "curious", ".yaml").samefile(carried)


def test_the_guide_beside_the_traits_is_no_trait() -> None:
    assert (shipped("traits") / "README.md").is_file()
    assert not [name for name in names("traits", ".yaml") if "README" in name]
    assert find("traits", "README", ".yaml") is None
