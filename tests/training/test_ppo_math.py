"""Every formula of PPO against numbers worked by hand."""

from __future__ import annotations

from math import e, exp, log, nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from character.training.ppo_math import (
    estimate_advantages,
    explained_variance,
    is_constant,
    kl_estimates,
    next_coefficient,
    shape_scores,
    surrogate_losses,
    token_rewards,
    value_losses,
    whiten,
)

# --- KL ---


def test_kl_estimates_worked_by_hand() -> None:
    # one token: p = 1/2, q = 1/4, so r = q / p = 1/2 and log r = -log 2
    found = kl_estimates(torch.tensor([log(2), -1.0, 0.0], dtype=torch.float64))
    # k1 = log 2; k2 = (log 2)^2 / 2; k3 = 1/2 - 1 + log 2
    # the next has r = e: k1 = -1, k2 = 1/2, k3 = e - 1 - 1; the last r = 1: all 0
    assert found.k1.tolist() == pytest.approx([log(2), -1, 0])
    assert found.k2.tolist() == pytest.approx([log(2) ** 2 / 2, 0.5, 0])
    assert found.k3.tolist() == pytest.approx([log(2) - 0.5, e - 2, 0])


def test_the_unbiased_estimates_mean_the_divergence() -> None:
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    q = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
    # 0.5 log 2.5 + 0.3 log 1.5 + 0.2 log 1/3 = 0.458145 + 0.121640 - 0.219722
    divergence = 0.360063
    found = kl_estimates((p / q).log())
    assert (p @ found.k1).item() == pytest.approx(divergence, abs=1e-6)
    assert (p @ found.k3).item() == pytest.approx(divergence, abs=1e-6)
    # k2: 0.25 log^2 2.5 + 0.15 log^2 1.5 + 0.1 log^2 3 = 0.209897 + 0.024660 + 0.120695
    assert (p @ found.k2).item() == pytest.approx(0.355252, abs=1e-6)


@given(st.floats(-20, 20))
def test_k2_and_k3_are_never_negative(log_ratio: float) -> None:
    found = kl_estimates(torch.tensor([log_ratio], dtype=torch.float64))
    assert found.k2.item() >= 0
    assert found.k3.item() >= -1e-15


def test_only_the_gradient_of_k1_is_that_of_the_divergence() -> None:
    """What the reward of a token pulls at, E[k grad log p], beside the gradient of KL(p || q)."""
    q = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
    logits = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log().requires_grad_()
    log_p = logits.log_softmax(0)
    (expected,) = torch.autograd.grad(log_p.exp() @ (log_p - q.log()), logits, retain_graph=True)
    estimates = kl_estimates((log_p - q.log()).detach())
    pulls = {}
    for name in ("k1", "k3"):
        weighted = log_p.exp().detach() * getattr(estimates, name)
        (pulls[name],) = torch.autograd.grad(weighted @ log_p, logits, retain_graph=True)
    torch.testing.assert_close(pulls["k1"], expected)
    assert (pulls["k3"] - expected).abs().max() > 0.1


@pytest.mark.parametrize(
    ("kl", "error"),
    [(9.0, 0.2), (6.6, 0.1), (6.0, 0.0), (5.7, -0.05), (0.0, -0.2), (-3.0, -0.2)],
)
def test_the_coefficient_follows_the_error(kl: float, error: float) -> None:
    # e = KL / 6 - 1 within +-0.2, K = 16 / 160 = 0.1: beta (1 + 0.1 e)
    assert next_coefficient(0.5, kl, 6.0, 160.0, 16) == pytest.approx(0.5 * (1 + 0.1 * error))


def test_the_coefficient_keeps_its_sign() -> None:
    # K would be 10; at 1, beta (1 - 0.2)
    assert next_coefficient(0.5, 0.0, 6.0, 10.0, 100) == pytest.approx(0.4)


# --- rewards ---


def test_whitening_worked_by_hand() -> None:
    # mean 3, squares of the differences 4, 0, 0, 4: variance 2
    found = whiten(torch.tensor([1.0, 3.0, 3.0, 5.0]))
    assert found.tolist() == pytest.approx([-(2**0.5), 0, 0, 2**0.5])


