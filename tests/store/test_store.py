"""The run's database: what went in comes out, whole or not at all, also after kill -9."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from character.errors import RunError
from character.rows import Judgement, Pair, Query, Ranking, Reply, Row
from character.store.store import TABLES, FinishedStage, Store

MEMORY = Path(":memory:")
AWKWARD = ["", "'", '"; DROP TABLE queries; --', "a\nb\tc", "naïve 🦙 ﷽", "\0", "[]", "NULL", "{x}"]

QUERY = Query("q", "Why?", "on_trait", "curious", "asks", "", "", "seed", 0, "train", "")
REPLY = Reply("r", "q", "plain", "", 0, 7, "model", "So.", 2, True, ())
RANKING = Ranking("k", "q", "judge", (("a", "b"), ("c",)), (0.5, -1.0), ("d",), ())

KINDS = pytest.mark.parametrize("kind", list(TABLES), ids=lambda kind: kind.__name__)


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value that a field of this type may have."""
    if get_origin(hint) in (Union, UnionType):
        return st.one_of(*map(values_of, get_args(hint)))
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is tuple:
        return st.lists(values_of(get_args(hint)[0]), max_size=3).map(tuple)
    return {
        str: st.text() | st.sampled_from(AWKWARD),
        int: st.integers(-(2**31), 2**31 - 1),
        float: st.floats(allow_nan=False),
        bool: st.booleans(),
        NoneType: st.none(),
    }[hint]


def rows_of(kind: type[Row]) -> st.SearchStrategy[list[Row]]:
    hints = get_type_hints(kind)
    row = st.builds(kind, **{name: values_of(hint) for name, hint in hints.items()})
    return st.lists(row, max_size=4, unique_by=lambda row: row.id)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "run.duckdb") as opened:
        yield opened


def queries(count: int, start: int = 0) -> list[Query]:
    return [replace(QUERY, id=f"q{i}", text=f"Why {i}?") for i in range(start, start + count)]


