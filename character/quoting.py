"""What others wrote as data in a template: whoever reads it is told where it begins and ends."""

from __future__ import annotations

import hashlib
import re

# where the control tokens of ChatML and Llama 3, DeepSeek, Gemma, Llama 2 and Mistral begin
CONTROL = re.compile(r"<(?=\||\uff5c|/?s>|[be]os>|(?:start|end)_of_turn>)|\|(?=>)|\[(?=/?INST\])")


def fence(*texts: str) -> str:
    """A mark to put around texts that none of them can know, and so cannot close.

    It is a hash of all of them: to hold it, a text would have to hold its own hash.
    """
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:10]


def quoted(text: str) -> str:
    """A text as data: the control tokens of chat templates are taken apart, nothing else."""
    return CONTROL.sub(r"\g<0> ", text)
