"""Replies that a policy in training draws itself, token by token, and what rewards them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from character.models.base import Generation, Message, Request, Sampling
from character.models.local import LocalModel


@dataclass(frozen=True, slots=True)
class Rollout:
    """A reply that the policy drew; prompt and ids are tokens, the end token last if it ended."""

    query: str
    text: str
    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    ended: bool


Reward = Callable[[Sequence[Rollout]], Sequence[float | None]]
"""One number a reply, the more the better; None where there is none to be had."""


@dataclass(frozen=True, slots=True)
class Drawn(Generation):
    ids: tuple[int, ...] = ()


class Writer(LocalModel):
    """The policy as it writes. It keeps the tokens: text read again may fall into others."""

    def draw(
        self, queries: Sequence[str], seeds: Sequence[int], sampling: Sampling
    ) -> list[Rollout]:
        requests = [
            Request((Message("user", query),), seed=seed)
            for query, seed in zip(queries, seeds, strict=True)
        ]
        drawn = cast("list[Drawn]", self.generate(requests, sampling))
        return [
            Rollout(query, said.text, self.prompt(query), said.ids, said.finish == "stop")
            for query, said in zip(queries, drawn, strict=True)
        ]

    def rollout(self, query: str, ids: Sequence[int]) -> Rollout:
        """These tokens as a reply, when somebody else drew them."""
        said = self._generation(list(ids), ())
        return Rollout(query, said.text, self.prompt(query), said.ids, said.finish == "stop")

    def prompt(self, query: str) -> tuple[int, ...]:
        return tuple(self.conversation_ids((Message("user", query),)))

    def check(self, queries: Sequence[str], max_tokens: int) -> None:
        """Raise ModelError unless every query can be answered."""
        self._check_window(max(len(self.prompt(query)) for query in queries) + max_tokens)

    def _generation(self, ids: list[int], stop: tuple[str, ...]) -> Drawn:
        said = super()._generation(ids, stop)
        return Drawn(said.text, said.tokens, said.finish, ids=tuple(ids))


def next_queries(queries: Sequence[str], first: int, count: int, seed: int) -> list[str]:
    """The first-th query and the following of an endless stream: each once a round, shuffled."""
    drawn: list[str] = []
    for turn in range(first // len(queries), -(-(first + count) // len(queries))):
        order = random.Random(f"{seed}/{turn}").sample(queries, len(queries))
        start = turn * len(queries)
        drawn += order[max(first - start, 0) : first + count - start]
    return drawn
