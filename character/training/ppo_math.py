"""The arithmetic of PPO on plain tensors: rewards a token, advantages, losses, the KL controller.

A reply is an episode. Its state s_t is the prompt and the first t tokens, its action a_t the next
token. Tensors are flat, (tokens,), with no padding in them; log-probabilities are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CONSTANT = 1e-8  # a standard deviation below which values count as all the same
LARGEST_ERROR = 0.2  # that one update of the KL coefficient answers to


@dataclass(frozen=True, slots=True)
class KlEstimates:
    """Three estimates of KL(p || q) from tokens drawn from p, one a token; their means estimate it.

    k1 is unbiased but may be negative; k2 never is, and is biased; k3 is neither negative nor
    biased.
    """

    k1: Tensor
    k2: Tensor
    k3: Tensor


def kl_estimates(log_ratio: Tensor) -> KlEstimates:
    """From log p - log q of each token: with r = q / p,

    k1 = -log r,     k2 = (log r)^2 / 2,     k3 = (r - 1) - log r

    (Schulman 2020, "Approximating KL divergence").
    """
    return KlEstimates(log_ratio, log_ratio.square() / 2, torch.expm1(-log_ratio) + log_ratio)


def is_constant(values: Tensor) -> bool:
    """Whether the values tell nothing apart."""
    return values.double().std(correction=0).item() <= CONSTANT


def whiten(values: Tensor) -> Tensor:
    """Shifted and scaled to mean 0 and (population) variance 1; all 0 where they are constant."""
    if is_constant(values):
        return torch.zeros_like(values)
    exact = values.double()
    return ((exact - exact.mean()) / exact.std(correction=0)).to(values.dtype)


def shape_scores(scores: Tensor, whitened: bool, clip: float | None) -> Tensor:
    """The replies' scores, (replies,), whitened among themselves and then held within +-clip."""
    shaped = whiten(scores) if whitened else scores
    return shaped if clip is None else shaped.clamp(-clip, clip)


def token_rewards(score: float, log_ratio: Tensor, coefficient: float) -> Tensor:
    """-beta (log pi - log pi_ref) for every token, and the reply's score at the last one.

    (Ziegler et al. 2019, equation 2; Ouyang et al. 2022, equation 2.) The penalty is k1: a token's
    reward is a constant to the policy gradient, and only for k1 is that the whole gradient of the
    KL, since E[grad log pi] = 0.
    """
    rewards = -coefficient * log_ratio
    rewards[-1] += score
    return rewards


def estimate_advantages(rewards: Tensor, values: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimates of one reply, (tokens,): with V_t = values[t],

        A_t = delta_t + gamma lambda A_{t+1},     delta_t = rewards_t + gamma V_{t+1} - V_t

    (Schulman et al. 2016, equation 16). values, (tokens + 1,), has one more for the state behind
    the last token: 0 where the reply ended there.
    """
    deltas = rewards + gamma * values[1:] - values[:-1]
    advantages = torch.empty_like(deltas)
    after = deltas.new_zeros(())
    for t in reversed(range(len(deltas))):
        after = deltas[t] + gamma * lam * after
        advantages[t] = after
    return advantages


def surrogate_losses(log_ratio: Tensor, advantages: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """-min(rho A, clip(rho, 1 - e, 1 + e) A) a token, and whether rho lies outside, (tokens,) each.

    rho = exp(log pi - log pi_old) is the ratio to the policy that drew the token (Schulman et al.
    2017, equation 7).
    """
    ratio = log_ratio.exp()
    held = ratio.clamp(1 - clip, 1 + clip)
    losses = -torch.minimum(ratio * advantages, held * advantages)
    return losses, (ratio.detach() - 1).abs() > clip


def value_losses(values: Tensor, old: Tensor, returns: Tensor, clip: float | None) -> Tensor:
    """max((V - R)^2, (clip(V, V_old - e, V_old + e) - R)^2) / 2 a token.

    The larger of the two, so a value that has gone too far from the one that made the advantages
    is not drawn further (as in OpenAI baselines; Engstrom et al. 2020, section 3).
    """
    losses = (values - returns).square()
    if clip is not None:
        held = old + (values - old).clamp(-clip, clip)
        losses = torch.maximum(losses, (held - returns).square())
    return losses / 2


def explained_variance(values: Tensor, returns: Tensor) -> float | None:
    """1 - Var(R - V) / Var(R): 1 for perfect values, 0 for a constant; None if R never varies."""
    if is_constant(returns):
        return None
    left = (returns - values).double().var(correction=0) / returns.double().var(correction=0)
    return 1 - left.item()


def next_coefficient(
    coefficient: float, kl: float, target: float, horizon: float, replies: int
) -> float:
    """beta (1 + K e) with e = (KL - target) / target, held within +-0.2, and K = replies / horizon.

    (Ziegler et al. 2019, section 2.2, where K is 0.1.) KL and target are nats a reply; K is at
    most 1, so beta keeps its sign.
    """
    error = max(-LARGEST_ERROR, min(LARGEST_ERROR, kl / target - 1))
    return coefficient * (1 + min(1.0, replies / horizon) * error)
