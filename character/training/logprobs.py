"""Log-probabilities of given tokens, without ever holding the logits of a whole batch.

With states h, output embedding W, tokens y and p = softmax(W h),

    log p_y = w_y h - logsumexp(W h),     d log p_y / dh = w_y - W^T p.

Both come from one pass over the vocabulary a few hundred tokens at a time, so the backward pass
only scales what the forward pass kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 128  # tokens whose logits exist at once; larger blocks are mapped anew each time


class _LinearLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, tokens: Tensor, embedding: Tensor) -> Tensor:
        found = torch.empty(len(states), dtype=torch.float32, device=states.device)
        slope = torch.empty_like(states)
        for start in range(0, len(states), CHUNK):
            part = slice(start, start + CHUNK)
            log_p = torch.log_softmax((states[part] @ embedding.T).float(), dim=-1)
            found[part] = log_p.gather(1, tokens[part].unsqueeze(1)).squeeze(1)
            slope[part] = embedding[tokens[part]] - log_p.exp_().to(states.dtype) @ embedding
        ctx.save_for_backward(slope)
        return found

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * outputs[0].to(slope.dtype).unsqueeze(1), None, None


def linear_logprobs(states: Tensor, tokens: Tensor, embedding: Tensor) -> Tensor:
    """(tokens,) in float32: how likely each token is behind its state.

    states (tokens, width) are the last hidden states before each token; tokens are ids; embedding
    (vocabulary, width) is frozen: it gets no gradient.
    """
    return _LinearLogProbs.apply(states, tokens, embedding.detach())  # type: ignore[no-untyped-call]
