"""Folders that appear whole or not at all, and never in the place of something else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from character.errors import RunError


def check_place(folder: Path, record: str, same: Mapping[str, Any]) -> None:
    """Raise RunError unless nothing is at `folder`, or what an earlier such command left there.

    `record` is the file that says what made a folder; its facts must be the `same`.
    """
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        try:
            found = json.loads((folder / record).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = None
        if not isinstance(found, dict) or any(found.get(k) != v for k, v in same.items()):
            raise RunError(
                f"{folder} exists and holds something else. Move it away, or choose another place"
                " with --out."
            )


@contextmanager
def placed(folder: Path) -> Iterator[Path]:
    """An empty folder to write into, which takes its place when the block ends well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    before = folder.with_name(f".{folder.name}.{os.getpid()}.before")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        if folder.exists():
            folder.rename(before)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)
