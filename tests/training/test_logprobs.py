"""linear_logprobs against a plain implementation that holds all the logits, and by hand."""

from __future__ import annotations

from math import log

import pytest
import torch

from character.training.logprobs import CHUNK, linear_logprobs

WIDTH, VOCABULARY = 8, 30


@pytest.mark.parametrize("count", [0, 1, CHUNK, 2 * CHUNK + 3])
def test_values_and_gradients_equal_those_of_a_plain_implementation(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    states = torch.randn(count, WIDTH, generator=generator, dtype=torch.float64, requires_grad=True)
    embedding = torch.randn(VOCABULARY, WIDTH, generator=generator, dtype=torch.float64)
    tokens = torch.randint(VOCABULARY, (count,), generator=generator)
    weights = torch.randn(count, generator=generator)
    ours = linear_logprobs(states, tokens, embedding)
    plain = (states @ embedding.T).log_softmax(-1).gather(1, tokens.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(ours.double(), plain, rtol=1e-5, atol=1e-6)
    (found,) = torch.autograd.grad((weights * ours).sum(), states)
    (expected,) = torch.autograd.grad((weights * plain).sum(), states)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_one_token_worked_by_hand() -> None:
    # with the unit matrix as embedding, states are logits: p = (1/2, 1/4, 1/4)
    states = torch.tensor([[log(2), 0.0, 0.0]], requires_grad=True)
    found = linear_logprobs(states, torch.tensor([1]), torch.eye(3))
    assert found.item() == pytest.approx(log(1 / 4))
    found.sum().backward()
    torch.testing.assert_close(states.grad, torch.tensor([[-0.5, 0.75, -0.25]]))


def test_the_embedding_gets_no_gradient() -> None:
    embedding = torch.eye(3, requires_grad=True)
    states = torch.zeros(2, 3, requires_grad=True)
    linear_logprobs(states, torch.tensor([0, 1]), embedding).sum().backward()
    assert embedding.grad is None
    assert states.grad is not None
