"""What every model can be asked, whatever serves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

FinishReason = Literal["stop", "length", "refusal", "content filter", "failed"]
"""refusal and content filter are the provider's own verdicts; failed is a request that never was
answered, see `Generation.failure`."""


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


Conversation = tuple[Message, ...]
TokenLogprobs = tuple[tuple[str, float], ...]
"""Tokens as text, each with its log-probability."""


class Sampling(BaseModel):
    """How replies are drawn. Temperature 0 takes the most likely token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: int = Field(default=64, ge=1)
    temperature: float = Field(default=0.8, ge=0)
    top_k: int = Field(default=50, ge=1)
    top_p: float = Field(default=0.95, gt=0, le=1)
    stop: tuple[str, ...] = ()  # a reply ends before the first token that contains one of these


GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True, slots=True)
class Request:
    """A conversation to answer, or with `text` a document to continue; never both.

    `schema` is a JSON schema to hold the answer to, where the model can. The seed belongs to the
    request: what a request draws does not depend on its neighbours in a batch (up to the rounding
    of the arithmetic).
    """

    conversation: Conversation = ()
    text: str = ""
    seed: int = 0
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Scorable:
    """A reply as the next turn of a conversation; `ended` when its end token counts too."""

    conversation: Conversation
    reply: str
    ended: bool = True


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counts and charges them; `cached` and `written` are part of `input`.

    cached: read from the provider's prompt cache; written: put into it.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0


@dataclass(frozen=True, slots=True)
class Generation:
    """A reply, and what it took. dollars None is an unknown price, never a free one."""

    text: str
    tokens: int
    finish: FinishReason
    usage: Usage = Usage()
    seconds: float = field(default=0.0, compare=False)
    """Until it was there; here of the batch it was written in."""
    dollars: float | None = 0.0
    failure: str = ""
    """Why a failed request was not answered."""
    logprobs: TokenLogprobs | None = None
    """Of a served model's likeliest first tokens, or of a given reply, where that was asked for."""


@dataclass(frozen=True, slots=True)
class Score:
    """Log-probability (natural logarithm) of a reply, summed over its tokens."""

    logprob: float
    tokens: int

    @property
    def mean(self) -> float:
        """Log-probability per token; a reply without tokens has none (ZeroDivisionError)."""
        return self.logprob / self.tokens


@dataclass(frozen=True, slots=True)
class Choice:
    """How likely each of a few options was as the next thing said.

    `probabilities` add up to 1 over the options. `mass` is what they were before that, 0 to 1: the
    share of all that might have been said. A judge with little mass did not answer the question.
    """

    probabilities: Mapping[str, float]
    mass: float
    failure: str = ""
    """Why there is no answer; then `probabilities` is empty and `mass` 0."""


OnDone = Callable[[int], object]


class ChatModel(Protocol):
    """Batch in, batch out, in the same order."""

    @property
    def name(self) -> str:
        """The model name with everything that decides its answers, for ids and reports."""
        ...

    @property
    def can_score(self) -> bool: ...

    @property
    def can_continue(self) -> bool:
        """Whether requests with `text` are served: base-style continuation of a document."""
        ...

    @property
    def can_structure(self) -> bool:
        """Whether answers are held to a request's schema; where not, it is not looked at."""
        ...

    @property
    def can_choose(self) -> bool:
        """Whether the probabilities of given answers are told."""
        ...

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, on_done: OnDone = lambda count: None
    ) -> list[Generation]:
        """One answer a request; `on_done` is told how many more there are, as they come."""
        ...

    def score(self, items: Sequence[Scorable]) -> list[Score]:
        """How likely each reply is as the next turn of its conversation."""
        ...

    def choose(
        self,
        conversations: Sequence[Conversation],
        options: Sequence[str],
        on_done: OnDone = lambda count: None,
    ) -> list[Choice]:
        """How likely each option is as what the model says next, one choice a conversation.

        An option is said when the reply begins with it, so none may begin another (ValueError).
        """
        ...
