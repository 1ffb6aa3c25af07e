"""Ask the versions of a diff: their answers in pieces that are kept as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from character.diff_job import DiffJob, Version
from character.diff_scoring import SCORING, score_answers, stage_of
from character.diffing.config import DiffConfig
from character.diffing.contributions import ATTRIBUTED
from character.diffing.dialogue import converse, first_answer, turns_of
from character.diffing.measure import Subject
from character.diffing.saved import read_saved
from character.diffing.suite import Item, Suite
from character.opened import Models
from character.rows import Answer
from character.run import Chunk, Run

Said = Chunk[Callable[[], list[Answer]]]


def version_said(
    name: str, version: Version, models: Models, suite: Suite, config: DiffConfig
) -> Iterator[Said]:
    """What one version says to a suite, stratum by stratum, or all that was saved of it."""
    if version.saved is not None:
        rows = read_saved(version.saved, name, suite.items, config.samples)
        yield Chunk(rows[0].id, len(rows), partial(list, rows))
        return
    subject = Subject(name, models.any(version.model))
    for stratum in dict.fromkeys(item.stratum for item in suite.items):
        yield talked(subject, suite.of(stratum), config)


def talked(subject: Subject, items: Sequence[Item], config: DiffConfig) -> Said:
    """A subject's conversations about some items."""
    first, total = first_answer(subject, items, config), turns_of(items, config)
    return Chunk(first, total, partial(converse, subject, items, config))


def ask_without(job: DiffJob, run: Run, models: Models, suite: Suite) -> None:
    """Ask and measure each version that was built without a trait, once.

    It is asked what contributions are measured on, and not whether its character is kept when it
    is tried. A finished diff goes on with what it has: only these versions are asked.
    """
    for left_out in job.without:
        subject, version = left_out.subject, left_out.version
        if stage_of(SCORING[-1], subject) in run.store.finished():
            continue
        asked = suite if version.saved else Suite(tuple(suite.of(*ATTRIBUTED)))
        chunks = list(version_said(subject, version, models, asked, job.config))
        answers = run.each(
            stage_of("answers", subject), f"Without {left_out.trait}", Answer, chunks,
            lambda todo: (work() for work in todo),
        )  # fmt: skip
        score_answers(job, run, models, suite, answers, subject)
