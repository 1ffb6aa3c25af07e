"""What a build achieved and what it cost, each number with its interval and its bar."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from character.diffing.config import MeasureConfig
from character.diffing.measure import SHORT
from character.diffing.statistics import Estimate, Table, difference, estimate, mean, share
from character.rows import Measurement, Query
from character.spec.constitution import Constitution

BASE, TRAINED, PROMPTED, OPPOSITE = "base", "trained", "prompted", "opposite"
BEST = "best-of-n"  # of the base model's plain replies, by the reward model; where asked for
SUBJECTS = (BASE, TRAINED, PROMPTED, OPPOSITE)

Means = dict[str, float]  # subject -> mean
Holds = Callable[[Means, Estimate], bool | None]


@dataclass(frozen=True, slots=True)
class Line:
    """One measure of every subject, the change from base to trained, and whether its bar holds.

    `holds` is None when there is no bar, or when something it needs is missing.
    """

    metric: str
    label: str
    unit: str
    subjects: dict[str, Estimate]
    change: Estimate | None
    bar: str = ""
    holds: bool | None = None


@dataclass(frozen=True, slots=True)
class TraitOutcome:
    """How far the trained model moved towards one trait, in nats a token and as a share.

    `share` is 1 when the trained model, without any prompt, shows as much of the trait as the base
    model does when prompted with the good examples.
    """

    trait: str
    title: str
    contrast: Line
    share: Estimate | None
    unless: Line


@dataclass(frozen=True, slots=True)
class Outcome:
    traits: tuple[TraitOutcome, ...]
    quality: tuple[Line, ...]

    @property
    def subjects(self) -> tuple[str, ...]:
        return subjects_of(self.traits)


def subjects_of(traits: Iterable[TraitOutcome]) -> tuple[str, ...]:
    """Whom to show: every subject, and the best of n where it was asked for."""
    asked = any(BEST in trait.contrast.subjects for trait in traits)
    return (*SUBJECTS, BEST) if asked else SUBJECTS


def contrast_metric(trait: str) -> str:
    return f"contrast/{trait}"


def outcome_of(
    constitution: Constitution,
    queries: Sequence[Query],
    measurements: Sequence[Measurement],
    config: MeasureConfig,
    seed: int,
) -> Outcome:
    """Every line, from the measurements of held-out queries and short questions."""
    held = [query for query in queries if query.split == "held_out"]

    def line(
        ids: Iterable[str],
        metric: str,
        label: str,
        unit: str,
        bar: str = "",
        holds: Holds | None = None,
    ) -> Line:
        return _line(Table(measurements, ids), metric, label, unit, bar, holds, config, seed)

    traits = []
    for trait in constitution.traits:
        own = [q.id for q in held if q.kind == "on_trait" and q.trait == trait.id]
        unless = [q.id for q in held if q.kind == "unless" and q.trait == trait.id]
        metric = contrast_metric(trait.id)
        columns = [(TRAINED, metric), (BASE, metric), (PROMPTED, metric)]
        traits.append(
            TraitOutcome(
                trait.id,
                trait.title,
                line(own, metric, trait.title, "nats a token", "moves up", _moves_up),
                estimate(Table(measurements, own), columns, share, config.resamples, seed),
                line(unless, metric, f"{trait.title}, where it must not show", "nats a token"),
            )
        )
    free = any(trait.controls.length == "free" for trait in constitution.traits)
    on = [query.id for query in held if query.kind == "on_trait"]
    short = [row.query_id for row in measurements if row.query_id.startswith(SHORT)]
    quality = (
        line(short, "short_right", "Short questions right", "share", "-3 points", _keeps_facts),
        line(on, "answers", "Replies that answer", "share", "95 % of base", _keeps_answering),
        line(on, "fluency", "Fluency under base", "nats a token", "prompted's", _as_fluent),
        line(on, "repetition", "Repeated 4-grams", "share", "no more than base", _no_more_loops),
        line(on, "tokens", "Length", "tokens", "", None)
        if free
        else line(on, "tokens", "Length", "tokens", "30 % of base", _keeps_length),
        line(on, "follow_up_question", "Ends with a real question", "share"),
        line(on, "kl", "KL from base", "nats a token"),
    )
    return Outcome(tuple(traits), quality)


def _line(
    table: Table,
    metric: str,
    label: str,
    unit: str,
    bar: str,
    holds: Holds | None,
    config: MeasureConfig,
    seed: int,
) -> Line:
    subjects = {}
    for subject in (*SUBJECTS, BEST):
        found = estimate(table, [(subject, metric)], mean, config.resamples, seed)
        if found is not None:
            subjects[subject] = found
    columns = [(TRAINED, metric), (BASE, metric)]
    change = estimate(table, columns, difference, config.resamples, seed)
    verdict = None
    if holds is not None and change is not None:
        verdict = holds({name: found.value for name, found in subjects.items()}, change)
    return Line(metric, label, unit, subjects, change, bar, verdict)


def _moves_up(means: Means, change: Estimate) -> bool:
    return change.low > 0


def _keeps_facts(means: Means, change: Estimate) -> bool:
    return change.value >= -0.03


def _keeps_answering(means: Means, change: Estimate) -> bool:
    return means[TRAINED] >= 0.95 * means[BASE]


def _as_fluent(means: Means, change: Estimate) -> bool | None:
    return means[TRAINED] >= means[PROMPTED] if PROMPTED in means else None


def _no_more_loops(means: Means, change: Estimate) -> bool:
    return change.low <= 0  # not shown to repeat more


def _keeps_length(means: Means, change: Estimate) -> bool:
    return 0.7 * means[BASE] <= means[TRAINED] <= 1.3 * means[BASE]
