"""What the policy is taught token by token: replies with the teacher states to match."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import accumulate

import torch
from torch import Tensor

from character.models.base import GREEDY, Conversation, Message, Request, Scorable
from character.models.local import LocalModel
from character.rows import Reply
from character.spec.demonstrations import demonstrations
from character.spec.schema import Trait
from character.training.config import AnchorsConfig, DistillConfig


@dataclass(frozen=True, slots=True)
class Lesson:
    """One reply to one plain prompt, and the states a teacher predicts it from.

    prompt and reply are token ids; teacher is (len(reply), width). barred are pairs of a position
    in the reply and a token that the teacher would not say there.
    """

    prompt: list[int]
    reply: list[int]
    teacher: Tensor
    weight: float
    barred: Sequence[tuple[int, int]] = ()


def character_lessons(
    base: LocalModel,
    trait: Trait,
    said: Sequence[tuple[str, Reply]],
    config: DistillConfig,
    weight: float = 1.0,
) -> list[Lesson]:
    """Replies to learn from the base model prompted with the trait's good examples.

    With guidance the teacher is pushed away from the bad examples, see `guided`; what it has said
    in this reply it does not say again, see `repeating`. `weight` is the trait's in its
    constitution, beside 1 for an anchor.
    """
    good = _states(base, demonstrations(trait, "good"), said)
    teachers = good
    if config.guidance:
        bad = _states(base, demonstrations(trait, "bad"), said)
        end = base.model.get_output_embeddings().weight[base.end].detach()
        teachers = [
            (ids, guided(towards, away, end, config.guidance))
            for (ids, towards), (_, away) in zip(good, bad, strict=True)
        ]
    return [
        Lesson(
            _prompt(base, query), ids, states, weight, repeating(ids, config.no_repeat_ngram_size)
        )
        for (query, _), (ids, states) in zip(said, teachers, strict=True)
    ]


def guided(towards: Tensor, away: Tensor, end: Tensor, guidance: float) -> Tensor:
    """States whose logits are z_good + a (z_good - z_bad), the end token's logit left at z_good.

    Classifier-free guidance (Sanchez et al. 2023). Logits are linear in the states, so it is done
    on the states, (tokens, width), and the end token is spared by taking its embedding, (width,),
    out of the difference: guidance decides what is said, not how soon it is over.
    """
    difference = (towards - away).float()
    spared = end.float()
    along = (difference @ spared) / (spared @ spared)
    difference = difference - along.unsqueeze(-1) * spared
    return (towards.float() + guidance * difference).to(towards.dtype)


def repeating(ids: Sequence[int], size: int) -> list[tuple[int, int]]:
    """(position, token) of every token that would there complete an n-gram said before.

    What transformers' no_repeat_ngram_size forbids when it generates; none for a size of 0.
    """
    if not size:
        return []
    followed: dict[tuple[int, ...], set[int]] = defaultdict(set)
    barred = []
    for position in range(size - 1, len(ids)):
        before = tuple(ids[position - size + 1 : position])
        barred += [(position, token) for token in sorted(followed[before])]
        followed[before].add(ids[position])
    return barred


def anchor_lessons(base: LocalModel, queries: Sequence[str], config: AnchorsConfig) -> list[Lesson]:
    """The base model's own replies to anchor queries, taught by the plain base model itself."""
    sampling = GREEDY.model_copy(update={"max_tokens": config.max_tokens})
    generations = base.generate([Request(_plain(query)) for query in queries], sampling)
    items = [
        Scorable(_plain(query), generation.text, generation.finish == "stop")
        for query, generation in zip(queries, generations, strict=True)
        if generation.text
    ]
    states = base.reply_states(items)
    return [
        Lesson(base.conversation_ids(item.conversation), ids, teacher, config.weight)
        for item, (ids, teacher) in zip(items, states, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class LessonBatch:
    """input_ids and attention_mask (rows, longest); taught marks the states to compare.

    teacher (tokens, width) and weights (tokens,) follow `taught` in row-major order; barred (n, 2)
    are rows of these two and tokens of the vocabulary.
    """

    input_ids: Tensor
    attention_mask: Tensor
    taught: Tensor
    teacher: Tensor
    weights: Tensor
    barred: Tensor

    def to(self, device: torch.device) -> LessonBatch:
        """The same batch there; the trainer's data loader asks for it."""
        return LessonBatch(*(getattr(self, field.name).to(device) for field in fields(self)))


def collate(lessons: Sequence[Lesson]) -> LessonBatch:
    longest = max(len(lesson.prompt) + len(lesson.reply) for lesson in lessons)
    shape = (len(lessons), longest)
    input_ids = torch.zeros(shape, dtype=torch.long)
    attention_mask = torch.zeros(shape, dtype=torch.long)
    taught = torch.zeros(shape, dtype=torch.bool)
    for row, lesson in enumerate(lessons):
        ids = lesson.prompt + lesson.reply
        input_ids[row, : len(ids)] = torch.tensor(ids)
        attention_mask[row, : len(ids)] = 1
        # the state at position t predicts the token at t + 1
        taught[row, len(lesson.prompt) - 1 : len(ids) - 1] = True
    lengths = torch.tensor([len(lesson.reply) for lesson in lessons])
    starts = [0, *accumulate(len(lesson.reply) for lesson in lessons)]
    barred = [
        (start + position, token)
        for start, lesson in zip(starts, lessons, strict=False)
        for position, token in lesson.barred
    ]
    return LessonBatch(
        input_ids,
        attention_mask,
        taught,
        teacher=torch.cat([lesson.teacher for lesson in lessons]),
        weights=torch.tensor([lesson.weight for lesson in lessons]).repeat_interleave(lengths),
        barred=torch.tensor(barred, dtype=torch.long).reshape(-1, 2),
    )


def _states(
    base: LocalModel, turns: Conversation, said: Sequence[tuple[str, Reply]]
) -> list[tuple[list[int], Tensor]]:
    return base.reply_states(
        [
            Scorable((*turns, Message("user", query)), reply.text, reply.ended)
            for query, reply in said
        ]
    )


def _prompt(base: LocalModel, query: str) -> list[int]:
    return base.conversation_ids(_plain(query))


def _plain(query: str) -> Conversation:
    return (Message("user", query),)
