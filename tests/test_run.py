"""A run folder: whose it is, what is done in it, and what an interruption leaves."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from character.errors import RunError
from character.progress import Bar, Reporter
from character.rows import Reward, Row
from character.run import LOCK, RECORD, WORK, Chunk, Run

IDENTITY: dict[str, Any] = {"traits": "abc", "recipe": {"seed": 0, "sampling": ("a", 1.5)}}


def reward(name: str) -> Reward:
    return Reward(name, f"pair of {name}", 1.0, -1.0)


def reporter() -> Reporter:
    return Reporter(Console(file=io.StringIO()))


def told(run: Run) -> str:
    file = run.reporter.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def open_run(folder: Path, identity: dict[str, Any] = IDENTITY) -> Run:
    return Run.open(folder, identity, reporter())


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with open_run(tmp_path / "run") as opened:
        yield opened


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


# --- opening ---


@pytest.mark.parametrize("identity", [IDENTITY, {"seed": 1, "path": None}])
def test_the_same_build_goes_on_in_its_folder(tmp_path: Path, identity: dict[str, Any]) -> None:
    folder = tmp_path / "runs" / "mine"
    with open_run(folder, identity) as run:
        run.store.keep([reward("a")])
    with open_run(folder, identity) as run:
        assert run.store.all(Reward) == [reward("a")]
    record = json.loads((folder / RECORD).read_text())
    assert {"python", "torch", "trl", "character"} <= record["versions"].keys()


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    open_run(tmp_path).close()
    assert (tmp_path / RECORD).exists()


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("\\begin{document}")
    before = contents(tmp_path)
    with pytest.raises(RunError, match=r"is not empty and is not a run folder.*--out"):
        open_run(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("left", [[LOCK], [LOCK, "run.tmp"]])
def test_a_build_killed_in_its_first_moment_can_be_started_again(
    tmp_path: Path, left: list[str]
) -> None:
    for name in left:
        (tmp_path / name).touch()
    open_run(tmp_path).close()
    assert json.loads((tmp_path / RECORD).read_text())["identity"]["traits"] == "abc"


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({**IDENTITY, "traits": "abd"}, "traits"),
        ({**IDENTITY, "recipe": {"seed": 1, "sampling": ("a", 1.5)}}, "recipe"),
        ({**IDENTITY, "templates": {}}, "templates"),
        ({"traits": "abc"}, "identity"),
    ],
)
def test_another_build_is_refused(tmp_path: Path, other: dict[str, Any], named: str) -> None:
    folder = tmp_path / "run"
    with open_run(folder) as run:
        run.store.keep([reward("a")])
    with pytest.raises(RunError, match=rf"holds another build \(its {named} differs\)"):
        open_run(folder, other)
    with open_run(folder) as run:  # neither harmed nor still held
        assert run.store.all(Reward) == [reward("a")]


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"identity": null}'])
def test_a_damaged_record_is_explained(tmp_path: Path, damage: str) -> None:
    open_run(tmp_path).close()
    (tmp_path / RECORD).write_text(damage)
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        open_run(tmp_path)


def test_a_damaged_database_is_explained_and_lets_go_of_the_folder(tmp_path: Path) -> None:
    open_run(tmp_path).close()
    (tmp_path / "character.duckdb").write_bytes(b"not a database")
    held = []
    for _ in range(2):  # the second time it is still the database, not another build
        with pytest.raises(RunError, match=r"character\.duckdb.*move the run") as caught:
            open_run(tmp_path)
        held.append(caught)  # with the frames it was raised in
    assert len(held) == 2


def test_a_folder_in_use_by_another_process_is_refused(run: Run) -> None:
    code = """if True:
        import io, sys
        from pathlib import Path
        from rich.console import Console
        from character.errors import RunError
        from character.progress import Reporter
        from character.run import Run
        try:
            Run.open(Path(sys.argv[1]), {}, Reporter(Console(file=io.StringIO())))
        except RunError as error:
            print(error)
    """
    command = [sys.executable, "-c", code, str(run.folder)]
    other = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert other.stderr == ""
    assert f"{run.folder} is in use by another build" in other.stdout
    run.store.keep([reward("a")])  # and ours goes on
    assert run.store.all(Reward) == [reward("a")]


# --- once ---


def test_once_makes_the_rows_and_then_reads_them(run: Run) -> None:
    made = []

    def make(bar: Bar) -> list[Reward]:
        made.append(1)
        return [reward("a"), reward("b")]

    for _ in range(2):
        assert run.once("rewards", "Rewards", Reward, make) == [reward("a"), reward("b")]
    assert made == [1]


def test_once_that_makes_nothing_is_finished_too(run: Run) -> None:
    assert run.once("rewards", "Rewards", Reward, lambda bar: []) == []
    assert run.once("rewards", "Rewards", Reward, never) == []


def never(*_: Any) -> Any:
    raise AssertionError("finished work was done again")


def test_once_that_fails_keeps_nothing(run: Run) -> None:
    def fail(bar: Bar) -> list[Reward]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.once("rewards", "Rewards", Reward, fail)
    assert run.store.finished() == {}
    assert run.once("rewards", "Rewards", Reward, lambda bar: [reward("a")]) == [reward("a")]


# --- each ---

CHUNKS = [Chunk(names[0], len(names), names) for names in (["a", "b"], ["c", "d"], ["e"])]


def rewards_of(chunks: Iterable[list[str]]) -> Iterator[list[Reward]]:
    for names in chunks:
        yield [reward(name) for name in names]


def each(run: Run, make: Callable[[Iterable[list[str]]], Iterator[Sequence[Reward]]]) -> list[str]:
    return [row.id for row in run.each("rewards", "Rewards", Reward, CHUNKS, make)]


def test_each_keeps_every_chunk_as_it_comes(run: Run) -> None:
    found = []

    def make(chunks: Iterable[list[str]]) -> Iterator[list[Reward]]:
        for rows in rewards_of(chunks):
            found.append([row.id for row in run.store.all(Reward)])
            yield rows

    assert each(run, make) == list("abcde")
    assert found == [[], ["a", "b"], ["a", "b", "c", "d"]]
    assert each(run, never) == list("abcde")


def test_each_goes_on_after_the_last_whole_chunk(tmp_path: Path) -> None:
    def fail_at_third(chunks: Iterable[list[str]]) -> Iterator[list[Reward]]:
        for number, rows in enumerate(rewards_of(chunks)):
            if number == 2:
                raise KeyboardInterrupt
            yield rows

    with open_run(tmp_path) as run, pytest.raises(KeyboardInterrupt):
        each(run, fail_at_third)
    asked: list[list[str]] = []

    def make(chunks: Iterable[list[str]]) -> Iterator[list[Reward]]:
        asked.extend(chunks)
        return rewards_of(asked)

    with open_run(tmp_path) as run:
        assert each(run, make) == list("abcde")
    assert asked == [["e"]]


# --- artefacts ---


def test_an_artefact_is_made_once_and_its_rows_kept(run: Run) -> None:
    def make(checkpoints: Path, target: Path, bar: Bar) -> Sequence[Row]:
        assert checkpoints.is_dir()
        assert list(target.iterdir()) == []
        (target / "weights").write_text("1")
        return [reward("a")]

    for made in (make, never):
        assert run.artefact("policy", "Policy", made) == run.folder / "policy"
    assert contents(run.folder / "policy") == {"weights": b"1"}
    assert run.store.all(Reward) == [reward("a")]
    assert list((run.folder / WORK).iterdir()) == []


def test_an_artefact_that_is_interrupted_leaves_nothing_but_its_checkpoints(
    tmp_path: Path,
) -> None:
    def fail(checkpoints: Path, target: Path, bar: Bar) -> Sequence[Row]:
        (checkpoints / "checkpoint-1").write_text("half way")
        (target / "weights").write_text("half")
        raise KeyboardInterrupt

    with open_run(tmp_path) as run, pytest.raises(KeyboardInterrupt):
        run.artefact("policy", "Policy", fail)
    assert not (tmp_path / "policy").exists()

    def make(checkpoints: Path, target: Path, bar: Bar) -> Sequence[Row]:
        assert (checkpoints / "checkpoint-1").read_text() == "half way"
        assert list(target.iterdir()) == []
        (target / "weights").write_text("whole")
        return []

    with open_run(tmp_path) as run:
        assert "policy" not in run.store.finished()
        run.artefact("policy", "Policy", make)
        assert "policy" in run.store.finished()
    assert contents(tmp_path / "policy") == {"weights": b"whole"}


def test_an_artefact_whose_rows_were_not_kept_is_made_again(tmp_path: Path) -> None:
    def make(name: str | None) -> Callable[[Path, Path, Bar], Sequence[Row]]:
        def inner(checkpoints: Path, target: Path, bar: Bar) -> Sequence[Row]:
            (target / f"made {name}").touch()
            return [Reward(name, "pair", 0.0, 0.0)]  # type: ignore[arg-type]

        return inner

    with open_run(tmp_path) as run:
        with pytest.raises(Exception, match="NOT NULL"):  # the folder is already in place
            run.artefact("policy", "Policy", make(None))
        assert "policy" not in run.store.finished()
    with open_run(tmp_path) as run:
        run.artefact("policy", "Policy", make("a"))
        assert [row.id for row in run.store.all(Reward)] == ["a"]
    assert list(contents(tmp_path / "policy")) == ["made a"]


# --- what it cost ---


def test_what_every_stage_took_is_recorded(run: Run) -> None:
    run.each("many", "Many", Reward, CHUNKS, rewards_of)
    run.once("one", "One", Reward, lambda bar: [reward("x"), reward("y")])
    run.artefact("folder", "Folder", lambda checkpoints, target, bar: [reward("z")])
    finished = run.store.finished()
    assert {name: stage.rows_made for name, stage in finished.items()} == {
        "many": 5,
        "one": 2,
        "folder": 1,
    }
    assert list(finished) == ["many", "one", "folder"]
    for stage in finished.values():
        assert 0 < stage.seconds < 60
        assert 1e6 < stage.peak_bytes < 1e12
    lines = told(run).splitlines()
    assert [line.split()[0] for line in lines] == ["Many", "One", "Folder"]
    assert "5 reward, " in lines[0]


def test_seconds_count_the_work(run: Run) -> None:
    def make(bar: Bar) -> list[Reward]:
        time.sleep(0.2)
        return []

    run.once("slow", "Slow", Reward, make)
    run.once("fast", "Fast", Reward, lambda bar: [])
    finished = run.store.finished()
    assert finished["slow"].seconds >= 0.2 > finished["fast"].seconds


def test_facts_are_added_to_the_record(run: Run) -> None:
    run.record(outcome={"a": 1}, seconds=2.0)
    run.record(seconds=3.0)
    record = json.loads((run.folder / RECORD).read_text())
    assert (record["outcome"], record["seconds"]) == ({"a": 1}, 3.0)
    assert record["identity"] == json.loads(json.dumps(IDENTITY))


def test_a_tidy_folder_has_no_work_left(run: Run) -> None:
    (run.work("policy") / "checkpoint").touch()
    run.tidy()
    run.tidy()
    assert not (run.folder / WORK).exists()
    assert run.work("policy").is_dir()
