"""Models whose weights are here: the folder that a name stands for, and whether it is whole.

Weights are only ever read from safetensors. torch is not loaded.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

from character.errors import ModelError
from character.models.bundled import bundled_folder, find_bundled
from character.models.names import KINDS, has_weights, is_hub_id, path_of, split_name

Report = Callable[[str], None]
log: Report = logging.getLogger(__name__).info

TOKENIZER_FILES = ("tokenizer*", "chat_template*", "special_tokens_map.json", "added_tokens.json",
                   "vocab*", "merges*", "*.model")  # fmt: skip
# what decides a model's answers: digested for its name, and all that is fetched from the Hub
CONTENT = ("config.json", "adapter_config.json", "*.safetensors*", *TOKENIZER_FILES)


def check_weights(name: str) -> None:
    """Raise ModelError unless the name stands for weights that look loadable."""
    kind, rest = split_name(name)
    if not has_weights(name):
        raise ModelError(
            f"{name!r} is behind an API, and its weights are needed here. Name a model that has"
            f" them, for example {KINDS['bundled']!r}."
        )
    if kind == "bundled":
        find_bundled(rest)
    elif not is_hub_id(rest):
        check_folder(path_of(rest))


def model_folder(name: str, report: Report = log) -> Path:
    """The folder that a name stands for, fetched where that is needed."""
    check_weights(name)
    kind, rest = split_name(name)
    if kind == "bundled":
        return bundled_folder(rest, report)
    return _fetch_from_hub(rest, report) if is_hub_id(rest) else path_of(rest)


def _fetch_from_hub(hub_id: str, report: Report) -> Path:
    from huggingface_hub import snapshot_download

    report(f"Looking for {hub_id} on the Hugging Face Hub.")
    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(CONTENT)))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{hub_id!r} is neither a folder here nor a model that could be fetched from the"
            f" Hugging Face Hub: {first_line(error)}. Check the spelling and the network, or"
            f" download it elsewhere and name the folder, for example 'local:./my-model'."
        ) from error


def model_identity(name: str, report: Report) -> str:
    """What the model is: for a bundled one the hash it was checked against, else `_digest`."""
    kind, rest = split_name(name)
    if kind == "bundled":
        return f"{name}@{find_bundled(rest).sha256[:12]}"
    folder = model_folder(name, report)
    called = rest if is_hub_id(rest) else folder.resolve().name
    own = f"local:{called}@{_digest(folder)}"
    if not is_adapter(folder):
        return own
    return f"{own}+{model_identity(base_name(folder), report)}"


def _digest(folder: Path) -> str:
    """12 hex digits of a hash over every byte that decides the model's answers.

    All of it, at about 1 GB a second: two trainings of one model can differ in a single matrix
    in the middle of a file, which sampling its size and ends would miss.
    """
    whole = hashlib.blake2b()
    for file in sorted({file for pattern in CONTENT for file in folder.glob(pattern)}):
        with file.open("rb") as source:
            whole.update(file.name.encode() + b"\0")
            whole.update(hashlib.file_digest(source, "blake2b").digest())
    return whole.hexdigest()[:12]


def is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").exists()


def check_folder(folder: Path, above: tuple[Path, ...] = ()) -> None:
    """Raise ModelError unless the folder, and every base below an adapter, looks loadable."""
    if not folder.is_dir():
        raise ModelError(
            f"There is no folder {folder}. After 'local:' comes a folder that holds a model, or a"
            " Hugging Face id such as HuggingFaceTB/SmolLM2-360M-Instruct."
        )
    if not is_adapter(folder):
        return _check_files(folder, "config.json", "*.safetensors")
    _check_files(folder, "adapter_model.safetensors")
    if folder.resolve() in above:
        raise ModelError(f"The adapter {folder} names itself as its base model.")
    kind, rest = split_name(base_name(folder))
    if kind == "local" and not is_hub_id(rest):
        _check_base(folder, path_of(rest), (*above, folder.resolve()))
    else:
        check_weights(f"{kind}:{rest}")


def _check_base(adapter: Path, base: Path, above: tuple[Path, ...]) -> None:
    if not base.is_dir():
        raise ModelError(
            f"The adapter {adapter} was trained on {str(base)!r}, which is not here. Write in"
            " base_model_name_or_path of its adapter_config.json where that model is: a folder, or"
            f" {KINDS['bundled']!r}."
        )
    check_folder(base, above)


def _check_files(folder: Path, *patterns: str) -> None:
    for pattern in patterns:
        if next(folder.glob(pattern), None):
            continue
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt*"))
        reason = (
            " Its weights are a pickle (.bin or .pt), which can run code when it is loaded and is"
            " refused: save them as safetensors."
            if pickled and "safetensors" in pattern
            else " Expected a folder that transformers or peft wrote with save_pretrained."
        )
        raise ModelError(f"{folder} holds no {pattern}.{reason}")


def base_name(folder: Path) -> str:
    """The name of the model that an adapter was trained on; a path may start at the adapter."""
    path = folder / "adapter_config.json"
    try:
        base = json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} does not name a base model. It needs a line such as"
            f' "base_model_name_or_path": "{KINDS["bundled"]}"'
        ) from error
    if not isinstance(base, str) or not base:
        raise ModelError(f"{path}: base_model_name_or_path is {base!r}, not a name or a path.")
    if base.startswith(("bundled:", "local:")):
        return base
    beside = folder / base
    return f"local:{beside if beside.is_dir() else base}"


def first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
