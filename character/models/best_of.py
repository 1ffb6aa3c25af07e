"""The best of n replies, by whatever rates them: what a reward model is worth without training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from character.errors import ModelError
from character.models.base import (
    ChatModel,
    Choice,
    Conversation,
    Generation,
    OnDone,
    Request,
    Sampling,
    Scorable,
    Score,
)

Rate = Callable[[Sequence[tuple[Request, Generation]]], Sequence[float]]
"""How good each reply is to its request; the more the better."""

STRIDE = 1_000_003  # between the seeds of a request's replies


class BestOf:
    """A ChatModel that draws `count` replies to each request and says the one rated highest.

    Best-of-n sampling (Stiennon et al. 2020; Gao et al. 2023, section 2). The first reply has the
    request's own seed; an empty one is said only when all are; of equals the first. At temperature
    0 there is one reply to a request, and nothing to choose.
    """

    can_score = can_choose = can_structure = False

    def __init__(self, model: ChatModel, count: int, rate: Rate, by: str) -> None:
        self.model, self.count, self.rate = model, count, rate
        self.name = f"best of {count} of {model.name} by {by}"
        self.can_continue = model.can_continue

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, on_done: OnDone = lambda count: None
    ) -> list[Generation]:
        count = self.count if sampling.temperature else 1
        drawn = [
            Request(r.conversation, r.text, (r.seed + i * STRIDE) % 2**31, r.schema)
            for r in requests
            for i in range(count)
        ]
        found = self.model.generate(drawn, sampling)
        on_done(len(requests))
        if count == 1:
            return found
        asked = list(zip(drawn, found, strict=True))
        said = [one for one in asked if one[1].text]
        rated = dict(zip(map(id, (g for _, g in said)), self.rate(said), strict=True))
        return [
            max(found[start : start + count], key=lambda g: rated.get(id(g), float("-inf")))
            for start in range(0, len(found), count)
        ]

    def score(self, items: Sequence[Scorable]) -> list[Score]:
        raise ModelError(f"{self.name} only writes; it cannot score replies.")

    def choose(
        self,
        conversations: Sequence[Conversation],
        options: Sequence[str],
        on_done: OnDone = lambda count: None,
    ) -> list[Choice]:
        raise ModelError(f"{self.name} only writes; it cannot choose among answers.")
