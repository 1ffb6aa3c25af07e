"""A model behind an API, asked so that it can be left alone overnight.

    request -> cache -> pace -> budget -> endpoint -> cache -> caller

An answer reaches the caller only after it is in the cache on disk. What fails for good becomes a
generation that says so; it is never cached, and it never ends a run unless failures are many.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from character.errors import ModelError
from character.models.base import (
    Choice,
    Conversation,
    Generation,
    OnDone,
    Request,
    Sampling,
    Scorable,
    Score,
)
from character.models.batches import Batches, Outcome
from character.models.budget import Budget
from character.models.cache import Entry, RequestCache, key_of, now
from character.models.choices import VERDICTS, check_options, choice_in
from character.models.config import RequestsConfig
from character.models.endpoint import (
    AGAIN,
    BUSY,
    UNPAID,
    Answer,
    Call,
    CallError,
    Endpoint,
    Fault,
    most_tokens,
)
from character.models.pace import Pace
from character.models.prices import Price

ENOUGH = 20  # requests, before their share of failures says something
HOPELESS = 0.5  # share of failures that ends even a smaller run
READY = 1024  # answers that may wait for the caller
GATHER = 0.02  # seconds
TOP = 20  # first tokens that are asked for; OpenAI and vLLM give no more
SCORING = Sampling(max_tokens=1, temperature=0.0)  # nothing is written, but a server wants one

CANCELLED = CallError(Fault.CONNECTION, "cancelled")

Attempt = tuple[Answer, float, float | None]  # seconds, dollars
Answered = list[tuple[int, Generation]]
Kept = tuple[Generation, str, Entry | None]  # an entry is yet to be kept, under this key
Done = tuple[int, Generation, str, Entry | None]


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of all requests to one model, and what that cost."""

    model: str
    outcomes: Mapping[str, int]
    """Requests by how they ended: a finish reason, or `cached`."""
    faults: Mapping[str, int]
    """Failed attempts by fault; most are made good by the next attempt."""
    dollars: float
    unpriced: int
    """Requests whose price nobody knows."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.model,
            dict(Counter(self.outcomes) + Counter(other.outcomes)),
            dict(Counter(self.faults) + Counter(other.faults)),
            self.dollars + other.dollars,
            self.unpriced + other.unpriced,
        )


def tallies(recorded: Sequence[Mapping[str, Any]] | None) -> dict[str, Tally]:
    """By model, from a run's record; empty when nothing was asked over the network."""
    return {row["model"]: Tally(**row) for row in recorded or ()}


