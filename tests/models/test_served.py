"""A model behind an API that misbehaves in every way we know: see faulty_server."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from asking import ENDPOINTS, asks, echoes, texts
from faulty_server import Server, serving

from character.errors import ModelError
from character.models.base import Message, Request, Sampling
from character.models.budget import Budget, CapReachedError
from character.models.cache import RequestCache
from character.models.config import RequestsConfig
from character.models.endpoint import Call, Fault
from character.models.prices import Price
from character.models.served import ServedModel

PATIENT = RequestsConfig(backoff=0.01, longest_backoff=0.05, timeout=5.0)
PRICE = Price(
    input=1000.0, output=5000.0
)  # a tenth of a cent per word in, half a cent per word out


KINDS = ("own", "responses", "anthropic")
Start = Callable[..., ServedModel]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[RequestCache]:
    with RequestCache(tmp_path / "cache") as opened:
        yield opened


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a server with these faults and a model that asks it."""
    with ExitStack() as stack:

        def begin(
            server: Server,
            kind: str = "own",
            config: RequestsConfig = PATIENT,
            cache: RequestCache | None = None,
            budget: Budget | None = None,
            price: Price | None = None,
        ) -> ServedModel:
            if not server.url:
                stack.enter_context(serving(server))
            model = ServedModel(ENDPOINTS[kind](server), config, cache, budget, price)
            stack.callback(model.close)
            return model

        yield begin


# --- answers ---


def test_answers_come_in_order_with_what_they_took(start: Start, kind: str) -> None:
    model = start(Server(), kind, price=PRICE)
    found = model.generate(asks(50), Sampling())
    assert [g.text for g in found] == echoes(50)
    first = found[0]
    assert (first.finish, first.tokens, first.usage.output) == ("stop", 3, 3)
    # Anthropic counts what it read from its cache beside the input
    assert first.usage.input == (16 if kind == "anthropic" else 12)
    assert first.usage.cached == (0 if kind == "responses" else 4)
    assert first.dollars == pytest.approx(PRICE.cost(first.usage))
    assert first.seconds > 0
    assert model.budget.spent == pytest.approx(sum(g.dollars or 0 for g in found))


def test_a_price_nobody_knows_is_none(start: Start) -> None:
    (found,) = start(Server()).generate(asks(1), Sampling())
    assert found.dollars is None


def test_a_long_answer_is_cut_off(start: Start, kind: str) -> None:
    server = Server(reply="one two three four five")
    (found,) = start(server, kind).generate(asks(1), Sampling(max_tokens=3))
    assert (found.text, found.finish, found.tokens) == ("one two three", "length", 3)


def test_every_answer_ends_before_a_stop_string(start: Start, kind: str) -> None:
    server = Server(reply="one two\n\nthree. four five six")
    sampling = Sampling(max_tokens=6, stop=(".", "\n"))
    (found,) = start(server, kind).generate(asks(1), sampling)
    assert (found.text, found.finish) == ("one two", "stop")


@pytest.mark.parametrize(
    ("fault", "kinds", "finish"),
    [
        ("refusal", KINDS, "refusal"),
        ("filter", ("own",), "content filter"),
        ("empty", KINDS, "stop"),
    ],
)
def test_a_verdict_of_the_provider_is_an_outcome(
    start: Start, fault: str, kinds: tuple[str, ...], finish: str
) -> None:
    for kind in kinds:
        model = start(Server({fault: 1.0}), kind)
        (found,) = model.generate(asks(1), Sampling())
        assert found.finish == finish
        assert model.outcomes[finish] == 1
        assert bool(found.text) == (fault != "empty")


def test_a_server_continues_documents_and_the_others_say_they_cannot(start: Start) -> None:
    document = [Request(text="Once upon a time", seed=1)]
    server = Server()
    assert texts(start(server), document) == ["echo: Once upon a time"]
    assert server.bodies[0]["prompt"] == "Once upon a time"
    with pytest.raises(ModelError, match="cannot continue a document"):
        start(Server(), "anthropic").generate(document, Sampling())


def test_it_says_that_it_cannot_score(start: Start) -> None:
    model = start(Server())
    assert not model.can_score
    with pytest.raises(ModelError, match="how likely"):
        model.score([])


