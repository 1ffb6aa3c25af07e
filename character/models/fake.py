"""A model that says what it is told, for tests of whatever asks models."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

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
from character.models.choices import check_options, choice_of

Chooser = Callable[[Conversation, Sequence[str]], Mapping[str, float] | Choice]


class ScriptedModel:
    """A ChatModel without a model: deterministic, instant, and it remembers what it was asked.

    `reply` makes the answer to a request, or lists answers that are used in turn. `score` gives
    the log-probability of a reply, summed over its tokens. `choose` gives the probabilities of
    options, 0 for those it leaves out, or a whole choice. A token is a word between spaces.

        model = ScriptedModel(lambda request: request.conversation[-1].content.upper())
        model = ScriptedModel(["Yes.", "No."], score=lambda item: -len(item.reply))
        judge = ScriptedModel(choose=lambda conversation, options: {"A": 0.6, "B": 0.2})
    """

    def __init__(
        self,
        reply: Callable[[Request], str] | Sequence[str] = (),
        score: Callable[[Scorable], float] | None = None,
        *,
        name: str = "scripted",
        can_score: bool | None = None,
        can_continue: bool = True,
        can_structure: bool = False,
        choose: Chooser | None = None,
        can_choose: bool | None = None,
    ) -> None:
        self.name = name
        self.can_score = score is not None if can_score is None else can_score
        self.can_continue = can_continue
        self.can_structure = can_structure
        self.can_choose = choose is not None if can_choose is None else can_choose
        self.requests: list[Request] = []
        """Every request it was asked, in order."""
        self.scored: list[Scorable] = []
        """Every reply it was asked to score, in order."""
        self.chosen: list[Conversation] = []
        """Every conversation it was asked to choose in, in order."""
        self._reply = reply
        self._score = score
        self._choose = choose

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, on_done: OnDone = lambda count: None
    ) -> list[Generation]:
        answers = [self._answer(request, sampling) for request in requests]
        on_done(len(answers))
        return answers

    def score(self, items: Sequence[Scorable]) -> list[Score]:
        if not self.can_score or self._score is None:
            raise ModelError(f"The model {self.name!r} cannot score replies.")
        self.scored.extend(items)
        return [Score(self._score(i), len(i.reply.split()) + i.ended) for i in items]

    def choose(
        self,
        conversations: Sequence[Conversation],
        options: Sequence[str],
        on_done: OnDone = lambda count: None,
    ) -> list[Choice]:
        if not self.can_choose or self._choose is None:
            raise ModelError(f"The model {self.name!r} cannot choose among answers.")
        check_options(options)
        self.chosen.extend(conversations)
        told = [self._choose(conversation, options) for conversation in conversations]
        on_done(len(told))
        return [found if isinstance(found, Choice) else _choice(found, options) for found in told]

    def _answer(self, request: Request, sampling: Sampling) -> Generation:
        if request.text and not self.can_continue:
            raise ModelError(f"The model {self.name!r} cannot continue a document.")
        text = self._next_reply(request)
        self.requests.append(request)
        for stop in sampling.stop:
            text = text.partition(stop)[0]
        words = text.split()
        if len(words) > sampling.max_tokens:
            return Generation(" ".join(words[: sampling.max_tokens]), sampling.max_tokens, "length")
        return Generation(text.strip(), len(words), "stop")

    def _next_reply(self, request: Request) -> str:
        if callable(self._reply):
            return self._reply(request)
        turn = len(self.requests)
        if turn >= len(self._reply):
            raise ModelError(
                f"The model {self.name!r} has {len(self._reply)} replies in its script and was"
                f" asked for reply {turn + 1}. Add replies, or script a function."
            )
        return self._reply[turn]


def _choice(probabilities: Mapping[str, float], options: Sequence[str]) -> Choice:
    """Options that the script leaves out have none; a word that is no option is a mistake."""
    if unknown := set(probabilities) - set(options):
        raise ValueError(f"the script chooses {sorted(unknown)}, which are not among {options}.")
    found = [(option, probabilities.get(option, 0.0)) for option in options]
    return choice_of({option: math.log(p) if p else -math.inf for option, p in found})