def run_python(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


# --- rows ---


@KINDS
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_row_comes_out_as_it_went_in(kind: type[Row], data: st.DataObject) -> None:
    rows = data.draw(rows_of(kind))
    with Store(MEMORY) as store:
        store.keep(rows)
        assert store.all(kind) == rows
        assert store.ids(kind) == {row.id for row in rows}


@KINDS
def test_every_row_class_is_a_table_and_every_field_a_column(kind: type[Row]) -> None:
    with Store(MEMORY) as store:
        assert store.all(kind) == []
        columns = [found[0] for found in store._db.execute(f"DESCRIBE {TABLES[kind]}").fetchall()]
    renamed = {"values": "tier_values"}
    assert columns == [renamed.get(field.name, field.name) for field in fields(kind)]


def test_what_comes_out_has_the_types_that_went_in(store: Store) -> None:
    store.keep([REPLY, RANKING, Judgement("j", "r", "t", "judge", None, 0.0, None)])
    (reply,), (ranking,), (judgement,) = store.all(Reply), store.all(Ranking), store.all(Judgement)
    assert reply.flaws == ()
    assert reply.ended is True
    assert ranking.tiers == (("a", "b"), ("c",))
    assert hash(ranking) == hash(RANKING)  # tuples all the way down
    assert (judgement.contrast, judgement.checks) == (None, 0.0)  # missing is not zero


def test_rows_stay_in_the_order_they_were_kept(tmp_path: Path) -> None:
    first, second = queries(300, 500), queries(300)
    with Store(tmp_path / "run.duckdb") as store:
        store.keep(first)
        store.keep(second)
        assert store.all(Query) == first + second
    with Store(tmp_path / "run.duckdb") as store:
        assert store.all(Query) == first + second


def test_a_row_whose_id_is_there_is_left_alone(store: Store) -> None:
    store.keep([QUERY])
    other = replace(QUERY, text="Something else?")
    store.keep([other, *queries(2), other, replace(queries(1)[0], text="Again?")])
    assert store.all(Query) == [QUERY, *queries(2)]


def test_rows_of_several_kinds_are_kept_together(store: Store) -> None:
    store.keep([REPLY, QUERY, replace(REPLY, id="r2")])
    assert store.all(Query) == [QUERY]
    assert [reply.id for reply in store.all(Reply)] == ["r", "r2"]


# --- all or nothing ---


def test_a_row_that_cannot_be_kept_keeps_nothing(store: Store) -> None:
    broken = replace(REPLY, id="r2", text=None)  # type: ignore[arg-type]
    stage = FinishedStage("replies", 1.0, 2, 3)
    with pytest.raises(duckdb.Error):
        store.keep([QUERY, REPLY, broken], stage)
    assert store.all(Query) == []
    assert store.all(Reply) == []
    assert store.finished() == {}
    store.keep([QUERY, REPLY], stage)  # and the store still works
    assert store.all(Reply) == [REPLY]
    assert store.finished() == {"replies": stage}


def test_a_stage_that_finishes_again_replaces_its_record(store: Store) -> None:
    store.keep([], FinishedStage("replies", 1.0, 2, 3))
    store.keep([], FinishedStage("pairs", 4.0, 5, 6))
    again = FinishedStage("replies", 7.0, 2**40, 9)
    store.keep([], again)
    assert store.finished()["replies"] == again
    assert set(store.finished()) == {"replies", "pairs"}


def test_what_was_kept_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "run.duckdb"
    code = """if True:
        import os, signal, sys
        from pathlib import Path
        from character.rows import Query
        from character.store.store import FinishedStage, Store
        store = Store(Path(sys.argv[1]))
        def query(i):
            return Query(f"q{i}", "Why?", "on_trait", "t", "c", "", "", "seed", 0, "train", "")
        for start in range(0, 300, 100):
            store.keep([query(i) for i in range(start, start + 100)])
        store.keep([query(300)], FinishedStage("queries", 1.0, 2, 301))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run_python(code, path).returncode == -9
    with Store(path) as store:
        assert [row.id for row in store.all(Query)] == [f"q{i}" for i in range(301)]
        assert store.finished() == {"queries": FinishedStage("queries", 1.0, 2, 301)}


def test_kill_9_in_the_middle_of_keep_keeps_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.duckdb"
    code = """if True:
        import os, signal, sys
        from pathlib import Path
        from character.rows import Query, Reply
        from character.store.store import Store
        class Deadly(list):
            looks = 0
            def __iter__(self):
                self.looks += 1
                if self.looks == 3:  # its kinds, its queries, its replies
                    assert store.all(Query)  # this transaction's own
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().__iter__()
        query = Query("q", "Why?", "on_trait", "t", "c", "", "", "seed", 0, "train", "")
        reply = Reply("r", "q", "plain", "", 0, 7, "model", "So.", 2, True, ())
        store = Store(Path(sys.argv[1]))
        store.keep(Deadly([query, reply]))
    """
    died = run_python(code, path)
    assert died.returncode == -9, died.stderr
    with Store(path) as store:
        assert store.all(Query) == []
        assert store.all(Reply) == []


# --- the file ---


def test_migrations_are_applied_once(tmp_path: Path, store: Store) -> None:
    store.keep([QUERY])
    store.close()
    for _ in range(2):
        with Store(tmp_path / "run.duckdb") as again:
            assert again.all(Query) == [QUERY]
            applied = again._db.execute("SELECT name FROM migrations").fetchall()
    assert [name for (name,) in applied] == sorted(name for (name,) in applied)
    assert len(applied) == 8


def test_half_a_migration_is_not_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.duckdb"
    with Store(path) as store:
        store.keep([QUERY])
    scripts = tmp_path / "migrations"
    scripts.mkdir()
    (scripts / "0002_more.sql").write_text("CREATE TABLE more (id VARCHAR); SELECT * FROM nowhere;")
    with monkeypatch.context() as patched:
        patched.setattr("character.store.store.resources.files", lambda package: tmp_path)
        with pytest.raises(RunError, match="nowhere"):
            Store(path)
    with Store(path) as store:
        assert store.all(Query) == [QUERY]
        tables = {row[0] for row in store._db.execute("SHOW TABLES").fetchall()}
    assert tables == {*TABLES.values(), "stages", "migrations"}


@pytest.mark.parametrize("content", [b"not a database", b"\0" * 20_000, b"x" * 20_000])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.duckdb"
    path.write_bytes(content)
    with pytest.raises(RunError, match="move the run folder away") as caught:
        Store(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


def test_a_file_that_lost_its_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.duckdb"
    with Store(path) as store:
        store.keep([replace(row, text="Why? " * 200) for row in queries(3000)])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="move the run folder away"), Store(path) as store:
        store.all(Query)


def test_a_second_process_is_told_that_the_first_is_there(store: Store, tmp_path: Path) -> None:
    store.keep([QUERY])
    code = """if True:
        import sys
        from pathlib import Path
        from character.errors import RunError
        from character.store.store import Store
        for read_only in (False, True):
            try:
                Store(Path(sys.argv[1]), read_only=read_only)
            except RunError as error:
                print(error)
    """
    told = run_python(code, tmp_path / "run.duckdb")
    assert told.stderr == ""
    lines = told.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(str(tmp_path / "run.duckdb"))
        assert "If another build is running there, wait for it" in line
        assert len(line) < 600


def test_a_store_can_be_read_without_writing(tmp_path: Path) -> None:
    path = tmp_path / "run.duckdb"
    with Store(path) as store:
        store.keep([QUERY])
    before = path.read_bytes()
    with Store(path, read_only=True) as store:
        assert store.all(Query) == [QUERY]
        with pytest.raises(duckdb.Error):
            store.keep([Pair("p", "q", "k", "a", "b", 1.0, 0.7, "train")])
    assert path.read_bytes() == before
    with pytest.raises(RunError):
        Store(tmp_path / "absent.duckdb", read_only=True)
    assert not (tmp_path / "absent.duckdb").exists()