# --- faults ---


@pytest.mark.parametrize(
    "fault",
    ["429", "429-after", "500", "502", "503", "529", "408", "reset", "half", "twice", "long",
     "html", "null"],
)  # fmt: skip
def test_what_may_succeed_again_is_asked_again(start: Start, kind: str, fault: str) -> None:
    server = Server({fault: 0.3})
    model = start(server, kind)
    assert texts(model, asks(40)) == echoes(40)
    assert model.faults.total() == server.served[fault] > 3
    assert set(server.paid.values()) == {1}


def test_a_slow_answer_is_given_up_and_asked_again(start: Start) -> None:
    server = Server({"loris": 0.2})
    config = PATIENT.model_copy(update={"timeout": 0.5})
    model = start(server, config=config)
    assert texts(model, asks(60)) == echoes(60)
    assert model.faults[Fault.TIMEOUT] == server.served["loris"] > 0


def test_a_slow_request_is_hedged_only_when_asked_to(start: Start) -> None:
    server = Server({"loris": 0.2})
    slow = PATIENT.model_copy(update={"timeout": 30.0, "hedge": 0.3})
    model = start(server, config=slow, price=PRICE)
    began = time.monotonic()
    assert texts(model, asks(20)) == echoes(20)
    assert time.monotonic() - began < 16  # a slow answer takes 17 seconds
    assert model.budget.reserved == 0.0
    # what was cancelled may have been charged, and counts
    assert model.budget.spent > 20 * PRICE.cost(model.generate(asks(1), Sampling())[0].usage)


def test_retries_end_and_leave_a_failure_that_says_why(start: Start) -> None:
    server = Server({"500": 1.0})
    config = PATIENT.model_copy(update={"attempts": 3, "failures": 1.0})
    model = start(server, config=config)
    found = model.generate(asks(2), Sampling())
    assert [(g.finish, g.text, g.dollars) for g in found] == [("failed", "", None)] * 2
    assert found[0].failure == "server error: HTTP 500: oh dear"
    assert server.served["500"] == 6
    assert model.outcomes["failed"] == 2


def test_a_request_at_fault_is_not_asked_again(start: Start, kind: str) -> None:
    server = Server({"400": 1.0})
    model = start(server, kind, PATIENT.model_copy(update={"failures": 1.0}))
    (found,) = model.generate(asks(1), Sampling())
    assert found.failure == "request refused: HTTP 400: this prompt is too long"
    assert server.served["400"] == 1


def test_being_told_to_wait_ends_too(start: Start) -> None:
    config = PATIENT.model_copy(update={"patience": 0.3, "failures": 1.0})
    (found,) = start(Server({"429": 1.0}), config=config).generate(asks(1), Sampling())
    assert found.failure.startswith("rate limited")


@pytest.mark.parametrize(("fault", "says"), [("401", "wrong key"), ("redirect", "elsewhere")])
def test_an_unusable_endpoint_ends_the_run_at_once(
    start: Start, kind: str, fault: str, says: str
) -> None:
    server = Server({fault: 1.0})
    with pytest.raises(ModelError, match=says):
        start(server, kind).generate(asks(500), Sampling())
    assert server.served[fault] <= 64


def test_many_failures_end_a_run_and_the_commonest_causes_are_told(start: Start) -> None:
    server = Server({"400": 0.3, "empty": 0.1})
    with pytest.raises(ModelError) as error:
        start(server).generate(asks(500), Sampling())
    assert "more than 10%" in str(error.value)
    assert "x request refused: HTTP 400: this prompt is too long" in str(error.value)
    assert sum(server.served.values()) < 300


def test_few_failures_do_not(start: Start) -> None:
    found = start(Server({"400": 0.05})).generate(asks(200), Sampling())
    assert 0 < sum(g.finish == "failed" for g in found) < 20


def test_a_server_that_takes_six_at_once_answers_all(start: Start) -> None:
    model = start(Server(capacity=6, latency=0.02))
    assert texts(model, asks(300)) == echoes(300)
    assert model.faults[Fault.RATE_LIMITED] > 0
    assert model._pace.limit < 64


