"""The page that joins the stages of a diff.

versions, traits -> suite -> answers of both -> what code counts, what the examiner scores
                 -> difference -> decision
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

from character.data.anchors import KINDS, NEUTRAL, anchor_queries
from character.data.queries import QueriesConfig, drafts_wanted, write_queries
from character.diff_asking import ask_without, talked, version_said
from character.diff_discovery import TALK, Deeper, look_deeper, talk_of
from character.diff_job import DiffJob, Version
from character.diff_scoring import SCORING, score_answers
from character.diffing.config import SuiteConfig
from character.diffing.measure import Subject
from character.diffing.subjects import AGAIN, NEW, OLD, bad, good
from character.diffing.suite import Suite, make_suite, near, read_suite, without, write_suite
from character.judge_pipeline import Bench, card_of, told
from character.judging.config import Kind
from character.judging.kinds import judge_of
from character.models.base import ChatModel, OnDone
from character.models.config import RequestsConfig
from character.opened import Models
from character.progress import Bar
from character.rows import Answer, Measurement, Query
from character.run import CARDS, DATABASE, Run
from character.spec.constitution import Constitution, Member
from character.spec.demonstrations import demonstrations
from character.spec.schema import Trait
from character.store.store import Store

OTHER_SEEDS = 500_009
STAGES = {"answers", *SCORING}
SUITE = "suite.lock"
SUITE_SEED = 1_000_003  # apart from the seeds that builds are given


@dataclass(frozen=True, slots=True)
class Asked:
    """What both were asked, what of it training has seen, and everything that was measured."""

    suite: Suite
    overlap: dict[str, str]  # item id -> the training query it repeats
    answers: list[Answer]
    measurements: list[Measurement]
    deeper: Deeper


def compare(job: DiffJob, run: Run, cap: float | None = None) -> Asked:
    """Ask both versions, count and score; what has finished is read from the run."""
    with closing(Models(run, RequestsConfig(), cap)) as models:
        suite = _suite(job, run, models)
        overlap = near(suite.items, trained_on(job.versions))
        if job.drop_overlap:
            suite = without(suite, overlap)
        if job.card and run.recorded(CARDS) is None:
            run.step("judge_cards", lambda: _try_examiner(job, run, models))
        if not run.store.finished().keys() >= STAGES:  # a second diff opens no model
            score_answers(job, run, models, suite, _answers(job, run, models, suite))
        ask_without(job, run, models, suite)
        answers = run.store.all(Answer)
        deeper = look_deeper(job, run, models, talk_of(suite, answers))
    turns = {item.turn_id(turn) for item in suite.items for turn in range(len(item.turns))}
    answers = [answer for answer in answers if answer.query_id in turns]
    measured = [row for row in run.store.all(Measurement) if row.query_id in turns]
    return Asked(suite, overlap, answers, measured, deeper)


def _try_examiner(job: DiffJob, run: Run, models: Models) -> None:
    """Make the examiner's card for every trait, and record it."""
    assert job.card
    kind: Kind = "verdict" if job.compares else "likelihood"
    judge = judge_of(kind, models.any(job.examiner))
    bench = Bench((kind,), judge, models[job.writer], job.card)
    cards = [card_of(trait, bench, run.reporter)[0] for trait in job.traits]
    run.record(**{CARDS: [told(card) for card in cards]})


def new_suite(
    traits: Sequence[Trait],
    writer: ChatModel,
    trained: Iterable[str],
    config: SuiteConfig,
    on_draft: OnDone = lambda count: None,
) -> Suite:
    """A suite with queries that the writer makes for each trait; none repeats what is trained on.

    A trait's own seed messages are for training, and so are the shipped anchors.
    """
    written = {}
    for trait in traits:
        alone = Constitution((Member(trait),))
        found = write_queries(alone, writer, _wanted(config), SUITE_SEED, on_draft)
        written[trait.id] = [query for query in found if query.source == "writer"]
    anchors = [text for kind in (*KINDS, NEUTRAL) for text in anchor_queries(kind)]
    seeds = [text for t in traits for text in (*t.queries.seeds, *t.queries.unless)]
    suite = make_suite(written, config)
    return without(suite, near(suite.items, [*trained, *anchors, *seeds]))


def trained_on(versions: Iterable[Version]) -> list[str]:
    """The texts of all queries that builds of these versions trained on."""
    found = []
    for version in versions:
        if version.run is not None:
            with Store(version.run / DATABASE, read_only=True) as store:
                found += [query.text for query in store.all(Query) if query.split == "train"]
    return found


def drafts_for(traits: Sequence[Trait], config: SuiteConfig) -> int:
    """How many queries the writer of a new suite drafts."""
    return sum(drafts_wanted(trait, _wanted(config)) for trait in traits)


def _suite(job: DiffJob, run: Run, models: Models) -> Suite:
    """The suite in the run's folder: the one that was given, or one made for these traits."""
    path = run.folder / SUITE

    def make(bar: Bar) -> list[Query]:
        suite = job.suite
        if suite is None:
            writer, trained = models.any(job.writer), trained_on(job.versions)
            suite = new_suite(job.traits, writer, trained, job.suite_config, bar.add)
        write_suite(suite, path)
        return []

    drafts = drafts_for(job.traits, job.suite_config) if job.suite is None else None
    run.once("suite", "Suite", Query, make, drafts, "drafts")
    return read_suite(path)


def _answers(job: DiffJob, run: Run, models: Models, suite: Suite) -> list[Answer]:
    """Both versions on everything, and the planted replies on each trait's own queries."""
    config = job.config
    chunks = [
        *version_said(OLD, job.old, models, suite, config),
        *version_said(NEW, job.new, models, suite, config),
    ]
    for trait in job.traits:
        own = [item for item in suite.of("on_trait") if item.trait == trait.id]
        planter = models.any(job.planter)
        if own:
            for subject in (
                Subject(good(trait.id), planter, demonstrations(trait, "good")),
                Subject(bad(trait.id), planter, demonstrations(trait, "bad")),
            ):
                chunks.append(talked(subject, own, config))
    talk = suite.of(*TALK)
    if config.again and job.old.saved is None and talk:
        others = config.model_copy(update={"seed": config.seed + OTHER_SEEDS})
        chunks.append(talked(Subject(AGAIN, models.any(job.old.model)), talk, others))
    return run.each("answers", "Answers", Answer, chunks, lambda todo: (work() for work in todo))


def _wanted(config: SuiteConfig) -> QueriesConfig:
    return QueriesConfig(
        train=max(4, config.on_trait // 2),
        held_out=config.on_trait,
        unless=2 * config.unless,
        neutral=0,
    )
