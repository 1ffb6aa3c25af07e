"""What code counts in an answer: nothing here is judged, and a missing answer counts as nothing."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache

import regex
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from character.diffing.measure import measurement
from character.diffing.suite import Format, Item
from character.language import language_of
from character.rows import Answer, Measurement
from character.text import accepted, asks_follow_up, refuses, repeated_share, sentences

STYLE = {  # metric -> how it reads in a report; the units are per answer
    "words": "words",
    "follow_up_question": "ends by asking",
    "questions": "questions",
    "exclamations": "exclamation marks",
    "list_lines": "list lines",
    "headings": "headings",
    "bold": "bold spans",
    "emoji": "emoji",
    "refusal": "refuses",
    "first_person": "says I, me or my",
    "as_an_ai": "speaks of being an AI",
    "repetition": "repeated 4-grams",
    "sentiment": "sentiment (VADER)",
    "other_language": "another language",
}
LENGTH = "words"
LAYOUT = ("list_lines", "headings", "bold")  # what length-controlled judging adjusts for besides
RIGHT, WRONG_BELIEF, FORMAT_KEPT = "right", "wrong_belief", "format_kept"

_LIST = re.compile(r"^[ \t]*(?:[-*+•]|\d+[.)])[ \t]+\S", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}[ \t]", re.MULTILINE)
_BOLD = re.compile(r"\*\*(?=\S)[^*\n]+(?<=\S)\*\*")
_CODE = re.compile(r"^```.*?(?:^```|\Z)", re.MULTILINE | re.DOTALL)
_GRAPHEME = regex.compile(r"\X")
# a sign such as (c) is text until a variation selector makes it a picture
_EMOJI = regex.compile(
    r"\p{Emoji_Presentation}|\p{Emoji}\uFE0F|\p{Regional_Indicator}"
    r"|[\u2600-\u27BF\U0001F000-\U0001FAFF&&\p{Extended_Pictographic}]",
    regex.VERSION1,
)
_FIRST_PERSON = re.compile(r"\bI\b|\b(?i:me|my|mine|myself)\b")
_AS_AN_AI = re.compile(
    r"\b(?:as|i am|i'm) an? (?:ai|(?:large )?language model|chatbot|(?:ai )?assistant)\b",
    re.IGNORECASE,
)
_FENCE = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)
_GREETING = re.compile(
    r"(?:dear|hi|hello|hey|good (?:morning|afternoon|evening|day))\b|[\w ]{2,40},$", re.IGNORECASE
)
_PROGRAM = (
    ast.Call, ast.BinOp, ast.Subscript, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
    ast.Lambda, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
)  # fmt: skip


def count(answers: Sequence[Answer], items: Mapping[str, tuple[Item, int]]) -> list[Measurement]:
    """Everything that can be counted in each answer; `items` maps query ids to (item, turn)."""
    found = []
    for answer in answers:
        item, turn = items[answer.query_id]
        if answer.failure:
            metrics: dict[str, float | None] = dict.fromkeys(_metrics_of(item))
        elif item.accept:
            metrics = _short(item, answer.text)
        else:
            metrics = _style(answer, item.turns[turn])
            if item.format:
                metrics[FORMAT_KEPT] = float(keeps_format(item.format, answer.text))
        found += [measurement(answer, metric, value) for metric, value in metrics.items()]
    return found


def keeps_format(wanted: Format, reply: str) -> bool:
    """Whether a reply is only what was asked for."""
    text = "\n".join(reply.splitlines()).strip()
    fenced = _FENCE.fullmatch(text)
    body = fenced.group(1) if fenced else text
    if wanted == "code":
        return _is_code(body)
    if wanted == "email":
        lines = [line.strip() for line in body.splitlines() if line.strip()]
        if lines and lines[0].lower().startswith("subject:"):
            lines = lines[1:]
        return len(lines) >= 3 and _GREETING.match(lines[0]) is not None
    try:
        value = json.loads(body, parse_constant=_not_json)
    except (ValueError, RecursionError):  # RecursionError: thousands of brackets
        return False
    if wanted == "json":
        return isinstance(value, dict | list)
    return isinstance(value, dict) and {"name", "arguments"} <= value.keys()


def _metrics_of(item: Item) -> list[str]:
    if item.accept:
        return [RIGHT, WRONG_BELIEF] if item.wrong else [RIGHT]
    return [*STYLE, FORMAT_KEPT] if item.format else list(STYLE)


def _short(item: Item, text: str) -> dict[str, float | None]:
    right = accepted(text, [answer.lower() for answer in item.accept])
    found: dict[str, float | None] = {RIGHT: float(right)}
    if item.wrong:  # a reply that names both corrects the belief
        found[WRONG_BELIEF] = float(
            not right and accepted(text, [belief.lower() for belief in item.wrong])
        )
    return found


def _style(answer: Answer, query: str) -> dict[str, float | None]:
    text, prose = answer.text, _CODE.sub("", answer.text)
    straight = text.replace("\u2019", "'")  # as many models write their apostrophes
    spoken, asked = language_of(text), language_of(query)
    graphemes = _GRAPHEME.findall(text)
    return {
        "words": float(len(text.split())),
        "follow_up_question": float(asks_follow_up(query, text)),
        "questions": float(sum(part.rstrip("\"')]*_").endswith("?") for part in sentences(prose))),
        "exclamations": float(prose.count("!")),
        "list_lines": float(len(_LIST.findall(prose))),
        "headings": float(len(_HEADING.findall(prose))),
        "bold": float(len(_BOLD.findall(prose))),
        "emoji": float(sum(_EMOJI.search(grapheme) is not None for grapheme in graphemes)),
        "refusal": float(refuses(text)),
        "first_person": float(len(_FIRST_PERSON.findall(text))),
        "as_an_ai": float(bool(_AS_AN_AI.search(straight))),
        "repetition": repeated_share(text),
        "sentiment": _sentiment().polarity_scores(text)["compound"] if text.strip() else None,
        "other_language": float(spoken != asked) if spoken and asked else None,
    }


def _is_code(body: str) -> bool:
    try:
        with warnings.catch_warnings(action="ignore"):  # '\d' is code, if not the best
            tree = ast.parse(body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    if any(not isinstance(statement, ast.Expr) for statement in tree.body):
        return True
    # a bare word, or "yes or no", parses as Python and is no program
    return any(isinstance(node, _PROGRAM) for node in ast.walk(tree))


def _not_json(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


@lru_cache
def _sentiment() -> SentimentIntensityAnalyzer:
    return SentimentIntensityAnalyzer()
