from __future__ import annotations

import json
from pathlib import Path

import pytest

from character.training.memory import Shape, read_shape, shape_of, step_memory

SMOLLM = {
    "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "intermediate_size": 1536, "vocab_size": 49152,
    "tie_word_embeddings": True,
}  # fmt: skip


def test_the_bundled_model_has_the_parameters_it_has() -> None:
    """134,515,008, as its safetensors count: 269,030,016 bytes of bf16."""
    assert shape_of(SMOLLM).parameters == 134_515_008


def test_a_step_by_hand() -> None:
    """Two layers of width 4, ten tokens, a vocabulary of 100, in + out of 20 a layer, rank 2."""
    shape = Shape(parameters=1000, layers=2, hidden=4, vocabulary=100, linear=20)
    step = step_memory(shape, tokens=10, rank=2, checkpointing=False)
    assert (step.weights, step.adapter) == (2000, 16 * 2 * 20 * 2)
    assert step.activations == 10 * 4 * 34 * 2
    assert step.logits == 10 * 10 * 100
    assert step.total == pytest.approx(1.2 * (2000 + 1280 + 2720 + 10_000) + 1e9)
    less = step_memory(shape, tokens=10, rank=2, checkpointing=True)
    assert less.activations == 10 * 4 * (2 * 2 + 34)  # each layer's input, and one layer whole
    assert (less.weights, less.logits) == (step.weights, step.logits)


def test_untied_embeddings_and_full_attention_count_twice() -> None:
    free = shape_of({**SMOLLM, "tie_word_embeddings": False})
    assert free.parameters - shape_of(SMOLLM).parameters == 49152 * 576
    full = shape_of({**SMOLLM, "num_key_value_heads": None})
    assert full.parameters - shape_of(SMOLLM).parameters == 30 * 2 * 576 * (576 - 192)


def test_the_tiny_model_counts_as_torch_counts_it(tiny_folder: Path, tiny_model: object) -> None:
    found = read_shape(tiny_folder)
    assert found is not None
    assert found.parameters == sum(w.numel() for w in tiny_model.parameters())  # type: ignore[attr-defined]


def test_a_config_that_says_too_little_gives_nothing(tmp_path: Path) -> None:
    assert read_shape(tmp_path) is None
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 8}), encoding="utf-8")
    assert read_shape(tmp_path) is None
