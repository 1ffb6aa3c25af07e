"""One model behind an API: what an adapter is given, and what it gives back or raises.

Adapters are thin: they turn a call into the SDK's arguments and its answer into ours. Retries,
pacing, the cache and the budget are around them (served.py), so an adapter asks exactly once.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from character.models.base import Conversation, FinishReason, Sampling, TokenLogprobs, Usage

MARKS = 16  # tokens, at most, that a chat format puts around one message


class Fault(StrEnum):
    """Why a call was not answered."""

    RATE_LIMITED = "rate limited"
    OVERLOADED = "overloaded"
    SERVER = "server error"
    CONNECTION = "connection lost"
    TIMEOUT = "timed out"
    GARBLED = "unreadable answer"
    REFUSED = "request refused"  # this request is at fault: another may be answered
    UNUSABLE = "endpoint unusable"  # key, model name or quota: no request will be answered


AGAIN = frozenset(Fault) - {Fault.REFUSED, Fault.UNUSABLE}
"""Faults after which the same request may succeed."""
BUSY = frozenset({Fault.RATE_LIMITED, Fault.OVERLOADED})
"""Faults that say: slower. They cost nothing."""
UNPAID = BUSY | {Fault.REFUSED, Fault.UNUSABLE}
"""Faults that a provider does not charge for; after the others, nobody knows."""


class CallError(Exception):
    """One attempt failed."""

    def __init__(self, fault: Fault, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.fault, self.message, self.retry_after = fault, message, retry_after


@dataclass(frozen=True, slots=True)
class Call:
    """Everything that determines an answer, beside the model.

    `schema` is a JSON schema that the reply is to follow. `text` is a document to continue. `top`
    is how many of its likeliest first tokens the answer is to tell. With `reply` nothing is asked
    but how likely that reply is, its end token included when `ended`.
    """

    conversation: Conversation
    sampling: Sampling
    seed: int = 0
    text: str = ""
    schema: Mapping[str, Any] | None = None
    top: int = 0
    reply: str | None = None
    ended: bool = True


@dataclass(frozen=True, slots=True)
class Room:
    """What an endpoint says is left of its limits, per minute or as it counts them."""

    requests: int | None = None
    tokens: int | None = None
    seconds: float = 0.0
    """Until what is used up is given back."""


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    finish: FinishReason
    usage: Usage
    model: str
    """The revision that answered, as the endpoint names it."""
    room: Room = field(default_factory=Room)
    logprobs: TokenLogprobs | None = None
    """Of the tokens that the call asks about, where the endpoint tells."""


class Endpoint(Protocol):
    @property
    def name(self) -> str:
        """The model's name in a recipe."""
        ...

    @property
    def can_score(self) -> bool:
        """Whether calls with `reply` are answered."""
        ...

    @property
    def can_continue(self) -> bool: ...

    @property
    def can_structure(self) -> bool:
        """Whether the endpoint itself holds answers to a schema."""
        ...

    @property
    def can_choose(self) -> bool:
        """Whether the endpoint may be asked for the likeliest first tokens of an answer."""
        ...

    @property
    def least_tokens(self) -> int:
        """The lowest max_tokens that it takes and answers with a word."""
        ...

    @property
    def thinking(self) -> int:
        """Tokens, at most, that go into reasoning before a reply, beside its max_tokens."""
        ...

    @property
    def can_batch(self) -> bool: ...

    @property
    def batch_size(self) -> int:
        """Requests that one batch may hold."""
        ...

    async def submit(self, calls: Mapping[str, Call]) -> str:
        """Hand in a batch of calls by their keys; returns its id. Raises CallError."""
        ...

    async def ended(self, batch: str) -> bool:
        """Whether a batch is through. Raises CallError."""
        ...

    def results(
        self, batch: str, calls: Mapping[str, Call]
    ) -> AsyncIterator[tuple[str, Answer | CallError]]:
        """What an ended batch holds of these calls, in any order; an expired call may be absent."""
        ...

    async def ask(self, call: Call) -> Answer:
        """One attempt. Raises CallError."""
        ...

    async def close(self) -> None: ...


def most_tokens(call: Call) -> int:
    """No fewer than the input has: a token is at least a byte, and a message brings its marks."""
    texts = [message.content for message in call.conversation]
    if call.schema:
        texts.append(json.dumps(call.schema))
    texts += [call.text, call.reply or ""]
    return sum(len(text.encode("utf-8", "replace")) for text in texts) + MARKS * (1 + len(texts))


def stopped(text: str, finish: FinishReason, stops: tuple[str, ...]) -> tuple[str, FinishReason]:
    """The text up to the first stop string, for APIs that do not stop at all of them."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(places)], "stop") if places else (text, finish)
