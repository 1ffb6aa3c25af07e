"""A diff as one HTML page that needs nothing else: no network, no font, no other file.

The replies lie in the page as JSON and are only ever set as text; the page's own script is the
one that its content security policy lets run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from jinja2 import Environment
from markupsafe import Markup

from character.diffing.results import Result
from character.diffing.themes import Theme
from character.report import plots
from character.report.diff_content import DiffReport, Example
from character.report.diff_terminal import (
    ADDED,
    CIRCULAR,
    QUICK,
    added,
    caused,
    certainty,
    count,
    moved,
    name,
    number,
    share,
    side_effects,
    traits_line,
)
from character.report.judge_card import verdict_on
from character.report.page import templates, typeset
from character.report.printable import printable
from character.report.terminal import memory_text, minutes_text

TEMPLATE = "diff.html.jinja"


def render_diff(report: DiffReport) -> str:
    """The whole page; the same report gives the same bytes."""
    difference = report.difference
    traits, effects = difference.of("trait"), side_effects(difference)
    page = (
        _environment()
        .get_template(TEMPLATE)
        .render(
            report=report,
            title=f"{report.old.reference} to {report.new.reference}",
            headline=traits_line(report),
            quick=QUICK,
            circular=CIRCULAR,
            traits=traits,
            quality=[*difference.of("unless"), *difference.of("quality")],
            effects=effects,
            caused=caused(difference),
            added_note=ADDED,
            unmoved=[
                result
                for result in (*difference.of("style"), *difference.of("panel"))
                if result not in effects
            ],
            forest=_plot(traits, "forest"),
            panel=_plot(difference.of("panel"), "panel"),
            data=[_row(example) for example in report.examples],
        )
    )
    return printable(page)


def _plot(results: Sequence[Result], name: str) -> Markup:
    rows = [(result.title, result.movement, result.verdict) for result in results]
    return Markup(plots.changes(rows, name, results[0].unit)) if rows else Markup("")


def _row(example: Example) -> dict[str, object]:
    """An example as the page's script reads it; short keys, for there may be thousands."""
    gains = {
        trait: round(gain, 4)
        for trait, gain in example.gains.items()
        if gain is not None and math.isfinite(gain)
    }
    return {
        "id": example.id, "s": example.stratum, "t": example.trait, "c": example.clause,
        "v": example.variant, "q": example.query, "o": example.old, "n": example.new, "g": gains,
    }  # fmt: skip


def _environment() -> Environment:
    environment = templates()
    environment.filters.update(
        test_verdict=verdict_on,
        moved=lambda result: typeset(moved(result)),
        added=lambda cell: typeset(added(cell)),
        share=lambda ratio: typeset(share(ratio)),
        number=lambda value: typeset(number(value)),
        signed=lambda value: typeset(number(value, sign=True)),
        minutes=minutes_text,
        memory=memory_text,
        called=lambda found: name(found) if isinstance(found, Theme) else found.statement,
        count=count,
        certainty=lambda found: typeset(certainty(found)),
        percent=lambda value: typeset(f"{value:.0%}".replace("%", " %")),
        words=lambda text: text.replace("_", " "),
    )
    return environment
