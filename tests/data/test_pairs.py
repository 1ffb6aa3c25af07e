from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import a_query, a_ranking, a_reply

from character.data.examples import best_replies
from character.data.pairs import PairsConfig, pairs_from
from character.rows import Pair, Ranking, Reply, Split

FREE = PairsConfig(per_query=2, balance=0)


def text_of(words: int) -> str:
    return " ".join(["word"] * words)


def pairs_of(
    *rankings: Ranking,
    words: dict[str, int] | None = None,
    config: PairsConfig = FREE,
    held_out: str = "",
    own: str = "",
) -> list[Pair]:
    """Pairs of these rankings.

    Replies are 10 words long unless `words` says otherwise; `own` names the policy's own.
    """
    queries = [
        a_query(r.query_id, split="held_out" if r.query_id in held_out else "train")
        for r in rankings
    ]
    ids = {i for r in rankings for i in (*sum(r.tiers, ()), *r.below_floor)}
    replies = [
        a_reply(i, text=text_of((words or {}).get(i, 10)), style="own" if i in own else "steered")
        for i in ids
    ]
    return pairs_from(rankings, queries, replies, config)


def ends(pairs: list[Pair]) -> list[str]:
    return [pair.chosen_id + pair.rejected_id for pair in pairs]


def test_the_widest_pairs_come_first_and_no_reply_is_chosen_or_rejected_twice() -> None:
    ranking = a_ranking("q", (3.0, ("a",)), (1.0, ("b",)), (0.0, ("c",)), (-0.2, ("d",)))
    # ad 3.2, ac 3.0, ab 2.0, bd 1.2, bc 1.0, cd 0.2; after ad: bc alone is left and wide enough
    assert ends(pairs_of(ranking)) == ["ad", "bc"]
    assert ends(pairs_of(ranking, config=FREE.model_copy(update={"per_query": 1}))) == ["ad"]
    assert ends(pairs_of(ranking, config=FREE.model_copy(update={"per_query": 9}))) == ["ad", "bc"]


def test_a_pair_names_where_it_comes_from_and_how_sure_it_is() -> None:
    ranking = a_ranking("q", (math.log(3), ("a",)), (0.0, ("b",)))
    (pair,) = pairs_of(ranking)
    assert (pair.query_id, pair.ranking_id, pair.split) == ("q", ranking.id, "train")
    assert pair.margin == pytest.approx(math.log(3))
    assert pair.probability == pytest.approx(0.75)  # 1 / (1 + 1/3)


def test_tied_and_missing_replies_yield_nothing() -> None:
    assert pairs_of(a_ranking("q", (2.0, ("a", "b", "c")), missing="f")) == []
    assert pairs_of(a_ranking("q", below="a b", missing="c")) == []
    ranking = a_ranking("q", (2.0, ("a", "b")), (0.0, ("c",)), missing="e")
    assert set(ends(pairs_of(ranking))) < {"ac", "bc"}


def test_any_ranked_reply_beats_one_below_the_floor() -> None:
    ranking = a_ranking("q", (1.0, ("a",)), (0.0, ("b",)), below="c d")
    config = PairsConfig(per_query=1, balance=0, floor=0.5)
    # c and d count as -0.5
    (pair,) = pairs_of(ranking, config=config)
    assert (pair.chosen_id, pair.margin) == ("a", 1.5)
    assert pair.rejected_id in ("c", "d")
    (pair,) = pairs_of(ranking, words={"c": 0, "d": 0}, config=config)
    assert (pair.rejected_id, pair.margin) == ("b", 1.0)  # silence teaches nothing
    alone = a_ranking("q", (1.0, ("a", "b")), below="c")
    assert [p.margin for p in pairs_of(alone, config=FREE)] == [1.0]
    assert pairs_of(a_ranking("q", below="c d"), config=config) == []


def test_the_policys_own_replies_lose_to_anyone_and_the_base_models_to_their_like() -> None:
    ranking = a_ranking("q", (3.0, ("a",)), (2.0, ("x",)), (1.0, ("b",)), (0.0, ("y",)))
    one = PairsConfig(per_query=1, balance=0)
    assert ends(pairs_of(ranking, config=one, own="xy")) == ["ab", "ay"]
    assert ends(pairs_of(ranking, config=one, own="ax")) == ["by", "ax"]
    assert ends(pairs_of(ranking, config=one, own="ay")) == ["xb", "ay"]
    assert ends(pairs_of(ranking, config=one)) == ["ay"]
    below = a_ranking("q", (3.0, ("a",)), (2.0, ("x",)), (1.0, ("b",)), below="y")
    assert ends(pairs_of(below, config=one, own="xy")) == ["ab", "ay"]


