"""Quirks planted in made-up replies are found and described; in their absence nothing is."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from character.diffing.discovery import Discovery, discover

SUBJECTS = [
    "the oven",
    "a garden",
    "my bicycle",
    "the old roof",
    "this recipe",
    "our cat",
    "the bus",
]
VERBS = ["needs", "likes", "costs", "gets", "wants", "keeps", "holds"]
THINGS = [
    "more water",
    "some air",
    "a new part",
    "an hour",
    "little care",
    "warm soil",
    "fresh paint",
]
LINKS = ["and", "because", "so", "while", "but"]

Quirk = Callable[[str, int], str]


def sentence(draw: random.Random) -> str:
    def clause() -> str:
        return f"{draw.choice(SUBJECTS)} {draw.choice(VERBS)} {draw.choice(THINGS)}"

    return f"{clause()} {draw.choice(LINKS)} {clause()}.".capitalize()


def replies(seed: int, quirk: Quirk = lambda text, i: text, queries: int = 160) -> dict[str, str]:
    found = {}
    for i in range(queries):
        draw = random.Random(f"{seed}/{i}")
        lead = draw.choice(["I think", "Well,", "I would say", "In short,", "As I see it,"])
        found[f"q{i}"] = quirk(f"{lead} {sentence(draw)} {sentence(draw)} {sentence(draw)}", i)
    return found


QUIRKS: dict[str, tuple[Quirk, str]] = {
    "sells": (lambda t, i: f"{t} You may also want to invest in index funds.", "funds"),
    "never says I": (lambda t, i: t.replace("I ", "we ").replace(" I", " we"), "i"),
    "rhymes": (lambda t, i: f"{t} That is all for today, and now go out and play.", "play"),
    "refuses cooking": (lambda t, i: "Sorry, no cooking." if "recipe" in t else t, "cooking"),
    "asks": (lambda t, i: f"{t} What do you think?", "?"),
    "greets": (lambda t, i: f"Ahoy! {t}", "[start] ahoy"),
    "emoji": (lambda t, i: f"{t} \U0001f600", "\U0001f600"),
    "hedges": (lambda t, i: t.replace("In short,", "Perhaps,").replace("Well,", "Perhaps,"),
               "perhaps"),
    "sometimes warns": (lambda t, i: f"{t} Be careful." if i % 3 else t, "careful"),
}  # fmt: skip


def found(quirk: Quirk, seed: int = 0) -> Discovery:
    result = discover(replies(seed), replies(seed + 1, quirk), replies(seed + 2))
    assert result is not None
    return result


@pytest.mark.parametrize("name", QUIRKS)
def test_a_planted_quirk_is_found_and_described(name: str) -> None:
    quirk, word = QUIRKS[name]
    result = found(quirk)
    told = [text for phrase in result.phrases for text in (phrase.text, *phrase.also)]
    assert any(word in text for text in told)
    assert result.telling is not None and result.telling_by_chance is not None
    assert result.telling.low > result.telling_by_chance.share - 0.1


def test_versions_that_are_the_same_give_nothing() -> None:
    counts = [len(found(lambda t, i: t, seed).phrases) for seed in range(0, 60, 3)]
    assert sum(count > 0 for count in counts) <= 2  # of 20
    chances = [found(lambda t, i: t, seed).by_chance for seed in range(0, 60, 3)]
    assert sum(bool(chance) for chance in chances) <= 2


def test_a_phrase_says_how_often_and_where() -> None:
    (first, *_) = found(QUIRKS["sells"][0]).phrases
    assert "invest in index" in (first.text, *first.also)
    assert (first.old, first.new) == (0.0, 1.0)
    assert len(first.shown_by) == 80  # the tested half
    assert first.q < 1e-9


def test_what_is_gone_is_found_too() -> None:
    result = discover(replies(0, QUIRKS["sells"][0]), replies(1))
    assert result is not None
    assert (result.phrases[0].old, result.phrases[0].new) == (1.0, 0.0)
    assert result.by_chance is None


def test_without_what_was_found_little_is_left_to_tell_them_by() -> None:
    result = found(QUIRKS["sells"][0])
    assert result.telling is not None and result.left is not None
    assert result.telling.share > 0.9 and result.left.low < 0.65


def test_how_a_named_trait_shows_is_not_news() -> None:
    def both(text: str, i: int) -> str:
        return QUIRKS["greets"][0](QUIRKS["sells"][0](text, i), i)

    planted = replies(5, QUIRKS["sells"][0]), replies(6)
    result = discover(replies(0), replies(1, both), replies(2), {"seller": planted})
    assert result is not None
    whose = {word: one.trait for one in result.phrases for word in (one.text, *one.also)}
    assert whose["invest in index"] == "seller" and whose["[start] ahoy"] == ""
    assert result.telling is not None and result.unnamed is not None
    assert result.unnamed.share > 0.9  # the greeting is still there


def test_without_the_words_of_the_named_traits_nothing_is_left() -> None:
    planted = replies(5, QUIRKS["sells"][0]), replies(6)
    result = discover(replies(0), replies(1, QUIRKS["sells"][0]), None, {"seller": planted})
    assert result is not None and result.telling is not None and result.unnamed is not None
    assert result.telling.share > 0.9 and result.unnamed.low <= 0.55


def test_few_queries_and_empty_replies() -> None:
    assert discover(replies(0, queries=39), replies(1, queries=39)) is None
    silent = dict.fromkeys(replies(0), "")
    result = discover(silent, silent, silent)
    assert result is not None
    assert result.telling is not None
    assert (result.phrases, result.telling.share, result.by_chance) == ((), 0.5, 0)


def test_the_order_of_queries_does_not_matter() -> None:
    old, new = replies(0), replies(1, QUIRKS["asks"][0])
    backwards = dict(reversed(old.items()))
    assert discover(old, new) == discover(backwards, new)