class ServedModel:
    """A ChatModel over one endpoint. Use it from one thread; close it when done."""

    def __init__(
        self,
        endpoint: Endpoint,
        config: RequestsConfig | None = None,
        cache: RequestCache | None = None,
        budget: Budget | None = None,
        price: Price | None = None,
    ) -> None:
        self.name = endpoint.name
        self.can_score = endpoint.can_score
        self.can_continue = endpoint.can_continue
        self.can_structure = endpoint.can_structure
        self.can_choose = endpoint.can_choose
        self.endpoint, self.cache, self.price = endpoint, cache, price
        self.config = config or RequestsConfig()
        self.budget = budget or Budget()
        self.faults: Counter[Fault] = Counter()
        """Failed attempts, most of which were made good."""
        self.outcomes: Counter[str] = Counter()
        """How requests ended: by finish reason, and `cached`."""
        self._failures: Counter[str] = Counter()
        self._dollars, self._unpriced = 0.0, 0
        self._pace = Pace(self.config)
        self._under_way: dict[str, asyncio.Future[Generation]] = {}
        self._stopping = False
        self._runner = asyncio.Runner()
        self._batches: Batches | None = None
        if self.config.batch:
            if not endpoint.can_batch or self.cache is None:
                raise ModelError(
                    f"{self.name!r} has no batch API. Leave out --batch: openai: and anthropic:"
                    " models have one."
                )
            folder = self.cache.folder / "batches"
            self._batches = Batches(endpoint, folder, self.config, self.budget, price)

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, on_done: OnDone = lambda count: None
    ) -> list[Generation]:
        calls = [Call(r.conversation, sampling, r.seed, r.text, r.schema) for r in requests]
        if not self.can_continue and any(call.text for call in calls):
            raise ModelError(f"{self.name!r} answers conversations and cannot continue a document.")
        return self._all(calls, on_done)

    def choose(
        self,
        conversations: Sequence[Conversation],
        options: Sequence[str],
        on_done: OnDone = lambda count: None,
    ) -> list[Choice]:
        """From the likeliest first tokens that the endpoint tells (see `choices.choice_from`).

        At temperature 1, because some servers tell what is left after their own sampling.
        """
        if not self.can_choose:
            raise ModelError(f"{self.name!r} does not tell how likely an answer is.")
        check_options(options)
        sampling = Sampling(max_tokens=self.endpoint.least_tokens, temperature=1.0, top_p=1.0)
        calls = [Call(conversation, sampling, top=TOP) for conversation in conversations]
        return [choice_in(generation, options) for generation in self._all(calls, on_done)]

    def _all(self, calls: Sequence[Call], on_done: OnDone) -> list[Generation]:
        found: list[Generation | None] = [None] * len(calls)
        for answered in self.stream(calls):
            for index, generation in answered:
                found[index] = generation
            on_done(len(answered))
        return [generation for generation in found if generation is not None]

    def stream(self, calls: Iterable[Call]) -> Iterator[Answered]:
        """Generations with the index of their call, as they are kept; each call exactly once."""
        answers = self._batched(calls) if self._batches else self._answers(calls)
        try:
            while (answered := self._runner.run(anext(answers, None))) is not None:
                yield answered
        finally:
            self._runner.run(answers.aclose())

    def score(self, items: Sequence[Scorable]) -> list[Score]:
        """Raises ModelError when a single reply cannot be scored; the others are kept."""
        if not self.can_score:
            raise ModelError(f"{self.name!r} does not tell how likely a given reply is.")
        calls = [
            Call(item.conversation, SCORING, reply=item.reply, ended=item.ended) for item in items
        ]
        found = self._all(calls, on_done=lambda count: None)
        failed = [generation.failure for generation in found if generation.logprobs is None]
        if failed:
            raise ModelError(
                f"{self.name}: {len(failed)} of {len(items)} replies could not be scored, the first"
                f" because: {failed[0]}\nWhat is done is kept; the same command goes on from here."
            )
        told = [generation.logprobs or () for generation in found]
        return [Score(math.fsum(p for _, p in tokens), len(tokens)) for tokens in told]

    def tally(self) -> Tally:
        """Of this model since it was opened."""
        faults = {str(fault): count for fault, count in self.faults.items()}
        return Tally(self.name, dict(self.outcomes), faults, self._dollars, self._unpriced)

    def close(self) -> None:
        self._runner.run(self.endpoint.close())
        self._runner.close()

    # --- the event loop ---

    async def _answers(self, calls: Iterable[Call]) -> AsyncGenerator[Answered]:
        todo = iter(enumerate(calls))
        ready: asyncio.Queue[Done | Exception | None] = asyncio.Queue(READY)
        self._stopping = False

        async def work() -> None:
            """Answer calls until there are none left; say how it ended."""
            end: Exception | None = None
            try:
                while not self._stopping and (next_ := next(todo, None)):
                    index, call = next_
                    await ready.put((index, *await self._answer(call)))
            except Exception as error:
                self._stopping, end = True, error
            await ready.put(end)

        workers = [asyncio.ensure_future(work()) for _ in range(self.config.concurrency)]
        left, failure = len(workers), None
        try:
            while left:
                batch = [await ready.get()]
                if self.cache:  # one write for all that come within a moment
                    await asyncio.sleep(GATHER)
                while not ready.empty():
                    batch.append(ready.get_nowait())
                for end in batch:
                    if not isinstance(end, tuple):
                        left, failure = left - 1, failure or end
                if done := [each for each in batch if isinstance(each, tuple)]:
                    yield await self._kept(done)
            if failure:
                raise failure
            self._check_failures(at_end=True)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            self._under_way.clear()  # what was not kept is asked again

    async def _batched(self, calls: Iterable[Call]) -> AsyncGenerator[Answered]:
        """Through the provider's batch API; what the cache holds comes first."""
        assert self._batches and self.cache
        asked: dict[str, Call] = {}
        places: dict[str, list[int]] = defaultdict(list)
        for index, call in enumerate(calls):
            key = key_of(self.name, call)
            if entry := self.cache.get(self.name, call, key):
                self.outcomes["cached"] += 1
                yield [(index, _generation(entry.answer, entry.seconds, 0.0))]
            else:
                asked[key] = call
                places[key].append(index)
        try:
            async for outcomes in self._batches.answer(asked):
                done: list[Done] = []
                for outcome in outcomes:
                    generation, entry = self._outcome(outcome, asked[outcome.key])
                    first, *others = places[outcome.key]
                    done.append((first, generation, outcome.key, entry))
                    same = replace(generation, dollars=0.0)
                    done += [(index, same, outcome.key, None) for index in others]
                yield await self._kept(done)
                self._check_failures()
        except CallError as error:
            raise ModelError(f"{self.name}: {error.message}") from error
        self._check_failures(at_end=True)

    def _outcome(self, outcome: Outcome, call: Call) -> tuple[Generation, Entry | None]:
        if isinstance(outcome.result, CallError):
            self.faults[outcome.result.fault] += 1
            return self._failed(outcome.result), None
        self.outcomes[outcome.result.finish] += 1
        self._count(outcome.dollars)
        return self._answered(call, outcome.result, 0.0, outcome.dollars)

    async def _kept(self, done: list[Done]) -> Answered:
        entries = {key: entry for _, _, key, entry in done if entry}
        if self.cache and entries:
            await asyncio.to_thread(self.cache.put, entries)
            for key in entries:
                self._under_way.pop(key, None)
        return [(index, generation) for index, generation, _, _ in done]

    async def _answer(self, call: Call) -> Kept:
        """From the cache, from the same call under way, or from the endpoint."""
        if self.cache is None:
            generation, _ = await self._asked(call)
            return generation, "", None
        key = key_of(self.name, call)
        if entry := self.cache.get(self.name, call, key):
            self.outcomes["cached"] += 1
            return _generation(entry.answer, entry.seconds, 0.0), "", None
        if same := self._under_way.get(key):
            return replace(await asyncio.shield(same), dollars=0.0), "", None
        mine = self._under_way[key] = asyncio.get_running_loop().create_future()
        entry = None
        try:
            generation, entry = await self._asked(call)
            mine.set_result(generation)
        except Exception as error:
            mine.set_exception(error)
            mine.exception()  # nobody need wait for it
            raise
        finally:
            if entry is None:  # else it stays until it is in the cache
                del self._under_way[key]
        return generation, key, entry

    async def _asked(self, call: Call) -> tuple[Generation, Entry | None]:
        """Ask until there is an answer or no more hope of one."""
        started = time.monotonic()
        attempt, waited = 0, 0.0
        while True:
            try:
                answer, seconds, dollars = await self._hedged(call)
            except CallError as error:
                self.faults[error.fault] += 1
                if error.fault is Fault.UNUSABLE:
                    raise ModelError(f"{self.name}: {error.message}") from error
                if error.fault in BUSY:
                    waited = time.monotonic() - started
                else:
                    attempt += 1
                wait = self._pace.backoff(max(attempt, 1), error)
                hopeless = (
                    error.fault not in AGAIN
                    or attempt >= self.config.attempts
                    or waited + wait > self.config.patience
                )
                if hopeless or self._stopping:
                    failed = self._failed(error)
                    self._check_failures()
                    return failed, None
                await asyncio.sleep(wait)
            else:
                self.outcomes[answer.finish] += 1
                return self._answered(call, answer, seconds, dollars)

    def _answered(
        self, call: Call, answer: Answer, seconds: float, dollars: float | None
    ) -> tuple[Generation, Entry | None]:
        """The answer and its entry; none for one that lacks the log-probabilities asked for."""
        generation = _generation(answer, seconds, dollars)
        if call.top and answer.logprobs is None and answer.finish not in VERDICTS:
            return generation, None
        return generation, Entry(self.name, call, answer, seconds, dollars, now())

    async def _hedged(self, call: Call) -> Attempt:
        """One attempt; with `hedge` a second beside it when that is slow. Both are paid for."""
        if not self.config.hedge:
            return await self._attempt(call)
        first = asyncio.ensure_future(self._attempt(call))
        try:
            await asyncio.wait([first], timeout=self.config.hedge)
            if first.done():
                return first.result()
            return await _either(first, asyncio.ensure_future(self._attempt(call)))
        finally:
            first.cancel()

    async def _attempt(self, call: Call) -> Attempt:
        """(answer, seconds, dollars) of one attempt, paced and paid for.

        An answer that does not say what it used is charged as the most it can have used.
        """
        most_in, most_out = most_tokens(call), call.sampling.max_tokens + self.endpoint.thinking
        most = self.price.most(most_in, most_out) if self.price else None
        ticket = await self._pace.enter(most_in + most_out)
        try:
            reservation = await self.budget.reserve(most)
        except BaseException:
            self._pace.leave()
            raise
        started = time.monotonic()
        try:
            answer = await self._ask(call)
        except BaseException as error:  # cancellation too: the request may have been charged
            failure = error if isinstance(error, CallError) else CANCELLED
            if failure.fault in UNPAID:
                reservation.release()
            else:
                reservation.lose()
                self._count(most)
            self._pace.failed(ticket, failure)
            raise
        dollars = self.price.cost(answer.usage) if self.price and answer.usage.input else most
        reservation.settle(dollars)
        self._count(dollars)
        self._pace.answered(ticket, most_in + most_out, answer.room)
        return answer, time.monotonic() - started, dollars

    def _count(self, dollars: float | None) -> None:
        if dollars is None:
            self._unpriced += 1
        else:
            self._dollars += dollars

    async def _ask(self, call: Call) -> Answer:
        try:
            async with asyncio.timeout(self.config.timeout):
                return await self.endpoint.ask(call)
        except TimeoutError:
            limit = f"no answer within {self.config.timeout:g} seconds"
            raise CallError(Fault.TIMEOUT, limit) from None

    def _failed(self, error: CallError) -> Generation:
        failure = f"{error.fault}: {error.message}"
        self.outcomes["failed"] += 1
        self._failures[failure] += 1
        return Generation("", 0, "failed", dollars=None, failure=failure)

    def _check_failures(self, at_end: bool = False) -> None:
        """Raise ModelError when so many requests have failed that going on makes no sense."""
        ended, failed = self.outcomes.total(), self.outcomes["failed"]
        share = self.config.failures
        if ended < ENOUGH:
            share = max(share, HOPELESS) if at_end else 1.0
        if failed <= share * ended:
            return
        causes = "\n".join(f"  {n} x {cause}" for cause, n in self._failures.most_common(3))
        raise ModelError(
            f"{self.name}: {failed} of {ended} requests failed, more than {share:.0%}. The"
            f" commonest causes:\n{causes}\nWhat is done is kept; the same command goes on from"
            " here."
        )


async def _either(first: asyncio.Future[Attempt], second: asyncio.Future[Attempt]) -> Attempt:
    """The first that succeeds, the other cancelled; when both fail, how the second failed."""
    both = {first, second}
    try:
        while True:
            done, both = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                if not each.exception() or not both:
                    return each.result()
    finally:
        for each in (first, second):
            each.cancel()
        await asyncio.gather(first, second, return_exceptions=True)


def _generation(answer: Answer, seconds: float, dollars: float | None) -> Generation:
    usage = answer.usage
    return Generation(
        answer.text,
        usage.output,
        answer.finish,
        usage,
        seconds,
        dollars,
        logprobs=answer.logprobs,
    )
