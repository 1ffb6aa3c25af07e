"""Results that cost minutes, kept as JSON under the hash of everything that decides them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from character.models.bundled import cache_folder

T = TypeVar("T")


def kept_in(kind: str) -> Path:
    return cache_folder() / kind


def read_kept(kind: str, identity: str, form: TypeAdapter[T]) -> T | None:
    """What was kept; None when there is nothing, or its file is damaged or of another form."""
    try:
        text = (kept_in(kind) / f"{identity}.json").read_text(encoding="utf-8")
        return form.validate_json(text)
    except (OSError, ValidationError):
        return None


def keep(kind: str, identity: str, content: Any) -> Path:
    """Whole or not at all."""
    folder = kept_in(kind)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{identity}.json"
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    unfinished.replace(path)
    return path
