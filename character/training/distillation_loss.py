"""KL from a teacher to the student over the whole vocabulary, without ever holding its logits.

The vocabulary (49k tokens), not the layers, dominates a small model's training step. Both models
share the output embedding W, so the teacher is kept as its last hidden states, 85 times smaller
than its logits, and both sides' logits exist for a few hundred tokens at a time. Because the loss
is linear in what it hands back, the gradient is computed in the forward pass: with student logits
z = W h and teacher probabilities p,

    L = sum_t w_t KL(p_t || softmax(z_t)),     dL/dz_t = w_t (softmax(z_t) - p_t),
    dL/dh_t = W^T dL/dz_t.

(Hinton et al. 2015, equation 2, at temperature 1; chunking as in Liger-Kernel's fused linear
cross-entropy, Hsu et al. 2024.) Tokens can be barred from the teacher: where student and teacher
agree on all else, the loss is then -log(1 - q(barred)), the unlikelihood loss of Welleck et al.
2019 (equation 4).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 128  # tokens whose logits exist at once; larger blocks are mapped anew each time

BARRED = -1e4  # a logit, finite so that no probability times its logarithm stays 0


class _LinearKL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        weights: Tensor,
        embedding: Tensor,
        barred: Tensor,
    ) -> Tensor:
        gradient = torch.empty_like(student)
        total = torch.zeros((), dtype=torch.float32, device=student.device)
        for start in range(0, len(student), CHUNK):
            part = slice(start, start + CHUNK)
            log_q = torch.log_softmax((student[part] @ embedding.T).float(), dim=-1)
            logits = (teacher[part] @ embedding.T).float()
            at, token = barred[(barred[:, 0] >= start) & (barred[:, 0] < start + CHUNK)].T
            logits[at - start, token] = BARRED
            log_p = torch.log_softmax(logits, dim=-1)
            p = log_p.exp()
            divergence = torch.linalg.vecdot(p, log_p.sub_(log_q))
            total += divergence @ weights[part]
            difference = log_q.exp_().sub_(p).mul_(weights[part].unsqueeze(-1))
            gradient[part] = difference.to(student.dtype) @ embedding
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outputs[0].to(gradient.dtype), None, None, None, None


def linear_kl(
    student: Tensor,
    teacher: Tensor,
    weights: Tensor,
    embedding: Tensor,
    barred: Tensor,
) -> Tensor:
    """Weighted sum over tokens of KL(teacher || student), a scalar in nats.

    student and teacher are last hidden states, (tokens, width); weights w, (tokens,); embedding
    (vocabulary, width), frozen: it gets no gradient; barred (n, 2), pairs of a position and a
    word of the vocabulary that the teacher gives no probability there.
    """
    teacher = teacher.to(student.dtype)
    return _LinearKL.apply(  # type: ignore[no-untyped-call]
        student, teacher, weights, embedding.detach(), barred
    )
