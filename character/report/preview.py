"""A preview in the terminal and as one HTML page."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from character.report.page import templates
from character.report.preview_content import Averages, Preview, Shown
from character.report.printable import printable
from character.report.terminal import MISSING, simple_table

TEMPLATE = "preview.html.jinja"
STYLES = {"steered": "cyan", "plain": ""}


def preview_text(found: Preview) -> Group:
    """Averages, what they say about the file, and for each clause its queries and replies."""
    parts: list[RenderableType] = [_averages(found)]
    parts += [Text(printable(f"! {line}"), style="yellow") for line in found.advice]
    for clause, text in found.clauses.items():
        parts += [Text(), Text(printable(f"{clause}: {text}"), style="bold")]
        for query in found.of(clause):
            where = ", ".join(part for part in (query.topic, query.register) if part)
            parts.append(Text(printable(f"  {query.query}" + (f"  ({where})" if where else ""))))
            for reply in query.replies:
                said = " ".join(reply.text.split()) or "(empty)"
                told = f"    {place_text(reply):<15} {reply.style}, {reasons(reply)}\n      {said}"
                parts.append(Text(printable(told), style=STYLES[reply.style]))
    return Group(*parts)


def preview_page(found: Preview, path: str) -> str:
    """One HTML page without network; everything that was written is escaped."""
    environment = templates()
    environment.filters.update(place=place_text, reasons=reasons, number=_number, percent=_percent)
    page = environment.get_template(TEMPLATE).render(found=found, path=path)
    return printable(page)


def place_text(reply: Shown) -> str:
    if reply.place.group == 0:
        return f"{reply.place.tier}."
    return "below the floor" if reply.place.group == 1 else "not judged"


def reasons(reply: Shown) -> str:
    """What the place was made of: "contrast +0.21, checks 1.00, relevance +0.40, 38 words"."""
    if reply.failed:
        return f"not judged: {reply.failed}"
    parts = [f"contrast {_number(reply.contrast)}"]
    if reply.checks is not None:
        parts.append(f"checks {reply.checks:.2f}")
    parts += [f"relevance {_number(reply.relevance)}", f"{reply.words} words", *reply.flaws]
    return ", ".join(parts)


def _averages(found: Preview) -> Table:
    table = simple_table(f"{found.title}, before training")
    for title in ("Replies", "Contrast", "Checks", "Answers", "Words"):
        table.add_column(title, justify="right")
    for name, style in (("plain", found.plain), ("steered", found.steered)):
        table.add_row(name, *_cells(style))
    best = _percent(found.won)
    table.caption = f"A steered reply is the best to {best} of {len(found.queries)} queries."
    return table


def _cells(style: Averages) -> tuple[str, ...]:
    words = MISSING if style.words is None else f"{style.words:.0f}"
    return (
        f"{style.replies}", _number(style.contrast), _percent(style.checks),
        _percent(style.answers), words,
    )  # fmt: skip


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:+.2f}"


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{value:.0%}"
