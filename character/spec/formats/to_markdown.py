"""A trait as a document for people outside the project: the intended behaviour, in Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from character.spec.schema import Authority, Example, Trait

LEFT_OUT = "queries, checks, clause weights, expect, margin, controls"
INLINE = re.compile(r"[\\`*_\[\]#|~$]")
AT_START = re.compile(r"^([ \t]*)([-+=]|\d+(?=[.)]))", re.MULTILINE)

WINS: dict[Authority, str] = {
    "root": "Nothing in a conversation overrides this.",
    "system": "Only root rules and the system override this.",
    "developer": "Developers may override this, users may not.",
    "user": "Users may override this by saying so.",
    "guideline": "A default: whatever the conversation asks for may override it.",
}


def to_markdown(trait: Trait) -> str:
    """Every clause and example, with all text escaped: none of it becomes Markdown or HTML."""
    return "\n\n".join(_paragraphs(trait)) + "\n"


def _paragraphs(trait: Trait) -> Iterator[str]:
    yield f"# {_line(trait.title)}"
    yield (
        f"Trait `{trait.id}`, version {trait.version}. Authority: {trait.authority}. "
        + (WINS[trait.authority])
    )
    yield _text(trait.statement)
    for title, said in (("The opposite", trait.opposite), ("Why", trait.rationale)):
        yield f"## {title}"
        yield _text(said)
    for title, cases in (
        ("Where it shows", trait.applies.when),
        ("Where it does not show", trait.applies.unless),
    ):
        if cases:
            yield f"## {title}"
            yield "\n".join(f"- {_line(case)}" for case in cases)
    yield "## What it does"
    for clause in trait.clauses:
        yield f"### `{clause.id}`"
        yield _text(clause.text)
        for example in trait.examples:
            if example.clause == clause.id:
                yield from _example(example)


def _example(example: Example) -> Iterator[str]:
    for who, said in (
        ("Somebody writes", example.user),
        ("A good reply", example.good),
        ("A bad reply", example.bad),
    ):
        yield f"**{who}:**"
        yield "\n".join(f"> {line}".rstrip() for line in _text(said).split("\n"))
    yield f"**Why:** {_line(example.why)}"


def _line(text: str) -> str:
    return _text(" ".join(text.split()))


def _text(text: str) -> str:
    """Escaped, with its line breaks; indentation stays, and is no code."""
    plain = "\n".join(line.rstrip() for line in text.strip().splitlines())
    escaped = INLINE.sub(r"\\\g<0>", html.escape(plain, quote=False))
    escaped = AT_START.sub(
        lambda m: f"{m[1]}{m[2]}\\" if m[2].isdigit() else f"{m[1]}\\{m[2]}", escaped
    )
    indented = re.sub(r"^[ \t]+", lambda m: "&nbsp;" * len(m[0].expandtabs(4)), escaped, flags=re.M)
    return re.sub(r"(?<=[^\n])\n(?=[^\n])", "\\\\\n", indented)
