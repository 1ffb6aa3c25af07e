"""Several adapters on one base model as one adapter, exactly, by putting their ranks side by side.

What a low-rank adapter adds to a weight is s B A, with s its scaling. A weighted sum of such
products is one product again, of rank r1 + ... + rn:

    sum_i w_i s_i B_i A_i = [w_1 s_1 B_1 ... w_n s_n B_n] [A_1; ...; A_n]

To add the factors instead ("linear" merging) gives cross terms B_i A_j that no adapter learned.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file, save_file
from torch import Tensor

from character.errors import ModelError

A, B = ".lora_A.weight", ".lora_B.weight"
# what would make an adapter add something else than s B A to linear layers alone
BEYOND = (
    "alora_invocation_tokens", "alpha_pattern", "arrow_config", "fan_in_fan_out",
    "layer_replication", "lora_bias", "modules_to_save", "rank_pattern", "target_parameters",
    "trainable_token_indices", "use_bdlora", "use_dora", "use_qalora", "velora_config",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Adapter:
    """A plain LoRA in a folder: its factors by layer, A (rank, in) and B (out, rank)."""

    folder: Path
    config: Mapping[str, Any]
    factors: Mapping[str, tuple[Tensor, Tensor]]

    @property
    def scaling(self) -> float:
        """s, as PEFT has it: alpha / r, or alpha / sqrt(r) where rank-stabilised."""
        rank = float(self.config["r"])
        return float(
            self.config["lora_alpha"] / (math.sqrt(rank) if self.config.get("use_rslora") else rank)
        )


def read_adapter(folder: Path) -> Adapter:
    """Raises ModelError unless the folder holds a plain LoRA."""
    config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    odd = [name for name in BEYOND if config.get(name)]
    if config.get("bias", "none") != "none":
        odd.append("bias")
    if config.get("peft_type") != "LORA" or config.get("task_type") == "SEQ_CLS" or odd:
        what = ", ".join(odd) or f"{config.get('peft_type')} for {config.get('task_type')}"
        raise ModelError(
            f"{folder} is no plain LoRA of a language model ({what}), and only such are composed"
            " exactly. Merge it into its base model instead."
        )
    weights = load_file(folder / SAFETENSORS_WEIGHTS_NAME)
    layers = sorted({name.removesuffix(A).removesuffix(B) for name in weights})
    if weights.keys() != {layer + end for layer in layers for end in (A, B)}:
        raise ModelError(f"{folder} holds weights beside LoRA factors, or lacks some.")
    return Adapter(folder, config, {x: (weights[x + A], weights[x + B]) for x in layers})


def compose(adapters: Sequence[tuple[Adapter, float]], into: Path) -> None:
    """Save the weighted sum of these adapters to `into`, in float32.

    A layer that one of them leaves alone gets zeros from it. ModelError when two disagree on a
    layer's shape, which adapters of one base model do not.
    """
    layers = sorted({layer for adapter, _ in adapters for layer in adapter.factors})
    rank = sum(int(adapter.config["r"]) for adapter, _ in adapters)
    weights = {}
    for layer in layers:
        rows, columns = _sizes(layer, [adapter for adapter, _ in adapters])
        parts_a, parts_b = [], []
        for adapter, weight in adapters:
            own = int(adapter.config["r"])
            none = torch.zeros(own, columns), torch.zeros(rows, own)
            a, b = adapter.factors.get(layer, none)
            parts_a.append(a.float())
            parts_b.append(weight * adapter.scaling * b.float())
        weights[layer + A] = torch.cat(parts_a, 0).contiguous()
        weights[layer + B] = torch.cat(parts_b, 1).contiguous()
    config = {
        **adapters[0][0].config,
        "r": rank,
        "lora_alpha": rank,  # scaling 1: the adapters' own are in B
        "use_rslora": False,
        "target_modules": sorted({layer.rpartition(".")[2] for layer in layers}),
        "inference_mode": True,
    }
    into.mkdir(parents=True, exist_ok=True)
    save_file(weights, into / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
    (into / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _sizes(layer: str, adapters: Sequence[Adapter]) -> tuple[int, int]:
    """Outputs and inputs of a layer."""
    found = {
        (adapter.factors[layer][1].shape[0], adapter.factors[layer][0].shape[1]): adapter.folder
        for adapter in adapters
        if layer in adapter.factors
    }
    if len(found) > 1:
        told = "; ".join(f"{rows} x {cols} in {where}" for (rows, cols), where in found.items())
        raise ModelError(f"{layer} differs: {told}. Adapters of one base model can be composed.")
    return next(iter(found))
