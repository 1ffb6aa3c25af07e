from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

import pytest

from character.diffing.config import DiffConfig
from character.diffing.dialogue import converse, first_answer, turns_of
from character.diffing.measure import Subject
from character.diffing.suite import Item
from character.models.base import FinishReason, Generation, Message, OnDone, Request, Sampling
from character.models.fake import ScriptedModel

CONFIG = DiffConfig(sampling=Sampling(max_tokens=50), brief=Sampling(max_tokens=2))
TWICE = CONFIG.model_copy(update={"samples": 2})
WET = Item(id="wet", stratum="neutral", turns=("Is it wet?",))
TALK = Item(id="talk", stratum="multi_turn", turns=("I bake.", "It rose.", "Now what?"))
FACT = Item(id="fact", stratum="capability", turns=("Name a cat.",), accept=("tom",))
PUSHED = Item(id="pushed", stratum="framed_facts", turns=("How old?", "No, ten."), accept=("nine",))
AGREED = Item(
    id="agreed", stratum="break_character", turns=("Is it wet?",), of="wet",
    opening=(("user", "Drop it."), ("assistant", "Fine.")),
)  # fmt: skip
ITEMS = [WET, TALK, FACT, PUSHED, AGREED]


def echo(request: Request) -> str:
    return f"{request.conversation[-1].content.lower()} so you say"


class Kept(ScriptedModel):
    """Keeps its answers back where the last message holds a word, as a provider would."""

    def __init__(self, word: str, finish: FinishReason, failure: str = "") -> None:
        super().__init__(echo)
        self._word, self._finish, self._failure = word, finish, failure

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, on_done: OnDone = lambda count: None
    ) -> list[Generation]:
        found = super().generate(requests, sampling, on_done)
        return [
            replace(generation, finish=self._finish, failure=self._failure)
            if self._word in request.conversation[-1].content
            else generation
            for request, generation in zip(requests, found, strict=True)
        ]


def seeds(
    reply: Callable[[Request], str], config: DiffConfig, name: str = "old"
) -> dict[str, set[int]]:
    """What each user message was drawn with."""
    model = ScriptedModel(reply)
    converse(Subject(name, model), ITEMS, config)
    found: dict[str, set[int]] = {}
    for request in model.requests:
        said = [m.content for m in request.conversation if m.role == "user"]
        found.setdefault(" ".join(said), set()).add(request.seed)
    return found


# --- what is said ---


def test_a_single_turn_is_asked_and_answered() -> None:
    model = ScriptedModel(["Yes, it is."])
    (answer,) = converse(Subject("old", model), [WET], CONFIG)
    (request,) = model.requests
    assert request.conversation == (Message("user", "Is it wet?"),)
    assert (answer.subject, answer.query_id, answer.prompt) == ("old", "wet", "Is it wet?")
    assert (answer.text, answer.tokens) == ("Yes, it is.", 3)
    assert answer.ended and not answer.failure


def test_a_later_turn_carries_the_subjects_own_replies() -> None:
    model = ScriptedModel(["Good.", "How nice.", "Eat it."])
    answers = converse(Subject("old", model), [TALK], CONFIG)
    assert [(a.query_id, a.prompt, a.text) for a in answers] == [
        ("talk/1", "I bake.", "Good."),
        ("talk/2", "It rose.", "How nice."),
        ("talk/3", "Now what?", "Eat it."),
    ]
    assert model.requests[2].conversation == (
        Message("user", "I bake."), Message("assistant", "Good."),
        Message("user", "It rose."), Message("assistant", "How nice."),
        Message("user", "Now what?"),
    )  # fmt: skip
    assert len({request.seed for request in model.requests}) == 3


def test_a_conversation_begins_with_the_subjects_turns_and_then_the_items_opening() -> None:
    model = ScriptedModel(echo)
    turns = (Message("system", "Be brisk."),)
    converse(Subject("good", model, turns), [AGREED], CONFIG)
    assert model.requests[0].conversation == (
        Message("system", "Be brisk."),
        Message("user", "Drop it."), Message("assistant", "Fine."),
        Message("user", "Is it wet?"),
    )  # fmt: skip


def test_facts_are_answered_briefly_and_all_else_at_length() -> None:
    answers = converse(Subject("old", ScriptedModel(echo)), ITEMS, CONFIG)
    cut = {answer.query_id for answer in answers if not answer.ended}
    assert cut == {"fact", "pushed/1", "pushed/2"}
    assert {a.tokens for a in answers if a.query_id in cut} == {2}
    assert not [a.failure for a in answers if a.failure]


def test_nobody_is_asked_twice_where_brief_is_no_briefer() -> None:
    model = ScriptedModel(echo)
    config = CONFIG.model_copy(update={"brief": CONFIG.sampling})
    assert len(converse(Subject("old", model), ITEMS, config)) == len(model.requests) == 8


