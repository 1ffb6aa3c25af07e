"""An imported trait as the text of a trait file."""

from __future__ import annotations

from typing import Any

import yaml

from character.errors import SpecError
from character.spec.drafts import COMMENTS, SCHEMA_LINE
from character.spec.formats.imported import Imported
from character.yaml_file import MAX_BYTES, MAX_VALUES


def trait_yaml(found: Imported) -> str:
    """The file's text, with the comments of a skeleton. Raises SpecError when it is too large."""
    parts = [SCHEMA_LINE]
    for key, value in {**found.fields, "checks": []}.items():
        if comment := COMMENTS.get(key):
            parts.append(f"\n# {comment}\n")
        parts.append(yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=96))
    text = "".join(parts)
    if len(text.encode()) > MAX_BYTES or _values(found.fields) > MAX_VALUES:
        raise SpecError(
            f"trait {found.fields['id']!r} does not fit into a trait file of at most 1 MB and"
            f" {MAX_VALUES:,} values. Split the file you import."
        )
    return text


def _values(held: Any) -> int:
    """How many values reading counts: every key, text, list and mapping."""
    if isinstance(held, dict):
        return 1 + sum(1 + _values(value) for value in held.values())
    return 1 + (sum(map(_values, held)) if isinstance(held, list) else 0)
