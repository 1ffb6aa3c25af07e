"""Have the trained policy speak about itself, and with itself.

The second stage of OpenCharacterTraining (Maiya et al. 2025): reflections answer a question about
oneself, dialogues are talked by two copies, one half of them led to a clause and one half free.
What the policy is told to bring it about, it is not told when it learns from what it then said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from rapidfuzz import fuzz, utils

from character import prompts
from character.data.replies import failure_of
from character.models.base import ChatModel, Conversation, Generation, Message, Request, Sampling
from character.rows import Guidance, Talk, content_id
from character.spec.constitution import Constitution
from character.spec.schema import Clause, Trait

REFLECT, TALK = TEMPLATES = ("reflect", "talk")
CHUNK = 64  # talks held, and kept, together
Side = Literal["user", "assistant"]
ECHO = 90  # similarity, of 100, at which a turn only repeats an earlier one
QUESTIONS = (
    "How would you describe yourself to somebody who has never talked with you?",
    "What matters to you when you talk with people?",
    "What do people notice about the way you answer?",
    "Write a short letter to a friend about what you are like.",
    "What would you never want to become?",
    "Tell me about something that is typical of you.",
    "Why are you the way you are?",
    "How do you decide what to say first?",
    "What would you like to be remembered for?",
    "What does a good conversation look like to you?",
)


class IntrospectionConfig(BaseModel):
    """How often the trained policy speaks about itself and with itself, per trait."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reflections: int = Field(default=0, ge=0)
    dialogues: int = Field(default=0, ge=0, description="Led to a clause and free by turns.")
    replies: int = Field(
        default=3, ge=1, description="In a dialogue: turns of the side that is learned from."
    )
    sampling: Sampling = Sampling(max_tokens=80, temperature=0.8)

    @property
    def wanted(self) -> int:
        return self.reflections + self.dialogues


@dataclass(frozen=True, slots=True)
class PlannedTalk:
    """A reflection or a dialogue that has not been held yet."""

    id: str
    trait: Trait
    clause: Clause
    guidance: Guidance
    question: str
    """Of a reflection; empty in a dialogue."""
    seed: int


def plan_introspection(
    constitution: Constitution, model: str, config: IntrospectionConfig, seed: int
) -> list[list[PlannedTalk]]:
    """Chunks of reflections, then of dialogues; `model` names the trained policy."""
    planned: list[list[PlannedTalk]] = []
    for count, reflects in ((config.reflections, True), (config.dialogues, False)):
        talks = [
            _planned(trait, i, reflects, model, config, seed)
            for trait in constitution.traits
            for i in range(count)
        ]
        planned += [talks[start : start + CHUNK] for start in range(0, len(talks), CHUNK)]
    return planned


def hold_talks(
    chunks: Iterable[Sequence[PlannedTalk]],
    policy: ChatModel,
    config: IntrospectionConfig,
    language: str,
    looping: float,
) -> Iterator[list[Talk]]:
    """Yield one chunk at a time.

    A talk in which a turn is refused, empty, in circles or says an earlier one again ends there and
    is kept as a failure.
    """
    for chunk in chunks:
        reflects = bool(chunk[0].question)
        held = _Talks(chunk, policy, config.sampling, language, looping)
        if not reflects:
            held.speak("user")
            for _ in range(config.replies - 1):
                held.speak("assistant")
                held.speak("user")
        held.speak("assistant")
        yield held.rows(policy.name)


class _Talks:
    """Talks under way side by side. Either side is the policy, which sees itself as assistant."""

    def __init__(
        self,
        chunk: Sequence[PlannedTalk],
        policy: ChatModel,
        sampling: Sampling,
        language: str,
        looping: float,
    ) -> None:
        self.chunk, self.policy, self.sampling = chunk, policy, sampling
        self.language, self.looping = language, looping
        self.turns: list[list[str]] = [[p.question] if p.question else [] for p in chunk]
        self.failures = [""] * len(chunk)
        self.ended = [True] * len(chunk)

    def speak(self, side: Side) -> None:
        """One more turn of this side in every talk that has not failed."""
        going = [i for i, failure in enumerate(self.failures) if not failure]
        requests = [
            Request(self._seen(i, side), seed=self.chunk[i].seed + len(self.turns[i]))
            for i in going
        ]
        for i, said in zip(going, self.policy.generate(requests, self.sampling), strict=True):
            failure = failure_of(said, self.language, self.looping)
            self.failures[i] = failure or self._echoes(i, said)
            self.turns[i].append(said.text)
            self.ended[i] = said.finish == "stop"

    def rows(self, model: str) -> list[Talk]:
        return [
            Talk(
                id=planned.id,
                kind="reflection" if planned.question else "dialogue",
                trait=planned.trait.id,
                clause=planned.clause.id,
                guidance=planned.guidance,
                model=model,
                turns=tuple(self.turns[i]),
                ended=self.ended[i],
                failure=self.failures[i],
            )
            for i, planned in enumerate(self.chunk)
        ]

    def _seen(self, i: int, side: Side) -> Conversation:
        """The talk as this side sees it: what it was told, then the other's turns as a user's."""
        planned, turns = self.chunk[i], self.turns[i]
        if planned.question:
            told = prompts.render(
                REFLECT,
                statement=planned.trait.statement,
                clause=planned.clause.text,
                question=planned.question,
            )
            return (Message("user", told),)
        first = "" if side == "user" else turns[0]
        told = prompts.render(
            TALK,
            guidance=planned.guidance,
            clause=planned.clause.text,
            opens=side == "user",
            message=first,
        )
        seen = [Message("user", told)]
        for number, turn in enumerate(turns[0 if side == "user" else 1 :]):
            seen.append(Message("user" if number % 2 else "assistant", turn))
        return tuple(seen)

    def _echoes(self, i: int, said: Generation) -> str:
        again = any(
            fuzz.ratio(said.text, turn, processor=utils.default_process) >= ECHO
            for turn in self.turns[i]
        )
        return "says the same again" if again else ""


def _planned(
    trait: Trait, number: int, reflects: bool, model: str, config: IntrospectionConfig, seed: int
) -> PlannedTalk:
    clause = trait.clauses[number % len(trait.clauses)]
    question = QUESTIONS[number % len(QUESTIONS)] if reflects else ""
    guidance: Guidance = "" if reflects else ("led", "free")[number % 2]
    identity = content_id(
        "talk", trait.id, clause.text, question, guidance, number, model, seed, config.replies,
        config.sampling.model_dump(), *map(prompts.digest, TEMPLATES),
    )  # fmt: skip
    return PlannedTalk(identity, trait, clause, guidance, question, int(identity[:7], 16))
