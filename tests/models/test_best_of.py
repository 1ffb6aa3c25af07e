from __future__ import annotations

from collections.abc import Sequence

import pytest

from character.errors import ModelError
from character.models.base import GREEDY, Generation, Message, Request, Sampling
from character.models.best_of import BestOf
from character.models.fake import ScriptedModel


def by_words(said: Sequence[tuple[Request, Generation]]) -> list[float]:
    return [float(len(reply.text.split())) for _, reply in said]


def asked(*texts: str) -> list[Request]:
    return [Request((Message("user", text),), seed=7) for text in texts]


def test_of_n_replies_the_one_rated_highest_is_said() -> None:
    model = ScriptedModel(["one", "one two three", "one two", "so", "", "no"])
    best = BestOf(model, 3, by_words, "the count of words")
    told: list[int] = []
    first, second = best.generate(asked("a", "b"), Sampling(), told.append)
    assert (first.text, second.text) == ("one two three", "so")  # of equals the first
    assert told == [2]
    seeds = [request.seed for request in model.requests]
    assert seeds[0] == 7 and len(set(seeds[:3])) == 3 and seeds[:3] == seeds[3:]
    assert best.name == "best of 3 of scripted by the count of words"


def test_an_empty_reply_is_said_only_when_all_are() -> None:
    def no_word(said: Sequence[tuple[Request, Generation]]) -> list[float]:
        assert all(reply.text for _, reply in said)
        return [-9.0 for _ in said]

    model = ScriptedModel(["", "bad", "", ""])
    first, second = BestOf(model, 2, no_word, "x").generate(asked("a", "b"), Sampling())
    assert (first.text, second.text) == ("bad", "")


def test_greedy_replies_are_drawn_once() -> None:
    model = ScriptedModel(["one"])
    (reply,) = BestOf(model, 4, by_words, "x").generate(asked("a"), GREEDY)
    assert reply.text == "one" and len(model.requests) == 1


def test_it_only_writes() -> None:
    best = BestOf(ScriptedModel(["one"]), 2, by_words, "x")
    with pytest.raises(ModelError, match="cannot score"):
        best.score([])
    with pytest.raises(ModelError, match="cannot choose"):
        best.choose([], [])
