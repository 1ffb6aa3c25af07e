"""Run a diff, decide, and write what it found for people and for programs."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from rich.console import Console

from character.blessed import bless
from character.diff_discovery import discovered, talk_of
from character.diff_job import DiffJob, Version, identity_of_job
from character.diff_pipeline import SUITE, Asked, compare
from character.diffing.difference import difference_of
from character.diffing.inference import Strength, leaderboard
from character.diffing.outcome import contrast_metric
from character.diffing.saved import missing_of
from character.diffing.subjects import NEW, OLD
from character.diffing.suite import Item, read_suite
from character.diffing.verdicts import FEWEST, PASSED, UNDERPOWERED, Decision, decide
from character.folder import role_of
from character.job import check_resources
from character.judge_pipeline import cards_in
from character.judging.card import Card
from character.progress import Reporter
from character.report.content import StageCost
from character.report.diff_content import DiffReport, Example, Side
from character.report.diff_exports import as_json, as_junit, as_markdown
from character.report.diff_html import render_diff
from character.report.diff_terminal import QUICK, leaderboard_table, verdict_table
from character.rows import Answer, Measurement
from character.run import CARDS, DATABASE, Run, versions
from character.store.store import Store

PAGE, JSON, JUNIT, MARKDOWN = "report.html", "diff.json", "junit.xml", "summary.md"


def run_diff(
    job: DiffJob,
    console: Console,
    cap: float | None = None,
    known: Sequence[Answer] = (),
    blessing: bool = False,
) -> int:
    """Measure, decide and write the report; returns the exit code.

    With `blessing` a diff that passes is recorded as a baseline. `known` are answers to this job's
    questions that another diff has.
    """
    check_resources(job.folder)
    from character.quiet import hush_libraries

    hush_libraries()
    with Run.open(job.folder, identity_of_job(job), Reporter(console)) as run:
        run.store.keep(known)
        asked = compare(job, run, cap)
        report = gather(job, run, asked)
        write(report, job.folder)
        run.record(decision={"word": report.decision.word, "code": report.decision.code})
        run.tidy()
        console.print(verdict_table(report))
    if blessing and report.decision.code == PASSED:
        console.print(f"Blessed in {bless(report)}", markup=False)
    elif blessing:
        console.print("Not blessed: only a diff that passes can be a baseline.")
    return report.decision.code


def run_many(jobs: Sequence[DiffJob], console: Console, cap: float | None = None) -> int:
    """Diff the first version against each other one on one suite; then rank them all.

    What the first version said is asked once. Returns the exit code of the last.
    """
    first, *others = jobs
    code = run_diff(first, console, cap)
    suite = read_suite(first.folder / SUITE)
    with Store(first.folder / DATABASE, read_only=True) as store:
        known = [answer for answer in store.all(Answer) if answer.subject != NEW]
    done = [first]
    for job in others:
        same = replace(
            job, suite=suite, folder=job.folder.with_name(f"{job.folder.name}-{suite.digest[:8]}")
        )
        code = run_diff(same, console, cap, known)
        done.append(same)
    console.print(leaderboard_table(leaderboards(done)))
    return code


def leaderboards(jobs: Sequence[DiffJob]) -> dict[str, list[Strength]]:
    """For each trait the versions by strength, from finished diffs that share OLD and suite."""
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for number, job in enumerate(jobs):
        suite = read_suite(job.folder / SUITE)
        with Store(job.folder / DATABASE, read_only=True) as store:
            rows = store.all(Measurement)
        sides = {NEW: job.new.reference} | ({OLD: job.old.reference} if number == 0 else {})
        for trait in job.traits:
            asked = {item.id for item in suite.of("on_trait") if item.trait == trait.id}
            board = scores.setdefault(trait.id, {})
            if number == 0:
                board[job.old.reference] = {}  # the one the others are measured from
            for side, name in sides.items():
                if job.compares and side == OLD:  # the one that the others are compared with
                    board[name] = dict.fromkeys(asked, 0.5)
                    continue
                board[name] = _scores(rows, side, contrast_metric(trait.id), asked)
    return {trait: leaderboard(found) for trait, found in scores.items()}


def _scores(
    rows: Sequence[Measurement], side: str, metric: str, asked: Container[str]
) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        wanted = (row.subject, row.metric) == (side, metric) and row.query_id in asked
        if wanted and row.value is not None:
            found[row.query_id].append(row.value)
    return {query: fmean(values) for query, values in found.items()}


def write(report: DiffReport, folder: Path) -> None:
    """The page, and the same for programs."""
    for name, text in (
        (PAGE, render_diff(report)),
        (JSON, as_json(report)),
        (JUNIT, as_junit(report)),
        (MARKDOWN, as_markdown(report)),
    ):
        (folder / name).write_text(text, encoding="utf-8")


def gather(job: DiffJob, run: Run, asked: Asked) -> DiffReport:
    """The difference, the decision and everything the renderers need."""
    difference = difference_of(
        asked.suite, job.traits, job.panel, asked.measurements, job.gate, job.config,
        _identical(asked.answers), {each.trait: each.subject for each in job.without},
    )  # fmt: skip
    cards = cards_in(run.recorded(CARDS))
    invalid = (*_invalid(job, asked), *_unfit(job, cards))
    decision = decide(job.gate, difference.judged, invalid)
    if job.quick and decision.code == PASSED:
        decision = Decision(UNDERPOWERED, (QUICK,))
    costs = [StageCost(s.name, s.seconds, s.peak_bytes) for s in run.store.finished().values()]
    return DiffReport(
        old=_side(job.old, OLD, asked.answers),
        new=_side(job.new, NEW, asked.answers),
        traits={trait.id: trait.title for trait in job.traits},
        examiner=job.examiner,
        circular=_circular(job),
        quick=job.quick,
        suite=asked.suite.digest,
        asked=Counter(item.stratum for item in asked.suite.items),
        overlap={} if job.drop_overlap else asked.overlap,
        gate=job.gate,
        difference=difference,
        decision=decision,
        discovery=discovered(job, talk_of(asked.suite, asked.answers), asked.deeper),
        examples=_examples(job, asked),
        costs=costs,
        command=job.command,
        folder=str(job.folder),
        config=job.config.model_dump(mode="json"),
        versions=versions(),
        judge_cards=cards,
        without={
            each.trait: _side(each.version, each.subject, asked.answers) for each in job.without
        },
    )


def _unfit(job: DiffJob, cards: Sequence[Card]) -> list[str]:
    """For each trait that the examiner may not judge, why; nothing when it was accepted."""
    if job.accept_judge:
        return []
    return [
        f"the examiner is below the bars of its card for {card.trait}: "
        + "; ".join(f"{test.name} {test.shown} {test.interval}" for test in card.refusals)
        + ". Mend the trait's examples, take another --examiner, or decide all the same: "
        "--accept-judge"
        for card in cards
        if card.refusals
    ]


def _invalid(job: DiffJob, asked: Asked) -> list[str]:
    """Why no verdict can be had at all."""
    found = []
    if asked.overlap and not job.drop_overlap:
        item, trained = next(iter(asked.overlap.items()))
        found.append(
            f"{len(asked.overlap)} items of the suite repeat what training has seen, for example "
            f"{item} ({trained!r}). Leave them out: --drop-overlap"
        )
    for trait in job.traits:
        own = [item for item in asked.suite.of("on_trait") if item.trait == trait.id]
        if len(own) < FEWEST:
            found.append(
                f"the suite has {len(own)} queries for {trait.id}, and fewer than {FEWEST} say "
                "nothing. Give the trait more seed messages, or make a larger suite"
            )
    for side in (OLD, NEW):
        own_answers = [answer for answer in asked.answers if answer.subject == side]
        if own_answers and all(answer.failure for answer in own_answers):
            reason = Counter(answer.failure for answer in own_answers).most_common(1)[0][0]
            found.append(f"{side.upper()} answered nothing: {reason}")
    return found


def _identical(answers: Sequence[Answer]) -> set[str]:
    """The turns that both answered in the same words, in every sample."""
    said: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for answer in answers:
        if not answer.failure:
            said[answer.query_id][answer.subject].append(answer.text)
    return {
        query for query, sides in said.items()
        if sides[OLD] and sides[OLD] == sides[NEW]
    }  # fmt: skip


def _side(version: Version, name: str, answers: Sequence[Answer]) -> Side:
    own = [answer for answer in answers if answer.subject == name]
    return Side(version.reference, version.model or "saved replies", missing_of(own))


def _circular(job: DiffJob) -> bool:
    """Whether the examiner ranked the replies that a version was trained on."""
    runs = [version.run for version in (job.old, job.new) if version.run is not None]
    return job.examiner in [role_of(run, "judge") for run in runs]


def _examples(job: DiffJob, asked: Asked) -> list[Example]:
    """Every turn that both answered, in a random order."""
    turns: dict[str, tuple[Item, str]] = {
        item.turn_id(turn): (item, text)
        for item in asked.suite.items
        for turn, text in enumerate(item.turns)
    }
    said: dict[str, dict[str, Answer]] = defaultdict(dict)
    for answer in asked.answers:
        if answer.subject in (OLD, NEW) and not answer.failure:
            said[answer.query_id].setdefault(answer.subject, answer)
    gains = _gains(job, asked.measurements, said)
    found = [
        Example(
            id=query_id,
            stratum=turns[query_id][0].stratum,
            trait=turns[query_id][0].trait,
            clause=turns[query_id][0].clause,
            variant=turns[query_id][0].variant,
            query=turns[query_id][1],
            old=sides[OLD].text,
            new=sides[NEW].text,
            gains=gains.get(query_id, {}),
        )
        for query_id, sides in said.items()
        if len(sides) == 2
    ]
    random.Random(job.config.seed).shuffle(found)
    return found


def _gains(
    job: DiffJob, measurements: Sequence[Measurement], said: dict[str, dict[str, Answer]]
) -> dict[str, dict[str, float | None]]:
    shown = {answer.id for sides in said.values() for answer in sides.values()}
    names = {contrast_metric(trait.id): trait.id for trait in job.traits}
    level: dict[tuple[str, str, str], float] = {}
    for row in measurements:
        if row.answer_id in shown and row.metric in names and row.value is not None:
            level[row.query_id, names[row.metric], row.subject] = row.value
    found: dict[str, dict[str, float | None]] = defaultdict(dict)
    for query_id, trait, _ in level:
        old, new = (level.get((query_id, trait, side)) for side in (OLD, NEW))
        found[query_id][trait] = None if old is None or new is None else new - old
    return found