def test_five_thousand_requests_and_ten_in_a_hundred_of_everything(
    start: Start, cache: RequestCache
) -> None:
    faults = {
        "429": 0.05, "429-after": 0.05, "500": 0.04, "502": 0.03, "529": 0.03, "reset": 0.1,
        "half": 0.04, "twice": 0.03, "long": 0.03, "loris": 0.002, "html": 0.02, "null": 0.02,
        "400": 0.02,
    }  # fmt: skip
    server = Server(faults, remember=False)
    config = PATIENT.model_copy(update={"timeout": 3.0, "failures": 0.5})
    model = start(server, config=config, cache=cache)
    found = model.generate(asks(5000), Sampling())
    for generation, echo in zip(found, echoes(5000), strict=True):
        if generation.finish == "failed":
            assert generation.text == "" and generation.failure
        else:
            assert generation.text == echo
    failed = sum(g.finish == "failed" for g in found)
    assert sum(server.paid.values()) == 5000 - failed
    assert set(server.paid.values()) == {1}
    again = model.generate(asks(5000), Sampling())
    # only what had failed is asked once more
    assert sum(server.paid.values()) == 5000 - sum(g.finish == "failed" for g in again)
    assert set(server.paid.values()) == {1}


# --- the cache ---


def test_nothing_is_asked_twice(start: Start, kind: str, cache: RequestCache) -> None:
    server = Server()
    model = start(server, kind, cache=cache, price=PRICE)
    texts(model, asks(30))
    spent = model.budget.spent
    again = model.generate(asks(30), Sampling(max_tokens=500))
    assert [g.text for g in again] == echoes(30)
    assert [g.dollars for g in again] == [0.0] * 30
    assert (sum(server.asked.values()), model.budget.spent) == (30, spent)
    assert model.outcomes["cached"] == 30


def test_the_same_request_under_way_is_asked_once(start: Start, cache: RequestCache) -> None:
    server = Server(latency=0.05)
    model = start(server, cache=cache)
    same = [asks(1)[0]] * 200
    assert texts(model, same) == echoes(1) * 200
    assert sum(server.asked.values()) == 1


def test_samples_of_one_conversation_are_different_requests(
    start: Start, cache: RequestCache
) -> None:
    server = Server()
    conversation = (Message("user", "again"),)
    model = start(server, "anthropic", cache=cache)  # which is sent no seed
    texts(model, [Request(conversation, seed=n) for n in range(5)])
    assert server.asked["again#"] == 5


def test_failures_are_not_cached(start: Start, cache: RequestCache) -> None:
    server = Server({"400": 1.0})
    config = PATIENT.model_copy(update={"failures": 1.0})
    model = start(server, config=config, cache=cache)
    model.generate(asks(3), Sampling())
    server.faults = {}
    assert texts(model, asks(3)) == echoes(3)


def test_answers_are_on_disk_before_they_are_handed_over(start: Start, cache: RequestCache) -> None:
    model = start(Server(), cache=cache)
    calls = [Call(r.conversation, Sampling(), r.seed) for r in asks(300)]
    for answered in model.stream(calls):
        for index, _ in answered:
            assert cache.get(model.name, calls[index])


def test_a_caller_who_stops_listening_stops_the_asking(start: Start) -> None:
    server = Server(latency=0.01)
    model = start(server)
    stream = model.stream([Call(r.conversation, Sampling(), r.seed) for r in asks(5000)])
    next(stream)
    stream.close()
    asked = sum(server.asked.values())
    assert asked < 1500
    assert texts(model, asks(3)) == echoes(3)  # and it can be asked again


# --- money ---


def test_the_cap_is_never_exceeded_and_a_higher_one_goes_on(
    start: Start, kind: str, cache: RequestCache, tmp_path: Path
) -> None:
    server = Server({"429": 0.1, "500": 0.05, "reset": 0.05}, latency=0.005)
    whole = 400 * PRICE.cost(start(server, kind).generate(asks(1), Sampling())[0].usage)
    server.paid.clear()
    found: list[str] = []
    for cap in (whole * 0.3, whole * 0.6, whole * 10):
        budget = Budget(cap, tmp_path / "spending.jsonl")
        model = start(server, kind, cache=cache, budget=budget, price=PRICE)
        try:
            found = texts(model, asks(400), limit=4)
        except CapReachedError as error:
            assert "--max-cost" in str(error)
        else:
            assert cap == whole * 10
        paid = sum(server.paid.values()) * whole / 400
        assert paid <= budget.spent <= cap
        assert budget.spent > 0.9 * cap or cap == whole * 10
        budget.close()
    assert found == echoes(400)
    assert set(server.paid.values()) == {1}


