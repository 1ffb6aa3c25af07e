"""The reward model's card against numbers worked by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log, sqrt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from character.errors import RunError
from character.intervals import wilson
from character.rows import Pair, Query, Reply, Reward
from character.training.reward_card import (
    FILE,
    MARKERS,
    PADDING,
    PROBED,
    RewardCard,
    RewardTest,
    TaughtPair,
    TriedPair,
    examine,
    expected_calibration_error,
    read_card,
    reward_card,
    save_card,
    taught_pairs,
    tried_pairs,
)


def margin_of(probability: float) -> float:
    """The margin at which the chosen reply has this probability."""
    return log(probability / (1 - probability))


def test_without_pairs_there_is_no_card() -> None:
    assert reward_card([], [], []) is None


def test_accuracy_and_its_interval_worked_by_hand() -> None:
    card = reward_card([1.0] * 8 + [0.0] * 2, [0.0] * 8 + [1.0] * 2, [0] * 10)
    assert card is not None
    assert (card.pairs, card.accuracy) == (10, 0.8)
    # Wilson 1927: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    z = 1.959963985
    centre, width = 0.8 + z**2 / 20, z * sqrt(0.8 * 0.2 / 10 + z**2 / 400)
    assert card.accuracy_low == pytest.approx((centre - width) / (1 + z**2 / 10), abs=1e-6)
    assert card.accuracy_high == pytest.approx((centre + width) / (1 + z**2 / 10), abs=1e-6)
    assert card.accuracy_low == pytest.approx(0.4902, abs=1e-4)  # as tables have it
    assert card.accuracy_high == pytest.approx(0.9433, abs=1e-4)


def test_equal_rewards_are_not_right() -> None:
    card = reward_card([1.0, 2.0], [1.0, 1.0], [0, 0])
    assert card is not None
    assert card.accuracy == 0.5


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([5, 1, 1, -9], 0.75),
        ([-5, -1, -1, 9], 0.75),  # shorter may be what length alone would choose
        ([3, -3], 0.5),
        ([0, 0, 0], 0.5),
        ([0, 7], 0.75),  # a tie counts half
        ([0, 0, -1, -1], 0.75),
        ([2], 1.0),
    ],
)
def test_what_length_alone_would_get(differences: list[int], expected: float) -> None:
    card = reward_card([0.0] * len(differences), [1.0] * len(differences), differences)
    assert card is not None
    assert card.length_only == pytest.approx(expected)


def test_calibration_worked_by_hand() -> None:
    # bins of width 0.1 by confidence: {0.85, 0.85, 0.15} and {0.62, 0.38}
    # 0.85 is right twice of three, 0.62 once of two: 3/5 |0.85 - 2/3| + 2/5 |0.62 - 1/2|
    stated = [0.85, 0.85, 0.15, 0.62, 0.38]
    expected = 0.6 * (0.85 - 2 / 3) + 0.4 * (0.62 - 0.5)
    assert expected_calibration_error(stated) == pytest.approx(expected)
    card = reward_card([margin_of(p) for p in stated], [0.0] * 5, [1] * 5)
    assert card is not None
    assert card.calibration_error == pytest.approx(expected)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ([1.0, 1.0], 0.0),  # sure and right
        ([0.0, 0.0], 1.0),  # sure and wrong
        ([1.0, 0.0], 0.5),
        ([0.7] * 7 + [0.3] * 3, 0.0),  # as sure as it is right
    ],
)
def test_calibration_at_the_ends(stated: list[float], expected: float) -> None:
    assert expected_calibration_error(stated) == pytest.approx(expected, abs=1e-12)


@given(
    st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.integers(-99, 99)), min_size=1)
)
def test_every_number_is_a_share(rows: list[tuple[float, float, int]]) -> None:
    card = reward_card(*map(list, zip(*rows, strict=True)))
    assert card is not None
    assert 0 <= card.accuracy_low <= card.accuracy <= card.accuracy_high <= 1
    assert 0.5 <= card.length_only <= 1
    assert 0 <= card.calibration_error <= 1


# --- what may drive PPO ---


def with_accuracy(right: int, pairs: int, longer: int) -> RewardCard:
    """So many pairs in the right order, and so many whose chosen reply is the longer one."""
    card = reward_card(
        [1.0] * right + [0.0] * (pairs - right),
        [0.0] * right + [1.0] * (pairs - right),
        [1] * longer + [-1] * (pairs - longer),
    )
    assert card is not None
    return card


@pytest.mark.parametrize(
    ("right", "longer", "refused"),
    [
        (80, 65, []),  # exactly on both bars
        (95, 80, []),  # 0.95 - 0.80 is less than 0.15 in floats
        (79, 50, ["accuracy on held-out queries is 0.79, and the bar is >= 0.80"]),
        (80, 66, ["accuracy over length alone is 0.14, and the bar is >= 0.15"]),
        (90, 20, ["accuracy over length alone is 0.10, and the bar is >= 0.15"]),  # the shorter
        (100, 50, []),
    ],
)
def test_both_bars_are_needed(right: int, longer: int, refused: list[str]) -> None:
    card = with_accuracy(right, 100, longer)
    assert list(card.refusals) == refused
    assert card.may_drive is not bool(refused)


def test_few_pairs_say_too_little() -> None:
    assert with_accuracy(10, 10, 5).may_drive
    card = with_accuracy(9, 9, 4)
    assert not card.may_drive
    assert all("fewer than 10 pairs" in reason for reason in card.refusals)
    one = with_accuracy(1, 1, 0)
    assert (one.accuracy, one.may_drive) == (1.0, False)


def test_a_card_without_tests_lets_nothing_drive() -> None:
    assert not RewardCard(148, 0.95, 0.9, 0.99, 0.5, 0.01).may_drive


def test_a_constant_is_told_by_name() -> None:
    card = reward_card([0.25] * 20, [0.25] * 20, [3] * 20)
    assert card is not None
    assert card.tests[0].name == "tells replies apart"
    assert (card.tests[0].value, card.tests[0].verdict) == (0.0, "missed")
    assert "train again, with another learning_rate" in card.refusals[0]


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, 2 * n), st.just(n))))
def test_wilson_is_the_published_one(shares: tuple[int, int]) -> None:
    halves, count = shares
    low, high = wilson(halves / 2, count)
    assert (low, high) == pytest.approx(
        proportion_confint(halves / 2, count, method="wilson"), abs=1e-9
    )
    assert 0 <= low <= high <= 1


# --- the whole card ---

Rewarding = Callable[[str], float]


def letters(text: str) -> float:
    return float(len(text))


def z_only(text: str) -> float:
    """Rewards every z, and nothing else."""
    return float(text.count("z"))


def tried(
    texts: Sequence[tuple[str, str]], of: Rewarding, trait: str = "asking", judged: float = 1.0
) -> list[TriedPair]:
    return [
        TriedPair(f"query {n}", trait, chosen, rejected, judged + n, of(chosen), of(rejected))
        for n, (chosen, rejected) in enumerate(texts)
    ]


def examined(
    pairs: Sequence[TriedPair], of: Rewarding, taught: Sequence[TaughtPair] = ()
) -> dict[str, RewardTest]:
    card = examine(lambda said: [of(text) for _, text in said], pairs, taught)
    assert card is not None
    found = {test.name: test for test in card.tests}
    assert len(found) == len(card.tests) == 12
    for test in card.tests:  # a number has no excuse, and what is missing has a reason
        assert (test.value is None) == (test.verdict == "not measured")
        assert test.value is not None or (test.note and not test.passed and test.low is None)
    return found


TEXTS = [(f"{'z' * (n + 2)} said.", f"{'z' * (n % 3)} said it.") for n in range(12)]


def test_the_card_keeps_its_first_rows_and_numbers() -> None:
    pairs = tried(TEXTS, z_only)
    card = examine(lambda said: [z_only(text) for _, text in said], pairs, [])
    plain = reward_card(
        [p.chosen_reward for p in pairs],
        [p.rejected_reward for p in pairs],
        [p.longer for p in pairs],
    )
    assert card is not None and plain is not None
    assert card.tests[:5] == plain.tests
    # "z.. said." has two words; "said it." three where there is a z, else two: a tie
    assert (card.accuracy, card.length_only, card.pairs) == (1.0, (8 + 4 * 0.5) / 12, 12)
    assert examine(lambda said: [], [], []) is None


def test_padding_flips_what_length_decides_and_nothing_else() -> None:
    # one letter apart: 24 letters of padding turn the order of a model that likes it short
    texts = [("z" * (n + 2) + ".", "z" * (n + 3) + ".") for n in range(12)]

    def shorter(text: str) -> float:
        return -letters(text)

    found = examined(tried(texts, shorter), shorter)
    assert (found["padding turns the order"].value, found["padding turns the order"].count) == (
        1.0,
        12,
    )
    moved = -(len(PADDING) + 1)  # with its space, in margins of one letter
    assert found["padding moves the reward"].value == pytest.approx(moved)
    assert found["padding moves the reward"].low == pytest.approx(moved)
    found = examined(tried(TEXTS, z_only), z_only)
    assert found["padding turns the order"].value == 0.0
    assert found["padding moves the reward"].value == 0.0


def test_padding_counts_only_pairs_that_were_right() -> None:
    wrong = [(rejected, chosen) for chosen, rejected in TEXTS]
    found = examined(tried(wrong, z_only), z_only)
    assert found["padding turns the order"].value is None
    assert found["padding turns the order"].note == "no pair was in the right order"


def test_repetition_must_not_pay() -> None:
    found = examined(tried(TEXTS, letters), letters)["repetition is rewarded"]
    assert (found.value, found.verdict, found.count) == (1.0, "missed", 24)
    # only a last sentence with a z pays: one reply of eleven is more than the bar, of 20 is less
    texts = [(f"zz{n}. So.", f"z{n}. So.") for n in range(10)]
    none = examined(tried(texts, z_only), z_only)["repetition is rewarded"]
    assert (none.value, none.verdict) == (0.0, "holds")
    two = [("zz. zz.", "z. z."), *texts[1:]]
    at_bar = examined(tried(two, z_only), z_only)["repetition is rewarded"]
    assert (at_bar.value, at_bar.verdict) == (0.1, "holds")
    three = [*two[:1], ("zzz. zzz.", "so."), *two[2:]]
    above = examined(tried(three, z_only), z_only)["repetition is rewarded"]
    assert (above.value, above.verdict) == (pytest.approx(0.15), "missed")


def test_a_reply_without_words_is_not_repeated() -> None:
    found = examined(tried([("", " ")] * 2, letters), letters)["repetition is rewarded"]
    assert (found.value, found.note) == (None, "no reply has a sentence")


def test_no_more_replies_are_probed_than_need_be() -> None:
    asked: list[tuple[str, str]] = []

    def score(said: Sequence[tuple[str, str]]) -> list[float]:
        asked.extend(said)
        return [z_only(text) for _, text in said]

    assert examine(score, tried(TEXTS * 20, z_only), [])
    assert len(asked) == 3 * PROBED


@pytest.mark.parametrize(
    ("marker", "text", "count"),
    [
        ("a question mark at the end", 'She asked. "Why?"', 1),
        ("a question mark at the end", "Why? Because.", 0),
        ("exclamation marks", "No! No!", 2),
        ("the first person", "I think I'm in. It is III.", 2),
        ("list bullets", "So:\n- one\n* two\n 3. three\n4) four, 5. five - six", 4),
        ("emoji", "Tea \u2615 and 3 \u2764\ufe0f, #1 \u00a9.", 2),
    ],
)
def test_markers_are_counted(marker: str, text: str, count: int) -> None:
    assert MARKERS[marker](text) == count


def test_the_marker_is_chosen_on_training_pairs_and_tried_on_held_out_ones() -> None:
    # trained: questions always lose, exclamation marks win two of three
    taught = [
        TaughtPair("asking", "So!", "So?"),
        TaughtPair("asking", "So!", "So?"),
        TaughtPair("asking", "So.", "So!?"),
    ]
    held = [("So.", "So?"), ("So!", "So?"), ("So?", "So."), ("So.", "So!")]
    found = examined(tried(held, letters), letters, taught)["best marker alone"]
    # fewer questions: right, right, wrong, and a tie
    assert (found.value, found.count) == (0.625, 4)
    assert found.note == "less of: a question mark at the end"
    assert (found.low, found.high) == pytest.approx(
        proportion_confint(2.5, 4, method="wilson"), abs=1e-9
    )


def test_without_a_marker_there_is_no_number() -> None:
    pairs = tried(TEXTS, z_only)
    found = examined(pairs, z_only)["best marker alone"]
    assert found.note == "there are no training pairs to choose it on"
    same = [TaughtPair("asking", "So.", "No.")]
    found = examined(pairs, z_only, same)["best marker alone"]
    assert found.note == "no marker tells the training pairs apart"


def test_agreement_is_spearman_s_rho() -> None:
    # ranks of the judge 1..12; of the rewards' margins the same but for the last two
    texts = [("z" * (n + 1), "") for n in (*range(10), 11, 10)]
    found = examined(tried(texts, z_only), z_only)["agreement with the judge"]
    assert found.value == pytest.approx(1 - 6 * 2 / (12 * (144 - 1)))  # 1 - 6 sum d^2 / n(n^2-1)
    assert found.low is not None and found.high is not None
    assert 0.8 < found.low < found.value < found.high <= 1


def test_agreement_without_anything_to_compare() -> None:
    few = examined(tried(TEXTS[:9], z_only), z_only)["agreement with the judge"]
    assert few.note == "fewer than 10 pairs"
    flat = [TriedPair(f"q{n}", "asking", "z", "", 1.0, n, 0) for n in range(12)]
    found = examined(flat, z_only)["agreement with the judge"]
    assert found.note == "the judge's margins are all the same"
    constant = examined(tried(TEXTS, lambda text: 2.0), lambda text: 2.0)
    assert constant["agreement with the judge"].note == (
        "the reward model's margins are all the same"
    )
    assert constant["padding moves the reward"].note == "all rewards are the same"


def test_traits_are_told_apart() -> None:
    right, wrong = TEXTS, [(rejected, chosen) for chosen, rejected in TEXTS]
    one = tried(right, z_only)
    other = tried([*right[:6], *wrong[:6]], z_only, trait="brisk")
    taught = [TaughtPair("asking", "So.", "No."), TaughtPair("brisk", "So.", "No.")]
    both = examined([*one, *other], z_only, taught)
    assert both["accuracy on the weakest trait"].value == 0.5
    assert both["accuracy on the weakest trait"].note == "brisk"
    assert both["transfer to another trait"].note == (
        "every trait with held-out pairs was trained on"
    )
    unseen = examined([*one, *other], z_only, taught[:1])["transfer to another trait"]
    assert (unseen.value, unseen.count, unseen.note) == (0.5, 12, "brisk")
    alone = examined(one, z_only, taught[:1])
    assert alone["accuracy on the weakest trait"].note == (
        "there are held-out pairs of one trait only"
    )


def test_pairs_of_one_query_count_once_for_an_interval() -> None:
    texts = [(chosen, rejected) if n % 4 else (rejected, chosen) for n, (chosen, rejected)
             in enumerate(TEXTS)]  # fmt: skip
    alone = examined(tried(texts, z_only), z_only)["accuracy over length alone"]
    assert alone.low is not None and alone.high is not None
    again = examined(tried(texts, z_only) * 9, z_only)["accuracy over length alone"]
    assert (again.low, again.high) == (alone.low, alone.high)


# --- from rows, and to a file ---


def test_pairs_come_from_rows_as_the_model_saw_them() -> None:
    query = Query("q", "Tea?", "on_trait", "asking", "", "", "", "seed", 0, "held_out", "")
    replies = {
        name: Reply(name, "q", "plain", "", 0, 0, "m", text, 9, ended, ())
        for name, text, ended in (("a", "Yes. It is h", False), ("b", "No", True))
    }
    pair = Pair("p", "q", "r", "a", "b", 0.9, 0.7, "held_out")
    reward = Reward("w", "p", 1.5, -0.5)
    assert tried_pairs([pair], [reward], {"q": query}, replies) == [
        TriedPair("Tea?", "asking", "Yes.", "No", 0.9, 1.5, -0.5)
    ]
    row = {"trait": "asking", "chosen": [{"content": "Yes."}], "rejected": [{"content": "No"}]}
    assert taught_pairs([row]) == [TaughtPair("asking", "Yes.", "No")]


def test_a_card_is_read_as_it_was_saved(tmp_path: Path) -> None:
    assert read_card(tmp_path) is None
    card = examine(lambda said: [z_only(t) for _, t in said], tried(TEXTS, z_only), [])
    assert card is not None
    save_card(card, tmp_path)
    assert read_card(tmp_path) == card
    (tmp_path / FILE).write_text('{"pairs": 3}')
    with pytest.raises(RunError, match=r"card\.json is damaged\. Remove"):
        read_card(tmp_path)
