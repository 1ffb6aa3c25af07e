"""What `character.check` found, as lines for a person and as JSON for a program."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from character.report.printable import printable
from character.spec.constitution_file import HELPLESS, Resolved
from character.spec.lint import Checked, Finding
from character.spec.rules import RULES

if TYPE_CHECKING:  # loads a judge
    from character.judging.measures import Measured

VERSION = 1  # of the JSON


def findings_text(checked: Checked) -> str:
    """One finding after the other as a compiler prints them, then what was read and how it went.

    A reason, or a fix, that several findings share is told with the first of them.
    """
    told: set[str] = set()
    lines = [line for finding in checked.findings for line in _lines(finding, told)]
    for source in checked.sources:
        trait = source.trait
        clauses, examples = len(trait.clauses), len(trait.examples)
        worst = {f.rule.severity for f in checked.findings if f.path == str(source.path)}
        verdict = "fine" if not worst & {"error", "warning"} else "see above"
        lines.append(
            f"{source.path}: {trait.title}, {clauses} clauses, {examples} examples: {verdict}"
        )
    for path, resolved in checked.constitutions:
        lines += _resolved(path, resolved)
    counts = Counter(finding.rule.severity for finding in checked.findings)
    if counts:
        amounts = (
            f"{counts[kind]} {kind}{_plural(kind, counts[kind])}"
            for kind in ("error", "warning", "advice")
            if counts[kind]
        )
        lines.append(
            f"Found {', '.join(amounts)}. Every rule and its reason: character.check --rules"
        )
    return printable("\n".join(lines))


def findings_json(checked: Checked, measured: Measured | None = None, **more: Any) -> str:
    """With `measured`, what a model was measured to do, beside the findings that came of it;
    `more` are further members of the object."""
    rows = [
        asdict(finding) | {"severity": finding.rule.severity, "why": finding.rule.why}
        for finding in checked.findings
    ]
    traits = [{"path": str(s.path), "id": s.trait.id} for s in checked.sources]
    constitutions = [
        {
            "path": str(path),
            "id": resolved.name,
            "helpfulness_first": resolved.helpfulness_first,
            "traits": [
                {"id": one.trait.id, "weight": one.weight, "authority": one.trait.authority}
                for one in resolved.listed
            ],
        }
        for path, resolved in checked.constitutions
    ]
    content: dict[str, Any] = {
        "constitutions": constitutions,
        "version": VERSION,
        "worst": checked.worst,
        "traits": traits,
        "findings": rows,
    }
    if measured:
        content["measured"] = asdict(measured)
    return json.dumps(content | more, indent=2)


def rules_text() -> str:
    return "\n".join(
        f"{code} ({rule.severity})\n  {rule.about} {rule.why}" for code, rule in RULES.items()
    )


def _resolved(path: Path, resolved: Resolved) -> list[str]:
    """What a constitution comes to, in the order of priority."""
    lines = [f"{path}: {resolved.name}, in this order:"]
    for number, one in enumerate(resolved.listed, 1):
        trait = one.trait
        lines.append(
            f"  {number}. {trait.id}, {trait.authority}, weight {one.weight:g}, by "
            f"{one.said_by.name}"
        )
    if not resolved.helpfulness_first:
        lines.append(f"  {HELPLESS}")
    return lines


def _lines(finding: Finding, told: set[str]) -> list[str]:
    place = f"{finding.path}:{finding.line}:{finding.column}"
    first = f"{place}: {finding.rule.severity} [{finding.code}] {finding.what}"
    if not finding.fix:
        return [first]
    new = [text for text in (finding.rule.why, finding.fix) if text not in told]
    told.update(new)
    return [first, *(f"    {text}" for text in new)]


def _plural(kind: str, count: int) -> str:
    return "s" if count > 1 and kind != "advice" else ""
