"""Ask a model how well a reply keeps each clause, from 1 to 5; its worth is the expected grade.

The expectation over the five digits keeps what the likeliest digit throws away: on a model that
nearly always says 3, how much it leaned to 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from pydantic import BaseModel, ConfigDict, Field

from character import prompts
from character.judging.judge import UNSOUND, NoVerdict, Said, sound
from character.models.base import ChatModel, Choice, Conversation, Message, Request, Sampling
from character.models.structured import Formed, ask_formed
from character.quoting import fence, quoted
from character.rows import content_id
from character.spec.schema import Trait

(TEMPLATE,) = TEMPLATES = ("judge_rubric",)
GRADES = ("1", "2", "3", "4", "5")
MASS = 0.5  # of all probability: a model that gave the digits less was saying something else

Grade = float | NoVerdict


class Graded(BaseModel):
    model_config = ConfigDict(extra="forbid")

    grade: int = Field(ge=1, le=5)


@dataclass(frozen=True, slots=True)
class RubricJudge:
    """A reply's worth is the mean of its clauses' grades, by clause weight, 1 to 5.

    `samples` counts where the model tells no probabilities; ValueError below two.
    """

    model: ChatModel
    samples: int = 2

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError("one sample's grade is no expectation: samples must be 2 or more")

    @property
    def name(self) -> str:
        how = "digit probabilities" if self.model.can_choose else f"{self.samples} samples"
        return f"rubric ({how}) by {self.model.name}"

    def value(self, trait: Trait, said: Sequence[Said]) -> list[float | NoVerdict]:
        asked = [_question(trait, clause.text, item) for item in said for clause in trait.clauses]
        grades = self._by_digits(asked) if self.model.can_choose else self._by_samples(asked)
        each = len(trait.clauses)
        weights = [clause.weight for clause in trait.clauses]
        return [
            _weighted(grades[start : start + each], weights)
            for start in range(0, len(grades), each)
        ]

    def _by_digits(self, asked: Sequence[Conversation]) -> list[Grade]:
        return [_expected(choice) for choice in self.model.choose(asked, GRADES)]

    def _by_samples(self, asked: Sequence[Conversation]) -> list[Grade]:
        requests = [
            Request(turns, seed=int(content_id("rubric", turns, sample)[:7], 16))
            for turns in asked
            for sample in range(self.samples)
        ]
        answers = ask_formed(self.model, requests, Sampling(max_tokens=16, temperature=1.0), Graded)
        starts = range(0, len(answers), self.samples)
        return [_mean(answers[start : start + self.samples]) for start in starts]


def _expected(choice: Choice) -> Grade:
    if choice.failure:
        return NoVerdict(choice.failure)
    if choice.mass < MASS:
        return NoVerdict(f"the digits have {choice.mass:.0%} of the probability")
    if not sound(choice.probabilities.values()):
        return NoVerdict(UNSOUND, str(dict(choice.probabilities)))
    return sum(int(grade) * share for grade, share in choice.probabilities.items())


def _mean(answers: Sequence[Formed[Graded]]) -> Grade:
    for answer in answers:
        if answer.failure:
            return NoVerdict(answer.failure.reason, answer.failure.raw)
    return fmean(answer.value.grade for answer in answers if answer.value)


def _weighted(grades: Sequence[Grade], weights: Sequence[float]) -> Grade:
    """A reply without one of its grades has no worth: the other clauses do not stand in for it."""
    total = 0.0
    for grade, weight in zip(grades, weights, strict=True):
        if isinstance(grade, NoVerdict):
            return grade
        total += grade * weight
    return total / sum(weights)


def _question(trait: Trait, clause: str, said: Said) -> Conversation:
    told = prompts.render(
        TEMPLATE,
        clause=clause,
        statement=trait.statement,
        opposite=trait.opposite,
        fence=fence(said.query, said.reply),
        query=quoted(said.query),
        reply=quoted(said.reply),
    )
    return (Message("user", told),)
