"""Judge cards in the terminal, as JSON and as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from character.judging.agreement import Agreement, as_examples
from character.judging.card import Card, ClauseTest, Test, refusal
from character.judging.discriminant import Discriminant
from character.report.page import templates
from character.report.plots import shares
from character.report.printable import printable
from character.report.terminal import MISSING, simple_table

TEMPLATE = "judge_card.html.jinja"
STYLES = {"holds": "green", "missed": "bold red", "not measured": "yellow", "no bar": ""}


def verdict_on(test: Test) -> str:
    """ "holds", "missed", "not measured", or "no bar"."""
    if test.passed is not None:
        return "holds" if test.passed else "missed"
    return "no bar" if test.value is not None else "not measured"


def cards_text(cards: Sequence[Card], discriminant: Discriminant | None = None) -> Group:
    """One table a card, what keeps its judge out, and the matrix of several traits."""
    parts: list[RenderableType] = []
    for card in cards:
        parts += [_table(card), *(Text(printable(line), style="red") for line in refusal(card))]
        parts.append(Text())
    if discriminant:
        parts.append(_matrix(discriminant))
    return Group(*parts)


def agreement_text(found: Agreement) -> Group:
    """Clauses that split two judges, and for those that are probably unclear what to paste."""
    table = simple_table(printable(found.trait))
    for title in ("they differ in", "95 %", "contests", ""):
        table.add_column(title)
    for split in found.clauses:
        table.add_row(
            printable(split.clause), f"{split.value:.0%}", f"[{split.low:.2f}, {split.high:.2f}]",
            str(split.count), Text("probably unclear" if split.unclear else "", style="yellow"),
        )  # fmt: skip
    kappa = MISSING if found.kappa is None else f"{found.kappa:.2f}"
    table.caption = printable(
        f"{found.judges[0]}, and {found.judges[1]}: Cohen's kappa {kappa};"
        f" {found.missing} contests not decided by both."
    )
    parts: list[RenderableType] = [table]
    for split in found.clauses:
        if split.unclear:
            parts.append(Text(f"\nSay which is better and why, and paste into {found.trait}.yaml:"))
            parts.append(Text(printable(as_examples(split)), style="cyan"))
    return Group(*parts)


def clause_text(clause: ClauseTest) -> str:
    told = f"{clause.value:.2f} [{clause.low:.2f}, {clause.high:.2f}] of {clause.count}"
    return f"{told}, at chance: no pair is made from it" if clause.at_chance else told


def cards_page(cards: Sequence[Card], discriminant: Discriminant | None = None) -> str:
    """One HTML page without network; everything that was written is escaped."""
    environment = templates()
    environment.filters.update(
        test_verdict=verdict_on, clause=clause_text, percent=_percent,
        intervals=_intervals, cell=_cell,
    )  # fmt: skip
    page = environment.get_template(TEMPLATE).render(cards=cards, discriminant=discriminant)
    return printable(page)


def _table(card: Card) -> Table:
    table = simple_table(printable(card.trait))
    for title in ("Value", "95 %", "Verdicts"):
        table.add_column(title, justify="right")
    table.add_column("Bar")
    table.add_column("")
    for test in card.tests:
        count = f"{test.count}" + (f", {test.missing} missing" if test.missing else "")
        table.add_row(
            printable(test.name), test.shown, test.interval, count,
            test.bar + (" *" if test.required else ""),
            Text(verdict_on(test), style=STYLES[verdict_on(test)]),
        )  # fmt: skip
    told = f"{card.judge}. * required: below it, a build refuses the judge."
    if card.calibration:
        c = card.calibration
        told += (
            f" Calibration error {c.before:.3f}, {c.after:.3f} at temperature {c.temperature:.3g}"
            f" ({c.pairs} pairs). It decides where it is {c.sure:.0%} sure or more: in"
            f" {c.decided:.0%} of them, and is right in {_percent(c.right)} of those."
        )
    if card.same_family:
        told += " Planter and judge are the same model: read the strong doses as an upper limit."
    if chance := [clause.clause for clause in card.clauses if clause.at_chance]:
        told += f" At chance on: {', '.join(chance)}."
    table.caption = printable(told)
    return table


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{value:.0%}"


def _matrix(found: Discriminant) -> Table:
    table = simple_table("What planting a trait (rows) moves (columns)")
    for trait in found.traits:
        table.add_column(printable(trait), justify="right")
    for number, (trait, row) in enumerate(zip(found.traits, found.values, strict=True)):
        cells = [
            Text(_cell(value), style="bold" if column == number else "")
            for column, value in enumerate(row)
        ]
        table.add_row(printable(trait), *cells)
    table.caption = (
        f"Mean preference less a half. The planted trait moved most in"
        f" {found.largest_on_diagonal} of {len(found.traits)} rows."
    )
    return table


def _cell(value: float | None) -> str:
    return MISSING if value is None else f"{value:+.2f}"


def _intervals(card: Card) -> str:
    """The tests that are shares, with their intervals on one axis."""
    rows = [
        (test.name, test.value, test.low, test.high, verdict_on(test) == "missed")
        for test in card.tests
        if test.value is not None and test.low is not None and test.high is not None
    ]
    return shares(rows, f"card-{card.trait}")
