from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from making import a_constitution, a_measurement, a_query, a_trait

from character.diffing.config import MeasureConfig
from character.diffing.measure import SHORT
from character.diffing.outcome import Line, Outcome, TraitOutcome, contrast_metric, outcome_of
from character.diffing.statistics import Estimate
from character.rows import Measurement, Query
from character.spec.constitution import Constitution

CONFIG = MeasureConfig(resamples=200)
CONTRAST = contrast_metric("brisk")
HELD = [a_query(f"q{n}", split="held_out") for n in range(4)]
IDS = [query.id for query in HELD]


def same(metric: str, ids: Sequence[str] = IDS, **values: float | None) -> list[Measurement]:
    """The same value at every query, for each subject."""
    return [
        a_measurement(subject, query_id, metric, value)
        for subject, value in values.items()
        for query_id in ids
    ]


def outcome(
    measurements: Sequence[Measurement],
    queries: Sequence[Query] = HELD,
    constitution: Constitution | None = None,
) -> Outcome:
    return outcome_of(constitution or a_constitution(), queries, measurements, CONFIG, seed=0)


def trait_of(measurements: Sequence[Measurement]) -> TraitOutcome:
    (found,) = outcome(measurements).traits
    return found


def quality(metric: str, measurements: Sequence[Measurement]) -> Line:
    lines = {line.metric: line for line in outcome(measurements).quality}
    return lines[metric]


def exactly(value: float, queries: int = 4) -> Estimate:
    return Estimate(value, value, value, queries)


# --- movement ---


def test_movement_by_hand() -> None:
    found = trait_of(same(CONTRAST, base=0.25, trained=0.5, prompted=1.25, opposite=-1.0))
    assert found.contrast.subjects == {
        "base": exactly(0.25), "trained": exactly(0.5),
        "prompted": exactly(1.25), "opposite": exactly(-1.0),
    }  # fmt: skip
    assert found.contrast.change == exactly(0.25)
    assert found.share == exactly(0.25)
    assert (found.contrast.bar, found.contrast.holds) == ("moves up", True)
    assert (found.trait, found.title) == ("brisk", "Brisk")


def test_a_move_must_be_shown_and_up() -> None:
    assert trait_of(same(CONTRAST, base=0.5, trained=0.25)).contrast.holds is False
    assert trait_of(same(CONTRAST, base=0.5, trained=0.5)).contrast.holds is False
    # up by 1 and down by 1: nothing is shown
    rows = same(CONTRAST, base=0.0) + [
        a_measurement("trained", query_id, CONTRAST, value)
        for query_id, value in zip(IDS, (1.0, 1.0, 1.0, -2.0), strict=True)
    ]
    found = trait_of(rows).contrast
    assert found.change is not None and found.change.value == 0.25 and found.change.low < 0
    assert found.holds is False


def test_missing_contrasts_give_no_verdict() -> None:
    found = trait_of(same(CONTRAST, base=0.25, trained=None))
    assert (found.contrast.change, found.contrast.holds, found.share) == (None, None, None)
    assert list(found.contrast.subjects) == ["base"]
    empty = trait_of([])
    assert (empty.contrast.subjects, empty.contrast.holds, empty.share) == ({}, None, None)


def test_an_answer_without_a_contrast_is_counted_as_missing_and_not_as_zero() -> None:
    rows = same(CONTRAST, base=0.0, trained=1.0)
    rows[-1] = a_measurement("trained", IDS[-1], CONTRAST, None)
    found = trait_of(rows).contrast
    assert found.change == Estimate(1.0, 1.0, 1.0, 3, missing=1)
    assert found.subjects["trained"] == Estimate(1.0, 1.0, 1.0, 3, missing=1)


# --- which queries count where ---


