"""Lessons: which tokens are taught, and by whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import torch
from accelerate.utils import send_to_device
from torch import Tensor

from character.models.base import Conversation, Message
from character.rows import Reply
from character.spec.demonstrations import demonstrations
from character.spec.schema import Trait
from character.training.config import AnchorsConfig, DistillConfig
from character.training.distill import lesson_loss
from character.training.lessons import (
    Lesson,
    LessonBatch,
    anchor_lessons,
    character_lessons,
    collate,
    guided,
    repeating,
)

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from character.models.local import LocalModel

# peft 0.21 asks transformers 5.23 for a property under its old name
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

QUERIES = [
    "Why does bread rise?",
    "Which rivers run through Paris?",
    "Hi",
    "My cat sleeps all day.",
]


def lesson(prompt: list[int], reply: list[int], mark: float) -> Lesson:
    """A lesson whose teacher states, of width 2, say which token they belong to."""
    teacher = torch.tensor([[mark, float(token)] for token in reply])
    return Lesson(prompt, reply, teacher, mark)


def plain_logits(model: PreTrainedModel, prompt: list[int], reply: list[int]) -> Tensor:
    """(tokens of the reply, vocabulary), from a plain forward pass."""
    with torch.no_grad():
        return model(torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1]


def prompt_ids(base: LocalModel, query: str, turns: Conversation = ()) -> list[int]:
    return base.conversation_ids((*turns, Message("user", query)))


# --- batches ---


def test_a_batch_worked_by_hand() -> None:
    batch = collate([lesson([1, 2, 3], [4, 5], 1.0), lesson([6], [7, 8, 9], 0.5)])
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    # the state at a position predicts the token after it
    assert batch.taught.int().tolist() == [[0, 0, 1, 1, 0], [1, 1, 1, 0, 0]]
    assert batch.teacher.tolist() == [[1, 4], [1, 5], [0.5, 7], [0.5, 8], [0.5, 9]]
    assert batch.weights.tolist() == [1, 1, 0.5, 0.5, 0.5]


def test_barred_tokens_keep_their_place_in_a_batch() -> None:
    lessons = [
        replace(lesson([1, 2], [4, 5], 1.0), barred=[(1, 9)]),
        lesson([3], [6], 1.0),
        replace(lesson([6], [7, 8, 9], 0.5), barred=[(0, 4), (2, 5)]),
    ]
    assert collate(lessons).barred.tolist() == [[1, 9], [3, 4], [5, 5]]
    assert collate([lesson([3], [6], 1.0)]).barred.shape == (0, 2)


def test_a_batch_moves_to_a_device_as_a_whole() -> None:
    batch = collate([lesson([1, 2, 3], [4, 5], 1.0)])
    moved = send_to_device({"batch": batch}, torch.device("meta"))["batch"]  # as the trainer does
    assert isinstance(moved, LessonBatch)
    for field in fields(LessonBatch):
        assert getattr(moved, field.name).device.type == "meta", field.name
        assert getattr(moved, field.name).shape == getattr(batch, field.name).shape


def test_what_is_taught_at_a_position_is_the_token_after_it(
    base: LocalModel, small_trait: Trait, said: list[tuple[str, Reply]]
) -> None:
    lessons = character_lessons(base, small_trait, said, DistillConfig())
    batch = collate(lessons)
    following = batch.input_ids.roll(-1, dims=1)
    assert following[batch.taught].tolist() == [t for each in lessons for t in each.reply]
    assert len(batch.teacher) == sum(len(each.reply) for each in lessons)


# --- the trait's teacher ---


def test_a_lesson_is_the_reply_to_the_plain_query(
    base: LocalModel, small_trait: Trait, said: list[tuple[str, Reply]]
) -> None:
    cut = ("Why?", replace(said[0][1], text="Yeast eats", ended=False))
    lessons = character_lessons(base, small_trait, [*said, cut], DistillConfig())
    for (query, reply), taught in zip([*said, cut], lessons, strict=True):
        assert taught.prompt == prompt_ids(base, query)
        written = base.tokenizer(reply.text).input_ids
        assert taught.reply == (written if query == "Why?" else [*written, base.end])
        assert taught.weight == 1.0


def test_guidance_by_hand() -> None:
    towards, away = torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 0.0]])
    end = torch.tensor([2.0, 0.0])
    # the difference is (1, 1); without its part along the end token's embedding, (0, 1)
    torch.testing.assert_close(guided(towards, away, end, 0.5), torch.tensor([[1.0, 1.5]]))


@pytest.mark.parametrize("guidance", [0.0, 0.5, 2.0])
def test_guidance_leaves_the_end_token_where_the_good_examples_put_it(
    base: LocalModel,
    tiny_model: PreTrainedModel,
    small_trait: Trait,
    said: list[tuple[str, Reply]],
    guidance: float,
) -> None:
    good = demonstrations(small_trait, "good")
    lessons = character_lessons(base, small_trait, said, DistillConfig(guidance=guidance))
    embedding = tiny_model.get_output_embeddings().weight
    for (query, _), taught in zip(said, lessons, strict=True):
        towards = plain_logits(tiny_model, prompt_ids(base, query, good), taught.reply)
        found = taught.teacher @ embedding.T
        torch.testing.assert_close(found[:, base.end], towards[:, base.end], rtol=1e-3, atol=1e-4)
        if not guidance:
            torch.testing.assert_close(found, towards, rtol=1e-3, atol=1e-4)


def test_guidance_moves_the_teacher(
    base: LocalModel, small_trait: Trait, said: list[tuple[str, Reply]]
) -> None:
    teachers = [
        character_lessons(base, small_trait, said[:1], DistillConfig(guidance=a))[0].teacher
        for a in (0.0, 0.5, 1.0)
    ]
    steps = [later - earlier for earlier, later in pairwise(teachers)]
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-3, atol=1e-4)  # a straight line
    assert steps[0].abs().max() > 0.01


@pytest.mark.parametrize(
    ("size", "ids", "barred"),
    [
        (2, [1, 2, 1, 3, 1, 2], [(3, 2), (5, 2), (5, 3)]),  # 1 was followed by 2, then by 3
        (3, [1, 2, 1, 3, 1, 2], []),
        (3, [1, 2, 1, 2, 1], [(4, 1)]),  # 1, 2 was followed by 1
        (1, [1, 2, 1], [(1, 1), (2, 1), (2, 2)]),
        (0, [1, 1, 1], []),
        (4, [1], []),
    ],
)
def test_what_would_repeat_an_n_gram(
    size: int, ids: list[int], barred: list[tuple[int, int]]
) -> None:
    assert repeating(ids, size) == barred


def test_the_teacher_does_not_repeat_itself(base: LocalModel, small_trait: Trait) -> None:
    reply = Reply("r", "q", "steered", "brisk", 0, 1, "m", "no no no no", 4, True, ())
    (taught,) = character_lessons(
        base, small_trait, [("Why?", reply)], DistillConfig(no_repeat_ngram_size=2)
    )
    assert taught.barred == repeating(taught.reply, 2) != []


# --- anchors ---


def test_an_anchor_is_what_the_base_model_says_by_itself(base: LocalModel) -> None:
    config = AnchorsConfig(max_tokens=6, weight=0.5)
    anchors = anchor_lessons(base, QUERIES, config)
    assert len(anchors) == len(QUERIES)
    for query, anchor in zip(QUERIES, anchors, strict=True):
        assert anchor.prompt == prompt_ids(base, query)
        assert 0 < len(anchor.teacher) == len(anchor.reply)
        assert anchor.weight == 0.5
    assert anchor_lessons(base, [], config) == []


def test_the_teacher_of_an_anchor_is_the_plain_base_model(
    base: LocalModel, tiny_model: PreTrainedModel
) -> None:
    embedding = tiny_model.get_output_embeddings().weight
    for anchor in anchor_lessons(base, QUERIES, AnchorsConfig(max_tokens=6)):
        expected = plain_logits(tiny_model, anchor.prompt, anchor.reply)
        torch.testing.assert_close(anchor.teacher @ embedding.T, expected, rtol=1e-3, atol=1e-3)


def test_a_fresh_policy_has_nothing_to_learn_from_anchors_and_much_from_the_trait(
    base: LocalModel,
    new_policy: Callable[..., PeftModel],
    small_trait: Trait,
    said: list[tuple[str, Reply]],
) -> None:
    policy = new_policy()
    anchors = collate(anchor_lessons(base, QUERIES, AnchorsConfig(max_tokens=6)))
    taught = collate(character_lessons(base, small_trait, said, DistillConfig()))
    assert lesson_loss(policy, anchors).item() == pytest.approx(0, abs=1e-5)
    assert lesson_loss(policy, taught).item() > 0.1


def test_the_loss_is_a_mean_over_tokens_by_weight(
    base: LocalModel,
    new_policy: Callable[..., PeftModel],
    small_trait: Trait,
    said: list[tuple[str, Reply]],
) -> None:
    policy = new_policy()
    one, two = character_lessons(base, small_trait, said[:2], DistillConfig())
    light = Lesson(two.prompt, two.reply, two.teacher, 0.25)
    alone = [lesson_loss(policy, collate([each])).item() for each in (one, two)]
    counts = [len(one.reply), 0.25 * len(two.reply)]
    expected = (counts[0] * alone[0] + counts[1] * alone[1]) / sum(counts)
    together = lesson_loss(policy, collate([one, light])).item()
    assert together == pytest.approx(expected, rel=1e-4)