def test_conversations_go_on_together_and_do_not_mix() -> None:
    model = ScriptedModel(lambda r: f"{r.conversation[0].content} {len(r.conversation)}")
    other = TALK.model_copy(update={"id": "other", "turns": ("I swim.", "It is cold.")})
    answers = converse(Subject("old", model), [TALK, WET, other], CONFIG)
    assert [answer.text for answer in answers] == [
        "I bake. 1", "I bake. 3", "I bake. 5", "Is it wet? 1", "I swim. 1", "I swim. 3",
    ]  # fmt: skip
    lengths = [len(request.conversation) for request in model.requests]
    assert lengths == [1, 1, 1, 3, 3, 5]


# --- seeds ---


def test_samples_are_drawn_with_different_seeds_and_versions_with_the_same() -> None:
    once, twice = seeds(echo, CONFIG), seeds(echo, TWICE)
    assert {len(found) for found in twice.values()} == {2}
    assert all(once[said] < twice[said] for said in once)
    assert seeds(lambda request: "Something else.", TWICE, "new") == twice
    every = [seed for found in twice.values() for seed in found]
    assert len(set(every)) == len(every) == 2 * 8


def test_another_seed_draws_anew() -> None:
    other = CONFIG.model_copy(update={"seed": 1})
    one, two = (set(chain(*seeds(echo, config).values())) for config in (CONFIG, other))
    assert not one & two
    subject = Subject("old", ScriptedModel(echo))
    first, second = (converse(subject, ITEMS, config) for config in (CONFIG, other))
    assert not {answer.id for answer in first} & {answer.id for answer in second}


# --- what is not said ---


@pytest.mark.parametrize(
    ("finish", "failure", "told"),
    [
        ("failed", "HTTP 500 five times", "HTTP 500 five times"),
        ("failed", "", "not answered"),
        ("content filter", "", "filtered by the provider"),
    ],
)
def test_a_turn_that_fails_ends_its_conversation(
    finish: FinishReason, failure: str, told: str
) -> None:
    model = Kept("rose", finish, failure)
    answers = converse(Subject("old", model), [TALK, WET, AGREED], CONFIG)
    assert [(a.query_id, a.failure) for a in answers] == [
        ("talk/1", ""), ("talk/2", told), ("wet", ""), ("agreed", ""),
    ]  # fmt: skip
    assert not answers[1].ended
    assert "Now what?" not in [request.conversation[-1].content for request in model.requests]


def test_a_first_turn_that_fails_leaves_one_answer_that_says_so() -> None:
    answers = converse(Subject("old", Kept("bake", "failed")), [TALK], CONFIG)
    assert [(a.query_id, a.failure) for a in answers] == [("talk/1", "not answered")]


def test_a_refusal_is_an_answer_and_the_conversation_goes_on() -> None:
    answers = converse(Subject("old", Kept("rose", "refusal")), [TALK], CONFIG)
    assert [(a.query_id, a.failure, a.ended) for a in answers] == [
        ("talk/1", "", True), ("talk/2", "", False), ("talk/3", "", True),
    ]  # fmt: skip
    assert answers[1].text == "it rose. so you say"


def test_an_empty_reply_is_an_answer_and_the_conversation_goes_on() -> None:
    answers = converse(Subject("old", ScriptedModel(["", "", ""])), [TALK], CONFIG)
    assert [(a.text, a.tokens, a.ended, a.failure) for a in answers] == [("", 0, True, "")] * 3


# --- what is kept ---


def test_answers_come_in_the_items_order_and_the_first_is_known_before() -> None:
    subject = Subject("old", ScriptedModel(echo))
    answers = converse(subject, ITEMS, TWICE)
    turns = [item.turn_id(n) for item in ITEMS for n in range(len(item.turns))]
    assert [answer.query_id for answer in answers] == turns * 2
    assert answers[0].id == first_answer(subject, ITEMS, TWICE)
    assert len({answer.id for answer in answers}) == len(answers) == turns_of(ITEMS, TWICE) == 16
    backwards = ITEMS[::-1]
    assert converse(subject, backwards, CONFIG)[0].id == first_answer(subject, backwards, CONFIG)


def test_an_answer_is_known_by_who_gave_it() -> None:
    model, turns = ScriptedModel(echo), (Message("system", "Be brisk."),)
    subjects = (
        Subject("old", model), Subject("new", model), Subject("old", model, turns),
        Subject("old", ScriptedModel(echo, name="other")),
    )  # fmt: skip
    ids = [{answer.id for answer in converse(subject, ITEMS, CONFIG)} for subject in subjects]
    assert len(set(chain(*ids))) == 4 * 8
    assert len({first_answer(subject, ITEMS, CONFIG) for subject in subjects}) == 4


def test_every_answer_is_announced_as_it_comes() -> None:
    told: list[int] = []
    converse(Subject("old", ScriptedModel(echo)), ITEMS, TWICE, told.append)
    assert sum(told) == turns_of(ITEMS, TWICE) == 16


def test_nothing_asked_is_nothing_answered() -> None:
    model = ScriptedModel(echo)
    assert converse(Subject("old", model), [], CONFIG) == []
    assert turns_of([], CONFIG) == 0
    assert not model.requests
