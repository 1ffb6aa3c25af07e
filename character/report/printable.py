"""Text from users and models, made safe to show."""

from __future__ import annotations

import re

# Control characters drive terminals, lone surrogates cannot be written as UTF-8.
UNPRINTABLE = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")


def printable(text: str) -> str:
    """The text with every character that could drive a terminal or break a file made visible."""
    return UNPRINTABLE.sub("\ufffd", text)
