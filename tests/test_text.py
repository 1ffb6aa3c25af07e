from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from character.diffing.measure import short_questions
from character.text import accepted, asks_follow_up, repeated_share, sentences, whole_sentences

PROSE = st.text(st.sampled_from("ab .!?\"'")) | st.text()
ANSWER = "Yeast eats the sugar in the dough."


def test_sentences_end_at_a_mark_before_space_and_not_inside_a_number() -> None:
    text = '  It is 3.5 cups. "Why?" she asked.\nBecause!  And so on'
    assert sentences(text) == ["It is 3.5 cups.", '"Why?', "she asked.", "Because!", "And so on"]
    assert sentences("  ") == []


@pytest.mark.parametrize(
    "reply",
    [
        f"{ANSWER} What are you baking?",
        f'{ANSWER} Or as my aunt says: "What are you baking?"',
        f"{ANSWER} Isn't it fun? What are you baking?",
        f"Nice. {ANSWER} (What are you baking?)",
    ],
)
def test_a_follow_up_question_comes_after_an_answer(reply: str) -> None:
    assert asks_follow_up("Why does bread rise?", reply)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "?",
        ANSWER,
        "What are you baking?",  # nothing was said
        "Good point. What are you baking?",  # too little was said
        "Is it the yeast in it? What are you baking?",  # nothing but questions
        f"What are you baking? {ANSWER}",  # does not end with it
        f"{ANSWER} Why does bread rise?",  # the query again
        f"{ANSWER} WHY does the bread rise??",
    ],
)
def test_what_is_not_a_follow_up_question(reply: str) -> None:
    assert not asks_follow_up("Why does bread rise?", reply)


def test_the_repeated_share_of_a_loop_by_hand() -> None:
    # 8 words hold 5 four-grams; only "a b c d" occurs twice
    assert repeated_share("a b c d a B C d") == pytest.approx(1 / 5)
    # 10 words hold 7 four-grams of one kind
    assert repeated_share("no " * 10) == pytest.approx(6 / 7)
    assert repeated_share("a b a b a", n=2) == pytest.approx(2 / 4)
    assert repeated_share("a b c d e f g h") == 0
    assert repeated_share("so it is") == repeated_share("") == 0


@settings(deadline=None)
@given(st.text(st.sampled_from("ab \n")) | st.text(), st.integers(1, 6))
def test_the_repeated_share_is_a_share(text: str, n: int) -> None:
    assert 0 <= repeated_share(text, n) <= 1
    assert repeated_share(f"{text} {text}", n) >= repeated_share(text, n)


def test_accepted_looks_for_whole_words() -> None:
    assert accepted("It is PARIS.", ["paris"])
    assert accepted("I think New York, sir", ["boston", "new york"])
    assert not accepted("A comparison of parishes", ["paris"])
    assert not accepted("116 or 61", ["16"])
    assert not accepted("", ["paris"])
    assert not accepted("Paris", [])


@pytest.mark.parametrize("split", ["test", "dev"])
def test_every_shipped_answer_can_be_right(split: str) -> None:
    for question in short_questions(split):
        for answer in question.accept:
            assert accepted(f"It is {answer.upper()}, I think.", [answer]), question


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("Rain is wet. Snow is", "Rain is wet."),
        ("Rain is wet! Is snow? It", "Rain is wet! Is snow?"),
        ("Rain is wet.", "Rain is wet."),
        ("Rain is", "Rain is"),
        ("", ""),
        ("Yeast likes it warm. Keep the dough at 37.5 degrees and", "Yeast likes it warm."),
        ("Keep the dough at 37.5 degrees and", "Keep the dough at 37.5 degrees and"),
        ('She said: "Go home." Then the', 'She said: "Go home."'),
    ],
)
def test_whole_sentences_stop_at_the_last_sentence_end(text: str, whole: str) -> None:
    assert whole_sentences(text) == whole


@settings(deadline=None)
@given(PROSE)
def test_whole_sentences_are_a_prefix_and_stay_as_they_are(text: str) -> None:
    whole = whole_sentences(text)
    assert text.startswith(whole)
    assert bool(whole) == bool(text)
    assert whole_sentences(whole) == whole
