"""Ask base, trained, prompted and opposite the same held-out queries, and count and score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import yaml

from character.diffing.config import MeasureConfig
from character.models.base import ChatModel, Conversation, Generation, Message, Request, Scorable
from character.rows import Answer, Measurement, Query, content_id
from character.text import accepted, asks_follow_up, repeated_share

SHORT = "short/"  # query ids of short questions start so


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is measured: a model behind some earlier turns."""

    name: str
    model: ChatModel
    turns: Conversation = ()


@dataclass(frozen=True, slots=True)
class ShortQuestion:
    ask: str
    accept: tuple[str, ...]


@lru_cache
def short_questions(split: str) -> tuple[ShortQuestion, ...]:
    """Questions whose answers code can check; `test` is reported, `dev` chooses settings."""
    source = resources.files("character.diffing") / "short_questions.yaml"
    items = yaml.safe_load(source.read_text(encoding="utf-8"))[split]
    return tuple(ShortQuestion(item["ask"], tuple(item["accept"])) for item in items)


def ask(
    subject: Subject, queries: Sequence[Query], config: MeasureConfig, seed: int
) -> list[Answer]:
    """The subject's answers to the held-out queries, then to the short questions.

    Every subject draws with the same seeds. The answers are to be kept together: see `answer_plan`.
    """
    asked = [(query, sample) for sample in range(config.samples) for query in queries]
    requests = [
        Request((*subject.turns, Message("user", query.text)), seed=_seed(seed, query.id, sample))
        for query, sample in asked
    ]
    generations = subject.model.generate(requests, config.sampling)
    answers = [
        _answer(subject, query.id, query.text, sample, seed, generation)
        for (query, sample), generation in zip(asked, generations, strict=True)
    ]
    questions = short_questions(config.short_questions)[: config.questions]
    requests = [Request((*subject.turns, Message("user", q.ask))) for q in questions]
    generations = subject.model.generate(requests, config.short_sampling)
    return answers + [
        _answer(subject, SHORT + content_id(q.ask), q.ask, 0, seed, generation)
        for q, generation in zip(questions, generations, strict=True)
    ]


def answers_each(queries: Sequence[Query], config: MeasureConfig) -> int:
    """How many answers one subject gives."""
    questions = short_questions(config.short_questions)[: config.questions]
    return len(queries) * config.samples + len(questions)


def answer_plan(subject: Subject, queries: Sequence[Query], seed: int) -> str:
    """The id of the subject's first answer: when it is stored, so are they all."""
    return _answer_id(subject, queries[0].id, 0, seed)


def count(answers: Sequence[Answer], config: MeasureConfig) -> list[Measurement]:
    """What code counts in each answer: questions, length, repetition, right short answers."""
    found = []
    accept = {q.ask: list(q.accept) for q in short_questions(config.short_questions)}
    for answer in answers:
        if answer.query_id.startswith(SHORT):
            metrics = {"short_right": float(accepted(answer.text, accept[answer.prompt]))}
        else:
            metrics = {
                "follow_up_question": float(asks_follow_up(answer.prompt, answer.text)),
                "tokens": float(answer.tokens),
                "repetition": repeated_share(answer.text),
                "truncated": float(not answer.ended),
                "empty": float(not answer.text),
            }
        found += [measurement(answer, metric, value) for metric, value in metrics.items()]
    return found


def measurement(answer: Answer, metric: str, value: float | None) -> Measurement:
    identity = content_id("measurement", answer.id, metric)
    return Measurement(identity, answer.id, answer.subject, answer.query_id, metric, value)


def mean_logprobs(model: ChatModel, answers: Sequence[Answer]) -> list[float | None]:
    """Log-probability per token of each answer to its plain prompt, None for an empty one."""
    said = [answer for answer in answers if answer.text]
    scores = model.score([Scorable((Message("user", a.prompt),), a.text, a.ended) for a in said])
    found = {answer.id: score.mean for answer, score in zip(said, scores, strict=True)}
    return [found.get(answer.id) for answer in answers]


def _answer(
    subject: Subject, query_id: str, prompt: str, sample: int, seed: int, generation: Generation
) -> Answer:
    return Answer(
        id=_answer_id(subject, query_id, sample, seed),
        subject=subject.name,
        query_id=query_id,
        prompt=prompt,
        text=generation.text,
        tokens=generation.tokens,
        ended=generation.finish == "stop",
    )


def _answer_id(subject: Subject, query_id: str, sample: int, seed: int) -> str:
    return content_id(
        "answer", subject.name, subject.model.name, subject.turns, query_id, sample, seed
    )


def _seed(seed: int, query_id: str, sample: int) -> int:
    return int(content_id("measure", seed, query_id, sample)[:7], 16)