@pytest.mark.parametrize("values", [[0.1] * 16, [7.0], [1e6, 1e6]])
def test_constant_values_become_zeros_and_not_noise(values: list[float]) -> None:
    found = torch.tensor(values, dtype=torch.float64)
    assert is_constant(found)
    assert whiten(found).tolist() == [0.0] * len(values)


def test_what_is_no_number_is_not_taken_for_constant() -> None:
    assert not is_constant(torch.tensor([nan, 1.0]))
    assert whiten(torch.tensor([nan, 1.0])).isnan().all()


@given(st.lists(st.floats(-1e3, 1e3), min_size=2), st.floats(0.1, 10), st.floats(-5, 5))
def test_whitening_undoes_scale_and_shift(values: list[float], scale: float, shift: float) -> None:
    before = torch.tensor(values, dtype=torch.float64)
    if before.std(correction=0) < 1e-3:
        return
    torch.testing.assert_close(whiten(scale * before + shift), whiten(before))


@pytest.mark.parametrize(
    ("whitened", "clip", "expected"),
    [
        # mean 2, variance (4 + 4 + 4 + 36) / 4 = 12: -2 / 12^.5 = -0.577 and 6 / 12^.5 = 1.732
        (True, None, [-0.57735, -0.57735, -0.57735, 1.73205]),
        (True, 1.0, [-0.57735, -0.57735, -0.57735, 1.0]),
        (False, None, [0, 0, 0, 8]),
        (False, 5.0, [0, 0, 0, 5]),
    ],
)
def test_scores_are_whitened_then_clipped(
    whitened: bool, clip: float | None, expected: list[float]
) -> None:
    found = shape_scores(torch.tensor([0.0, 0.0, 0.0, 8.0]), whitened, clip)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


def test_rewards_of_tokens_worked_by_hand() -> None:
    # -0.1 x 2, -0.1 x -1, -0.1 x 0.5, and the score of 3 on the last
    found = token_rewards(3.0, torch.tensor([2.0, -1.0, 0.5]), 0.1)
    assert found.tolist() == pytest.approx([-0.2, 0.1, 2.95])


# --- advantages ---


def test_advantages_worked_by_hand() -> None:
    # an ended reply: V = 0.5, 1, 2 and 0 behind it; rewards 0, 0.5, 3; gamma 0.9, lambda 0.5
    # delta_2 = 3 + 0.9 x 0 - 2 = 1
    # delta_1 = 0.5 + 0.9 x 2 - 1 = 1.3
    # delta_0 = 0 + 0.9 x 1 - 0.5 = 0.4
    # A_2 = 1;  A_1 = 1.3 + 0.45 x 1 = 1.75;  A_0 = 0.4 + 0.45 x 1.75 = 1.1875
    rewards, values = torch.tensor([0.0, 0.5, 3.0]), torch.tensor([0.5, 1.0, 2.0, 0.0])
    found = estimate_advantages(rewards, values, gamma=0.9, lam=0.5)
    assert found.tolist() == pytest.approx([1.1875, 1.75, 1.0])


def test_the_value_behind_a_reply_that_was_cut_off_counts() -> None:
    # as above, but cut off in a state worth 4: delta_2 = 3 + 0.9 x 4 - 2 = 4.6
    # A_2 = 4.6;  A_1 = 1.3 + 0.45 x 4.6 = 3.37;  A_0 = 0.4 + 0.45 x 3.37 = 1.9165
    rewards, values = torch.tensor([0.0, 0.5, 3.0]), torch.tensor([0.5, 1.0, 2.0, 4.0])
    found = estimate_advantages(rewards, values, gamma=0.9, lam=0.5)
    assert found.tolist() == pytest.approx([1.9165, 3.37, 4.6])


REWARDS = st.lists(st.floats(-5, 5), min_size=1, max_size=8)


@given(REWARDS, st.floats(-5, 5), st.floats(0.1, 1))
def test_with_lambda_1_it_is_the_return_less_the_value(
    rewards: list[float], value: float, gamma: float
) -> None:
    values = torch.tensor([value] * len(rewards) + [0.0], dtype=torch.float64)
    found = estimate_advantages(torch.tensor(rewards, dtype=torch.float64), values, gamma, 1.0)
    for t, advantage in enumerate(found.tolist()):
        future = sum(gamma**k * reward for k, reward in enumerate(rewards[t:]))
        assert advantage == pytest.approx(future - value, abs=1e-9)


