"""linear_kl against a plain implementation that holds all the logits, and against arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from math import log

import pytest
import torch
from torch import Tensor

from character.training.distillation_loss import CHUNK, linear_kl

WIDTH, VOCABULARY = 8, 30

NONE = torch.empty(0, 2, dtype=torch.long)


@dataclass(frozen=True)
class Inputs:
    """The arguments of linear_kl, in its order."""

    student: Tensor
    teacher: Tensor
    weights: Tensor
    embedding: Tensor
    barred: Tensor = field(default_factory=NONE.clone)


def inputs(count: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Inputs:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return Inputs(
        student=normal(count, WIDTH).requires_grad_(),
        teacher=normal(count, WIDTH),
        weights=3 * torch.rand(count, generator=generator),
        embedding=normal(VOCABULARY, WIDTH),
    )


def loss_of(given: Inputs) -> Tensor:
    return linear_kl(*(getattr(given, each.name) for each in fields(given)))


def plain_loss(given: Inputs) -> Tensor:
    """The same from its definition, in the student's own precision."""
    p = (given.teacher @ given.embedding.T).softmax(-1)
    for position, word in given.barred.tolist():
        p[position, word] = 0
    p = p / p.sum(-1, keepdim=True)
    log_q = (given.student @ given.embedding.T).log_softmax(-1)
    return (given.weights * (torch.xlogy(p, p) - p * log_q).sum(-1)).sum()


def gradient(loss: Tensor, given: Inputs) -> Tensor:
    return torch.autograd.grad(loss, given.student)[0]


@pytest.mark.parametrize("count", [1, 7, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
def test_loss_and_gradient_equal_those_of_a_plain_implementation(count: int) -> None:
    given = inputs(count)
    ours, plain = loss_of(given), plain_loss(given)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-5)
    torch.testing.assert_close(gradient(ours, given), gradient(plain, given), rtol=1e-4, atol=1e-5)


def test_barred_words_are_no_part_of_the_teacher_in_any_block() -> None:
    barred = torch.tensor([[0, 3], [0, 7], [CHUNK - 1, 1], [CHUNK, 1], [CHUNK + 4, 29]])
    given = replace(inputs(CHUNK + 5), barred=barred)
    ours, plain = loss_of(given), plain_loss(given)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-5)
    torch.testing.assert_close(gradient(ours, given), gradient(plain, given), rtol=1e-4, atol=1e-5)


def test_barring_what_both_would_say_is_the_unlikelihood_loss() -> None:
    states = torch.tensor([[log(6), log(3), 0.0]], requires_grad=True)  # .6, .3, .1
    given = Inputs(states, states.detach(), torch.ones(1), torch.eye(3), torch.tensor([[0, 0]]))
    loss = loss_of(given)
    assert loss.item() == pytest.approx(-log(1 - 0.6), rel=1e-6)
    # q - p, with p = (0, .75, .25)
    expected = torch.tensor([[0.6, -0.45, -0.15]])
    torch.testing.assert_close(gradient(loss, given), expected, rtol=1e-6, atol=1e-7)


def test_two_tokens_worked_by_hand() -> None:
    # with three words and the unit matrix as embedding, states are logits
    given = Inputs(
        student=torch.tensor([[0.0, 0.0, 0.0], [0.0, log(3), 0.0]], requires_grad=True),
        teacher=torch.tensor([[log(2), 0.0, 0.0], [0.0, 0.0, log(3)]]),
        weights=torch.tensor([1.0, 0.5]),
        embedding=torch.eye(3),
    )
    # p = (1/2, 1/4, 1/4), q = (1/3, 1/3, 1/3): 1/2 ln 3/2 + 1/2 ln 3/4
    first = 0.5 * log(9 / 8)
    # p = (0.2, 0.2, 0.6), q = (0.2, 0.6, 0.2)
    second = 0.2 * log(1 / 3) + 0.6 * log(3)
    loss = loss_of(given)
    assert loss.item() == pytest.approx(first + 0.5 * second, rel=1e-6)
    # w (q - p)
    expected = torch.tensor([[-1 / 6, 1 / 12, 1 / 12], [0.0, 0.2, -0.2]])
    torch.testing.assert_close(gradient(loss, given), expected, rtol=1e-6, atol=1e-7)


def test_a_student_that_is_the_teacher_has_nothing_to_learn() -> None:
    given = inputs(20)
    same = replace(given, teacher=given.student.detach().clone())
    loss = loss_of(same)
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert gradient(loss, same).abs().max() < 1e-5


def test_a_teacher_that_is_certain_gives_finite_numbers() -> None:
    given = inputs(20, dtype=torch.float32)
    certain = replace(given, teacher=1000 * given.teacher)
    best = (certain.teacher @ certain.embedding.T).argmax(-1)
    assert (certain.teacher @ certain.embedding.T).softmax(-1).eq(0).any()
    entropy = torch.nn.functional.cross_entropy(
        given.student @ given.embedding.T, best, reduction="none"
    )
    loss = loss_of(certain)
    assert loss.item() == pytest.approx((entropy * given.weights).sum().item(), rel=1e-3)
    assert gradient(loss, certain).isfinite().all()


def test_a_weight_counts_a_token_that_often() -> None:
    given = inputs(3)
    weighted = replace(given, weights=torch.tensor([2.0, 0.0, 1.0]))
    rows = torch.tensor([0, 0, 2])
    repeated = Inputs(
        given.student[rows],
        given.teacher[rows],
        torch.ones(3),
        given.embedding,
    )
    assert loss_of(weighted).item() == pytest.approx(loss_of(repeated).item(), rel=1e-6)
    assert (gradient(loss_of(weighted), given)[1] == 0).all()


def test_only_the_student_gets_a_gradient_and_it_follows_the_loss() -> None:
    given = inputs(5)
    given.embedding.requires_grad_()
    given.teacher.requires_grad_()
    once = gradient(loss_of(given), given)
    (3 * loss_of(given)).backward()
    assert given.embedding.grad is None
    assert given.teacher.grad is None
    assert given.student.grad is not None
    torch.testing.assert_close(given.student.grad, 3 * once)


def test_inputs_are_left_as_they_were() -> None:
    given = inputs(CHUNK + 1)
    before = {f.name: getattr(given, f.name).detach().clone() for f in fields(given)}
    loss_of(given).backward()
    for name, value in before.items():
        assert torch.equal(getattr(given, name).detach(), value), name
