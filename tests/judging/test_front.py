"""Pareto fronts by hand, and what holds of all of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import a_constitution, a_judgement, a_query, a_reply, a_trait

from character.judging.config import RankingConfig
from character.judging.front import Front, Point, conflicts, front_of, pareto
from character.judging.ranking import rank_replies

CONFIG = RankingConfig(floor=0, tie=0, checks=0, relevance=0, length=0)
VALUES = st.lists(
    st.tuples(*[st.integers(-3, 3).map(float)] * 3), min_size=1, max_size=9
)  # small, so that some are equal


def test_who_is_on_the_front_by_hand() -> None:
    # the best of one, of the other, between them, behind the third, equal to the third
    values = [(3, 0), (0, 3), (2, 2), (1, 2), (2, 2)]
    assert pareto(values) == [True, True, True, False, True]
    assert pareto([]) == [] and pareto([(1.0,)]) == [True]


@settings(deadline=None)
@given(VALUES)
def test_what_is_off_the_front_is_dominated_by_one_on_it_and_nothing_on_it_is(
    values: list[tuple[float, ...]],
) -> None:
    found = pareto(values)
    assert any(found)
    front = [value for value, best in zip(values, found, strict=True) if best]

    def dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        return all(x >= y for x, y in zip(a, b, strict=True)) and a != b

    for value, best in zip(values, found, strict=True):
        assert any(dominates(other, value) for other in front) is not best


@settings(deadline=None)
@given(st.data(), VALUES)
def test_neither_order_nor_scale_moves_a_front(
    data: st.DataObject, values: list[tuple[float, ...]]
) -> None:
    found = dict(zip(values, pareto(values), strict=True))
    turned = data.draw(st.permutations(values))
    assert pareto(turned) == [found[value] for value in turned]
    scaled = [(7 * a - 1, b / 3 + 2, c) for a, b, c in values]
    assert pareto(scaled) == [found[value] for value in values]
    assert pareto([*values, values[0]])[-1] == found[values[0]]  # an equal stands beside


@settings(deadline=None)
@given(VALUES, st.tuples(*[st.floats(0.1, 9)] * 3))
def test_the_best_by_any_positive_weights_is_on_the_front(
    values: list[tuple[float, ...]], weights: tuple[float, ...]
) -> None:
    worth = [sum(w * v for w, v in zip(weights, value, strict=True)) for value in values]
    assert pareto(values)[max(range(len(values)), key=worth.__getitem__)]


def test_what_the_ranking_chose_and_gave_up_by_hand() -> None:
    constitution = a_constitution(a_trait(), a_trait("warm"))
    told = {"a": (3.0, -1.0), "b": (-1.0, 2.0), "c": (-2.0, -1.0)}
    judgements = [
        a_judgement(reply, value, relevance=0.0 if reply == "c" else 1.0, trait=trait)
        for reply, values in told.items()
        for trait, value in zip(("brisk", "warm"), values, strict=True)
    ]
    replies = [a_reply(reply, style="plain") for reply in told]
    rankings = rank_replies(constitution, [a_query("q")], replies, judgements, CONFIG)
    found = front_of(constitution, replies, judgements, rankings, CONFIG)
    assert found.aims == ("brisk", "warm", "relevance")
    assert [(p.on_front, p.chosen) for p in found.points] == [
        (True, True), (True, False), (False, False),
    ]  # fmt: skip
    assert (found.queries, found.chosen_on_front) == (1, 1)
    # brisk 3, -1, -2 and warm -1, 2, -1 have the spreads sqrt(14/3) and sqrt 2
    # so a is worth 1.39 - .71 and b, which was chosen, -.46 + 1.41
    assert found.points[0].values == pytest.approx((-1 / (14 / 3) ** 0.5, 2**0.5, 1.0))
    brisk, warm, relevance = found.given_up()
    assert (brisk.best, brisk.chosen) == pytest.approx((3 / (14 / 3) ** 0.5, -1 / (14 / 3) ** 0.5))
    assert (warm.best, warm.chosen) == pytest.approx((2**0.5, 2**0.5))
    assert (relevance.best, relevance.chosen) == (1.0, 1.0)


def test_a_reply_below_the_floor_is_on_no_front_and_one_without_a_value_is_no_point() -> None:
    replies = [a_reply(f"p{n}", style="plain") for n in range(3)] + [a_reply("s"), a_reply("m")]
    judgements = [a_judgement(f"p{n}", 0.0, relevance=n) for n in range(3)]
    judgements += [a_judgement("s", 99.0, relevance=0.9), a_judgement("m", None)]
    config = CONFIG.model_copy(update={"floor": 0.5})
    rankings = rank_replies(a_constitution(), [a_query("q")], replies, judgements, config)
    found = front_of(a_constitution(), replies, judgements, rankings, config)
    below = [p for p in found.points if p.below_floor]
    assert len(found.points) == 4 and len(below) == 2
    assert max(p.values[0] for p in below) > 1
    assert not any(p.on_front or p.chosen for p in below)


def test_one_reply_is_no_choice_and_gives_nothing_up() -> None:
    point = Point("q", (1.0, 0.0), False, True, True)
    alone = Front(("brisk", "relevance"), (point,))
    assert (alone.queries, alone.given_up()) == (0, [])
    assert conflicts(alone) == [(0, 1)]
    assert conflicts(Front(("a", "b", "relevance"), ())) == [(0, 1)]


def test_the_traits_that_pull_apart_most_come_first() -> None:
    rows = [(1.0, 1.0, -1.0), (2.0, 2.5, -2.0), (3.0, 2.0, -3.0)]
    points = tuple(Point("q", (*row, 0.0), False, True, False) for row in rows)
    assert conflicts(Front(("a", "b", "c", "relevance"), points)) == [(0, 2), (1, 2), (0, 1)]