def test_an_answer_that_does_not_say_what_it_used_is_charged_in_full(start: Start) -> None:
    model = start(Server({"silent": 1.0}), price=PRICE)
    (found,) = model.generate(asks(1), Sampling(max_tokens=7))
    assert found.dollars is not None and found.dollars >= PRICE.most(10, 7)


# --- killed ---


CHILD = """
import os, sys
from pathlib import Path
from character.models.base import Sampling
from character.models.budget import Budget, CapReachedError
from character.models.cache import RequestCache
from character.models.config import RequestsConfig
from character.models.endpoint import Call
from character.models.served import ServedModel
import asking
import test_served
kind, url, folder, count, cap = sys.argv[1:]
server = asking.Server(); server.url = url
folder = Path(folder)
said = os.open(folder / "acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
model = ServedModel(
    asking.ENDPOINTS[kind](server), RequestsConfig(first=16), RequestCache(folder / "cache"),
    Budget(float(cap), folder / "spending.jsonl"), test_served.PRICE,
)
calls = [Call(r.conversation, Sampling(max_tokens=4), r.seed) for r in asking.asks(int(count))]
print("ready", flush=True)
try:
    for answered in model.stream(calls):
        os.write(said, "".join(f"{index}\\n" for index, _ in answered).encode())
        print("answered", flush=True)
except CapReachedError:
    sys.exit(test_served.CAPPED)
"""
CAPPED = 3  # how a child ends whose money is spent


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(ENDPOINTS))
def test_killed_at_thirty_moments_it_loses_nothing(tmp_path: Path, kind: str) -> None:
    """Whatever is acknowledged is never asked again, and no cap is exceeded over all lives."""
    count, moments = 2000, random.Random(7)
    acknowledged = tmp_path / "acknowledged"
    acknowledged.touch()

    def live(cap: float, seconds: float | None, answers: int = 0) -> int | None:
        """Run the child, killed so long after so many batches of answers; its exit status."""
        here = Path(__file__).parent
        environment = os.environ | {"PYTHONPATH": f"{here}{os.pathsep}{here.parent}"}
        command = (CHILD, kind, server.url, str(tmp_path), str(count), str(cap))
        child = subprocess.Popen(
            [sys.executable, "-c", *command], env=environment, stdout=subprocess.PIPE
        )
        with child:
            assert child.stdout
            for _ in range(1 + answers):
                child.stdout.readline()
            try:
                return child.wait(seconds)
            except subprocess.TimeoutExpired:
                child.kill()
                return None

    with serving(Server(latency=0.05, remember=False)) as server:
        kept: dict[str, int] = {}

        def check(cap: float) -> None:
            for index in acknowledged.read_text().split():
                name = _name(int(index), kind)
                assert kept.setdefault(name, server.asked[name]) == server.asked[name]
            budget = Budget(cap, tmp_path / "spending.jsonl")
            assert _paid(server, kind) <= budget.spent <= cap
            budget.close()

        cap, ends = 1.0, []
        for life in range(30):
            ends.append(live(cap, moments.uniform(0.0, 0.2), answers=life % 4))
            check(cap)
            cap *= 1.4 if ends[-1] == CAPPED else 1.0  # the next life goes on with a higher cap
        assert CAPPED in ends and ends.count(None) > 5  # both ends are met again and again
        assert live(1000.0, None) == 0
        check(1000.0)
        assert {int(i) for i in acknowledged.read_text().split()} == set(range(count))
        assert len(kept) == count


def _name(index: int, kind: str) -> str:
    return f"number {index}#{index if kind in ('own', 'openai') else ''}"


def _paid(server: Server, kind: str) -> float:
    from character.models.base import Usage

    used = Usage(16 if kind == "anthropic" else 12, 3)
    return sum(server.paid.values()) * PRICE.cost(used)
