"""Ask a model which of two replies shows more of a trait: A, B, neither, or it has no place here.

Both orders are asked. Where the model tells how probable each letter is, that is its verdict, from
one call an order; elsewhere it is asked several times an order for an answer of a stated form, and
the verdict is how often it said which. Never once: a single answer hides how sure the judge was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from character import prompts
from character.judging.judge import (
    UNSOUND,
    Contest,
    NoVerdict,
    Outcome,
    Verdict,
    in_both_orders,
    sound,
    unreadable,
)
from character.models.base import ChatModel, Choice, Conversation, Message, Request, Sampling
from character.models.structured import Formed, ask_formed
from character.quoting import fence, quoted
from character.rows import content_id
from character.spec.schema import Trait

ASK, LETTER = TEMPLATES = ("judge_verdict", "judge_letter")
LETTERS = ("A", "B", "C", "D")
MASS = 0.5  # of all probability: a model that gave the letters less was saying something else


class Answer(BaseModel):
    """What a judge without token probabilities says."""

    model_config = ConfigDict(extra="forbid")

    letter: Literal["A", "B", "C", "D"]


class ReasonedAnswer(BaseModel):
    """The reason comes first, so that the letter can follow from it."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(description="One or two sentences.")
    letter: Literal["A", "B", "C", "D"]


@dataclass(frozen=True, slots=True)
class VerdictJudge:
    """`samples` counts where the model tells no probabilities; ValueError below two."""

    model: ChatModel
    reasons: bool = False
    samples: int = 2
    temperature: float = 1.0
    reason_tokens: int = 96

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError("one sample's answer is not a probability: samples must be 2 or more")

    @property
    def name(self) -> str:
        how = "letter probabilities" if self.model.can_choose else f"{self.samples} samples"
        return f"verdict{' with reasons' if self.reasons else ''} ({how}) by {self.model.name}"

    def compare(self, trait: Trait, contests: Sequence[Contest]) -> list[Outcome]:
        found: dict[int, Outcome] = {}
        for i, contest in enumerate(contests):
            why = unreadable(contest.first.reply) or unreadable(contest.second.reply)
            if why:
                found[i] = NoVerdict(why)
            elif contest.first.reply == contest.second.reply:
                found[i] = Verdict(0.0, 0.0, tie=1.0)
        todo = [i for i in range(len(contests)) if i not in found]
        both = [turned for i in todo for turned in (contests[i], contests[i].swapped())]
        ask = self._by_letters if self.model.can_choose else self._by_samples
        answers = ask([_question(trait, contest, self.reasons) for contest in both])
        for i, there, back in zip(todo, answers[::2], answers[1::2], strict=True):
            found[i] = in_both_orders(there, back)
        return [found[i] for i in range(len(contests))]

    def _by_letters(self, asked: Sequence[Conversation]) -> list[Outcome]:
        conversations, silent = self._reasoned(asked) if self.reasons else (list(asked), {})
        spoken = [turns for i, turns in enumerate(conversations) if i not in silent]
        choices = iter(self.model.choose(spoken, LETTERS))
        return [silent.get(i) or _chosen(next(choices)) for i in range(len(asked))]

    def _reasoned(
        self, asked: Sequence[Conversation]
    ) -> tuple[list[Conversation], dict[int, NoVerdict]]:
        """The conversations with the judge's reasons in them; the letter is asked for next."""
        sampling = Sampling(max_tokens=self.reason_tokens, temperature=0)
        said = self.model.generate([Request(turns) for turns in asked], sampling)
        letter = Message("user", prompts.render(LETTER))
        silent = {
            i: NoVerdict(one.failure or (one.finish if one.text.strip() else "no reason given"))
            for i, one in enumerate(said)
            if one.finish not in ("stop", "length") or not one.text.strip()
        }
        conversations = [
            (*turns, Message("assistant", one.text), letter)
            for turns, one in zip(asked, said, strict=True)
        ]
        return conversations, silent

    def _by_samples(self, asked: Sequence[Conversation]) -> list[Outcome]:
        form = ReasonedAnswer if self.reasons else Answer
        sampling = Sampling(
            max_tokens=16 + self.reasons * self.reason_tokens, temperature=self.temperature
        )
        requests = [
            Request(turns, seed=int(content_id("verdict", turns, sample)[:7], 16))
            for turns in asked
            for sample in range(self.samples)
        ]
        answers: list[Formed[BaseModel]] = ask_formed(self.model, requests, sampling, form)
        starts = range(0, len(answers), self.samples)
        return [_counted(answers[start : start + self.samples]) for start in starts]


def _question(trait: Trait, contest: Contest, reasons: bool) -> Conversation:
    first, second = contest.first.reply, contest.second.reply
    told = prompts.render(
        ASK,
        statement=trait.statement,
        opposite=trait.opposite,
        clauses=[clause.text for clause in trait.clauses],
        fence=fence(contest.first.query, *sorted((first, second))),  # the same in both orders
        query=quoted(contest.first.query),
        first=quoted(first),
        second=quoted(second),
        reasons=reasons,
    )
    return (Message("user", told),)


def _chosen(choice: Choice) -> Outcome:
    if choice.failure:
        return NoVerdict(choice.failure)
    if choice.mass < MASS:
        return NoVerdict(f"the letters have {choice.mass:.0%} of the probability")
    if not sound(choice.probabilities.values()):
        return NoVerdict(UNSOUND, str(dict(choice.probabilities)))
    return _verdict(choice.probabilities)


def _verdict(shares: Mapping[str, float]) -> Verdict:
    first, second, tie, inapplicable = (shares.get(letter, 0.0) for letter in LETTERS)
    return Verdict(first, second, tie, inapplicable)


def _counted(answers: Sequence[Formed[BaseModel]]) -> Outcome:
    """How often each letter was said; when a sample is missing, so is the verdict."""
    letters: Counter[str] = Counter()
    for answer in answers:
        if answer.value is None:
            assert answer.failure
            return NoVerdict(answer.failure.reason, answer.failure.raw)
        letters[answer.value.letter] += 1  # type: ignore[attr-defined]
    return _verdict({letter: count / len(answers) for letter, count in letters.items()})
