"""How fast one endpoint is asked: as many calls at once as it takes without complaint.

Concurrency follows TCP (additive increase, multiplicative decrease: Chiu and Jain 1989; slow
start: Jacobson 1988). It doubles every round trip until the first "slow down", then halves and
grows by one a round trip. Complaints about calls sent before the last halving count once. Stated
limits (requests and tokens a minute, from the recipe or the endpoint's headers) hold calls back
before they are refused.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass

from character.models.config import RequestsConfig
from character.models.endpoint import BUSY, CallError, Room


@dataclass(frozen=True, slots=True)
class Ticket:
    """Leave for one attempt; `era` counts the halvings before it was sent."""

    era: int


class Pace:
    """Used from one event loop. Every `enter` is followed by one `answered` or `failed`."""

    def __init__(self, config: RequestsConfig, seed: int | None = None) -> None:
        self.config = config
        self.limit = float(min(config.first, config.concurrency))
        self.under_way = 0
        self._starting = True  # slow start, until the first complaint
        self._era = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._paused_until = 0.0
        self._requests = _Rate(config.requests_per_minute)
        self._tokens = _Rate(config.tokens_per_minute)
        self._random = random.Random(seed)

    async def enter(self, tokens: int) -> Ticket:
        """Wait for leave to send a request of about so many tokens, reply included."""
        await self._place()
        clock = asyncio.get_running_loop().time
        try:
            while (wait := self._wait(clock())) > 0:
                await asyncio.sleep(wait)
        except BaseException:
            self.leave()
            raise
        self._requests.take(1, clock())
        self._tokens.take(tokens, clock())
        return Ticket(self._era)

    def answered(self, ticket: Ticket, tokens: int, room: Room) -> None:
        """The attempt was answered; `tokens` are those the request was let in with."""
        if ticket.era == self._era:
            step = 1.0 if self._starting else 1.0 / self.limit
            self.limit = min(self.limit + step, self.config.concurrency)
        if room.requests == 0 or (room.tokens is not None and room.tokens < tokens):
            self._pause(room.seconds)
        self.leave()

    def failed(self, ticket: Ticket, error: CallError) -> None:
        if error.fault in BUSY:
            if ticket.era == self._era:
                self.limit = max(1.0, self.limit / 2)
                self._starting = False
                self._era += 1
            if error.retry_after:
                self._pause(error.retry_after)
        self.leave()

    def leave(self) -> None:
        """Give a place back; those who waited longest get what is free."""
        self.under_way -= 1
        while self._waiting and self.under_way < int(self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self.under_way += 1

    def backoff(self, attempt: int, error: CallError) -> float:
        """Seconds until attempt number `attempt` + 1, counted from 1; jittered, so that requests
        which failed together do not come back together.
        """
        most = min(self.config.backoff * 2 ** (attempt - 1), self.config.longest_backoff)
        return (error.retry_after or 0.0) + self._random.uniform(0, most)

    async def _place(self) -> None:
        if self.under_way < int(self.limit):
            self.under_way += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given a place meanwhile
                self.leave()
            raise

    def _wait(self, now: float) -> float:
        return max(self._paused_until - now, self._requests.wait(now), self._tokens.wait(now))

    def _pause(self, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + min(seconds, self.config.patience)
        self._paused_until = max(self._paused_until, until)


class _Rate:
    """So many a minute, evenly, with a second's worth at once (generic cell rate algorithm)."""

    def __init__(self, per_minute: float | None) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._paid_until = 0.0

    def wait(self, now: float) -> float:
        return self._paid_until - now - 1.0 if self._interval else 0.0

    def take(self, amount: float, now: float) -> None:
        self._paid_until = max(self._paid_until, now) + amount * self._interval