@given(REWARDS, st.floats(-5, 5))
def test_with_lambda_0_it_is_the_error_of_one_step(rewards: list[float], value: float) -> None:
    values = torch.tensor([value] * len(rewards) + [0.0], dtype=torch.float64)
    found = estimate_advantages(torch.tensor(rewards, dtype=torch.float64), values, 1.0, 0.0)
    last = len(rewards) - 1
    expected = [r - value if t == last else r for t, r in enumerate(rewards)]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


# --- losses ---


def test_the_surrogate_worked_by_hand() -> None:
    # rho = 1, 1.5, 1.5, 0.5, 0.5 with A = 2, 2, -2, 2, -2 and e = 0.2
    # -min(1 x 2, 1 x 2) = -2
    # -min(1.5 x 2, 1.2 x 2) = -2.4: held
    # -min(1.5 x -2, 1.2 x -2) = 3: not held, this step went the wrong way
    # -min(0.5 x 2, 0.8 x 2) = -1: not held, for the same reason
    # -min(0.5 x -2, 0.8 x -2) = 1.6: held
    ratio = torch.tensor([1.0, 1.5, 1.5, 0.5, 0.5])
    log_ratio = ratio.log().requires_grad_()
    advantages = torch.tensor([2.0, 2.0, -2.0, 2.0, -2.0])
    losses, outside = surrogate_losses(log_ratio, advantages, 0.2)
    assert losses.tolist() == pytest.approx([-2, -2.4, 3, -1, 1.6])
    assert outside.tolist() == [False, True, True, True, True]
    # d/d log rho of -rho A is -rho A, and 0 where it is held
    (slope,) = torch.autograd.grad(losses.sum(), log_ratio)
    assert slope.tolist() == pytest.approx([-2, 0, 3, -1, 0])


def test_at_ratio_1_the_surrogate_pulls_as_reinforce_does() -> None:
    logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    advantages = torch.tensor([0.7, -3.0])
    losses, _ = surrogate_losses(logprobs - logprobs.detach(), advantages, 0.2)
    (slope,) = torch.autograd.grad(losses.sum(), logprobs)
    assert slope.tolist() == pytest.approx([-0.7, 3.0])  # that of -A log pi


def test_the_value_loss_worked_by_hand() -> None:
    # V_old = 1, R = 2, e = 0.2; V = 1.1: within, (1.1 - 2)^2 / 2 = 0.405
    # V = 1.9: held at 1.2, max(0.01, 0.64) / 2 = 0.32
    # V = 0: held at 0.8, max(4, 1.44) / 2 = 2
    values = torch.tensor([1.1, 1.9, 0.0], requires_grad=True)
    old, returns = torch.ones(3), torch.full((3,), 2.0)
    losses = value_losses(values, old, returns, 0.2)
    assert losses.tolist() == pytest.approx([0.405, 0.32, 2.0])
    # V - R where it is not held, 0 where it is
    (slope,) = torch.autograd.grad(losses.sum(), values)
    assert slope.tolist() == pytest.approx([-0.9, 0.0, -2.0])
    # unheld: 0.405, 0.005, 2
    free = value_losses(values, old, returns, None)
    assert free.tolist() == pytest.approx([0.405, 0.005, 2.0])


def test_explained_variance_worked_by_hand() -> None:
    returns = torch.tensor([1.0, 2.0, 3.0])  # variance 2/3
    assert explained_variance(returns.clone(), returns) == pytest.approx(1)
    assert explained_variance(torch.full((3,), 9.0), returns) == pytest.approx(0)
    # R - V = 0, 0, 1: variance 1/3 - 1/9 = 2/9, so 1 - (2/9) / (2/3) = 2/3
    assert explained_variance(torch.tensor([1.0, 2.0, 2.0]), returns) == pytest.approx(2 / 3)
    assert explained_variance(returns, torch.ones(3)) is None


def test_the_ratio_of_log_probabilities_worked_by_hand() -> None:
    # a token went from 1/4 to 3/8: rho = 1.5, and the surrogate of A = 1 is its clip, 1.2
    log_ratio = torch.tensor([log(3 / 8) - log(1 / 4)])
    assert exp(log_ratio.item()) == pytest.approx(1.5)
    losses, _ = surrogate_losses(log_ratio, torch.ones(1), 0.2)
    assert losses.item() == pytest.approx(-1.2)
