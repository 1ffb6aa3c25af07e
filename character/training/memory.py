"""How much memory a training step takes, before it is taken. No torch here.

    weights      2 bytes a parameter in bf16, 4 in float32; frozen under an adapter
    adapter      r (in + out) parameters for every linear layer, 16 bytes each: weight, gradient and
                 Adam's two moments, all float32
    activations  34 h bytes a token and layer in 16 bits (Korthikanti et al. 2022, equation 2,
                 without the term of the attention matrix, which sdpa and flash attention never
                 hold); with gradient checkpointing 2 h a token and layer, and one layer whole
    logits       10 bytes a token and word of the vocabulary: 16-bit, float32, and its gradient

The fragments of an allocator, the CUDA context and the cache of generation come on top: a fifth,
and one GB. The formula was not measured on a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SLACK, CONTEXT = 1.2, 1e9
WEIGHT, ADAPTER, ACTIVATION, LOGIT = 2, 16, 34, 10  # bytes


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model decides its memory; `linear` is the sum of in + out of a block's layers."""

    parameters: int
    layers: int
    hidden: int
    vocabulary: int
    linear: int


@dataclass(frozen=True, slots=True)
class Step:
    """One step's bytes."""

    weights: float
    adapter: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        return SLACK * (self.weights + self.adapter + self.activations + self.logits) + CONTEXT


def shape_of(config: Mapping[str, Any]) -> Shape:
    """From a config.json of a Llama-like model: grouped attention and a gated MLP, no biases."""
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    heads, inner = config["num_attention_heads"], config["intermediate_size"]
    width = config.get("head_dim") or hidden // heads
    queries = heads * width
    keys = (config.get("num_key_value_heads") or heads) * width
    sizes = [(hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden)]
    sizes += [(hidden, inner), (hidden, inner), (inner, hidden)]
    block = sum(a * b for a, b in sizes) + 2 * hidden
    tied = bool(config.get("tie_word_embeddings"))
    words = config["vocab_size"] * hidden * (1 if tied else 2)
    linear = sum(a + b for a, b in sizes)
    return Shape(layers * block + words + hidden, layers, hidden, config["vocab_size"], linear)


def step_memory(shape: Shape, tokens: int, rank: int, checkpointing: bool) -> Step:
    """Of one micro-batch of so many tokens, prompts and padding counted."""
    held = shape.layers * ACTIVATION
    if checkpointing:
        held = shape.layers * 2 + ACTIVATION
    return Step(
        weights=WEIGHT * shape.parameters,
        adapter=ADAPTER * rank * shape.linear * shape.layers,
        activations=float(tokens * shape.hidden * held),
        logits=LOGIT * tokens * shape.vocabulary,
    )


def read_shape(folder: Path) -> Shape | None:
    """The shape of the model in a folder; None when its config says too little."""
    try:
        return shape_of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
