from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import a_measurement

from character.diffing.statistics import Estimate, Table, difference, estimate, mean, share
from character.rows import Measurement

Column = Mapping[str, float | None]
FEW = 200  # resamples


def rows(**subjects: Column) -> list[Measurement]:
    """One metric `m` of each subject, by query."""
    return [
        a_measurement(subject, query, "m", value)
        for subject, column in subjects.items()
        for query, value in column.items()
    ]


def table(**subjects: Column) -> Table:
    queries = [query for column in subjects.values() for query in column]
    return Table(rows(**subjects), queries)


BASE, TRAINED, PROMPTED = (("base", "m"), ("trained", "m"), ("prompted", "m"))


# --- the table ---


def test_samples_of_a_query_are_averaged_and_the_query_counts_once() -> None:
    found = [a_measurement("base", "a", "m", value, n) for n, value in enumerate((1, 2, 6))]
    found += [a_measurement("base", "b", "m", 5.0), a_measurement("base", "c", "other", 9.0)]
    (column,), missing = Table(found, ["a", "b"]).columns(BASE)
    assert (column.tolist(), missing) == ([3.0, 5.0], 0)
    assert estimate(Table(found, ["a", "b"]), [BASE], mean, FEW, 0).value == 4.0  # type: ignore[union-attr]


def test_a_missing_value_is_left_out_and_counted_and_never_a_zero() -> None:
    found = [a_measurement("base", "a", "m", 1.0, 0), a_measurement("base", "a", "m", None, 1)]
    found += rows(base={"b": None, "c": 3.0})
    (column,), missing = Table(found, ["a", "b", "c", "never asked"]).columns(BASE)
    assert (column.tolist(), missing) == ([1.0, 3.0], 2)
    result = estimate(Table(found, ["a", "b", "c"]), [BASE], mean, FEW, 0)
    assert result is not None and (result.value, result.queries, result.missing) == (2.0, 2, 1)


def test_columns_are_aligned_over_the_queries_that_have_them_all() -> None:
    made = table(base={"a": 1.0, "b": 2.0, "c": 3.0}, trained={"c": 30.0, "b": None, "a": 10.0})
    (base, trained), missing = made.columns(BASE, TRAINED)
    assert (base.tolist(), trained.tolist(), missing) == ([1.0, 3.0], [10.0, 30.0], 1)


def test_queries_outside_the_table_do_not_count() -> None:
    found = rows(base={"a": 1.0, "b": 2.0, "train": 99.0})
    (column,), missing = Table(found, ["b", "a", "b"]).columns(BASE)
    assert (column.tolist(), missing) == ([2.0, 1.0], 0)


# --- estimates ---


def test_the_interval_of_two_queries_by_hand() -> None:
    # resampled means of 0 and 1 are 0, 1/2 and 1 with chances 1/4, 1/2, 1/4
    result = estimate(table(base={"a": 0.0, "b": 1.0}), [BASE], mean, 2000, 0)
    assert result == Estimate(0.5, 0.0, 1.0, 2)


def test_the_interval_of_a_share_is_near_its_binomial() -> None:
    # 40 of 100: standard error sqrt(.4 x .6 / 100) = .049
    result = estimate(
        table(base={str(n): float(n < 40) for n in range(100)}), [BASE], mean, 5000, 0
    )
    assert result is not None and result.value == pytest.approx(0.4)
    assert result.low == pytest.approx(0.4 - 1.96 * 0.049, abs=0.011)
    assert result.high == pytest.approx(0.4 + 1.96 * 0.049, abs=0.011)


def test_constant_data_has_an_exact_estimate() -> None:
    made = table(
        base=dict.fromkeys("abcd", 0.25),
        trained=dict.fromkeys("abcd", 1.0),
        prompted=dict.fromkeys("abcd", 1.25),
    )
    assert estimate(made, [BASE], mean, FEW, 0) == Estimate(0.25, 0.25, 0.25, 4)
    assert estimate(made, [TRAINED, BASE], difference, FEW, 0) == Estimate(0.75, 0.75, 0.75, 4)
    assert estimate(made, [TRAINED, BASE, PROMPTED], share, FEW, 0) == Estimate(0.75, 0.75, 0.75, 4)


def test_a_difference_is_paired_by_query() -> None:
    """Queries differ widely and every one moves by a half: the interval has no width."""
    base = {str(n): 2.0**n for n in range(10)}
    made = table(base=base, trained={query: value + 0.5 for query, value in base.items()})
    assert estimate(made, [TRAINED, BASE], difference, FEW, 0) == Estimate(0.5, 0.5, 0.5, 10)


def test_the_share_of_the_way_by_hand() -> None:
    # from 1 to 2 on the way from 1 to 5, and from 0 to 2 on the way from 0 to 1: 3 of 5 in all
    made = table(
        base={"a": 1.0, "b": 0.0}, trained={"a": 2.0, "b": 2.0}, prompted={"a": 5.0, "b": 1.0}
    )
    result = estimate(made, [TRAINED, BASE, PROMPTED], share, FEW, 0)
    assert result is not None
    assert (result.value, result.low, result.high) == pytest.approx((0.6, 0.25, 2.0))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # inf - inf, and no interval to be had
def test_a_share_of_no_way_at_all_is_no_number() -> None:
    flat = dict.fromkeys("abc", 1.0)
    made = table(base=flat, trained=dict.fromkeys("abc", 2.0), prompted=flat)
    result = estimate(made, [TRAINED, BASE, PROMPTED], share, FEW, 0)
    assert result is not None and not math.isfinite(result.value)
    nowhere = estimate(table(base=flat, trained=flat, prompted=flat),
                       [TRAINED, BASE, PROMPTED], share, FEW, 0)  # fmt: skip
    assert nowhere is not None and math.isnan(nowhere.value) and math.isnan(nowhere.low)


@pytest.mark.parametrize(
    "trained", [{}, {"a": 1.0}, {"a": None, "b": None}, {"a": 1.0, "b": None}, {"z": 1.0}]
)
def test_fewer_than_two_queries_give_no_estimate(trained: Column) -> None:
    made = table(base={"a": 0.0, "b": 0.0}, trained=trained)
    assert estimate(made, [TRAINED, BASE], difference, FEW, 0) is None


def test_the_same_seed_gives_the_same_interval() -> None:
    made = table(base={str(n): math.sin(n) for n in range(30)})
    one, again, other = (estimate(made, [BASE], mean, 300, seed) for seed in (1, 1, 2))
    assert one == again != other


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12), st.integers(0, 99))
def test_an_interval_of_a_mean_lies_within_the_data(values: list[float], seed: int) -> None:
    made = table(base={str(n): value for n, value in enumerate(values)})
    result = estimate(made, [BASE], mean, 120, seed)
    assert result is not None
    slack = 1e-9 * max(1.0, *map(abs, values))
    assert result.value == pytest.approx(float(np.mean(values)))
    assert min(values) - slack <= result.low <= result.high <= max(values) + slack
