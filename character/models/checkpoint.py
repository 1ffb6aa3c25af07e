"""Open a folder of safetensors with transformers and peft, or say what is wrong with it.

Code that comes with a model is never run. torch is loaded only when a function needs it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from character.errors import ModelError, ResourceError
from character.models.bundled import quiet_transformers
from character.models.folders import (
    Report,
    base_name,
    check_folder,
    first_line,
    is_adapter,
    log,
    model_folder,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def open_checkpoint(
    folder: Path, report: Report = log
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model, on the device and in the precision of `hardware`, with its tokenizer.

    A PEFT adapter is merged into its base model, which is opened first. The tokenizer has a chat
    template, and its end token is the one that the template puts after a reply.
    """
    folder = folder.expanduser()
    check_folder(folder)
    if not is_adapter(folder):
        return _open_weights(folder), _open_tokenizer(folder)
    base, tokenizer = open_checkpoint(model_folder(base_name(folder), report), report)
    if any((folder / file).exists() for file in ("tokenizer.json", "tokenizer_config.json")):
        tokenizer = _open_tokenizer(folder)
    return _merge(base, folder), tokenizer


def hardware() -> tuple[torch.device, torch.dtype]:
    """Where models run and how they count: the GPU if there is one, else the CPU.

    bfloat16 where the chip has instructions for it (NVIDIA since Ampere; x86 with AVX512-BF16 or
    AMX; Arm with BF16): half the memory, and up to four times as fast as float32 on such CPUs.
    Elsewhere bfloat16 is emulated and slower than float32, so it is float32 there.
    """
    import torch

    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.device("cuda"), torch.bfloat16 if native else torch.float32
    capabilities = torch.cpu.get_capabilities()
    native = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.device("cpu"), torch.bfloat16 if native else torch.float32


@contextmanager
def _explaining(folder: Path) -> Iterator[None]:
    """Turn what transformers, peft and torch say about a bad folder into our errors."""
    import torch
    from jinja2 import TemplateError
    from safetensors import SafetensorError

    try:
        with quiet_transformers():
            yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ResourceError(
            f"There is not enough memory to load {folder}. Use a smaller model, or a machine with"
            " more memory."
        ) from error
    except (
        OSError,
        ValueError,
        RuntimeError,
        ImportError,
        SafetensorError,
        TemplateError,
    ) as error:
        raise ModelError(f"{folder} could not be loaded: {first_line(error)}") from error


def _open_weights(folder: Path) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    device, dtype = hardware()
    own = "quantization_config" in (folder / "config.json").read_text(encoding="utf-8")
    loader: Any = AutoModelForCausalLM  # its annotations forget output_loading_info
    with _explaining(folder):
        model, loaded = loader.from_pretrained(
            folder,
            dtype="auto" if own else dtype,  # what is quantised has the precision it was made in
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
        opened: PreTrainedModel = model.to(device)
    if missing := sorted(loaded["missing_keys"]):  # transformers would fill these at random
        raise ModelError(
            f"{folder} is incomplete: it has no weights for {', '.join(missing[:3])}"
            f"{' and others' if len(missing) > 3 else ''}. Download or save the model again."
        )
    return opened


def _merge(base: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    from peft import PeftModel

    with _explaining(adapter), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft's own, about transformers
        # peft only warns when the adapter was made for other layers, and leaves those untrained
        warnings.filterwarnings("error", "Found missing adapter keys", UserWarning)
        try:
            model: Any = PeftModel.from_pretrained(base, adapter)
            merged: PreTrainedModel = model.merge_and_unload()
        except UserWarning as warning:
            raise ModelError(
                f"The adapter {adapter} does not fit its base model: {first_line(warning)}"
            ) from warning
    return merged


def _open_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    with _explaining(folder):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    if not tokenizer.chat_template:
        raise ModelError(
            f"The tokenizer of {folder} has no chat template, so it cannot hold a conversation. Use"
            " an instruct or chat model, or put a chat_template.jinja into the folder."
        )
    with _explaining(folder):
        end = _turn_end(tokenizer) or tokenizer.eos_token
    if end is None:
        raise ModelError(f"The tokenizer of {folder} has no end token, so replies would never end.")
    tokenizer.eos_token = end
    return tokenizer


def _turn_end(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The special token that the chat template puts after a reply, or None.

    For many models it is not the tokenizer's own end token, which ends documents (Gemma,
    Phi): their replies would run on, and scores would count the wrong ending.
    """
    reply = "REPLY"
    messages = [{"role": "user", "content": "QUERY"}, {"role": "assistant", "content": reply}]
    text = str(tokenizer.apply_chat_template(messages, tokenize=False))
    after = text.rpartition(reply)[2].lstrip()
    special = [str(token) for token in tokenizer.added_tokens_decoder.values()]
    found = [token for token in special if after.startswith(token)]
    return max(found, key=len, default=None)
