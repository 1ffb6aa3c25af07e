"""Pacing, in the event loop's own time: no test waits in ours."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from character.models.config import RequestsConfig
from character.models.endpoint import CallError, Fault, Room
from character.models.pace import Pace

SLOWER = CallError(Fault.RATE_LIMITED, "slow down")


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time jumps to the next thing that is due."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(main)


def config(**changes: Any) -> RequestsConfig:
    return RequestsConfig(**({"concurrency": 64, "first": 8} | changes))


def test_it_doubles_every_round_trip_until_the_first_complaint() -> None:
    async def main() -> None:
        pace = Pace(config())
        for expected in (8, 16, 32, 64, 64):
            assert pace.limit == expected
            tickets = [await pace.enter(1) for _ in range(int(pace.limit))]
            for ticket in tickets:
                pace.answered(ticket, 1, Room())

    run(main())


def test_a_storm_of_complaints_halves_once_then_it_grows_by_one_a_round_trip() -> None:
    async def main() -> None:
        pace = Pace(config(first=32))
        tickets = [await pace.enter(1) for _ in range(32)]
        for ticket in tickets:
            pace.failed(ticket, SLOWER)
        assert pace.limit == 16
        tickets = [await pace.enter(1) for _ in range(16)]
        for ticket in tickets:
            pace.answered(ticket, 1, Room())
        assert pace.limit == pytest.approx(17, abs=0.05)
        ticket = await pace.enter(1)
        pace.failed(ticket, CallError(Fault.OVERLOADED, "529"))
        assert pace.limit == pytest.approx(8.5, abs=0.05)

    run(main())


def refusals(first: int, pinned: bool) -> int:
    """How often a server that takes 6 calls at once, a second each, refuses one of 300."""
    taken = refused = 0

    async def one(pace: Pace) -> None:
        nonlocal taken, refused
        for attempt in range(1, 1000):
            ticket = await pace.enter(1)
            if taken < 6:
                break
            refused += 1
            pace.failed(ticket, CallError(Fault.SERVER, "500") if pinned else SLOWER)
            await asyncio.sleep(pace.backoff(attempt, SLOWER))
        taken += 1
        await asyncio.sleep(1)
        taken -= 1
        pace.answered(ticket, 1, Room())

    async def main() -> None:
        pace = Pace(config(first=first), seed=0)
        await asyncio.gather(*(one(pace) for _ in range(300)))

    run(main())
    return refused


def test_it_finds_the_servers_limit() -> None:
    found, pinned = refusals(8, False), refusals(64, True)
    assert 0 < found < pinned / 4  # pinned: 64 at once whatever the server says


def test_other_faults_do_not_slow_it() -> None:
    async def main() -> None:
        pace = Pace(config())
        pace.failed(await pace.enter(1), CallError(Fault.SERVER, "500"))
        assert (pace.limit, pace.under_way) == (8, 0)

    run(main())


def test_one_call_at_a_time_is_always_left() -> None:
    async def main() -> None:
        pace = Pace(config(first=1))
        for _ in range(5):
            pace.failed(await pace.enter(1), SLOWER)
        assert pace.limit == 1

    run(main())


def test_no_more_are_under_way_than_the_limit_and_they_enter_in_turn() -> None:
    order: list[int] = []

    async def one(pace: Pace, number: int) -> None:
        ticket = await pace.enter(1)
        assert pace.under_way <= 2
        order.append(number)
        await asyncio.sleep(1)
        pace.answered(ticket, 1, Room())

    async def main() -> None:
        pace = Pace(config(first=2, concurrency=2))
        await asyncio.gather(*(one(pace, number) for number in range(7)))
        assert asyncio.get_running_loop().time() == pytest.approx(4)

    run(main())
    assert order == list(range(7))


def test_a_cancelled_call_gives_its_turn_to_the_next() -> None:
    async def main() -> None:
        pace = Pace(config(first=1, concurrency=1))
        first = await pace.enter(1)
        second, third = (asyncio.ensure_future(pace.enter(1)) for _ in range(2))
        await asyncio.sleep(0)
        pace.answered(first, 1, Room())  # wakes the second, which is cancelled before it runs
        second.cancel()
        await asyncio.wait_for(third, 1)
        assert pace.under_way == 1

    run(main())


def test_retry_after_holds_everyone_back() -> None:
    async def main() -> None:
        pace = Pace(config())
        pace.failed(await pace.enter(1), CallError(Fault.RATE_LIMITED, "slow", retry_after=7))
        await pace.enter(1)
        assert asyncio.get_running_loop().time() == pytest.approx(7)

    run(main())


@pytest.mark.parametrize(
    ("room", "waits"),
    [
        (Room(requests=0, tokens=5000, seconds=3), 3),
        (Room(requests=5, tokens=99, seconds=3), 3),
        (Room(requests=5, tokens=100, seconds=3), 0),
        (Room(), 0),
    ],
)
def test_an_endpoint_that_says_it_is_used_up_is_waited_for(room: Room, waits: float) -> None:
    async def main() -> None:
        pace = Pace(config())
        pace.answered(await pace.enter(100), 100, room)
        await pace.enter(100)
        assert asyncio.get_running_loop().time() == pytest.approx(waits)

    run(main())


def test_requests_and_tokens_a_minute() -> None:
    async def main() -> None:
        pace = Pace(config(requests_per_minute=120, first=64))
        loop = asyncio.get_running_loop()
        for _ in range(120):
            await pace.enter(1)
            pace.leave()
        assert loop.time() == pytest.approx(60, abs=1.6)
        pace = Pace(config(tokens_per_minute=6000, first=64))
        began = loop.time()
        for _ in range(10):
            await pace.enter(600)
            pace.leave()
        assert loop.time() - began == pytest.approx(60, abs=7.1)

    run(main())


def test_backoff_doubles_is_jittered_and_bounded() -> None:
    pace = Pace(config(backoff=1, longest_backoff=5), seed=3)
    fault = CallError(Fault.SERVER, "500")
    waits = {attempt: [pace.backoff(attempt, fault) for _ in range(200)] for attempt in (1, 2, 9)}
    for attempt, most in ((1, 1), (2, 2), (9, 5)):
        assert 0.9 * most < max(waits[attempt]) <= most
        assert min(waits[attempt]) < 0.1 * most
    assert pace.backoff(1, CallError(Fault.RATE_LIMITED, "", retry_after=10)) >= 10
