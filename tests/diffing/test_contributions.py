"""Which trait caused what, on numbers that can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from character.diffing.columns import Columns, Wanted
from character.diffing.config import DiffConfig
from character.diffing.contributions import contributions
from character.diffing.inference import t_test
from character.diffing.results import Contribution, Result
from character.diffing.subjects import NEW, OLD
from character.diffing.verdicts import Verdict
from character.diffing.wanted import NATS, PREFERENCE
from character.rows import Measurement

CONFIG = DiffConfig(permutations=999, resamples=500)
CURIOUS, WARM = "without/curious/1", "without/warm/2"
WITHOUT = {"curious": CURIOUS, "warm": WARM}
QUERIES = [f"q{i}" for i in range(20)]
Value = Callable[[int], float | None]


def rows(subject: str, metric: str, value: Value) -> list[Measurement]:
    return [
        Measurement(f"{subject}{q}{metric}", f"{subject}{q}", subject, q, metric, value(i))
        for i, q in enumerate(QUERIES)
    ]


def asked(metric: str, verdict: Verdict, unit: str = NATS) -> tuple[Wanted, Result]:
    name = f"style/{metric}"
    return (
        Wanted(name, "style", metric, unit, QUERIES, metric, "hold", 0.1),
        Result(name, "style", metric, unit, "hold", 0.1, None, None, None, verdict),
    )


def found(
    measured: Sequence[Measurement], *measures: tuple[Wanted, Result]
) -> dict[tuple[str, str], Contribution]:
    wanted, results = zip(*measures, strict=True)
    cells = contributions(Columns(measured), wanted, results, WITHOUT, CONFIG)
    return {(cell.measure.partition("/")[2], cell.trait): cell for cell in cells}


def emoji(warm: Value = lambda i: 0.4 + 0.2 * (i % 2)) -> list[Measurement]:
    """NEW has 0.4 and 0.6 in turns, 0.2 of which are left without the curious trait."""
    return [
        *rows(OLD, "emoji", lambda i: 0.0),
        *rows(NEW, "emoji", lambda i: 0.4 + 0.2 * (i % 2)),
        *rows(CURIOUS, "emoji", lambda i: 0.2),
        *rows(WARM, "emoji", warm),
    ]


def test_the_trait_that_caused_it_is_found_and_the_other_is_not() -> None:
    # without warm it is 0.1 more on half of each kind of query, and 0.1 less on the others
    cells = found(
        emoji(lambda i: 0.4 + 0.2 * (i % 2) + (0.1 if i % 4 < 2 else -0.1)), asked("emoji", "MOVED")
    )
    curious, warm = cells["emoji", "curious"], cells["emoji", "warm"]
    assert curious.movement and warm.movement and curious.share and warm.share
    assert curious.movement.value == pytest.approx(0.3)  # the mean of 0.2 and 0.4
    assert curious.movement.se == pytest.approx(0.1 * sqrt(20 / 19) / sqrt(20))
    assert curious.share.value == pytest.approx(0.3 / 0.5) and curious.discovered
    assert warm.movement.value == pytest.approx(0, abs=1e-12) and not warm.discovered
    assert warm.movement.low < 0 < warm.movement.high
    assert warm.share.value == pytest.approx(0, abs=1e-12)  # measured to be nothing


def test_false_discovery_is_held_over_all_measures_and_only_what_moved_is_shown() -> None:
    still = [*rows(OLD, "bold", lambda i: 1.0), *rows(NEW, "bold", lambda i: 1.0)]
    still += [*rows(CURIOUS, "bold", lambda i: 1.0), *rows(WARM, "bold", lambda i: 1.0)]
    cells = found([*emoji(), *still], asked("emoji", "MOVED"), asked("bold", "HELD"))
    assert list(cells) == [("emoji", "curious"), ("emoji", "warm")]
    p = t_test(np.array([0.2, 0.4] * 10))
    assert cells["emoji", "curious"].q == pytest.approx(4 * p)  # the least of two by two
    assert cells["emoji", "warm"].q == 1.0  # identical replies


def test_what_cannot_be_told_is_missing_and_never_nothing() -> None:
    gone = found(emoji(lambda i: None if i == 3 else 0.0), asked("emoji", "MOVED"))
    warm = gone["emoji", "warm"]
    assert (warm.why, warm.share, warm.discovered) == ("19 queries are fewer than 20", None, False)
    assert warm.q == 1.0  # and it counts in the family
    nothing = found(emoji(lambda i: None), asked("emoji", "MOVED"))["emoji", "warm"]
    assert nothing.movement is None and nothing.why == "0 queries are fewer than 20"
    not_a_number = found(emoji(lambda i: float("nan")), asked("emoji", "MOVED"))["emoji", "warm"]
    assert not_a_number == nothing


def test_more_than_two_in_a_hundred_missing_tell_nothing() -> None:
    queries = [f"q{i}" for i in range(100)]

    def told(lost: int) -> str:
        wanted, result = asked("emoji", "MOVED")
        wanted = Wanted(**{k: getattr(wanted, k) for k in Wanted.__slots__} | {"ids": queries})
        measured = [
            Measurement(f"{s}{q}", f"{s}{q}", s, q, "emoji", float(s == NEW) + i % 3)
            for s in (OLD, NEW, CURIOUS) for i, q in enumerate(queries)
            if s != CURIOUS or i >= lost
        ]  # fmt: skip
        only = {"curious": CURIOUS}
        (cell,) = contributions(Columns(measured), [wanted], [result], only, CONFIG)
        return cell.why

    assert told(2) == "" and told(3) == "3 queries are missing"


def test_a_share_of_a_movement_that_is_not_certain_is_missing() -> None:
    measured = [
        *rows(OLD, "emoji", lambda i: 0.0),
        *rows(NEW, "emoji", lambda i: 1.0 if i % 2 else -0.9),
        *rows(CURIOUS, "emoji", lambda i: -0.5),
        *rows(WARM, "emoji", lambda i: 1.0 if i % 2 else -0.9),
    ]
    cells = found(measured, asked("emoji", "MOVED"))
    assert cells["emoji", "curious"].share is None and cells["emoji", "warm"].share is None
    assert cells["emoji", "curious"].movement is not None


def test_net_preferences_over_the_same_opponent_are_compared() -> None:
    """NEW wins 0.8 of its comparisons with OLD, so that it moved by 0.6. Without the trait 0.6 is
    won, which is a movement of 0.2: the trait added 0.4, two thirds."""
    measured = [
        *rows(OLD, "kind", lambda i: 0.2),
        *rows(NEW, "kind", lambda i: 0.8),
        *rows(CURIOUS, "kind", lambda i: 0.6),
        *rows(WARM, "kind", lambda i: 0.8),
    ]
    cell = found(measured, asked("kind", "MOVED", PREFERENCE))["kind", "curious"]
    assert cell.movement and cell.share
    assert cell.movement.value == pytest.approx(0.4)
    assert cell.share.value == pytest.approx(2 / 3)


def test_what_is_asked_in_several_ways_is_one_query() -> None:
    wanted, result = asked("right", "REGRESSED")
    groups = [QUERIES[i : i + 2] for i in range(0, 20, 2)]
    wanted = Wanted(**{k: getattr(wanted, k) for k in Wanted.__slots__} | {"groups": groups})
    measured = [*rows(NEW, "right", lambda i: 0.0), *rows(OLD, "right", lambda i: 1.0)]
    measured += [*rows(CURIOUS, "right", lambda i: i % 2), *rows(WARM, "right", lambda i: 0.0)]
    cell = found(measured, (wanted, result))["right", "curious"]
    assert cell.movement and (cell.movement.value, cell.movement.queries) == (-0.5, 10)


values = st.lists(st.floats(-10, 10), min_size=20, max_size=20)


@settings(deadline=None, max_examples=25)
@given(values, values)
def test_without_all_of_it_explains_all_and_the_same_again_nothing(
    old: list[float], new: list[float]
) -> None:
    measured = [
        row
        for subject, said in ((OLD, old), (NEW, new), (CURIOUS, old), (WARM, new))
        for row in rows(subject, "emoji", lambda i, said=said: said[i])  # type: ignore[misc]
    ]
    cells = found(measured, asked("emoji", "MOVED"))
    all_of_it, nothing = cells["emoji", "curious"], cells["emoji", "warm"]
    assert nothing.movement and nothing.movement.value == 0.0 and nothing.q == 1.0
    assert (not nothing.discovered and nothing.share is None) or nothing.share.value == 0.0
    if all_of_it.share is not None:
        assert (all_of_it.share.value, all_of_it.share.low, all_of_it.share.high) == (1, 1, 1)
