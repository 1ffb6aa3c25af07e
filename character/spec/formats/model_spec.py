"""OpenAI's Model Spec: Markdown whose sections with an authority are instructions."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, takewhile
from typing import get_args

from character.errors import SpecError
from character.spec.drafts import MARK, marked
from character.spec.formats.imported import Imported, Shown, Told, imported
from character.spec.schema import Authority
from character.yaml_file import shorten

EXPECTED = "Markdown with a section such as `## Be kind {#be_kind authority=guideline}`"
FENCE = re.compile(r" {0,3}(~~~+|```+)")
TURN = re.compile(r"<(user|assistant|system|developer|tool)\b[^>]*>(.*)")
CONTINUES = re.compile(r"\s|[-*+] |\d{1,3}[.)] ")  # a list goes with the paragraph before it
VERDICTS = ("GOOD", "BAD")
FOOTNOTE = re.compile(r"\[\^(\w{1,40})\]")


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    id: str
    attributes: dict[str, str]
    blocks: list[tuple[str, list[str]]] = field(default_factory=list)  # (kind, lines)


@dataclass(frozen=True, slots=True)
class Turn:
    """A message; inside a comparison the comment behind its tag is GOOD or BAD, with the reason."""

    role: str
    comment: str
    text: str


def read(text: str, name: str) -> list[Imported]:
    """One trait for each section with an authority; `name` is not needed, sections have their own.

    The Spec speaks of "the assistant", so paragraphs become drafts of clauses, and commentary a
    draft of the rationale. A comparison after one user message gives examples of the paragraph
    before it.
    """
    sections = list(_sections(text))
    told = [_told(section) for section in sections if "authority" in section.attributes]
    if not told:
        raise SpecError(f"expected {EXPECTED}. Found none.")
    silent = [
        f"section {shorten(section.title)}: it has no authority, so it instructs nothing"
        for section in sections
        if "authority" not in section.attributes
    ]
    first, *others = imported(told)
    return [Imported(first.fields, first.missing, (*silent, *first.dropped)), *others]


def is_one(text: str) -> bool:
    lines = text.splitlines()
    return any(line.startswith("#") and "authority" in _heading(line).attributes for line in lines)


# --- from text to sections ---


def _sections(text: str) -> Iterator[Section]:
    section = Section("before the first heading", "", {})
    for kind, group in groupby(_kinds(text), key=lambda pair: pair[0]):
        lines = [line for _, line in group]
        if kind == "heading":
            for line in lines:
                if section.blocks or section.id:
                    yield section
                section = _heading(line)
        elif kind == "paragraph" and CONTINUES.match(lines[0]) and _ends_in_prose(section):
            section.blocks[-1][1].extend(lines)
        elif kind:
            section.blocks.append((kind, lines))
    if section.blocks or section.id:
        yield section


def _kinds(text: str) -> Iterator[tuple[str, str]]:
    """Every line with what it is part of; nothing where a block ends."""
    kind = fence = ""
    for line in text.splitlines():
        mark = FENCE.match(line)
        if fence and mark and mark[1].startswith(fence) and mark[1] == line.strip():
            fence = kind = ""
        elif fence:
            kind = "code"
        elif mark:
            fence, kind = mark[1], ""
        elif line.startswith("#") and line.lstrip("#").startswith(" "):
            kind = "heading"
        elif line.startswith("!!!"):
            kind = "commentary"
        elif kind == "commentary" and (not line.strip() or line[0].isspace()):
            pass
        elif line.startswith("**Example**"):
            kind = "example"
        else:
            kind = "paragraph" if line.strip() else ""
        yield kind, line
    if fence:
        raise SpecError(f"expected {EXPECTED}. Found: a code block, {fence}, without its end.")


def _heading(line: str) -> Section:
    plain = line.strip("# \t")
    title, brace, given = plain.removesuffix("}").rpartition("{#")
    if not (brace and plain.endswith("}")):
        return Section(plain, plain, {})
    identity, *pairs = given.split() or [""]
    attributes = {key: value for key, _, value in (pair.partition("=") for pair in pairs)}
    return Section(title.strip(), identity, attributes)


def _ends_in_prose(section: Section) -> bool:
    return bool(section.blocks) and section.blocks[-1][0] == "paragraph"


# --- from a section to a trait ---


def _told(section: Section) -> Told:
    clauses: list[tuple[str, str]] = []
    examples: list[Shown] = []
    notes: list[str] = []
    dropped = [f"{key}={value}" for key, value in section.attributes.items() if key != "authority"]
    title = "an example without a title"
    for kind, lines in section.blocks:
        text = "\n".join(lines)
        if kind == "paragraph":
            footnotes = FOOTNOTE.findall(text)
            clauses.append((" ".join(["claim", *footnotes]), marked(FOOTNOTE.sub("", text))))
            dropped += [f"footnote {note}: its prompts are not in this file" for note in footnotes]
        elif kind == "commentary":
            notes += lines[1:]
        elif kind == "example":
            title = shorten(text.removeprefix("**Example**").strip(": "))
        else:
            found, rest = _examples(text, max(len(clauses) - 1, 0))
            examples += found
            dropped += [f"example {title}: {rest}"] if rest else []
    authority = section.attributes["authority"]
    known = authority in get_args(Authority)
    if not known:
        dropped.append(f"authority={authority}: set `authority` yourself, it is guideline now")
    return Told(
        section.id.replace("_", " "),
        clauses,
        title=section.title,
        authority=authority if known else "",
        rationale=marked(" ".join(notes)) if "".join(notes).strip() else "",
        examples=examples,
        dropped=dropped,
    )


def _examples(code: str, clause: int) -> tuple[list[Shown], str]:
    """An example for every bad reply, and what of the talk could not be carried."""
    turns = list(_turns(code))
    compared = list(takewhile(lambda turn: turn.comment.startswith(VERDICTS), turns[1:]))
    if not compared or turns[0].role != "user":
        return [], "not a comparison right after one user message"
    good = next((turn for turn in compared if turn.comment.startswith("GOOD")), None)
    bads: list[Turn | None] = [turn for turn in compared if turn.comment.startswith("BAD")]
    asked = _whole(turns[0])
    shown = [
        Shown(clause, asked, _whole(good), _whole(bad), _why(good, bad)) for bad in bads or [None]
    ]
    left = len(turns) - 1 - len(bads) - (good is not None)
    return shown, f"{left} of its messages" if left else ""


def _whole(turn: Turn | None) -> str:
    """The message; a draft when the Spec leaves out a part of it with [...]."""
    said = turn.text if turn else ""
    return f"{MARK} {said}" if "[..." in said else said


def _why(*turns: Turn | None) -> str:
    """The reasons in the comments, each said of its reply; blank when there are none."""
    reasons = (turn.comment.partition(":") for turn in turns if turn)
    return " ".join(
        f"{said.capitalize()}: {why.strip()}." for said, _, why in reasons if why.strip()
    )


def _turns(code: str) -> Iterator[Turn]:
    role, comment, lines = "", "", list[str]()
    for line in code.splitlines():
        tag = None if role else TURN.match(line)
        if tag:
            role, lines = tag[1], []
            comment = tag[2].strip().removeprefix("<!--").removesuffix("-->").strip()
        elif role and line.strip() == f"</{role}>":
            yield Turn(role, comment, html.unescape("\n".join(lines)).strip())
            role = ""
        elif role:
            lines.append(line)
    if role:  # it has no end: to be counted, not to be carried
        yield Turn(role, "", "")
