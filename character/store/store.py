"""The run's DuckDB file: every row that was made, and which stages have finished.

The only module that speaks SQL. One process writes; what `keep` has returned from survives
kill -9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import duckdb

from character.errors import RunError
from character.rows import (
    Answer,
    Document,
    Draft,
    Judgement,
    Measurement,
    Pair,
    Query,
    Ranking,
    Reply,
    Revision,
    Reward,
    Row,
    Step,
    Talk,
    Taught,
)

TABLES: dict[type[Any], str] = {
    Draft: "drafts",
    Query: "queries",
    Reply: "replies",
    Revision: "revisions",
    Talk: "talks",
    Document: "documents",
    Judgement: "judgements",
    Ranking: "rankings",
    Pair: "pairs",
    Reward: "rewards",
    Taught: "taught",
    Step: "steps",
    Answer: "answers",
    Measurement: "measurements",
}
COLUMNS = {"values": "tier_values"}  # `values` is a word of SQL

R = TypeVar("R", bound=Row)


@dataclass(frozen=True, slots=True)
class FinishedStage:
    name: str
    seconds: float
    peak_bytes: int
    rows_made: int


class Store:
    """Typed rows in, typed rows out; a row whose id is already there is left alone."""

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self._path = path
        try:
            self._db = duckdb.connect(str(path), read_only=read_only)
            if not read_only:
                self._migrate()
        except duckdb.Error as error:
            raise self._unusable(error) from error

    def keep(self, rows: Sequence[Row], finished: FinishedStage | None = None) -> None:
        """Store the rows, and with them that their stage is done, all or nothing."""
        self._db.begin()
        try:
            for kind in dict.fromkeys(type(row) for row in rows):
                self._insert(kind, [row for row in rows if type(row) is kind])
            if finished:
                self._db.execute(
                    "INSERT OR REPLACE INTO stages VALUES (?, ?, ?, ?)",
                    [finished.name, finished.seconds, finished.peak_bytes, finished.rows_made],
                )
            self._db.commit()
        except (duckdb.IOException, duckdb.FatalException) as error:  # a full or broken disk
            raise self._unusable(error) from error
        except BaseException:
            self._db.rollback()
            raise

    def all(self, kind: type[R]) -> list[R]:
        """Every row of a kind, in the order they were stored."""
        found = self._read(f"SELECT {', '.join(_columns(kind))} FROM {TABLES[kind]} ORDER BY rowid")
        return [kind(*(_frozen(value) for value in row)) for row in found]

    def ids(self, kind: type[Any]) -> set[str]:
        return {row[0] for row in self._read(f"SELECT id FROM {TABLES[kind]}")}

    def finished(self) -> dict[str, FinishedStage]:
        found = self._read("SELECT * FROM stages ORDER BY rowid")
        return {row[0]: FinishedStage(*row) for row in found}

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _insert(self, kind: type[Any], rows: Sequence[Row]) -> None:
        columns = _columns(kind)
        marks = ", ".join("?" * len(columns))
        there = self.ids(kind)
        fresh: dict[str, Row] = {}
        for row in rows:
            if row.id not in there:
                fresh.setdefault(row.id, row)
        if fresh:  # INSERT OR IGNORE would do the same and take ten times as long
            self._db.executemany(
                f"INSERT INTO {TABLES[kind]} ({', '.join(columns)}) VALUES ({marks})",
                [[_plain(getattr(row, f.name)) for f in fields(kind)] for row in fresh.values()],
            )

    def _read(self, query: str) -> list[Any]:
        try:
            return self._db.execute(query).fetchall()
        except duckdb.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: duckdb.Error) -> RunError:
        return RunError(
            f"{self._path}: cannot be used as a run's database: {str(error).splitlines()[0]}. "
            "If another build is running there, wait for it; if the file is damaged, "
            "move the run folder away and build again."
        )

    def _migrate(self) -> None:
        """Apply the numbered files this database has not seen; each whole or not at all."""
        self._db.execute("CREATE TABLE IF NOT EXISTS migrations (name VARCHAR PRIMARY KEY)")
        seen = {row[0] for row in self._db.execute("SELECT name FROM migrations").fetchall()}
        folder = resources.files("character.store") / "migrations"
        for script in sorted(folder.iterdir(), key=lambda file: file.name):
            if script.name.endswith(".sql") and script.name not in seen:
                self._db.begin()
                self._db.execute(script.read_text(encoding="utf-8"))
                self._db.execute("INSERT INTO migrations VALUES (?)", [script.name])
                self._db.commit()


def _columns(kind: type[Any]) -> list[str]:
    return [COLUMNS.get(field.name, field.name) for field in fields(kind)]


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(part) for part in value) if isinstance(value, list) else value