def test_a_gap_below_the_margin_yields_nothing() -> None:
    ranking = a_ranking("q", (0.5, ("a",)), (0.0, ("b",)))
    assert ends(pairs_of(ranking, config=PairsConfig(margin=0.5, balance=0))) == ["ab"]
    assert pairs_of(ranking, config=PairsConfig(margin=0.51, balance=0)) == []


def test_lengths_are_balanced_by_hand() -> None:
    """Pair 1 can only choose a reply twice as long, so pair 2 prefers the short winner.

    Of x (20 words, gap 2.0) and y (5 words, gap 1.9) against z (10), with balance 1:
    x: 2.0 - |log 2 + log 2| = 0.61;  y: 1.9 - |log 2 - log 2| = 1.9
    """
    first = a_ranking("p", (2.0, ("a",)), (0.0, ("b",)))
    second = a_ranking("q", (2.0, ("x",)), (1.9, ("y",)), (0.0, ("z",)))
    words = {"a": 20, "b": 10, "x": 20, "y": 5, "z": 10}
    one = PairsConfig(per_query=1, balance=1)
    assert ends(pairs_of(first, second, words=words, config=one)) == ["ab", "yz"]
    # alone, x costs log 2 and y too, so the wider gap wins; without balance it always does
    assert ends(pairs_of(second, words=words, config=one)) == ["xz"]
    free = PairsConfig(per_query=1, balance=0)
    assert ends(pairs_of(first, second, words=words, config=free)) == ["ab", "xz"]


def test_matched_pairs_are_about_as_long_one_by_one() -> None:
    ranking = a_ranking("q", (2.0, ("a",)), (1.0, ("b",)), (0.0, ("c",)))
    words = {"a": 30, "b": 12, "c": 8}  # a is 2.5 times b and 3.75 times c; b is 1.5 times c
    config = PairsConfig(per_query=2, balance=0, matched=1.5)
    assert ends(pairs_of(ranking, words=words, config=config)) == ["bc"]
    wider = config.model_copy(update={"matched": 2.5})
    assert ends(pairs_of(ranking, words=words, config=wider)) == ["ab", "bc"]
    assert pairs_of(ranking, words=words, config=config.model_copy(update={"matched": 1.1})) == []
    with pytest.raises(ValueError, match="greater than 1"):
        PairsConfig(matched=1.0)


@pytest.mark.parametrize("held_out", ["p", "q"])
def test_each_split_is_balanced_on_its_own(held_out: str) -> None:
    first = a_ranking("p", (2.0, ("a",)), (0.0, ("b",)))
    second = a_ranking("q", (2.0, ("x",)), (1.9, ("y",)), (0.0, ("z",)))
    words = {"a": 20, "b": 10, "x": 20, "y": 5, "z": 10}
    found = pairs_of(
        first, second, words=words, config=PairsConfig(per_query=1, balance=1), held_out=held_out
    )
    assert ends(found) == ["ab", "xz"]
    assert [pair.query_id for pair in found if pair.split == "held_out"] == [held_out]


def test_balance_brings_lengths_together() -> None:
    """Winners are three times as long as losers, and a little less good ones are short."""
    rankings, words = [], {}
    for n in range(40):
        long, short, loser = f"l{n}", f"s{n}", f"x{n}"
        rankings.append(a_ranking(f"q{n}", (2.0, (long,)), (1.5, (short,)), (0.0, (loser,))))
        words |= {long: 30, short: 5, loser: 10}

    def imbalance(balance: float) -> float:
        pairs = pairs_of(*rankings, words=words, config=PairsConfig(per_query=1, balance=balance))
        assert len(pairs) == 40
        return sum(math.log(words[p.chosen_id] / words[p.rejected_id]) for p in pairs) / 40

    assert imbalance(0) == pytest.approx(math.log(3))
    assert abs(imbalance(2)) < 0.1


