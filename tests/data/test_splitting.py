"""Where queries go when an earlier build already had some of them."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import a_constitution, a_query, a_trait

from character.data.queries import QueriesConfig
from character.data.splitting import HELD_BEFORE, NOT_NEEDED, Sides, split_queries
from character.rows import Query

CONFIG = QueriesConfig(train=6, held_out=4, unless=0, neutral=0)
WORDS = [
    "kettle", "lantern", "garden", "violin", "staircase", "puzzle", "bicycle", "chimney",
    "mirror", "blanket", "harbour", "compass", "oven", "ladder", "window", "candle",
]  # fmt: skip


def asked(word: str, **changes: object) -> Query:
    return a_query(word, text=f"{word} {word[::-1]} {word}s?", cluster=-1, split="none", **changes)


def split(
    queries: list[Query], sides: Sides | None = None, config: QueriesConfig = CONFIG, seed: int = 0
) -> dict[str, Query]:
    found = split_queries(queries, a_constitution(), config, seed, sides or Sides())
    return {query.text: query for query in found}


def sides_of(found: dict[str, Query]) -> Sides:
    return Sides.of(found.values())


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 99), gone=st.sets(st.sampled_from(WORDS), max_size=6))
def test_what_stays_stays_on_its_side(seed: int, gone: set[str]) -> None:
    old = [asked(word) for word in WORDS[:12]]
    before = split(old, seed=seed)
    new = [asked(word) for word in WORDS if word not in gone]
    after = split(new, sides_of(before), seed=seed)
    assert sum(q.split == "held_out" for q in after.values()) <= 4
    assert sum(q.split == "train" for q in after.values()) <= 6
    free = {q.split for t, q in after.items() if t not in before or before[t].split == "none"}
    for text in before.keys() & after.keys():
        if before[text].split == "held_out":
            assert after[text].split == "held_out", text
        elif before[text].split == "train" and after[text].split != "train":
            assert after[text].split == "held_out" and free <= {"held_out"}, text


def test_free_places_go_to_what_is_new_before_what_was_not_needed() -> None:
    before = split([asked(word) for word in WORDS[:12]])
    spare = {text for text, query in before.items() if query.dropped == NOT_NEEDED}
    assert len(spare) == 2
    gone = [q.id for q in before.values() if q.split == "train"][:2]
    new = [asked(word) for word in WORDS[:14] if word not in gone]
    after = split(new, sides_of(before))
    assert {after[text].dropped for text in spare} == {NOT_NEEDED}
    assert {after[asked(word).text].split for word in WORDS[12:14]} == {"train"}


def test_a_near_duplicate_of_a_held_out_query_is_never_trained_on() -> None:
    """Also when that query is gone, and when the new one comes first."""
    text = "How do I mend a copper kettle?"
    like = a_query("new", text="So, how do I mend a copper kettle?", cluster=-1, split="none")
    others = [asked(word) for word in WORDS[:10]]
    sides = Sides({text: "held_out"})
    assert split([*others, like], sides)[like.text].split == "held_out"
    there = a_query("old", text=text, cluster=-1, split="none")
    both = split([like, *others, there], sides)
    assert both[text].split == "held_out" and both[like.text].dropped == "near-duplicate"


def test_what_joins_two_sides_counts_as_held_out() -> None:
    one, other = "How do I mend a copper kettle?", "Who will mend it, and when?"
    bridge = f"{one} {other}"  # a near-duplicate of both, which are none of each other
    sides = Sides({one: "train", other: "held_out"})
    queries = [
        a_query(str(i), text=text, cluster=-1, split="none")
        for i, text in enumerate((one, other, bridge))
    ]
    found = split([*queries, *(asked(word) for word in WORDS[:8])], sides)
    assert found[other].split == "held_out"
    assert found[one].dropped == found[bridge].dropped == "near-duplicate"


def test_with_nothing_else_to_hold_out_some_of_what_was_trained_on_is() -> None:
    before = split([asked(word) for word in WORDS[:12]])
    left = [q for q in before.values() if q.split == "train"]
    after = split([replace(q, cluster=-1, split="none") for q in left], sides_of(before))
    assert Counter(q.split for q in after.values()) == {"train": 4, "held_out": 2}


def test_more_held_out_queries_than_are_wanted_are_not_trained_on() -> None:
    before = split([asked(word) for word in WORDS[:12]])
    fewer = CONFIG.model_copy(update={"held_out": 2, "train": 10})
    after = split([asked(word) for word in WORDS], sides_of(before), fewer)
    held = [text for text, query in before.items() if query.split == "held_out"]
    fates = sorted((after[text].split, after[text].dropped) for text in held)
    assert fates == [("held_out", "")] * 2 + [("none", NOT_NEEDED)] * 2


def test_a_neutral_query_like_one_held_out_is_no_anchor() -> None:
    neutral = asked("harbour", kind="neutral", trait="", clause="")
    others = [asked(word) for word in WORDS[:10]]
    found = split([*others, neutral], Sides({neutral.text: "held_out"}))
    assert (found[neutral.text].split, found[neutral.text].dropped) == ("none", HELD_BEFORE)


@pytest.mark.parametrize("seed", range(3))
def test_without_an_earlier_build_all_is_dealt_as_ever(seed: int) -> None:
    """By hand: own messages first, the needed ones shuffled, the first of them held out."""
    queries = [asked(word, source="seed" if i < 3 else "writer") for i, word in enumerate(WORDS)]
    draw = random.Random(f"{seed}/split/brisk/on_trait")
    ids = [query.id for query in queries]
    draw.shuffle(ids)
    ids.sort(key=lambda name: name not in WORDS[:3])
    needed = ids[:10]
    draw.shuffle(needed)
    found = {query.id: query.split for query in split(queries, seed=seed).values()}
    assert [found[name] for name in needed] == ["held_out"] * 4 + ["train"] * 6
    assert {found[name] for name in ids[10:]} == {"none"}
    assert a_trait().id == "brisk"
