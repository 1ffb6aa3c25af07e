"""A model folder with its linear layers in eight bits, as stock transformers reads it.

Weights only, one scale a row, by torchao, which is PyTorch's own library for this; activations
stay in 16 bits, and so do the embeddings. The copy is safetensors, and loads on a CPU wherever
torchao is installed. torch is loaded only to write.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from character.errors import ModelError
from character.models.bundled import quiet_transformers


def check_int8() -> None:
    """Raise ModelError unless eight bits can be written and read here."""
    if find_spec("torchao") is None:
        raise ModelError(
            "An int8 copy is made, and read, with torchao, which is not installed."
            " pip install -c constraints.txt -e '.[int8]'"
        )


def write_int8(folder: Path, into: Path) -> None:
    """The model in `folder`, quantised, with its tokenizer."""
    check_int8()
    import torch
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TorchAoConfig

    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.bfloat16,
            local_files_only=True,
            quantization_config=TorchAoConfig(Int8WeightOnlyConfig(version=2)),
        )
        model.save_pretrained(into)
        AutoTokenizer.from_pretrained(folder, local_files_only=True).save_pretrained(into)
