"""Templates: what a model is told, kept out of the code and rendered in a sandbox."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from jinja2 import StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from character import shipped
from character.errors import RecipeError

SUFFIX = ".jinja"


@lru_cache
def _load(name: str) -> tuple[Template, str]:
    path = shipped.find("prompts", name, SUFFIX)
    if path is None:
        known = ", ".join(shipped.names("prompts", SUFFIX))
        raise RecipeError(f"no template {name!r} in prompts/ (there are: {known})")
    source = path.read_text(encoding="utf-8")
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=False
    )
    return environment.from_string(source), hashlib.sha256(source.encode()).hexdigest()


def render(name: str, **values: object) -> str:
    """The template with its values; one that is missing is an error, never an empty string."""
    return _load(name)[0].render(**values)


def digest(name: str) -> str:
    """SHA-256 of the template's text, for ids: an edited template makes new work."""
    return _load(name)[1]
