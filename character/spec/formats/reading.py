"""The formats that can be imported, and which of them a file is."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from pydantic_core import from_json

from character.errors import SpecError
from character.spec.formats import (
    constitutional_ai,
    constitutional_evals,
    model_spec,
    open_character,
    persona_vectors,
)
from character.spec.formats.imported import Imported

FORMATS: dict[str, ModuleType] = {
    "open-character": open_character,
    "constitutional-evals": constitutional_evals,
    "persona-vectors": persona_vectors,
    "constitutional-ai": constitutional_ai,
    "model-spec": model_spec,
}
SIGNS = {  # a key that only this format has
    "trait": "open-character",
    "criteria": "constitutional-evals",
    "instruction": "persona-vectors",
    "constitutions": "constitutional-ai",
    "critic": "constitutional-ai",
}


def read_foreign(text: str, name: str, form: str | None = None) -> list[Imported]:
    """The traits a file tells of, in the format given or found; `name` is that of the file.

    Raises SpecError when it is in no format we know, or not as the format is published.
    """
    if form and form not in FORMATS:
        raise SpecError(f"there is no format {form!r}; expected one of {', '.join(FORMATS)}")
    read: Callable[[str, str], list[Imported]] = FORMATS[form or detect(text)].read
    return read(text, name)


def detect(text: str) -> str:
    """The format a text is in, by its structure. Raises SpecError when it is none."""
    if model_spec.is_one(text):
        return "model-spec"
    data = _parsed(text)
    sample = data[0] if isinstance(data, list) and data else data
    for key, form in SIGNS.items():
        if isinstance(sample, dict) and key in sample:
            return form
    known = "".join(f"\n  {form}: {module.EXPECTED}" for form, module in FORMATS.items())
    raise SpecError(f"is in none of the formats that can be imported:{known}")


def _parsed(text: str) -> Any:
    """The JSON value, or that of the first line; None when neither is JSON."""
    for part in (text, text.lstrip().partition("\n")[0]):
        try:
            return from_json(part)
        except ValueError:
            continue
    return None
