"""What every model can be asked, whatever serves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


Conversation = tuple[Message, ...]


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

    The seed belongs to the request: what a request draws does not depend on its neighbours
    in a batch (up to the rounding of the arithmetic).
    """

    conversation: Conversation = ()
    text: str = ""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Scorable:
    """A reply as the next turn of a conversation; `ended` when its end token counts too."""

    conversation: Conversation
    reply: str
    ended: bool = True


@dataclass(frozen=True, slots=True)
class Generation:
    text: str
    tokens: int
    finish: FinishReason


@dataclass(frozen=True, slots=True)
class Score:
    """Log-probability (natural logarithm) of a reply, summed over its tokens."""

    logprob: float
    tokens: int

    @property
    def mean(self) -> float:
        """Log-probability per token; a reply without tokens has none (ZeroDivisionError)."""
        return self.logprob / self.tokens


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

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation]: ...

    def score(self, items: Sequence[Scorable]) -> list[Score]:
        """How likely each reply is as the next turn of its conversation."""
        ...
