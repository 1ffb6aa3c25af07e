"""What code can count in a reply: no model, no judgement."""

from __future__ import annotations

import re
from collections import Counter

from rapidfuzz import fuzz, utils

SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")
WHOLE = re.compile(r".*[.!?][\"')\]]*(?=\s|$)", re.DOTALL)  # a point inside 37.5 ends nothing
REFUSAL = re.compile(
    r"\bi'?m sorry, but|\bi must decline"
    r"|\bi(?: am|'m) (?:unable|not able) to\b"
    r"|\bi (?:can(?:not|'t)|won't|will not)\b(?! (?:help (?:but|\w+ing)|wait|stop|believe))"
    r"|\bas an ai\b[^.]{0,60}\bcan(?:not|'t)",
    re.IGNORECASE,
)
ECHO = 75  # similarity, of 100, at which a question only repeats the query


def sentences(text: str) -> list[str]:
    return [part for part in SENTENCE_END.split(text.strip()) if part]


def asks_follow_up(query: str, reply: str) -> bool:
    """The reply says something, then ends with a question that is not the query again."""
    parts = sentences(reply)
    if len(parts) < 2 or not parts[-1].rstrip("\"')]").endswith("?"):
        return False
    says_something = any(not part.endswith("?") and len(part.split()) >= 4 for part in parts[:-1])
    echo = fuzz.ratio(parts[-1], query, processor=utils.default_process)
    return says_something and echo < ECHO


def repeated_share(text: str, n: int = 4) -> float:
    """Share of the text's word n-grams that occurred before in it, 0 to 1."""
    words = text.lower().split()
    grams = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    total = sum(grams.values())
    return 1 - len(grams) / total if total else 0.0


def refuses(text: str) -> bool:
    """Whether the text declines, in the forms that assistants use in English."""
    return bool(REFUSAL.search(text.replace("\u2019", "'")))  # as many models write apostrophes


def accepted(reply: str, accept: list[str]) -> bool:
    """Whether one of the accepted answers occurs in the reply as whole words."""
    lowered = reply.lower()
    return any(re.search(rf"\b{re.escape(answer)}\b", lowered) for answer in accept)


def whole_sentences(text: str) -> str:
    """The text up to its last sentence end; all of it when it has none."""
    whole = WHOLE.match(text)
    return whole.group() if whole else text
