"""What is measured in a diff's answers: what code counts, and what the examiner scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from character.diff_discovery import TALK
from character.diff_job import DiffJob
from character.diffing.counting import count
from character.diffing.measure import measurement
from character.diffing.outcome import contrast_metric
from character.diffing.preferences import Preference, win_shares
from character.diffing.subjects import NEW, OLD, bad, good
from character.diffing.suite import BRIEF, MEASURED_TURNS, Item, Suite
from character.diffing.wanted import ANSWERS, FLUENCY, RELEVANCE
from character.judging.judge import Contest, Judge, NoVerdict, Said
from character.judging.kinds import judge_of
from character.judging.likelihood import contrast, foils, likelihood, relevance
from character.models.base import ChatModel
from character.opened import Models
from character.progress import Bar
from character.rows import Answer, Measurement
from character.run import Chunk, Run
from character.spec.schema import Trait

ANSWERED = 0.2  # nats a token; of 318 replies of the bundled model 98 % have more, and replies to
# another query less than 0
SCORING = ("counts", "relevance", "contrast")  # stages, in their order


def score_answers(
    job: DiffJob,
    run: Run,
    models: Models,
    suite: Suite,
    answers: Sequence[Answer],
    subject: str = NEW,
) -> None:
    """Measure NEW with OLD and the planted replies, or another subject against the same OLD.

    `answers` may hold those of others, or to items that have left the suite, which are left alone.
    What another subject is compared with
    was measured with NEW, and is not measured again.
    """
    turns = {
        item.turn_id(turn): (item, turn) for item in suite.items for turn in range(len(item.turns))
    }
    answers = [answer for answer in answers if answer.query_id in turns]
    plants = [side(trait.id) for trait in job.traits for side in (good, bad)]
    wanted = {OLD, NEW, *plants} if subject == NEW else {subject}
    counts, relevance_, contrasts = (stage_of(stage, subject) for stage in SCORING)
    own = [a for a in answers if a.subject in wanted and a.subject not in plants]
    run.once(counts, "Counts", Measurement, lambda bar: count(own, turns))
    reader = models[job.reader]
    talk = [a for a in own if turns[a.query_id][0].stratum in TALK]
    run.once(
        relevance_, "Relevance", Measurement,
        lambda bar: score_answering(reader, talk, bar), 2, "passes",
    )  # fmt: skip
    examiner = models.any(job.examiner)
    judge = judge_of("verdict", examiner) if job.compares else None

    def examine(trait: Trait, said: list[Answer]) -> list[Measurement]:
        if judge is None:
            return score_contrast(examiner, trait, said)
        sides = {subject: OLD, good(trait.id): bad(trait.id)}
        rows = win_shares(trait.id, said, sides, partial(_preferred, judge, trait))
        return [row for row in rows if row.subject in wanted]

    read = wanted | {OLD} if job.compares else wanted
    looked_at = [a for a in answers if a.subject in read]
    work = [(trait, _of_trait(trait, looked_at, turns)) for trait in job.traits]
    neutral = {item.id for item in suite.of("neutral")[: job.config.panel]}
    first = [a for a in looked_at if a.query_id in neutral]
    work += [(trait, first) for trait in job.panel]
    chunks = [
        Chunk(
            measurement(_first(said, subject, job.compares), contrast_metric(trait.id), None).id,
            len(said),
            (trait, said),
        )
        for trait, said in work
        if said
    ]
    run.each(
        contrasts, "Contrast", Measurement, chunks,
        lambda todo: (examine(trait, said) for trait, said in todo),
    )  # fmt: skip


def stage_of(stage: str, subject: str) -> str:
    """The stage's name; NEW's has OLD in it and is plain."""
    return stage if subject == NEW else f"{stage}: {subject}"


def _first(said: Sequence[Answer], subject: str, compares: bool) -> Answer:
    """The answer whose measurement says that all are there: a comparison's are the subject's."""
    return next((a for a in said if a.subject == subject), said[0]) if compares else said[0]


def _of_trait(
    trait: Trait, answers: Sequence[Answer], turns: dict[str, tuple[Item, int]]
) -> list[Answer]:
    """The answers that a trait is looked for in."""
    found = []
    for answer in answers:
        item, turn = turns[answer.query_id]
        looked_at = item.stratum != "multi_turn" or turn + 1 in MEASURED_TURNS
        concerns = item.trait in ("", trait.id) and item.stratum not in BRIEF
        if looked_at and concerns:
            found.append(answer)
    return found


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
