"""Probabilities of answers from a model behind an API: asked for, read, kept, or said to lack."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from asking import ENDPOINTS
from faulty_server import Server, serving

from character.errors import ModelError
from character.models.base import Conversation, Message, Request, Sampling
from character.models.budget import Budget
from character.models.cache import RequestCache
from character.models.choices import choice_from
from character.models.config import RequestsConfig
from character.models.endpoint import Answer, Call, CallError, Room
from character.models.openai_api import OpenAIEndpoint
from character.models.prices import Price
from character.models.served import ServedModel

PATIENT = RequestsConfig(backoff=0.01, longest_backoff=0.05, timeout=5.0, failures=1.0)
PRICE = Price(input=1000.0, output=5000.0)
TOLD = {"A": 0.5, " A": 0.1, "B": 0.2, "The": 0.1}
OPTIONS = ("A", "B", "tie")

Start = Callable[..., ServedModel]


@pytest.fixture(params=["own", "openai", "responses"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[RequestCache]:
    with RequestCache(tmp_path / "cache") as opened:
        yield opened


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:

        def begin(
            server: Server,
            kind: str = "own",
            cache: RequestCache | None = None,
            config: RequestsConfig = PATIENT,
            price: Price | None = None,
        ) -> ServedModel:
            if not server.url:
                stack.enter_context(serving(server))
            model = ServedModel(ENDPOINTS[kind](server), config, cache, Budget(), price)
            stack.callback(model.close)
            return model

        yield begin


def questions(count: int) -> list[Conversation]:
    return [(Message("user", f"question {n}"),) for n in range(count)]


def test_choices_come_in_order_and_are_counted(start: Start, kind: str) -> None:
    model = start(Server(tokens=TOLD, reply="A"), kind, price=PRICE)
    done: list[int] = []
    found = model.choose(questions(30), OPTIONS, done.append)
    assert len(found) == sum(done) == 30
    for choice in found:
        assert choice.probabilities == pytest.approx({"A": 0.75, "B": 0.25, "tie": 0.0})
        assert choice.mass == pytest.approx(0.8)
        assert choice.failure == ""
    # 12 words in (of which chat completions cached 4) and 1 out
    assert model.budget.spent == pytest.approx(30 * 17 * 1e-3)


def test_what_is_asked_of_chat_completions(start: Start) -> None:
    own, hosted = Server(tokens=TOLD), Server(tokens=TOLD)
    start(own).choose(questions(1), OPTIONS)
    start(hosted, "openai").choose(questions(1), OPTIONS)
    asked = {"logprobs": True, "top_logprobs": 20, "temperature": 1.0, "top_p": 1.0}
    assert own.bodies[0].items() >= (asked | {"max_tokens": 1}).items()
    assert hosted.bodies[0].items() >= (asked | {"max_completion_tokens": 16}).items()
    assert "top_k" not in own.bodies[0]


def test_what_is_asked_of_responses(start: Start) -> None:
    server = Server(tokens=TOLD)
    start(server, "responses").choose(questions(1), OPTIONS)
    asked = {"include": ["message.output_text.logprobs"], "top_logprobs": 20}
    assert server.bodies[0].items() >= (asked | {"max_output_tokens": 16}).items()
    assert "logprobs" not in server.bodies[0]


def test_twenty_tokens_are_read_and_no_more_are_hoped_for(start: Start) -> None:
    many = {f"word{n}": 0.04 for n in range(20)} | {"A": 0.05, "B": 0.01}
    (found,) = start(Server(tokens=many)).choose(questions(1), ["A", "B"])
    assert found.probabilities == pytest.approx({"A": 1.0, "B": 0.0})
    assert found.mass == pytest.approx(0.05)


# --- the cache ---


def test_nothing_is_asked_twice_even_with_other_options(
    start: Start, kind: str, cache: RequestCache
) -> None:
    server = Server(tokens=TOLD, reply="A")
    first = start(server, kind, cache).choose(questions(5), OPTIONS)
    again = start(server, kind, cache)
    assert again.choose(questions(5), OPTIONS) == first
    (other,) = again.choose(questions(1), ["A", "The"])
    assert other.probabilities == pytest.approx({"A": 6 / 7, "The": 1 / 7})
    assert sum(server.asked.values()) == 5
    assert again.outcomes == {"cached": 6}


def test_a_choice_and_a_reply_to_the_same_words_are_two_answers(
    start: Start, cache: RequestCache
) -> None:
    server = Server(tokens=TOLD)
    model = start(server, cache=cache)
    sampling = Sampling(max_tokens=1, temperature=1.0, top_p=1.0)
    (reply,) = model.generate([Request(questions(1)[0])], sampling)
    assert reply.logprobs is None
    (choice,) = model.choose(questions(1), OPTIONS)
    assert not choice.failure
    assert sum(server.asked.values()) == 2


# --- failures ---


def test_a_server_without_log_probabilities_is_a_failure_that_says_so(
    start: Start, kind: str, cache: RequestCache
) -> None:
    server = Server(reply="A")
    model = start(server, kind, cache)
    (found,) = model.choose(questions(1), OPTIONS)
    assert (found.probabilities, found.mass) == ({}, 0.0)
    assert found.failure == "the server gives no log-probabilities; it said 'A'"
    server.tokens = TOLD  # and once it does, it is asked again
    (found,) = model.choose(questions(1), OPTIONS)
    assert not found.failure


@pytest.mark.parametrize(
    ("kind", "fault", "says"),
    [
        ("own", "refusal", "refusal"),
        ("responses", "refusal", "refusal"),
        ("own", "filter", "content filter"),
        ("own", "400", "request refused: HTTP 400: this prompt is too long"),
        ("own", "500", "server error: HTTP 500: oh dear"),
        ("own", "empty", "said nothing"),
        ("responses", "html", "unreadable answer: JSONDecodeError"),
    ],
)
def test_every_failure_says_why(start: Start, kind: str, fault: str, says: str) -> None:
    (found,) = start(Server({fault: 1.0}, tokens=TOLD), kind).choose(questions(1), OPTIONS)
    assert (found.probabilities, found.mass) == ({}, 0.0)
    assert found.failure.startswith(says)


def test_many_failures_end_it_as_they_end_any_asking(start: Start) -> None:
    config = PATIENT.model_copy(update={"failures": 0.1})
    with pytest.raises(ModelError, match="this prompt is too long"):
        start(Server({"400": 1.0}), config=config).choose(questions(100), OPTIONS)


def test_faults_that_pass_are_asked_again(start: Start, kind: str) -> None:
    server = Server({"429": 0.2, "500": 0.1, "half": 0.1}, tokens=TOLD)
    found = start(server, kind).choose(questions(40), OPTIONS)
    assert [choice.mass for choice in found] == pytest.approx([0.8] * 40)
    assert server.served["half"] > 0


def body(top: Any, text: str | None = "A", finish: str = "length") -> dict[str, Any]:
    logprobs = {"content": [{"token": "A", "logprob": -0.1, "top_logprobs": top}]}
    message = {"role": "assistant", "content": text}
    return {"choices": [{"finish_reason": finish, "message": message, "logprobs": logprobs}]}


def read(answer: dict[str, Any]) -> Answer:
    endpoint = OpenAIEndpoint("http://x#m", "m", base_url="http://x", own=True)
    call = Call(questions(1)[0], Sampling(), top=20)
    return endpoint._answer(json.loads(json.dumps(answer)), call, Room())


def test_a_server_that_tells_only_what_it_said_tells_no_alternatives() -> None:
    assert read(body([])).logprobs is None
    assert read(body(None)).logprobs is None


def test_what_was_said_by_chance_is_not_among_the_likeliest() -> None:
    """As vLLM lists it: first what it said, then the others by their probability."""
    others = [{"token": "B", "logprob": -1.0}, {"token": "C", "logprob": -2.0}]
    unlikely = read(body([{"token": "A", "logprob": -4.0}, *others]))
    assert unlikely.logprobs == (("B", -1.0), ("C", -2.0))
    likely = read(body([{"token": "A", "logprob": -1.5}, *others]))
    assert likely.logprobs == (("A", -1.5), ("B", -1.0), ("C", -2.0))


@pytest.mark.parametrize(
    "top",
    [
        [{"token": "A", "logprob": 0.7}],  # a probability, or something else
        [{"token": "A", "logprob": float("nan")}],
        [{"token": "A", "logprob": -0.1}, {"token": "B", "logprob": -0.1}],
        [{"token": "A", "prob": 0.7}],
        [{"token": "A", "logprob": None}],
        ["A"],
    ],
)
def test_what_are_no_log_probabilities_is_an_unreadable_answer(top: Any) -> None:
    with pytest.raises(CallError, match=r"Error: "):
        read(body(top))


def test_very_unlikely_tokens_have_none() -> None:
    answer = read(body([{"token": "A", "logprob": -0.5}, {"token": "B", "logprob": -9999.0}]))
    assert choice_from(answer.logprobs, ["A", "B"]).probabilities == {"A": 1.0, "B": 0.0}


# --- who can ---


@pytest.mark.parametrize(
    ("model", "can"),
    [
        ("gpt-4o-mini", True),
        ("gpt-4.1", True),
        ("gpt-5.4-mini", True),  # with effort none
        ("gpt-6.1-sol", True),
        ("gpt-5", False),
        ("gpt-5-mini", False),
        ("o3", False),
        ("o4-mini", False),
        ("gpt-5.2-chat-latest", False),
        ("gpt-5.1-codex", False),
        ("gpt-5.2-pro", False),
    ],
)
def test_models_that_think_tell_no_probabilities(model: str, can: bool) -> None:
    assert OpenAIEndpoint("openai:x", model, base_url="http://x").can_choose is can
    assert OpenAIEndpoint("http://x#m", model, base_url="http://x", own=True).can_choose


def test_who_cannot_says_so_without_asking(start: Start) -> None:
    server = Server()
    model = start(server, "anthropic")
    assert not model.can_choose
    with pytest.raises(ModelError, match="does not tell how likely an answer is"):
        model.choose(questions(1), OPTIONS)
    assert not server.asked


def test_unfair_options_are_refused_before_anything_is_asked(start: Start) -> None:
    server = Server(tokens=TOLD)
    with pytest.raises(ValueError, match="begins the option"):
        start(server).choose(questions(1), ["1", "10"])
    assert not server.asked
    assert start(server).choose([], OPTIONS) == []


# --- batches ---


@pytest.mark.parametrize("kind", ["openai", "responses"])
def test_choices_go_through_a_batch_too(start: Start, kind: str, cache: RequestCache) -> None:
    server = Server(tokens=TOLD, reply="A", polls=1)
    config = PATIENT.model_copy(update={"batch": True, "poll": 0.01})
    model = start(server, kind, cache, config)
    found = model.choose(questions(3), OPTIONS)
    assert [choice.mass for choice in found] == pytest.approx([0.8] * 3)
    assert len(server.batches) == 1
    assert model.choose(questions(3), OPTIONS) == found
    assert len(server.batches) == 1
