"""Markdown as cards need it: what people and models wrote stays text wherever it is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import yaml

from character.report.printable import printable

_MARKUP = re.compile(r"([\\`*_\[\]<>#|~$])")


def document(front: str, *parts: str) -> str:
    return printable("---\n" + front + "\n---\n\n" + "\n\n".join(parts) + "\n")


def escaped(text: str) -> str:
    """One line of text with nothing in it that Markdown or HTML would act on."""
    line = " ".join(text.split()).replace("&", "&amp;")
    return _MARKUP.sub(r"\\\1", line).replace("\\<", "&lt;")


def code(text: str) -> str:
    line = " ".join(text.split())
    marks = "`" * (_longest_run(line) + 1)
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{marks}{space}{line}{space}{marks}"


def fence(text: str, language: str) -> str:
    marks = "`" * max(3, _longest_run(text) + 1)
    return f"{marks}{language}\n{text.strip()}\n{marks}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def as_yaml(values: object) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
