"""What `character.check --measure` measured, as tables."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from character.judging.card import Test
from character.judging.halves import Ambiguity
from character.judging.measures import Measured, Measures
from character.judging.nearness import Confusion, Nearness
from character.judging.pull import Pull
from character.report.judge_card import STYLES, clause_text, verdict_on
from character.report.printable import printable
from character.report.terminal import MISSING, simple_table


def measured_text(measured: Measured) -> Group:
    """Three tables a trait, and one of how several pull on each other."""
    parts: list[RenderableType] = []
    for found in measured.traits:
        parts += _trait(found)
    if measured.pulls:
        parts.append(_pulls(measured.pulls))
    told = f"Measured on {measured.model} in {measured.seconds:.0f} s."
    parts.append(Text(printable(told)))
    return Group(*parts)


def _trait(found: Measures) -> Iterator[RenderableType]:
    if found.missing:
        yield Text(printable(f"{found.trait}: not measured. {found.missing}"))
        return
    yield _tests(found.trait, found.tests)
    yield _clauses(found)
    if found.confusion and len(found.confusion.clauses) > 1:
        yield _confusion(found.confusion)


def _tests(trait: str, tests: tuple[Test, ...]) -> Table:
    table = simple_table(printable(f"{trait}: the better of two planted replies"), "won", "95 %")
    for title in ("contests", "bar", ""):
        table.add_column(title)
    for test in tests:
        count = f"{test.count}" + (f", {test.missing} missing" if test.missing else "")
        verdict = Text(verdict_on(test), style=STYLES[verdict_on(test)])
        table.add_row(test.name, test.shown, test.interval, count, test.bar, verdict)
    return table


def _clauses(found: Measures) -> Table:
    table = simple_table("clause", "the better reply won", "the halves of its examples differ")
    judged = {test.clause: clause_text(test) for test in found.clauses}
    for each in found.ambiguities:
        told = judged.get(each.clause, MISSING)
        table.add_row(printable(each.clause), told, _halves(each))
    return table


def _halves(found: Ambiguity) -> str:
    if found.split is None:
        return f"{MISSING}: {found.note}"
    split = found.split
    told = f"{split.value:.2f} [{split.low:.2f}, {split.high:.2f}] of {split.count}"
    return f"{told}, ambiguous" if found.ambiguous else told


def _confusion(found: Confusion) -> Table:
    table = simple_table("learns from, nats a token", *map(printable, found.clauses))
    table.add_column("its own less the nearest other", overflow="fold")
    beside = {each.clause: each for each in found.beside}
    for number, (name, row) in enumerate(zip(found.clauses, found.values, strict=True)):
        cells = [
            Text(_signed(value), style="bold" if column == number else "")
            for column, value in enumerate(row)
        ]
        table.add_row(printable(name), *cells, _beside(beside.get(name)))
    return table


def _beside(found: Nearness | None) -> str:
    if found is None or found.value is None:
        return f"{MISSING}: it has fewer than two examples"
    interval = "no interval" if found.low is None else f"[{found.low:+.2f}, {found.high:+.2f}]"
    told = f"{found.value:+.2f} {interval}, {found.count} examples"
    return f"{told}, confused" if found.nearer else told


def _pulls(pulls: tuple[Pull, ...]) -> Table:
    names = list(dict.fromkeys(found.judged for found in pulls))
    table = simple_table("planting moves, nats a token", *map(printable, names))
    cells = {(found.planted, found.judged): found for found in pulls}
    for planted in names:
        row = [_pulled(cells[planted, judged]) for judged in names]
        table.add_row(printable(planted), *row)
    return table


def _pulled(found: Pull) -> str:
    if found.value is None:
        return MISSING
    return f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def _signed(value: float | None) -> str:
    return MISSING if value is None else f"{value:+.2f}"
