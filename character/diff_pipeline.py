"""The page that joins the stages of a diff.

versions, traits -> suite -> answers of both -> what code counts, what the examiner scores
                 -> difference -> decision
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from character.data.anchors import KINDS, NEUTRAL, anchor_queries
from character.data.queries import QueriesConfig, drafts_wanted, write_queries
from character.diff_discovery import TALK, Deeper, look_deeper, talk_of
from character.diff_job import DiffJob, Version
from character.diffing.config import DiffConfig, SuiteConfig
from character.diffing.counting import count
from character.diffing.dialogue import converse, first_answer, turns_of
from character.diffing.difference import (
    AGAIN,
    ANSWERS,
    FLUENCY,
    NEW,
    OLD,
    RELEVANCE,
    bad,
    good,
)
from character.diffing.measure import Subject, measurement
from character.diffing.outcome import contrast_metric
from character.diffing.preferences import Preference, win_shares
from character.diffing.saved import read_saved
from character.diffing.suite import (
    BRIEF,
    MEASURED_TURNS,
    Item,
    Suite,
    make_suite,
    near,
    read_suite,
    without,
    write_suite,
)
from character.judge_pipeline import Bench, card_of, told
from character.judging.config import Kind
from character.judging.judge import Contest, Judge, NoVerdict, Said
from character.judging.kinds import judge_of
from character.judging.likelihood import contrast, foils, likelihood, relevance
from character.models.base import ChatModel, OnDone
from character.models.config import RequestsConfig
from character.opened import Models
from character.progress import Bar
from character.rows import Answer, Measurement, Query
from character.run import CARDS, DATABASE, Chunk, Run
from character.spec.constitution import Constitution, Member
from character.spec.demonstrations import demonstrations
from character.spec.schema import Trait
from character.store.store import Store

ANSWERED = 0.2  # nats a token; of 318 replies of the bundled model 98 % have more, and replies to
# another query less than 0
OTHER_SEEDS = 500_009
STAGES = {"answers", "counts", "relevance", "contrast"}
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
        overlap = near(suite.items, trained_on((job.old, job.new)))
        if job.drop_overlap:
            suite = without(suite, overlap)
        if job.card and run.recorded(CARDS) is None:
            run.step("judge_cards", lambda: _try_examiner(job, run, models))
        if not run.store.finished().keys() >= STAGES:  # a second diff opens no model
            _measure(job, run, models, suite, _answers(job, run, models, suite))
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
            writer, trained = models.any(job.writer), trained_on((job.old, job.new))
            suite = new_suite(job.traits, writer, trained, job.suite_config, bar.add)
        write_suite(suite, path)
        return []

    drafts = drafts_for(job.traits, job.suite_config) if job.suite is None else None
    run.once("suite", "Suite", Query, make, drafts, "drafts")
    return read_suite(path)


def _answers(job: DiffJob, run: Run, models: Models, suite: Suite) -> list[Answer]:
    """Both versions on everything, and the planted replies on each trait's own queries."""
    chunks: list[Chunk[Callable[[], list[Answer]]]] = []

    def plan(subject: Subject, items: list[Item], config: DiffConfig = job.config) -> None:
        first, total = first_answer(subject, items, config), turns_of(items, config)
        chunks.append(Chunk(first, total, partial(converse, subject, items, config)))

    for name, version in ((OLD, job.old), (NEW, job.new)):
        if version.saved is not None:
            rows = read_saved(version.saved, name, suite.items, job.config.samples)
            chunks.append(Chunk(rows[0].id, len(rows), partial(list, rows)))
            continue
        subject = Subject(name, models.any(version.model))
        for stratum in dict.fromkeys(item.stratum for item in suite.items):
            plan(subject, suite.of(stratum))
    for trait in job.traits:
        own = [item for item in suite.of("on_trait") if item.trait == trait.id]
        planter = models.any(job.planter)
        if own:
            plan(Subject(good(trait.id), planter, demonstrations(trait, "good")), own)
            plan(Subject(bad(trait.id), planter, demonstrations(trait, "bad")), own)
    talk = suite.of(*TALK)
    if job.config.again and job.old.saved is None and talk:
        others = job.config.model_copy(update={"seed": job.config.seed + OTHER_SEEDS})
        plan(Subject(AGAIN, models.any(job.old.model)), talk, others)
    return run.each("answers", "Answers", Answer, chunks, lambda todo: (work() for work in todo))


