"""Templates: what a model is told, kept out of the code and rendered in a sandbox."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError
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
    try:
        source = path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"{path}: cannot be read as text: {error}") from None
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=False
    )
    try:
        template = environment.from_string(source)
    except TemplateSyntaxError as error:
        raise RecipeError(f"{path}:{error.lineno}: is not a template: {error.message}") from None
    return template, hashlib.sha256(source.encode()).hexdigest()


def render(name: str, **values: object) -> str:
    """The template with its values; one that is missing is an error, never an empty string."""
    template = _load(name)[0]
    try:
        return template.render(**values)
    except TemplateError as error:
        raise RecipeError(
            f"the template {name!r} cannot be filled in: {error.message}. "
            f"It is given: {', '.join(values)}"
        ) from None


def digest(name: str) -> str:
    """SHA-256 of the template's text, for ids: an edited template makes new work."""
    return _load(name)[1]