def test_the_best_steered_replies_in_order_of_rank() -> None:
    ranking = a_ranking("q", (2.0, ("p1", "s1")), (1.0, ("s2",)), (0.0, ("s3",)), below="s0")
    other = a_ranking("r", (1.0, ("p2",)), below="s9", missing="s8")
    replies = {
        name: a_reply(name, style="steered") for name in ("s0", "s1", "s2", "s3", "s8", "s9")
    }
    replies |= {name: a_reply(name, style="plain") for name in ("p1", "p2")}
    assert [r.id for r in best_replies([ranking, other], replies, 2)] == ["s1", "s2"]
    assert [r.id for r in best_replies([ranking, other], replies, 9)] == ["s1", "s2", "s3"]


@st.composite
def rankings(draw: st.DrawFn) -> tuple[list[Ranking], list[Reply]]:
    """Rankings of up to 8 replies each: tiers with falling values, some below or missing."""
    found, replies = [], []
    for n in range(draw(st.integers(1, 5))):
        ids = [f"q{n}r{m}" for m in range(draw(st.integers(1, 8)))]
        places = draw(st.lists(st.integers(-2, 3), min_size=len(ids), max_size=len(ids)))
        tiers = [tuple(i for i, p in zip(ids, places, strict=True) if p == k) for k in range(4)]
        tiers = [tier for tier in tiers if tier]
        gaps = draw(st.lists(st.floats(0.11, 3), min_size=len(tiers), max_size=len(tiers)))
        values = [sum(gaps[k:]) for k in range(len(tiers))]
        outside = [
            " ".join(i for i, p in zip(ids, places, strict=True) if p == k) for k in (-1, -2)
        ]
        found.append(
            a_ranking(
                f"q{n}", *zip(values, tiers, strict=True), below=outside[0], missing=outside[1]
            )
        )
        replies += [a_reply(i, f"q{n}", text=text_of(draw(st.integers(1, 90)))) for i in ids]
    return found, replies


@settings(deadline=None, max_examples=150)
@given(
    made=rankings(),
    config=st.builds(
        PairsConfig,
        per_query=st.integers(1, 4),
        margin=st.floats(0.01, 2),
        balance=st.floats(0, 5),
        floor=st.floats(0.5, 3),
    ),
    splits=st.lists(st.sampled_from(["train", "held_out", "none"]), min_size=5, max_size=5),
)
def test_what_holds_of_all_pairs(
    made: tuple[list[Ranking], list[Reply]], config: PairsConfig, splits: list[Split]
) -> None:
    found, replies = made
    queries = [a_query(r.query_id, split=s) for r, s in zip(found, splits, strict=False)]
    pairs = pairs_from(found, queries, replies, config)
    assert len({pair.id for pair in pairs}) == len(pairs)
    for ranking, query in zip(found, queries, strict=True):
        tier = {i: t for t, ids in enumerate(ranking.tiers) for i in ids}
        own = [pair for pair in pairs if pair.query_id == query.id]
        assert len(own) <= config.per_query
        assert len({pair.chosen_id for pair in own}) == len(own)
        assert len({pair.rejected_id for pair in own}) == len(own)
        for pair in own:
            better = tier[pair.chosen_id]
            if pair.rejected_id in ranking.below_floor:
                lowest = ranking.values[-1]
                assert pair.margin == ranking.values[better] - lowest + config.floor
            else:
                worse = tier[pair.rejected_id]
                assert better < worse
                assert pair.margin == ranking.values[better] - ranking.values[worse]
            assert pair.margin >= config.margin
            assert 0.5 < pair.probability < 1
            assert (pair.ranking_id, pair.split) == (ranking.id, query.split)
        below = config.floor if ranking.below_floor else 0.0
        wide = ranking.values and ranking.values[0] - ranking.values[-1] + below >= config.margin
        assert bool(own) == bool(wide)  # where there is a pair, one is found


def test_a_revision_is_chosen_over_the_reply_it_was_made_from_where_it_is_ranked_above() -> None:
    queries = [a_query("q"), a_query("p")]
    replies = [
        a_reply("plain", "q", style="plain", trait=""),
        a_reply("anew", "q", style="revised"),
        a_reply("best", "q"),
        a_reply("plain2", "p", style="plain", trait=""),
        a_reply("worse", "p", style="revised"),
    ]
    rankings = [
        a_ranking("q", (3.0, ("best",)), (2.0, ("anew",)), (1.0, ("plain",))),
        a_ranking("p", (3.0, ("plain2",)), (2.0, ("worse",))),
    ]
    pairs = pairs_from(rankings, queries, replies, PairsConfig())
    assert {(p.chosen_id, p.rejected_id) for p in pairs} == {("best", "plain"), ("anew", "plain")}
