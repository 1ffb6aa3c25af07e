"""A diff for other programs: JSON with a published schema, JUnit XML, Markdown."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree import ElementTree

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import FloatSchema

from character.diffing.discovery import Discovery
from character.diffing.results import Contribution, Kept, Result
from character.diffing.verdicts import Decision, Tier
from character.judging.card import Card
from character.report.diff_content import DiffReport, Side
from character.report.diff_terminal import (
    CIRCULAR,
    QUICK,
    added,
    caused,
    moved,
    sentence,
    share,
    side_effects,
)
from character.report.printable import printable

FAILS = ("REGRESSED",)
UNSURE = ("INCONCLUSIVE", "CONFOUNDED", "UNMEASURABLE")


@dataclass(frozen=True, slots=True)
class Page:
    """diff.json: everything but the replies; a number that is missing is null."""

    schema: Literal[1]
    old: Side
    new: Side
    suite: str
    items: dict[str, int]
    overlap: dict[str, str]
    examiner: str
    circular: bool
    quick: bool
    word: Literal["PASS", "REGRESSION", "UNDERPOWERED", "INVALID"]
    decision: Decision
    results: tuple[Result, ...]
    kept: tuple[Kept, ...]
    tiers: dict[str, Tier]
    specificity: dict[str, float]
    discovery: Discovery | None
    seconds: float
    peak_bytes: int
    config: dict[str, Any]
    versions: dict[str, str]
    judge_cards: tuple[Card, ...]
    without: dict[str, Side]
    contributions: tuple[Contribution, ...]


def as_json(report: DiffReport) -> str:
    difference, decision = report.difference, report.decision
    page = Page(
        1, report.old, report.new, report.suite, dict(report.asked), dict(report.overlap),
        report.examiner, report.circular, report.quick, decision.word, decision,
        difference.results, difference.kept,
        {judged.name: report.gate.tier_of(judged.name) for judged in difference.judged},
        dict(difference.specificity), report.discovery, report.seconds, report.peak_bytes,
        dict(report.config), dict(report.versions), tuple(report.judge_cards),
        dict(report.without), difference.contributions,
    )  # fmt: skip
    return TypeAdapter(Page).dump_json(page, indent=1).decode() + "\n"


def json_schema() -> str:
    """The JSON Schema (2020-12) of diff.json."""
    schema = TypeAdapter(Page).json_schema(mode="serialization", schema_generator=_Nullable)
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(dialect | schema, indent=2) + "\n"


class _Nullable(GenerateJsonSchema):
    """Numbers that are not finite are written as null: the bounds of an interval without end."""

    def float_schema(self, schema: FloatSchema) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), {"type": "null"}]}


def as_junit(report: DiffReport) -> str:
    """A test case for every critical and supporting result; what is unsure is skipped."""
    suite = ElementTree.Element("testsuite", name="character diff")
    failures = skipped = tests = 0
    for judged in report.difference.judged:
        tier = report.gate.tier_of(judged.name)
        if tier == "advisory":
            continue
        tests += 1
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"character.{tier}", name=printable(judged.name)
        )
        told = printable(f"{judged.verdict}: {judged.why}")
        missed = judged.verdict == "HELD" and judged.expect in ("up", "down") and tier == "critical"
        if judged.verdict in FAILS or missed:
            failures += 1
            ElementTree.SubElement(case, "failure", message=told)
        elif judged.verdict in UNSURE:
            skipped += 1
            ElementTree.SubElement(case, "skipped", message=told)
    suite.attrib.update(tests=str(tests), failures=str(failures), skipped=str(skipped))
    if report.decision.code == 3:
        case = ElementTree.SubElement(suite, "testcase", classname="character", name="valid")
        ElementTree.SubElement(case, "error", message=printable("; ".join(report.decision.reasons)))
        suite.attrib.update(tests=str(tests + 1), errors="1")
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def as_markdown(report: DiffReport) -> str:
    """A comment for a pull request."""
    lines = [f"## character diff: {report.decision.word}", "", _cell(sentence(report)), ""]
    if report.quick:
        lines += [QUICK, ""]
    lines += [f"- {_cell(reason)}" for reason in report.decision.reasons]
    lines += [""] if report.decision.reasons else []
    lines += ["| | NEW minus OLD | dose | verdict | why |", "|---|---|---|---|---|"]
    for result in report.difference.results:
        if result.group in ("trait", "unless", "quality"):
            dose = share(result.dose) if result.group == "trait" else ""
            cells = (result.title, moved(result), dose, result.verdict, result.why)
            lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    if found := side_effects(report.difference):
        lines += ["", "Moved, though nobody asked: "]
        lines += [f"- {_cell(result.title)}: {moved(result)}" for result in found]
    if blamed := [
        f"- {_cell(result.title)}: {_cell(report.traits[cell.trait])}, {added(cell)}"
        for result, cells in caused(report.difference)
        for cell in cells
        if cell.discovered
    ]:
        lines += ["", "Which trait caused it, and how much: ", *blamed]
    if report.circular:
        lines += ["", CIRCULAR]
    lines += ["", f"OLD {_cell(report.old.reference)}, NEW {_cell(report.new.reference)}, "
              f"suite {report.suite}, examiner {_cell(report.examiner)}."]  # fmt: skip
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text that neither breaks a table nor means anything in Markdown or HTML."""
    safe = printable(text).replace("\n", " ")
    for sign in "\\`*_{}[]<>|#":
        safe = safe.replace(sign, f"\\{sign}")
    return safe