def _measure(
    job: DiffJob, run: Run, models: Models, suite: Suite, answers: Sequence[Answer]
) -> None:
    """What code counts in the answers, and what the examiner scores."""
    turns = {
        item.turn_id(turn): (item, turn) for item in suite.items for turn in range(len(item.turns))
    }
    own = [a for a in answers if a.subject in (OLD, NEW)]
    run.once("counts", "Counts", Measurement, lambda bar: count(own, turns))
    reader = models[job.reader]
    talk = [a for a in own if turns[a.query_id][0].stratum in TALK]
    run.once(
        "relevance", "Relevance", Measurement,
        lambda bar: score_answering(reader, talk, bar), 2, "passes",
    )  # fmt: skip
    examiner = models.any(job.examiner)
    judge = judge_of("verdict", examiner) if job.compares else None

    def examine(trait: Trait, said: list[Answer]) -> list[Measurement]:
        if judge is None:
            return score_contrast(examiner, trait, said)
        sides = {NEW: OLD, good(trait.id): bad(trait.id)}
        return win_shares(trait.id, said, sides, partial(_preferred, judge, trait))

    work = [(trait, _of_trait(trait, answers, turns)) for trait in job.traits]
    neutral = [item.id for item in suite.of("neutral")][: job.config.panel]
    first = [a for a in own if a.query_id in set(neutral)]
    work += [(trait, first) for trait in job.panel if first]
    chunks = [
        Chunk(
            measurement(_first(said, job.compares), contrast_metric(trait.id), None).id,
            len(said),
            (trait, said),
        )
        for trait, said in work
        if said
    ]
    run.each(
        "contrast", "Contrast", Measurement, chunks,
        lambda todo: (examine(trait, said) for trait, said in todo),
    )  # fmt: skip


def _first(said: Sequence[Answer], compares: bool) -> Answer:
    """The answer whose measurement says that all are there: a comparison's are NEW's first."""
    return next((a for a in said if a.subject == NEW), said[0]) if compares else said[0]


def _preferred(
    judge: Judge, trait: Trait, pairs: Sequence[tuple[Answer, Answer]]
) -> list[Preference]:
    """What the judge says of each pair, from both orders."""
    contests = [Contest(*(Said(a.prompt, a.text, a.ended) for a in pair)) for pair in pairs]
    found = []
    for outcome in judge.compare(trait, contests):
        if isinstance(outcome, NoVerdict):
            found.append(Preference(None, None))
        elif outcome.preference is None:
            found.append(Preference(0.5, True))
        else:
            found.append(Preference(outcome.preference, False))
    return found


def score_contrast(
    examiner: ChatModel, trait: Trait, answers: Sequence[Answer]
) -> list[Measurement]:
    said = [Said(a.prompt, a.text, a.ended) for a in answers]
    found = _by_reply(said, lambda each: contrast(examiner, trait, each))
    metric = contrast_metric(trait.id)
    return [measurement(a, metric, found[item]) for a, item in zip(answers, said, strict=True)]


def score_answering(examiner: ChatModel, answers: Sequence[Answer], bar: Bar) -> list[Measurement]:
    """Fluency, relevance, and whether a reply answers its query rather than any other."""
    said = [Said(a.prompt, a.text, a.ended) for a in answers]
    fluent = _by_reply(said, lambda each: likelihood(examiner, each))
    bar.add(1)
    foil = foils(a.prompt for a in answers)
    relevant = _by_reply(
        said, lambda each: relevance(examiner, each, foil, [fluent[item] for item in each])
    )
    bar.add(1)
    rows = []
    for answer, item in zip(answers, said, strict=True):
        value = relevant[item]
        answered = None if value is None else float(value >= ANSWERED)
        if not answer.text and not answer.failure:
            answered = 0.0  # silence answers nothing
        found = ((RELEVANCE, value), (FLUENCY, fluent[item]), (ANSWERS, answered))
        rows += [measurement(answer, metric, level) for metric, level in found]
    return rows


def _by_reply(
    said: Sequence[Said], score: Callable[[Sequence[Said]], Sequence[float | None]]
) -> dict[Said, float | None]:
    """Each reply's value, scored once: in another batch the same reply rounds to another value."""
    each = list(dict.fromkeys(said))
    return dict(zip(each, score(each), strict=True))


def _of_trait(
    trait: Trait, answers: Sequence[Answer], turns: dict[str, tuple[Item, int]]
) -> list[Answer]:
    """The answers that a trait is looked for in."""
    plants = (good(trait.id), bad(trait.id))
    found = []
    for answer in answers:
        item, turn = turns[answer.query_id]
        looked_at = item.stratum != "multi_turn" or turn + 1 in MEASURED_TURNS
        concerns = item.trait in ("", trait.id) and item.stratum not in BRIEF
        if looked_at and concerns and answer.subject in (OLD, NEW, *plants):
            found.append(answer)
    return found


def _wanted(config: SuiteConfig) -> QueriesConfig:
    return QueriesConfig(
        train=max(4, config.on_trait // 2),
        held_out=config.on_trait,
        unless=2 * config.unless,
        neutral=0,
    )
