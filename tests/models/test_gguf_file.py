from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader
from transformers import AutoTokenizer, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from character.errors import ModelError
from character.models.gguf_file import SPLITS, _permuted, _split_of, read_gguf, write_gguf

IDS = torch.tensor([[1, 100, 200, 300, 17]])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits
    return found


def edited(folder: Path, into: Path, file: str, **changes: Any) -> Path:
    shutil.copytree(folder, into)
    path = into / file
    told = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(told | changes), encoding="utf-8")
    return into


def test_rows_of_a_head_go_from_halves_to_neighbours() -> None:
    """One head of six: ggml turns rows 0 and 1 together, transformers rows 0 and 3."""
    rows = np.arange(6, dtype=np.float32).reshape(6, 1)
    assert _permuted(rows, 1).ravel().tolist() == [0, 3, 1, 4, 2, 5]
    assert _permuted(np.arange(8.0, dtype=np.float32).reshape(8, 1), 2).ravel().tolist() == [
        0, 2, 1, 3, 4, 6, 5, 7,
    ]  # fmt: skip


def test_half_precision_reads_back_as_it_was(tiny_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    write_gguf(tiny_folder, file, "f16", "tiny")
    there = LlamaForCausalLM.from_pretrained(tiny_folder)
    found = read_gguf(file, torch.float32)
    for name, weight in there.state_dict().items():
        rounded = weight.half().float() if weight.ndim > 1 else weight
        assert torch.equal(found.state_dict()[name], rounded), name
    assert (logits(found) - logits(there)).abs().max() < 0.05


def test_eight_bits_are_off_by_half_a_step_at_most(tiny_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    write_gguf(tiny_folder, file, "q8_0", "tiny")
    kinds = {tensor.name: tensor.tensor_type for tensor in GGUFReader(file).tensors}
    assert kinds["blk.0.attn_q.weight"] == GGMLQuantizationType.Q8_0
    assert kinds["blk.0.attn_norm.weight"] == GGMLQuantizationType.F32
    there = LlamaForCausalLM.from_pretrained(tiny_folder).state_dict()
    for name, weight in read_gguf(file, torch.float32).state_dict().items():
        if weight.ndim > 1:
            blocks = there[name].reshape(-1, 32)
            step = blocks.abs().amax(1, keepdim=True) / 127
            # the scale is kept in half precision, which is off by another 2^-11 of the value
            bound = step / 2 + blocks.abs() * 2**-10
            assert ((weight.reshape(-1, 32) - blocks).abs() <= bound).all(), name


def test_its_own_tokenizer_reads_text_and_chats_as_before(
    tiny_folder: Path, tmp_path: Path
) -> None:
    write_gguf(tiny_folder, tmp_path / "m.gguf", "f16", "tiny")
    old = AutoTokenizer.from_pretrained(tiny_folder)
    new = AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    for text in ("It's 12,345 °C; naïve  me?\n\n\tOK", "<|im_start|>user\nWhy?<|im_end|>", " a  b"):
        assert new(text).input_ids == old(text).input_ids
    chat = [{"role": "user", "content": "Why?"}]
    assert new.apply_chat_template(chat, tokenize=False) == old.apply_chat_template(
        chat, tokenize=False
    )
    assert (new.eos_token, new.pad_token) == ("<|im_end|>", "<|im_end|>")


def test_qwen2_with_biases_and_tied_embeddings(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "qwen"
    shutil.copytree(tiny_folder, folder)
    config = Qwen2Config(
        vocab_size=600, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_()
    model.save_pretrained(folder)
    write_gguf(folder, tmp_path / "m.gguf", "f16", "tiny")
    found = read_gguf(tmp_path / "m.gguf", torch.float32)
    assert (logits(found) - logits(model)).abs().max() < 0.01


@pytest.mark.parametrize(
    ("file", "changes", "told"),
    [
        ("config.json", {"model_type": "gemma3"}, "is a gemma3 model"),
        ("config.json", {"rope_parameters": {"rope_type": "llama3"}}, "scales its rotary"),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Metaspace"}}, "cuts text in a way"),
    ],
)
def test_what_is_not_known_is_refused_with_a_way_out(
    tiny_folder: Path, tmp_path: Path, file: str, changes: dict[str, Any], told: str
) -> None:
    folder = edited(tiny_folder, tmp_path / "other", file, **changes)
    with pytest.raises(ModelError, match=told) as refused:
        write_gguf(folder, tmp_path / "m.gguf", "f16", "tiny")
    assert "convert_hf_to_gguf.py" in str(refused.value)
    assert not (tmp_path / "m.gguf").exists()


def test_splits_are_told_apart_by_all_their_steps() -> None:
    digits = {"type": "Digits", "individual_digits": True}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False}

    def sequence(*parts: dict[str, Any]) -> str | None:
        return SPLITS.get(_split_of({"type": "Sequence", "pretokenizers": list(parts)}))

    assert SPLITS[_split_of(bytes_)] == "gpt-2"
    assert sequence(digits, bytes_) == "smollm"
    assert sequence({**digits, "individual_digits": False}, bytes_) is None
    assert sequence({**bytes_, "add_prefix_space": True}) is None
