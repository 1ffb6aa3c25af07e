"""Progress a person can read: bars with rates and time left, or plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class Bar:
    """How far one stage is; `to` and `add` may be called from callbacks."""

    def __init__(self, progress: Progress, task: int) -> None:
        self._progress, self._task = progress, task

    def add(self, count: int) -> None:
        self._progress.advance(self._task, count)  # type: ignore[arg-type]

    def note(self, text: str) -> None:
        """Something to read beside the bar while it runs."""
        self._progress.update(self._task, note=text)  # type: ignore[arg-type]

    def to(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)  # type: ignore[arg-type]


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields["unit"]
        return Text(f"{speed:.1f} {unit}/s" if speed else unit, style="progress.data.speed")


@dataclass(slots=True)
class Reporter:
    """Where a build tells what it is doing."""

    console: Console

    def say(self, message: str) -> None:
        self.console.print(message, markup=False, highlight=False)

    @contextmanager
    def bar(self, title: str, total: int | None, unit: str) -> Iterator[Bar]:
        """A bar while the stage runs; one line when it has ended, also in a log file."""
        started = time.monotonic()
        progress = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        with progress:
            task = progress.add_task(title, total=total, unit=unit, note="")
            yield Bar(progress, task)
            done = int(progress.tasks[0].completed)
        seconds = time.monotonic() - started
        amount = f"{done} {unit}, " if done else ""
        self.say(f"  {title:<22} {amount}{seconds:.0f} s")
