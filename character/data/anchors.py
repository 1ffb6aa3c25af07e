"""Queries on which training must keep the model as it was; they ship with the package."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

import yaml

KINDS = ("facts", "instructions", "formats")
NEUTRAL = "neutral"  # a build takes these as queries


@lru_cache
def anchor_queries(kind: str) -> tuple[str, ...]:
    """All shipped queries of a kind, in the file's order."""
    source = resources.files("character.data") / "anchors.yaml"
    return tuple(yaml.safe_load(source.read_text(encoding="utf-8"))[kind])
