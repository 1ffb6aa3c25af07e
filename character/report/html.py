"""The report as one HTML page that needs nothing else: no network, no font, no other file.

Everything a person or a model wrote is escaped by the template engine. Only two things are not:
the plots, which plots.py writes as XML, and the page's own script, whose hash is the one the
page's content security policy lets run.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from character.diffing.outcome import BASE, PROMPTED, SUBJECTS, TRAINED
from character.report import plots, terminal
from character.report.content import Report

TEMPLATE = "report.html.jinja"
FIRST = 12  # comparisons shown until the reader asks for all

# What is worth trying when a measure misses its bar, by metric.
REMEDIES = {
    "short_right": "Hold the facts harder: --set training.anchors.weight=2",
    "answers": "Let more anchors hold it: --set training.anchors.weight=2",
    "fluency": "Train less: --set training.distill.epochs=1",
    "repetition": "Train less: --set training.dpo.epochs=0",
    "tokens": "Make the good and the bad example replies of each trait equally long, or set "
    "controls: {length: free} in the trait if length is its point",
}
UNMOVED = "Train longer: --set training.distill.epochs=3"


def render_report(report: Report) -> str:
    """The whole page; the same report gives the same bytes."""
    page = (
        _environment()
        .get_template(TEMPLATE)
        .render(
            report=report,
            title=" + ".join(trait.title for trait in report.constitution.traits),
            headline=terminal.headline(report),
            failed=[*terminal.lines_of(report, "missed"), *terminal.lines_of(report, "missing")],
            subjects=SUBJECTS,
            compared=(BASE, TRAINED, PROMPTED),
            first=FIRST,
            forest=Markup(plots.forest(report.outcome.traits)),
            way=Markup(plots.way(report.outcome.traits)),
            funnel=Markup(plots.funnel(report.funnel)),
            seconds=Markup(plots.stage_seconds(report.costs)),
            curves=plots.curves(report.steps),
            recipe=yaml.safe_dump(dict(report.recipe), sort_keys=False, allow_unicode=True),
            next_steps=_next_steps(report),
        )
    )
    return terminal.printable(page)


def _next_steps(report: Report) -> list[str]:
    """What to do now, most useful first."""
    steps = [f"Talk to both models: {terminal.chat_command(report)}"]
    if report.smoke:
        return [*steps, "Build for real: the same command without --quick."]
    for line in terminal.lines_of(report, "missed"):
        remedy = REMEDIES.get(line.metric, UNMOVED)
        if remedy not in steps:
            steps.append(remedy)
    return [*steps, "Change what a trait says or shows, and build again with the same command."]


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("character.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        level=lambda estimate, line: _minus(terminal.level_text(estimate, terminal.unit_of(line))),
        change=lambda estimate, line: _minus(
            terminal.change_text(estimate, terminal.unit_of(line))
        ),
        interval=lambda estimate, line: _minus(
            terminal.interval_text(estimate, terminal.unit_of(line))
        ),
        verdict=terminal.verdict_of,
        spill=terminal.spill_text,
        before_after=lambda line: _minus(terminal.before_after(line, "→")),
        minutes=terminal.minutes_text,
        memory=terminal.memory_text,
        minus=_minus,
        percent=lambda value: f"{100 * value:.0f} %",
        gain=_gain,
        svg=Markup,
        digest=_digest,
    )
    environment.globals.update(
        share_text=lambda trait: _minus(terminal.share_text(trait)),
        bars_text=terminal.bars_text,
    )
    return environment


def _minus(text: str) -> str:
    """Hyphens before digits as the minus signs they are."""
    return re.sub(r"(?<![\w-])-(?=\d)", "\u2212", text)


def _gain(value: float | None) -> str:
    """A comparison's gain for sorting; empty when it is missing."""
    return "" if value is None or not math.isfinite(value) else f"{value:+.3f}"


def _digest(script: str) -> str:
    """A script's hash as a content security policy names it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
