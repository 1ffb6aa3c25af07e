"""Blessed versions in the terminal: a trend for each trait."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from character.blessed import Blessed, TraitThen
from character.report.printable import printable
from character.report.terminal import MISSING, simple_table


def history_table(found: Sequence[Blessed]) -> Group:
    """Trait by trait, oldest first. Rows of another suite or examiner cannot be compared."""
    if not found:
        return Group(Text("No version is blessed yet."))
    parts: list[RenderableType] = []
    for trait in dict.fromkeys(trait for entry in found for trait in entry.traits):
        table = simple_table(trait, "NEW minus OLD", "Dose", "Verdict", "Suite")
        for entry in found:
            if trait in entry.traits:
                then = entry.traits[trait]
                named = f"{entry.when[:10]} {entry.new} against {entry.old}"
                dose = MISSING if then.dose is None else f"{then.dose:+.0%}"
                table.add_row(
                    Text(printable(named)), _moved(then), dose, then.verdict, entry.suite[:6]
                )
        parts.append(table)
    if len({(entry.suite, entry.examiner) for entry in found}) > 1:
        parts.append(
            Text("Rows of different suites or examiners cannot be compared.", style="bold yellow")
        )
    return Group(*parts)


def _moved(then: TraitThen) -> str:
    if then.value is None or then.low is None or then.high is None:
        return MISSING
    return f"{then.value:+.3f} [{then.low:+.3f}, {then.high:+.3f}]"
