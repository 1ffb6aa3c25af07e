"""What tests of served models ask, and of whom."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from faulty_server import Server

from character.models.anthropic_api import AnthropicEndpoint
from character.models.base import Message, Request, Sampling
from character.models.endpoint import Endpoint
from character.models.openai_api import OpenAIEndpoint
from character.models.served import ServedModel

CANARY = "sk-canary-7f3a9c"  # a key, to be found nowhere


def message(asked: str) -> str:
    """Another one for every list of messages, like no other."""
    draw = random.Random(asked)
    words = ("".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=9)) for _ in range(5))
    return f"Why does {' '.join(words)}?"


def own(server: Server) -> Endpoint:
    return OpenAIEndpoint("http://server#m", "m", base_url=server.url, own=True)


def openai(server: Server) -> Endpoint:
    return OpenAIEndpoint("openai:m", "m", base_url=server.url, key="k")


def responses(server: Server) -> Endpoint:
    return OpenAIEndpoint("openai:m", "m", base_url=server.url, key="k", responses=True)


def anthropic(server: Server) -> Endpoint:
    url = server.url.removesuffix("/v1")
    return AnthropicEndpoint("anthropic:m", "m", base_url=url, key="k")


ENDPOINTS: dict[str, Callable[[Server], Endpoint]] = {
    "own": own,
    "openai": openai,
    "responses": responses,
    "anthropic": anthropic,
}


def asks(count: int) -> list[Request]:
    return [Request((Message("user", f"number {n}"),), seed=n) for n in range(count)]


def echoes(count: int) -> list[str]:
    return [f"echo: number {n}" for n in range(count)]


def texts(model: ServedModel, requests: Sequence[Request], limit: int = 64) -> list[str]:
    return [g.text for g in model.generate(requests, Sampling(max_tokens=limit))]