def test_only_held_out_queries_count_and_each_trait_has_its_own() -> None:
    warm = a_trait("warm")
    queries = [
        *HELD[:2],
        a_query("w0", trait="warm", split="held_out"),
        a_query("w1", trait="warm", split="held_out"),
        a_query("u0", kind="unless", split="held_out"),
        a_query("u1", kind="unless", split="held_out"),
        a_query("v0", kind="unless", trait="warm", split="held_out"),
        a_query("v1", kind="unless", trait="warm", split="held_out"),
        a_query("t0", split="train"),
        a_query("t1", split="none"),
    ]
    worth = {"q": 1.0, "w": 2.0, "u": 3.0, "v": 4.0, "t": 99.0}
    rows = [
        a_measurement(subject, query.id, metric, worth[query.id[0]])
        for subject in ("base", "trained")
        for metric in (CONTRAST, contrast_metric("warm"), "tokens")
        for query in queries
    ]
    found = outcome(rows, queries, a_constitution(a_trait(), warm))
    shown = {t.trait: t.contrast.subjects["trained"] for t in found.traits}
    assert shown == {"brisk": exactly(1.0, 2), "warm": exactly(2.0, 2)}
    # where brisk must not show says nothing of where warm must not
    unless = {t.trait: t.unless.subjects["trained"] for t in found.traits}
    assert unless == {"brisk": exactly(3.0, 2), "warm": exactly(4.0, 2)}
    assert all((t.unless.bar, t.unless.holds) == ("", None) for t in found.traits)
    (tokens,) = [line for line in found.quality if line.metric == "tokens"]
    assert tokens.subjects["trained"].queries == 4  # of both traits, without `unless`
    assert tokens.subjects["trained"].value == 1.5


# --- bars ---


@pytest.mark.parametrize(
    ("metric", "values", "holds"),
    [
        ("answers", {"base": 0.8, "trained": 0.77}, True),  # 95 % of 0.8 is 0.76
        ("answers", {"base": 0.8, "trained": 0.75}, False),
        ("fluency", {"base": -1.0, "trained": -2.0, "prompted": -2.0}, True),
        ("fluency", {"base": -1.0, "trained": -2.1, "prompted": -2.0}, False),
        ("fluency", {"base": -1.0, "trained": -2.0}, None),  # its bar is missing
        ("fluency", {"base": -1.0, "trained": -2.0, "prompted": None}, None),
        ("repetition", {"base": 0.1, "trained": 0.1}, True),
        ("repetition", {"base": 0.1, "trained": 0.05}, True),
        ("repetition", {"base": 0.1, "trained": 0.11}, False),
        ("tokens", {"base": 40.0, "trained": 28.0}, True),
        ("tokens", {"base": 40.0, "trained": 27.0}, False),
        ("tokens", {"base": 40.0, "trained": 52.0}, True),
        ("tokens", {"base": 40.0, "trained": 53.0}, False),
        ("tokens", {"base": 0.0, "trained": 9.0}, False),
        ("tokens", {"base": 40.0, "trained": None}, None),
        ("follow_up_question", {"base": 0.1, "trained": 0.9}, None),  # no bar
        ("kl", {"trained": 0.3}, None),
    ],
)
def test_bars_by_hand(metric: str, values: Mapping[str, float | None], holds: bool | None) -> None:
    line = quality(metric, same(metric, **values))
    assert line.holds is holds
    if metric in ("follow_up_question", "kl"):
        assert line.bar == ""


@pytest.mark.parametrize(("trained", "holds"), [(98, True), (97, True), (96, False)])
def test_facts_may_fall_by_three_points(trained: int, holds: bool) -> None:
    """Of 100 short questions; the rows of other queries do not count."""
    rows = [
        a_measurement(subject, f"{SHORT}{n}", "short_right", float(n < right))
        for subject, right in (("base", 100), ("trained", trained))
        for n in range(100)
    ]
    line = quality("short_right", rows + same("short_right", base=0.0, trained=0.0))
    assert line.holds is holds
    assert line.change is not None and line.change.queries == 100
    assert line.subjects["base"].value == 1.0


def test_a_trait_about_length_frees_length() -> None:
    free = a_constitution(a_trait(controls={"length": "free"}))
    rows = same("tokens", base=40.0, trained=8.0)
    (line,) = [x for x in outcome(rows, constitution=free).quality if x.metric == "tokens"]
    assert (line.bar, line.holds) == ("", None)
    assert line.change == exactly(-32.0)
    assert quality("tokens", rows).holds is False


def test_nothing_measured_is_nothing_claimed() -> None:
    found = outcome([])
    for line in (*found.quality, found.traits[0].contrast, found.traits[0].unless):
        assert (line.subjects, line.change, line.holds) == ({}, None, None)
