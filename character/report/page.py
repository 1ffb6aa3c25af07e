"""What the HTML pages share: templates that escape everything, and a script's hash."""

from __future__ import annotations

import base64
import hashlib
import re

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates() -> Environment:
    """The shipped templates; a name that is missing is an error, and what is written is escaped."""
    environment = Environment(
        loader=PackageLoader("character.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(digest=digest, typeset=typeset)
    return environment


def typeset(text: str) -> str:
    """Minus signs before digits, and no line break before a percent sign."""
    return re.sub(r"(?<![\w-])-(?=\d)", "\u2212", text).replace(" %", "\u00a0%")


def digest(script: str) -> str:
    """A script's hash as a content security policy names it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
