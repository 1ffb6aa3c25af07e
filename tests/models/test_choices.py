"""Options and their probabilities: arithmetic worked by hand, and what counts as an option."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from character.models.base import Choice, Generation, TokenLogprobs
from character.models.choices import check_options, choice_from, choice_in, choice_of


def tokens(**probabilities: float) -> TokenLogprobs:
    return tuple((token, math.log(p)) for token, p in probabilities.items())


def told(*pairs: tuple[str, float]) -> TokenLogprobs:
    return tuple((token, math.log(p)) for token, p in pairs)


@pytest.mark.parametrize(
    "options", [["A", "B"], ["B", "A", "tie"], ["yes", "no"], ["ab", "b"], ["C", "A", "B"]]
)
def test_options_that_exclude_each_other_are_fair(options: list[str]) -> None:
    check_options(options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "two or more"),
        (["A"], "two or more"),
        (["A", "B", "A"], "'A' begins the option 'A'"),
        (["tie", "A", "t"], "'t' begins the option 'tie'"),
        (["1", "2", "10"], "'1' begins the option '10'"),
        (["a", "aa-b", "aa"], "'a' begins"),
        (["A", ""], "is empty"),
        (["A", " B"], "white space"),
        (["A", "B\n"], "white space"),
    ],
)
def test_options_that_do_not_are_refused(options: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_options(options)


@given(st.lists(st.text("ab", min_size=1, max_size=4), min_size=2, max_size=6))
def test_options_are_refused_exactly_when_one_begins_another(options: list[str]) -> None:
    begins = any(
        other.startswith(one)
        for i, one in enumerate(options)
        for j, other in enumerate(options)
        if i != j
    )
    if begins:
        with pytest.raises(ValueError, match="begins the option"):
            check_options(options)
    else:
        check_options(options)


def test_probabilities_are_shares_of_the_mass() -> None:
    found = choice_of({"A": math.log(0.3), "B": math.log(0.1), "tie": -math.inf})
    assert found.probabilities == pytest.approx({"A": 0.75, "B": 0.25, "tie": 0.0})
    assert found.mass == pytest.approx(0.4)
    assert found.failure == ""


def test_options_too_unlikely_for_a_float_still_compare() -> None:
    found = choice_of({"A": -2000.0, "B": -2000.0 - math.log(3)})
    assert found.probabilities == pytest.approx({"A": 0.75, "B": 0.25})
    assert found.mass == 0.0
    assert choice_of({"A": -math.inf, "B": -math.inf}).failure


def test_rounding_lifts_no_mass_above_one() -> None:
    assert choice_of({"A": 1e-6, "B": -20.0}).mass == 1.0


def test_white_space_around_a_token_does_not_count() -> None:
    found = choice_from(told(("A", 0.5), (" A", 0.1), ("\nB", 0.2), ("Well", 0.1)), ["A", "B"])
    assert found.probabilities == pytest.approx({"A": 0.75, "B": 0.25})
    assert found.mass == pytest.approx(0.8)


def test_an_option_that_is_not_listed_has_none_and_the_mass_says_so() -> None:
    found = choice_from(tokens(A=0.02, Well=0.9), ["A", "B"])
    assert found == Choice({"A": 1.0, "B": 0.0}, pytest.approx(0.02))


def test_a_first_token_counts_for_the_only_option_it_begins() -> None:
    options = ["A", "B", "does-not-apply", "tie"]
    found = choice_from(told(("A", 0.2), ("does", 0.15), (" t", 0.05), ("a", 0.3)), options)
    assert found.mass == pytest.approx(0.4)
    expected = {"A": 0.5, "B": 0.0, "does-not-apply": 0.375, "tie": 0.125}
    assert found.probabilities == pytest.approx(expected)


def test_a_first_token_of_several_options_is_refused() -> None:
    options = ["both good", "both bad", "one"]
    found = choice_from(told((" both", 0.6), ("one", 0.3)), options)
    assert found == Choice({}, 0.0, found.failure)
    assert found.failure == "the first token 'both' begins several options: 'both good', 'both bad'"


def test_unless_it_hardly_weighs() -> None:
    options = ["tie", "two"]
    slight = choice_from(told(("tie", 0.6), ("two", 0.2), ("t", 0.007)), options)
    assert slight.probabilities == pytest.approx({"tie": 0.75, "two": 0.25})
    assert slight.mass == pytest.approx(0.8)  # what is unclear is not in it
    assert choice_from(told(("tie", 0.6), ("two", 0.2), ("t", 0.009)), options).failure


def test_no_option_among_the_tokens_is_no_answer() -> None:
    found = choice_from(told(("", 0.1), ("<think>", 0.8), (" ", 0.05)), ["A", "B"])
    assert (found.probabilities, found.mass) == ({}, 0.0)
    assert "likeliest first tokens: '<think>', '', ' '" in found.failure


@pytest.mark.parametrize(
    ("generation", "says"),
    [
        (Generation("", 0, "failed", failure="timed out: ..."), "timed out: ..."),
        (Generation("I would rather not.", 5, "refusal", logprobs=tokens(A=0.9)), "refusal"),
        (Generation("", 0, "content filter"), "content filter"),
        (Generation("A\nB", 3, "stop"), "the server gives no log-probabilities; it said 'A'"),
        (Generation("", 0, "length"), "cut off before the first word"),
        (Generation("", 0, "stop"), "said nothing"),
    ],
)
def test_an_answer_without_probabilities_is_a_failure(generation: Generation, says: str) -> None:
    assert choice_in(generation, ["A", "B"]) == Choice({}, 0.0, says)


@given(
    st.dictionaries(st.text("ABtie ", max_size=3), st.floats(1e-9, 1.0), min_size=1, max_size=20)
)
def test_whatever_is_told_the_shares_add_up_to_one_and_the_mass_to_no_more(
    weights: dict[str, float],
) -> None:
    total = sum(weights.values())
    listed = told(*((token, weight / total) for token, weight in weights.items()))
    found = choice_from(listed, ["A", "B", "tie"])
    assert 0.0 <= found.mass <= 1.0
    if found.failure:
        assert not found.probabilities
    else:
        assert set(found.probabilities) == {"A", "B", "tie"}
        assert sum(found.probabilities.values()) == pytest.approx(1.0)
