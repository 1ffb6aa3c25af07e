from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaForCausalLM

from character.errors import ModelError
from character.training.compose import compose, read_adapter

pytestmark = pytest.mark.filterwarnings("ignore:.(is_)?gradient_checkpointing:FutureWarning")


@pytest.fixture
def adapter(tiny_folder: Path, tmp_path: Path) -> Any:
    """Saves an adapter with random factors, and gives its folder."""

    def save(name: str, seed: int = 0, **config: Any) -> Path:
        given: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
        base = LlamaForCausalLM.from_pretrained(tiny_folder)
        model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **(given | config)))
        torch.manual_seed(seed)
        with torch.no_grad():
            for weight_name, weight in model.named_parameters():
                if "lora_" in weight_name:
                    weight.normal_(std=0.1)
        model.save_pretrained(tmp_path / name)
        return tmp_path / name

    return save


def deltas(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """What PEFT adds to each weight when it merges the adapter."""
    before = LlamaForCausalLM.from_pretrained(base).state_dict()
    model: Any = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), adapter)
    after = model.merge_and_unload().state_dict()
    return {name: after[name] - before[name] for name in before}


def test_the_whole_is_the_weighted_sum_of_its_parts(
    adapter: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    """Different ranks, scalings and layers, one of them taken away."""
    parts = [
        (adapter("a", 1), 1.0),
        (adapter("b", 2, r=3, lora_alpha=5, target_modules=["q_proj", "v_proj"]), 0.5),
        (adapter("c", 3, r=2, lora_alpha=7, use_rslora=True), -0.25),
    ]
    compose([(read_adapter(folder), weight) for folder, weight in parts], tmp_path / "whole")
    told = json.loads((tmp_path / "whole" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (told["r"], told["lora_alpha"], told["use_rslora"]) == (9, 9, False)
    found = deltas(tiny_folder, tmp_path / "whole")
    each = [(deltas(tiny_folder, folder), weight) for folder, weight in parts]
    moved = 0
    for name, delta in found.items():
        wanted = sum(weight * own[name] for own, weight in each)
        assert torch.allclose(delta, torch.as_tensor(wanted), atol=2e-6), name
        moved += bool(delta.abs().max() > 0.01)
    assert moved == 14  # seven linear layers in each of two blocks


def test_adding_the_factors_instead_would_be_something_else(
    adapter: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    a, b = read_adapter(adapter("a", 1)), read_adapter(adapter("b", 2))
    layer = next(iter(a.factors))
    (a1, b1), (a2, b2) = a.factors[layer], b.factors[layer]
    exact, linear = b1 @ a1 + b2 @ a2, (b1 + b2) @ (a1 + a2)
    assert (exact - linear).norm() > 0.5 * exact.norm()


def test_parts_in_another_order_make_the_same_whole(
    adapter: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    a, b = read_adapter(adapter("a", 1)), read_adapter(adapter("b", 2, r=2))
    compose([(a, 1.0), (b, 2.0)], tmp_path / "ab")
    compose([(b, 2.0), (a, 1.0)], tmp_path / "ba")
    one, other = deltas(tiny_folder, tmp_path / "ab"), deltas(tiny_folder, tmp_path / "ba")
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


@pytest.mark.parametrize(
    "config", [{"use_dora": True}, {"bias": "lora_only"}, {"rank_pattern": {"q_proj": 2}},
               {"modules_to_save": ["lm_head"]}],
)  # fmt: skip
def test_what_is_no_plain_lora_is_refused(adapter: Any, config: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="no plain LoRA.*" + next(iter(config))):
        read_adapter(adapter("odd", **config))


def test_layers_of_other_sizes_are_refused(adapter: Any, tmp_path: Path) -> None:
    a, b = read_adapter(adapter("a")), read_adapter(adapter("b"))
    layer = next(iter(a.factors))
    first, second = b.factors[layer]
    other = type(b)(b.folder, b.config, {**b.factors, layer: (first[:, :8], second)})
    with pytest.raises(ModelError, match="differs"):
        compose([(a, 1.0), (other, 1.0)], tmp_path / "whole")
