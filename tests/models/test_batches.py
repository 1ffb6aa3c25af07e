"""Batch APIs: handed in, remembered, fetched, handed in again, and paid at half the price."""

from __future__ import annotations

import json
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
from character.models.openai_api import OpenAIEndpoint
from character.models.prices import Price
from character.models.served import ServedModel

CONFIG = RequestsConfig(batch=True, poll=0.01, backoff=0.01, longest_backoff=0.05)
PRICE = Price(input=1000.0, output=5000.0, batch=0.5)
Start = Callable[..., ServedModel]


@pytest.fixture(params=["openai", "responses", "anthropic"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[RequestCache]:
    with RequestCache(tmp_path / "cache") as opened:
        yield opened


@pytest.fixture
def start(cache: RequestCache) -> Iterator[Start]:
    with ExitStack() as stack:

        def begin(
            server: Server,
            kind: str = "openai",
            config: RequestsConfig = CONFIG,
            budget: Budget | None = None,
            size: int = 0,
        ) -> ServedModel:
            if not server.url:
                stack.enter_context(serving(server))
            endpoint = ENDPOINTS[kind](server)
            if size:
                endpoint.batch_size = size  # type: ignore[misc]
            model = ServedModel(endpoint, config, cache, budget, PRICE)
            stack.callback(model.close)
            return model

        yield begin


def test_a_batch_is_answered_in_order_at_half_the_price(
    start: Start, kind: str, cache: RequestCache
) -> None:
    server = Server()
    model = start(server, kind)
    found = model.generate(asks(30), Sampling())
    assert [g.text for g in found] == echoes(30)
    assert found[0].dollars == pytest.approx(PRICE.cost(found[0].usage) / 2)
    assert model.budget.spent == pytest.approx(30 * PRICE.cost(found[0].usage) / 2)
    assert len(server.batches) == 1 and not server.asked
    assert not list((cache.folder / "batches").iterdir())
    # and the answers serve requests that are sent one by one
    single = start(server, kind, CONFIG.model_copy(update={"batch": False}))
    assert texts(single, asks(30)) == echoes(30)
    assert not server.asked


def test_what_the_cache_holds_is_not_handed_in(start: Start, kind: str) -> None:
    server = Server()
    texts(start(server, kind), asks(10))
    assert texts(start(server, kind), asks(15)) == echoes(15)
    assert [len(batch) for batch in server.batches] == [10, 5]


def test_the_same_call_is_handed_in_once(start: Start) -> None:
    server = Server()
    assert texts(start(server), asks(2) * 3) == echoes(2) * 3
    assert [len(batch) for batch in server.batches] == [2]


def test_large_work_goes_into_several_batches(start: Start, kind: str) -> None:
    server = Server()
    assert texts(start(server, kind, size=8), asks(20)) == echoes(20)
    assert [len(batch) for batch in server.batches] == [8, 8, 4]


def test_what_expires_or_fails_is_handed_in_again(start: Start, kind: str) -> None:
    server = Server(item_faults={"expired": 0.2, "absent": 0.1, "errored": 0.1})
    model = start(server, kind)
    assert texts(model, asks(60)) == echoes(60)
    assert len(server.batches) > 2
    assert set(server.paid.values()) == {1}
    assert model.budget.reserved == 0.0


def test_what_is_refused_is_a_failure_and_costs_nothing(start: Start, kind: str) -> None:
    server = Server(item_faults={"invalid": 0.2})
    model = start(server, kind, CONFIG.model_copy(update={"failures": 0.5}))
    found = model.generate(asks(50), Sampling())
    failed = [g for g in found if g.finish == "failed"]
    assert 0 < len(failed) < 25 and "too long" in failed[0].failure
    assert len(server.batches) == 1
    assert len(failed) + sum(server.paid.values()) == 50


def test_the_service_may_stumble(start: Start, kind: str) -> None:
    server = Server(faults={"500": 0.3}, polls=4)
    assert texts(start(server, kind, size=10), asks(30)) == echoes(30)
    assert set(server.paid.values()) == {1}


def test_a_batch_that_is_out_survives_a_restart(
    start: Start, kind: str, cache: RequestCache, tmp_path: Path
) -> None:
    server = Server(polls=10**9)
    config = CONFIG.model_copy(update={"poll": 0.01})
    journal = tmp_path / "spending.jsonl"
    first = start(server, kind, config, Budget(1000.0, journal))
    endpoint = first.endpoint
    looks = 0

    class Killed(BaseException):
        pass

    ended = endpoint.ended

    async def die(batch: str) -> bool:
        nonlocal looks
        looks += 1
        if looks > 3:
            raise Killed
        return await ended(batch)

    endpoint.ended = die  # type: ignore[method-assign]
    with pytest.raises(Killed):
        texts(first, asks(12), limit=4)
    (file,) = (cache.folder / "batches").iterdir()
    assert len(json.loads(file.read_text())["keys"]) == 12
    server.polls = 0
    again = start(server, kind, config, Budget(1000.0, journal))
    assert again.budget.spent > 0  # what is out counts in full
    found = again.generate(asks(15), Sampling(max_tokens=4))
    assert [g.text for g in found] == echoes(15)
    assert [len(batch) for batch in server.batches] == [12, 3]
    assert set(server.paid.values()) == {1}
    assert again.budget.spent == pytest.approx(sum(g.dollars or 0 for g in found))
    assert not list((cache.folder / "batches").iterdir())


def test_another_runs_calls_in_a_batch_stay_remembered(start: Start, cache: RequestCache) -> None:
    server = Server(polls=10**9)
    first = start(server)

    async def die(batch: str) -> bool:
        raise KeyboardInterrupt

    first.endpoint.ended = die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        texts(first, asks(6))
    server.polls = 0
    assert texts(start(server), asks(2)) == echoes(2)
    (file,) = (cache.folder / "batches").iterdir()
    assert len(json.loads(file.read_text())["keys"]) == 4
    assert texts(start(server), asks(6)) == echoes(6)
    assert [len(batch) for batch in server.batches] == [6]


def test_a_cost_limit_hands_in_what_it_can_pay_for(start: Start, kind: str, tmp_path: Path) -> None:
    server = Server()
    one = start(server, kind).generate([Request((Message("user", "number x"),))], Sampling())[0]
    most = 0.5 * (38 * 1000 + 4 * 5000) / 1e6  # 6 bytes and two messages' marks, four words
    assert one.dollars is not None and one.dollars < most
    model = start(server, kind, budget=Budget(10 * most, tmp_path / "spending.jsonl"))
    with pytest.raises(CapReachedError, match="--max-cost"):
        texts(model, asks(100), limit=4)
    assert len(server.batches) - 1 > 1
    assert sum(server.paid.values()) - 1 > 10  # the first ones cost less than was reserved
    assert model.budget.spent <= 10 * most


def test_a_long_shared_start_is_primed_first(start: Start) -> None:
    server = Server()
    shared = (Message("user", "long " * 1000), Message("assistant", "Yes."))
    requests = [Request((*shared, Message("user", f"number {n}"))) for n in range(20)]
    assert texts(start(server, "anthropic"), requests) == echoes(20)
    assert [len(batch) for batch in server.batches] == [1, 19]


def test_a_server_of_ones_own_has_no_batches(cache: RequestCache) -> None:
    endpoint = OpenAIEndpoint("http://h/v1#m", "m", base_url="http://h/v1", own=True)
    with pytest.raises(ModelError, match="has no batch API"):
        ServedModel(endpoint, CONFIG, cache)


def test_an_answer_that_does_not_say_what_it_used_is_charged_in_full(start: Start) -> None:
    model = start(Server(silent=True))
    (found,) = model.generate(asks(1), Sampling(max_tokens=7))
    assert found.dollars is not None and found.dollars >= PRICE.most(10, 7, batch=True)
    assert model.budget.spent == pytest.approx(found.dollars)


def test_a_refused_batch_costs_nothing_and_ends_the_run(start: Start, kind: str) -> None:
    model = start(Server({"401": 1.0}), kind)
    with pytest.raises(ModelError, match="oh dear"):
        texts(model, asks(5))
    assert (model.budget.spent, model.budget.reserved) == (0.0, 0.0)
