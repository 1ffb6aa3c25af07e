"""The value head of PPO: what a policy's states say of the reward to come."""

from __future__ import annotations

import torch
from torch import Tensor, nn

HIDDEN = 64  # units of the separate value head


class ValueHead(nn.Module):
    """V(s) of last hidden states, (tokens, width) -> (tokens,), in float32; 0 before training.

    It reads the policy's own states: a value model of its own would double memory and time.
    `shared` and `detached` are linear; only `shared` sends its gradient on into the adapter, where
    it competes with the policy's. `separate`, one hidden layer over detached states, fits more than
    a line without touching the policy. States are normalised, so one learning rate suits all
    models.
    """

    def __init__(self, kind: str, width: int, seed: int) -> None:
        super().__init__()
        self.trains_trunk = kind == "shared"
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            hidden = [nn.Linear(width, HIDDEN), nn.Tanh()] if kind == "separate" else []
            last = nn.Linear(HIDDEN if hidden else width, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.LayerNorm(width, elementwise_affine=False), *hidden, last)

    def forward(self, states: Tensor) -> Tensor:
        states = states.float() if self.trains_trunk else states.detach().float()
        found: Tensor = self.layers(states).squeeze(-1)
        return found
