"""What DPO minimises, as functions of the replies' log-probabilities.

First how likely a reply is, which `length` decides; then what a pair costs, which `loss` decides;
then how much the pair counts, by what the ranking says of it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from character.training.config import DpoConfig

Scores = tuple[Tensor, Tensor]  # of the chosen and of the rejected replies, each (pairs,)


def reply_scores(tokens: Tensor, said: Tensor, config: DpoConfig) -> Tensor:
    """(rows,) in nats: the log-probability of each reply, as `config.length` measures it.

    tokens (rows, length) are the log-probabilities of the tokens, 0 where nothing is `said`. Chosen
    rows come first; the rejected ones follow in the same order.

    sum: log pi(y|x). normalised: the mean a token. desensitised: tokens beyond the length of the
    pair's shorter reply count length_alpha each (LD-DPO, Liu et al. 2024), the others 1.
    """
    if config.length == "sum":
        return tokens.sum(1)
    lengths = said.sum(1)
    if config.length == "normalised":
        return tokens.sum(1) / lengths
    shorter = torch.minimum(*lengths.chunk(2)).repeat(2)
    beyond = said.cumsum(1) > shorter.unsqueeze(1)
    return torch.where(beyond, config.length_alpha * tokens, tokens).sum(1)


def pair_losses(margins: Tensor, config: DpoConfig) -> Tensor:
    """(pairs,): what each pair costs when its rewards are this far apart, chosen minus rejected.

    With h the margin and b = beta,

    sigmoid  -log sigmoid(h), Rafailov et al. 2023, equation 7.
    ipo      (h/b - 1/2b)^2, Azar et al. 2023, equation 17, b being its tau. The paper prints the
             log-probability of the whole reply; its authors ran the mean a token, and so does TRL:
             1/2b is the same distance for every pair, and summed over a long reply it is soon
             reached by next to nothing a token.
    robust   ((1 - e) L(h) - e L(-h)) / (1 - 2e) with L the sigmoid loss: on pairs of which a share
             e is swapped, on average L on the true ones (Chowdhury et al. 2024). It has no lower
             bound: far enough, it falls by e / (1 - 2e) for every nat.
    """
    if config.loss == "ipo":
        return ((margins - 0.5) / config.beta) ** 2
    if config.loss == "robust":
        noise = config.label_noise
        kept, swapped = -logsigmoid(margins), -logsigmoid(-margins)
        return ((1 - noise) * kept - noise * swapped) / (1 - 2 * noise)
    return -logsigmoid(margins)


def dpo_loss(
    policy: Scores,
    reference: Scores,
    config: DpoConfig,
    weights: Tensor | None = None,
    probabilities: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean loss of the pairs, and both rewards, (pairs,), in nats.

    A reward is beta times how much likelier the reply became. `weights` multiply the losses. Given
    `probabilities` p that the order is right, a pair costs p of its loss and 1 - p of the loss of
    the swapped pair (conservative DPO, Mitchell 2023).
    """
    chosen, rejected = (
        config.beta * (now - before) for now, before in zip(policy, reference, strict=True)
    )
    margins = chosen - rejected
    losses = pair_losses(margins, config)
    if probabilities is not None:
        swapped = pair_losses(-margins, config)
        losses = probabilities * losses + (1 - probabilities) * swapped
    if weights is not None:
        losses = weights * losses
    return losses.mean(), chosen.detach(), rejected.detach()
