"""Providers' batch APIs: half the price, an answer within a day.

Batches that are out are remembered in small files, so that a killed process finds them again
instead of paying for them anew. What expires or fails in a way that may pass is handed in again.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from character.models.budget import Budget, Reservation
from character.models.config import RequestsConfig
from character.models.endpoint import (
    AGAIN,
    UNPAID,
    Answer,
    Call,
    CallError,
    Endpoint,
    Fault,
    most_tokens,
)
from character.models.prices import Price

LARGEST = 100_000_000  # bytes of one batch; OpenAI takes 200 MB, Anthropic 256 MB
LONGEST_POLL = 10  # times config.poll, between two looks at a batch
WORTH_PRIMING = 4096  # bytes of a shared start, below which providers do not cache it

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the call with this key. Dollars None is an unknown price."""

    key: str
    result: Answer | CallError
    dollars: float | None


@dataclass(slots=True)
class _Out:
    """A batch that was handed in. What another run handed in, that run's budget paid for."""

    id: str
    file: Path
    calls: Mapping[str, Call]
    reservations: Mapping[str, Reservation] = field(default_factory=dict)


class Batches:
    """Calls to one endpoint through its batch API. Used from one event loop.

    A process that is killed in the moment it hands a batch in may pay for that batch again; its
    budget counts both.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        folder: Path,
        config: RequestsConfig,
        budget: Budget,
        price: Price | None,
    ) -> None:
        self.endpoint, self.folder, self.config = endpoint, folder, config
        self.budget, self.price = budget, price
        folder.mkdir(parents=True, exist_ok=True)

    async def answer(self, calls: Mapping[str, Call]) -> AsyncGenerator[list[Outcome]]:
        """What came of every call, batch by batch; keep it before asking for more.

        A result is an error when the call was refused or handed in too often. Raises CallError when
        the endpoint is unusable, CapReachedError when the budget is used up.
        """
        out = list(self._remembered(calls))
        waiting = {key for batch in out for key in batch.calls}
        rest = {key: call for key, call in calls.items() if key not in waiting}
        primers = _primers(rest)
        tries: dict[str, int] = defaultdict(int)
        for phase in (primers, {key: rest[key] for key in rest if key not in primers}):
            todo = dict(phase)
            while todo or out:
                out += await self._hand_in(todo)
                if not out:  # not even one more can be paid for
                    await self.budget.reserve(self._most(next(iter(todo.values()))))
                batch = await self._first_ended(out)
                outcomes = []
                async for outcome in self._outcomes(batch):
                    tries[outcome.key] += 1
                    if self._again(outcome, tries[outcome.key]):
                        todo[outcome.key] = batch.calls[outcome.key]
                    else:
                        outcomes.append(outcome)
                yield outcomes
                _forget(batch)
                out.remove(batch)

    def _remembered(self, calls: Mapping[str, Call]) -> Iterator[_Out]:
        for file in sorted(self.folder.glob("*.json")):
            found = json.loads(file.read_text(encoding="utf-8"))
            ours = {key: calls[key] for key in found["keys"] if key in calls}
            if found["model"] != self.endpoint.name or not ours:
                continue
            mine = found["journal"] == str(self.budget.journal)
            reserved = {
                key: self.budget.adopt(identity)
                for key, identity in zip(found["keys"], found["reservations"], strict=True)
                if mine and key in ours
            }
            kept = {key: reservation for key, reservation in reserved.items() if reservation}
            yield _Out(found["id"], file, ours, kept)

    async def _hand_in(self, todo: dict[str, Call]) -> list[_Out]:
        """Hand in as much as can be paid for, taking it out of `todo`."""
        out = []
        while todo and (reservations := self._reserved(todo)):
            chunk = {key: todo[key] for key in reservations}
            try:
                identity = await self._patiently(partial(self.endpoint.submit, chunk))
            except BaseException as error:  # cancellation too: the batch may have been taken
                refused = isinstance(error, CallError) and error.fault in UNPAID
                for reservation in reservations.values():
                    if refused:
                        reservation.release()
                    else:
                        reservation.lose()
                raise
            file = self.folder / f"{uuid4().hex}.json"
            content = {
                "model": self.endpoint.name,
                "id": identity,
                "keys": list(chunk),
                "journal": str(self.budget.journal),
                "reservations": [reservation.id for reservation in reservations.values()],
            }
            _write(file, content)
            out.append(_Out(identity, file, chunk, reservations))
            for key in chunk:
                del todo[key]
        return out

    def _reserved(self, todo: Mapping[str, Call]) -> dict[str, Reservation]:
        """Of as many calls as fit into one batch and the budget."""
        found: dict[str, Reservation] = {}
        size = 0
        for key, call in todo.items():
            size += most_tokens(call)
            full = len(found) == self.endpoint.batch_size or (found and size > LARGEST)
            if full or not (reservation := self.budget.try_reserve(self._most(call))):
                break
            found[key] = reservation
        return found

    async def _first_ended(self, out: list[_Out]) -> _Out:
        poll = self.config.poll
        while True:
            for batch in out:
                if await self._patiently(partial(self.endpoint.ended, batch.id)):
                    return batch
            await asyncio.sleep(poll)
            poll = min(1.5 * poll, LONGEST_POLL * self.config.poll)

    async def _outcomes(self, batch: _Out) -> AsyncGenerator[Outcome]:
        async def fetch() -> dict[str, Answer | CallError]:
            results = self.endpoint.results(batch.id, batch.calls)
            return {key: result async for key, result in results}

        found = await self._patiently(fetch)
        absent = CallError(Fault.OVERLOADED, "the batch expired before its turn came")
        for key in batch.calls:
            result = found.get(key, absent)
            reservation = batch.reservations.get(key)
            if isinstance(result, CallError):  # what is not answered is not charged
                if reservation:
                    reservation.release()
                yield Outcome(key, result, None)
                continue
            dollars = self._most(batch.calls[key])  # unless it says what it used
            if self.price and result.usage.input:
                dollars = self.price.cost(result.usage, batch=True)
            if reservation:
                reservation.settle(dollars)
            yield Outcome(key, result, dollars)

    def _again(self, outcome: Outcome, tries: int) -> bool:
        result = outcome.result
        if not isinstance(result, CallError):
            return False
        if result.fault is Fault.UNUSABLE:
            raise result
        return result.fault in AGAIN and tries < self.config.attempts

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the endpoint about a batch, again after faults that may pass."""
        attempt = 0
        while True:
            try:
                return await ask()
            except CallError as error:
                attempt += 1
                if error.fault not in AGAIN or attempt >= self.config.attempts:
                    raise
                wait = min(self.config.backoff * 2**attempt, self.config.longest_backoff)
                await asyncio.sleep(error.retry_after or wait)

    def _most(self, call: Call) -> float | None:
        if not self.price:
            return None
        most_out = call.sampling.max_tokens + self.endpoint.thinking
        return self.price.most(most_tokens(call), most_out, batch=True)


def _forget(batch: _Out) -> None:
    """What the caller has kept need not be remembered; other runs' calls in the batch stay."""
    found = json.loads(batch.file.read_text(encoding="utf-8"))
    rows = zip(found["keys"], found["reservations"], strict=True)
    left = [row for row in rows if row[0] not in batch.calls]
    if not left:
        return batch.file.unlink()
    found["keys"], found["reservations"] = map(list, zip(*left, strict=True))
    _write(batch.file, found)


def _write(file: Path, content: Mapping[str, object]) -> None:
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.replace(file)


def _primers(calls: Mapping[str, Call]) -> dict[str, Call]:
    """The first call of every long start that several share: the others then find it cached."""
    groups: dict[object, list[str]] = defaultdict(list)
    for key, call in calls.items():
        shared = call.conversation[:-1]
        if sum(len(message.content) for message in shared) >= WORTH_PRIMING:
            groups[shared].append(key)
    return {keys[0]: calls[keys[0]] for keys in groups.values() if len(keys) > 1}
