"""A run folder: who may write in it, which stages are done, and what each one cost."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import psutil
from filelock import FileLock, Timeout

from character.errors import RunError
from character.progress import Bar, Reporter
from character.rows import Row
from character.store.store import FinishedStage, Store

DATABASE = "character.duckdb"
RECORD = "run.json"
CARDS, ACCEPTED = "judge_cards", "judge_accepted"  # facts of run.json
ASKED = "asked"  # in the record: what models behind APIs were asked
LOCK = ".lock"
WORK = ".work"  # half-finished artefacts and checkpoints; gone when the run is complete
LIBRARIES = ("character", "torch", "transformers", "trl", "peft", "datasets", "duckdb", "pydantic")

R = TypeVar("R", bound=Row)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Chunk(Generic[T]):
    """Work whose rows are kept together: done when the row with the id `first` is stored."""

    first: str
    rows: int
    work: T


class Run:
    """One build's folder, open for writing by this process alone."""

    def __init__(self, folder: Path, lock: FileLock, store: Store, reporter: Reporter) -> None:
        self.folder, self.store, self.reporter = folder, store, reporter
        self._lock = lock

    @classmethod
    def open(cls, folder: Path, identity: dict[str, Any], reporter: Reporter) -> Self:
        """Make the folder, or go on with it when it holds the same build.

        Raises RunError when another process builds there, when it holds another build, or when it
        is a folder of something else.
        """
        record = folder / RECORD
        if not record.exists() and _holds_something_else(folder):
            raise RunError(
                f"{folder} is not empty and is not a run folder. Choose another: --out runs/mine"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{folder} cannot be made: {error.strerror}. Build elsewhere: --out runs/mine"
            ) from error
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                f"{folder} is in use by another build. Wait for it, or build elsewhere: "
                "--out runs/mine"
            ) from None
        try:
            if record.exists():
                _same_build(record, identity)
            else:
                _write_json(record, {"identity": identity, "versions": versions()})
            return cls(folder, lock, Store(folder / DATABASE), reporter)
        except BaseException:
            lock.release()
            raise

    def close(self) -> None:
        self.store.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def once(
        self,
        stage: str,
        title: str,
        kind: type[R],
        make: Callable[[Bar], Sequence[Row]],
        total: int | None = None,
        unit: str = "rows",
    ) -> list[R]:
        """The stage's rows: from the store when it has finished, else made and kept whole.

        `make` may give rows of other kinds too. With a total, it moves the bar, in its own unit;
        else the bar counts the rows.
        """
        if stage not in self.store.finished():
            with self._timed(stage, title, total, unit) as (bar, finish):
                rows = make(bar)
                if total is None:
                    bar.add(len(rows))
                finish(rows, len(rows))
        return self.store.all(kind)

    def each(
        self,
        stage: str,
        title: str,
        kind: type[R],
        chunks: Sequence[Chunk[T]],
        make: Callable[[Iterable[T]], Iterator[Sequence[Row]]],
        done: int = 0,
    ) -> list[R]:
        """All rows of the kind, once the stage's chunks are kept; those stored are not redone.

        A chunk may hold rows of other kinds beside its own; they are kept with it. `done` rows are
        there beside the chunks; they only show in the bar.
        """
        if stage not in self.store.finished():
            kept = self.store.ids(kind)
            todo = [chunk for chunk in chunks if chunk.first not in kept]
            total, left = (sum(chunk.rows for chunk in part) for part in (chunks, todo))
            total += done
            with self._timed(stage, title, total, kind.__name__.lower()) as (bar, finish):
                bar.add(total - left)
                made = 0
                for rows in make([chunk.work for chunk in todo]):
                    self.store.keep(rows)
                    bar.add(len(rows))
                    made += len(rows)
                finish([], made)
        return self.store.all(kind)

    def artefact(
        self, stage: str, title: str, make: Callable[[Path, Path, Bar], Sequence[Row]]
    ) -> Path:
        """A folder made by `make(checkpoints, target, bar)`, moved into place when it is whole.

        `make` returns rows to keep. Checkpoints outlive a killed process; `target` starts empty.
        """
        final = self.folder / stage
        if stage not in self.store.finished() or not final.exists():
            checkpoints, target = self.work(stage), self.folder / WORK / f"{stage}.new"
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            with self._timed(stage, title, None, "steps") as (bar, finish):
                rows = make(checkpoints, target, bar)
                shutil.rmtree(final, ignore_errors=True)
                target.replace(final)
                finish(rows, len(rows))
            shutil.rmtree(checkpoints)
        return final

    def step(self, stage: str, work: Callable[[], T]) -> T:
        """Work that keeps what it makes elsewhere and draws its own bars; timed the first time."""
        started = time.monotonic()
        found = work()
        if stage not in self.store.finished():
            seconds = time.monotonic() - started
            self.store.keep([], FinishedStage(stage, seconds, peak_bytes(), 0))
        return found

    def work(self, name: str) -> Path:
        folder = self.folder / WORK / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def record(self, **facts: Any) -> None:
        """Add facts to run.json, replacing those of the same name."""
        path = self.folder / RECORD
        known = json.loads(path.read_text(encoding="utf-8"))
        _write_json(path, known | facts)

    def recorded(self, name: str) -> Any:
        """A fact of run.json, or None."""
        return json.loads((self.folder / RECORD).read_text(encoding="utf-8")).get(name)

    def hold(self, name: str, facts: dict[str, Any]) -> None:
        """Record facts at the first start; RunError when a later start finds others."""
        known = self.recorded(name)
        if known is None:
            self.record(**{name: facts})
        elif known != facts:
            raise RunError(
                f"{self.folder} was begun with other {name}: {known}, and now there are {facts}. "
                "Build elsewhere: --out runs/mine"
            )

    def tidy(self) -> None:
        shutil.rmtree(self.folder / WORK, ignore_errors=True)

    @contextmanager
    def _timed(
        self, stage: str, title: str, total: int | None, unit: str
    ) -> Iterator[tuple[Bar, Callable[[Sequence[Row], int], None]]]:
        started = time.monotonic()

        def finish(rows: Sequence[Row], made: int) -> None:
            seconds = time.monotonic() - started
            self.store.keep(rows, FinishedStage(stage, seconds, peak_bytes(), made))

        with self.reporter.bar(title, total, unit) as bar:
            yield bar, finish


def peak_bytes() -> int:
    """The most memory this process has held at once."""
    if sys.platform == "win32":  # which has no resource module
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def versions() -> dict[str, str]:
    found = {name: version(name) for name in LIBRARIES}
    return {"python": platform.python_version()} | found


def plain(value: Any) -> Any:
    """Dataclasses as mappings, for JSON; None stays None."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _holds_something_else(folder: Path) -> bool:
    """Whether there is more than what a build killed in its first moment leaves."""
    first = {LOCK, _half_written(folder / RECORD).name}
    return folder.exists() and any(path.name not in first for path in folder.iterdir())


def _same_build(record: Path, identity: dict[str, Any]) -> None:
    try:
        known = dict(json.loads(record.read_text(encoding="utf-8"))["identity"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{record} is damaged. Move {record.parent} away and build again") from error
    wanted = json.loads(json.dumps(identity))
    if known != wanted:
        other = [key for key in wanted if known.get(key) != wanted[key]]
        raise RunError(
            f"{record.parent} holds another build (its {', '.join(other) or 'identity'} differs). "
            "Leave out --out to get a folder of its own, or choose another: --out runs/mine"
        )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    whole = _half_written(path)
    whole.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    whole.replace(path)


def _half_written(path: Path) -> Path:
    return path.with_suffix(".tmp")
