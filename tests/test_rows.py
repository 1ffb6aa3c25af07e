from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from character.models.base import Message
from character.rows import content_id

PARTS = st.lists(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]))
)


def test_an_id_never_changes_from_one_version_to_the_next() -> None:
    """Runs that exist are recognised by these."""
    assert content_id("query", "Is it wet?", 0, None, ("a", "é")) == "5cadf40d220ba122"


@given(PARTS, PARTS)
def test_different_parts_have_different_ids(one: list[object], other: list[object]) -> None:
    assert re.fullmatch("[0-9a-f]{16}", content_id(*one))
    same = [(type(part), part) for part in one] == [(type(part), part) for part in other]
    assert (content_id(*one) == content_id(*other)) == same


def test_parts_keep_their_borders_their_order_and_their_kind() -> None:
    ids = [
        content_id("ab", "c"),
        content_id("a", "bc"),
        content_id("c", "ab"),
        content_id("abc"),
        content_id(("ab", "c")),
        content_id("1"),
        content_id(1),
        content_id(),
        content_id(None),
        content_id("None"),
    ]
    assert len(set(ids)) == len(ids)


def test_keys_have_no_order_and_turns_have_one() -> None:
    assert content_id({"a": 1, "b": 2}) == content_id({"b": 2, "a": 1})
    ask, answer = Message("user", "Hi."), Message("assistant", "Hi.")
    assert content_id((ask, answer)) == content_id((Message("user", "Hi."), answer))
    assert content_id((ask, answer)) != content_id((answer, ask)) != content_id((ask, ask))
