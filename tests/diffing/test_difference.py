"""The whole of a diff's arithmetic on measurements that are made up, so that the truth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from making import a_trait

from character.diffing.config import DiffConfig
from character.diffing.difference import difference_of
from character.diffing.outcome import contrast_metric
from character.diffing.results import Difference
from character.diffing.subjects import NEW, OLD, bad, good
from character.diffing.suite import Item, Suite
from character.diffing.verdicts import Gate
from character.diffing.wanted import ANSWERS
from character.rows import Measurement, content_id

CONFIG = DiffConfig(permutations=999, resamples=500)
CURIOUS, WARM = a_trait("curious"), a_trait("warm")
Value = Callable[[Item, str], float | None]  # (item, metric) -> value


def suite(queries: int = 60) -> Suite:
    plain = [
        Item(id=f"{t}-{i}", stratum="on_trait", turns=(f"{t} {i}",), trait=t,
             clause=("first-word", "no-coda")[i % 2])
        for t in ("curious", "warm") for i in range(queries)
    ]  # fmt: skip
    broken = [
        Item(id=f"{item.id}-{v}", stratum="break_character", turns=(f"{item.turns[0]} {v}",),
             trait=item.trait, of=item.id, variant=v)
        for item in plain[:40] for v in ("drop", "plainly")
    ]  # fmt: skip
    neutral = [Item(id=f"n-{i}", stratum="neutral", turns=(f"n {i}",)) for i in range(60)]
    facts = [
        Item(id=f"f-{i}", stratum="capability", turns=(f"f {i}",), accept=("a",)) for i in range(60)
    ]
    return Suite((*plain, *broken, *neutral, *facts))


def rows(subject: str, value: Value, metrics: list[str], asked: Suite) -> list[Measurement]:
    return [
        Measurement(f"{subject}{item.id}{metric}", f"{subject}{item.id}", subject, item.id, metric,
                    value(item, metric))
        for item in asked.items for metric in metrics
    ]  # fmt: skip


def noise(item: Item, metric: str, side: int) -> float:
    seed = int(content_id(item.id, metric, side), 16)
    return float(np.random.default_rng(seed).normal(scale=0.05))


METRICS = [contrast_metric("curious"), contrast_metric("warm"), "words", "right", ANSWERS, "emoji"]


def diff(
    new: Value, old: Value = lambda item, metric: noise(item, metric, 0), same: bool = False
) -> Difference:
    asked = suite()
    measured = rows(OLD, old, METRICS, asked) + rows(NEW, new, METRICS, asked)
    for trait in (CURIOUS, WARM):
        metric = contrast_metric(trait.id)
        measured += rows(good(trait.id), lambda i, m: 0.4 + noise(i, m, 2), [metric], asked)
        measured += rows(bad(trait.id), lambda i, m: -0.4 + noise(i, m, 3), [metric], asked)
    panel = [a_trait("gloomy")]
    metric = contrast_metric("gloomy")
    measured += rows(OLD, old, [metric], asked) + rows(NEW, new, [metric], asked)
    identical = [item.id for item in asked.items] if same else []
    return difference_of(asked, [CURIOUS, WARM], panel, measured, Gate(), CONFIG, identical)


def shifted(**by: float) -> Value:
    """NEW: noise plus a shift for each metric named (contrast metrics by their trait)."""

    def value(item: Item, metric: str) -> float:
        return noise(item, metric, 1) + by.get(metric.rpartition("/")[2], 0.0)

    return value


def result(found: Difference, name: str):  # type: ignore[no-untyped-def]
    return next(r for r in found.results if r.name == name)


def test_a_planted_dose_is_found_and_the_other_trait_held() -> None:
    found = diff(shifted(curious=0.2))
    curious, warm = result(found, "trait/curious"), result(found, "trait/warm")
    assert (curious.verdict, warm.verdict) == ("INTENDED", "HELD")
    assert curious.dose.value == pytest.approx(0.2 / 0.8, abs=0.05)  # of the way from bad to good
    assert curious.dose.low < curious.dose.value < curious.dose.high
    assert curious.planted.right == curious.planted.queries == 60
    assert [c.clause for c in curious.clauses] == ["first-word", "no-coda"]
    assert sum(c.queries for c in curious.clauses) == 60


def test_a_side_effect_is_traced_to_the_trait_that_caused_it() -> None:
    """Curiosity brings the emoji; warmth brings the gloom, and both bring some words."""
    asked, everything = suite(), [*METRICS, contrast_metric("gloomy")]
    subjects = {
        OLD: shifted(),
        NEW: shifted(curious=0.3, warm=0.3, emoji=0.5, gloomy=0.2, words=0.4),
        "without/curious/1": shifted(warm=0.3, gloomy=0.2, words=0.2),
        "without/warm/2": shifted(curious=0.3, emoji=0.5, words=0.2),
    }
    measured = []
    for at, (subject, value) in enumerate(subjects.items()):

        def noisy(item: Item, metric: str, value: Value = value, at: int = at) -> float:
            return (value(item, metric) or 0.0) + noise(item, metric, 10 + at)

        measured += rows(subject, noisy, everything, asked)
    for trait in (CURIOUS, WARM):
        metric = contrast_metric(trait.id)
        measured += rows(good(trait.id), lambda i, m: 0.4 + noise(i, m, 2), [metric], asked)
        measured += rows(bad(trait.id), lambda i, m: -0.4 + noise(i, m, 3), [metric], asked)
    without = {"curious": "without/curious/1", "warm": "without/warm/2"}
    difference = difference_of(
        asked, [CURIOUS, WARM], [a_trait("gloomy")], measured, Gate(), CONFIG, (), without
    )
    cells = {(cell.measure, cell.trait): cell for cell in difference.contributions}
    moved = {"trait/curious", "trait/warm", "unless/curious", "style/emoji", "panel/gloomy",
             "style/words"}  # fmt: skip
    assert {measure for measure, _ in cells} <= moved
    assert {key for key, cell in cells.items() if cell.discovered} == {
        ("trait/curious", "curious"), ("trait/warm", "warm"), ("style/emoji", "curious"),
        ("panel/gloomy", "warm"), ("style/words", "curious"), ("style/words", "warm"),
    }  # fmt: skip
    assert cells["style/words", "warm"].share.value == pytest.approx(0.5, abs=0.1)
    assert cells["panel/gloomy", "warm"].share.value == pytest.approx(1.0, abs=0.15)
    bare = difference_of(asked, [CURIOUS, WARM], [a_trait("gloomy")], measured, Gate(), CONFIG)
    assert bare.contributions == () and bare.results == difference.results


def test_doses_come_out_in_order() -> None:
    doses = [
        result(diff(shifted(curious=d)), "trait/curious").dose.value for d in (0, 0.1, 0.2, 0.4)
    ]
    assert doses == sorted(doses)


def test_the_same_replies_are_held_at_exactly_zero() -> None:
    same: Value = lambda item, metric: noise(item, metric, 0)  # noqa: E731
    for found in diff(same, same, same=True).results:
        if found.movement is not None:  # it was measured
            assert (found.verdict, found.movement.value) == ("HELD", 0.0), found.name


def test_the_other_way_round_is_the_negative() -> None:
    new, old = shifted(curious=0.2, emoji=0.3), shifted()
    there, back = diff(new, old), diff(old, new)
    for one, other in zip(there.results, back.results, strict=True):
        if one.movement is None:
            assert other.movement is None and one.verdict == "INCONCLUSIVE"
            continue
        assert one.movement.value == -other.movement.value
        assert (one.movement.low, one.movement.p) == (-other.movement.high, other.movement.p)


def test_what_nobody_asked_for_is_found_in_the_panel_and_in_style() -> None:
    found = diff(shifted(curious=0.3, gloomy=0.2, emoji=1.0))
    assert result(found, "panel/gloomy").verdict == "MOVED"
    assert result(found, "style/emoji").verdict == "MOVED"
    assert result(found, "style/words").verdict != "MOVED"
    assert found.specificity["curious"] == pytest.approx(0.3 / 0.2, rel=0.3)


def test_lost_facts_regress_with_their_flips() -> None:
    right: Value = lambda item, metric: float(metric == "right")  # noqa: E731
    wrong: Value = lambda item, metric: float(  # noqa: E731
        metric == "right" and item.id[-1] in "13579"
    )
    found = result(diff(wrong, right), "quality/capability")
    assert found.verdict == "REGRESSED"
    assert (found.flips.lost, found.flips.won) == (30, 0)


def test_an_effect_that_a_suffix_removes_is_not_kept() -> None:
    def value(item: Item, metric: str) -> float:
        base = noise(item, metric, 1)
        if metric != contrast_metric("curious"):
            return base
        return base + (0.0 if item.variant == "drop" else 0.4)

    kept = {k.condition: k for k in diff(value).kept if k.trait == "curious"}
    assert kept["drop"].verdict == "REGRESSED" and abs(kept["drop"].kept.value) < 0.2
    assert kept["plainly"].kept.value == pytest.approx(1, abs=0.15)
    assert kept["break character, all"].kept.value == pytest.approx(0.5, abs=0.1)
    assert kept["drop"].kept.queries == 40  # the query is the unit


def test_a_trait_that_did_not_move_has_nothing_to_keep() -> None:
    assert {k.verdict for k in diff(shifted()).kept} == {"UNMEASURABLE"}


def test_an_examiner_that_cannot_tell_plants_apart_measures_nothing() -> None:
    asked = suite()
    metric = contrast_metric("curious")
    measured = rows(OLD, lambda i, m: 0.0, [metric], asked)
    measured += rows(NEW, lambda i, m: 1.0, [metric], asked)
    for name in (good("curious"), bad("curious")):
        measured += rows(name, lambda i, m: noise(i, name, 4), [metric], asked)  # noqa: B023
    (found, *_) = difference_of(asked, [CURIOUS], [], measured, Gate(), CONFIG).results
    assert found.verdict == "UNMEASURABLE" and "planted" in found.why


def test_what_was_asked_and_never_measured_is_inconclusive() -> None:
    def silent(item: Item, metric: str) -> float | None:
        return None if metric == "right" else noise(item, metric, 1)

    found = result(diff(silent), "quality/capability")
    assert (found.verdict, found.movement, found.missing) == ("INCONCLUSIVE", None, (0, 60))


def test_a_condition_with_few_queries_decides_nothing() -> None:
    def value(item: Item, metric: str) -> float | None:
        few = item.variant == "drop" and int(item.of.rpartition("-")[2]) > 18
        return None if few else noise(item, metric, 1) + 0.4

    kept = {k.condition: k for k in diff(value).kept if k.trait == "curious"}
    assert kept["drop"].verdict == "INCONCLUSIVE" and "fewer than 20" in kept["drop"].why
    assert kept["plainly"].verdict == "HELD"


def test_what_a_gate_asks_of_style_regresses() -> None:
    asked = suite()
    measured = rows(OLD, lambda i, m: noise(i, m, 0), ["emoji"], asked)
    measured += rows(NEW, lambda i, m: noise(i, m, 1) + 1, ["emoji"], asked)
    for gate in (Gate(critical=("style/emoji",)), Gate(expect={"style/emoji": "hold"}),
                 Gate(expect={"style/*": "hold"})):  # fmt: skip
        found = difference_of(asked, [], [], measured, gate, CONFIG)
        assert result(found, "style/emoji").verdict == "REGRESSED"


def test_the_framings_of_a_fact_are_one_query() -> None:
    facts = [
        Item(id=f"{i}{v}", stratum="framed_facts", turns=("a", "b")[: 1 + (v == "n")],
             accept=("a",), wrong=("b",), of="" if v == "n" else f"{i}n",
             variant={"n": "neutral", "s": "sad", "b": "belief"}[v])
        for i in range(40) for v in "nsb"
    ]  # fmt: skip
    asked = Suite(tuple(facts))
    turns = [item.turn_id(t) for item in facts for t in range(len(item.turns))]
    measured = [
        Measurement(f"{s}{t}{m}", f"{s}{t}", s, t, m, float(t.endswith("s") and s == NEW))
        for s in (OLD, NEW) for t in turns for m in ("right", "wrong_belief")
    ]  # fmt: skip
    found = difference_of(asked, [], [], measured, Gate(), CONFIG)
    facts_right, agrees = (result(found, f"quality/{n}") for n in ("framed_facts", "agrees"))
    assert (facts_right.movement.queries, facts_right.movement.value) == (40, 0.5)
    assert (agrees.movement.queries, agrees.movement.value) == (40, 0.0)
    # a fact of which OLD lacks both framings, and one of which it lacks one, are two queries
    gone = {"0s", "0b", "1s"}
    fewer = [row for row in measured if not (row.subject == OLD and row.query_id in gone)]
    found = difference_of(asked, [], [], fewer, Gate(), CONFIG)
    assert result(found, "quality/framed_facts").missing == (2, 0)


def test_missing_values_stay_missing() -> None:
    def value(item: Item, metric: str) -> float | None:
        return None if item.id.endswith("7") else noise(item, metric, 1) + 1

    found = result(diff(value), "trait/curious")
    assert (found.verdict, found.missing) == ("INCONCLUSIVE", (0, 6))
    assert found.movement.queries == 54


def test_a_gate_can_expect_something_else() -> None:
    asked = suite()
    metric = contrast_metric("curious")
    measured = rows(OLD, lambda i, m: noise(i, m, 0), [metric], asked)
    measured += rows(NEW, lambda i, m: noise(i, m, 1) + 0.2, [metric], asked)
    measured += rows(good("curious"), lambda i, m: 0.5, [metric], asked)
    measured += rows(bad("curious"), lambda i, m: -0.5, [metric], asked)
    for side, seed in ((OLD, 5), (NEW, 6)):
        measured += rows(side, lambda i, m, seed=seed: noise(i, m, seed), ["words"], asked)  # type: ignore[misc]
    gate = Gate(expect={"trait/curious": "hold"})
    (found, *_) = difference_of(asked, [CURIOUS], [], measured, gate, CONFIG).results
    assert (found.expect, found.verdict) == ("hold", "REGRESSED")
