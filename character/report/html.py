"""The report as one HTML page that needs nothing else: no network, no font, no other file.

Everything a person or a model wrote is escaped by the template engine. Only two things are not:
the plots, which plots.py writes as XML, and the page's own script, whose hash is the one the
page's content security policy lets run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import yaml
from jinja2 import Environment
from markupsafe import Markup

from character.diffing.outcome import BASE, PROMPTED, TRAINED
from character.report import plots, terminal
from character.report.content import Report
from character.report.frontier import points_of, rule_of
from character.report.judge_card import verdict_on
from character.report.lineage import cost_text, effect_text
from character.report.page import templates, typeset
from character.report.printable import printable
from character.spec.constitution_file import HELPLESS

TEMPLATE = "report.html.jinja"
FIRST = 12  # comparisons shown until the reader asks for all

STAGES = {
    "reward_model": "Reward model",
    "distill": "Distillation",
    "sft": "Fine-tuning",
    "dpo": "DPO",
    "ppo": "PPO",
}

# What is worth trying when a measure misses its bar: words, a setting, and times how much.
ANCHOR = ("Hold what it knew harder:", "training.anchors.weight", 2)
REMEDIES = {
    "short_right": ANCHOR,
    "answers": ANCHOR,
    "fluency": ("Train more gently:", "training.distill.learning_rate", 0.5),
    "repetition": ("Train more gently:", "training.distill.learning_rate", 0.5),
    "tokens": ("Let length tell pairs apart less:", "pairs.balance", 2),
}
UNMOVED = ("Train longer:", "training.distill.epochs", 2)


def render_report(report: Report) -> str:
    """The whole page; the same report gives the same bytes."""
    page = (
        _environment()
        .get_template(TEMPLATE)
        .render(
            report=report,
            helpless=HELPLESS,
            title=" + ".join(trait.title for trait in report.constitution.traits),
            headline=terminal.headline(report),
            failed=[*terminal.lines_of(report, "missed"), *terminal.lines_of(report, "missing")],
            spills=terminal.spills_of(report),
            subjects=report.outcome.subjects,
            compared=(BASE, TRAINED, PROMPTED),
            first=FIRST,
            forest=Markup(plots.forest(report.outcome.traits)),
            way=Markup(plots.way(report.outcome.traits)),
            fronts=[Markup(svg) for svg in plots.front(report.front)] if report.front else [],
            frontier=Markup(plots.frontier(points_of(report))),
            points=points_of(report),
            rule=rule_of(report),
            funnel=Markup(plots.funnel(report.funnel)),
            seconds=Markup(plots.stage_seconds(report.costs)),
            curves=plots.curves(report.steps),
            taken_over=terminal.taken_text(report),
            stages={step.stage: _stage(step.stage) for step in report.steps},
            recipe=yaml.safe_dump(dict(report.recipe), sort_keys=False, allow_unicode=True),
            next_steps=_next_steps(report),
        )
    )
    return printable(page)


def _next_steps(report: Report) -> list[tuple[str, str]]:
    """What to do now, most useful first: words and what to type."""
    steps = [("Talk to both models:", terminal.chat_command(report))]
    if report.smoke:
        return [*steps, ("Build for real: the same command without", "--quick")]
    for line in terminal.lines_of(report, "missed"):
        words, setting, factor = REMEDIES.get(line.metric, UNMOVED)
        now = _setting(report, setting)
        if now:
            steps.append((words, f"--set {setting}={now * factor:g}"))
    steps.append(("Change what a trait says or shows, and build again:", report.command))
    return list(dict.fromkeys(steps))


def _setting(report: Report, path: str) -> float | None:
    """The recipe's number at a dotted path; None when there is none."""
    value: Any = report.recipe
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) else None


def _environment() -> Environment:
    environment = templates()
    environment.filters.update(
        level=lambda estimate, line: typeset(terminal.level_text(estimate, terminal.unit_of(line))),
        change=lambda estimate, line: typeset(
            terminal.change_text(estimate, terminal.unit_of(line))
        ),
        interval=lambda estimate, line: typeset(
            terminal.interval_text(estimate, terminal.unit_of(line))
        ),
        verdict=terminal.verdict_of,
        test_verdict=verdict_on,
        spill=terminal.spill_text,
        before_after=lambda line: typeset(terminal.before_after(line, "→")),
        minutes=terminal.minutes_text,
        memory=terminal.memory_text,
        counted=terminal.counted,
        money=terminal.money_text,
        percent=lambda value: f"{100 * value:.0f} %",
        effect=lambda found: typeset(effect_text(found)),
        cost=lambda row: cost_text(row.seconds, row.dollars),
        gain=_gain,
        svg=Markup,
    )
    environment.globals.update(
        share_text=lambda trait: typeset(terminal.share_text(trait)),
        bars_text=terminal.bars_text,
    )
    return environment


def _gain(value: float | None) -> str:
    """A comparison's gain for sorting; empty when it is missing."""
    return "" if value is None or not math.isfinite(value) else f"{value:+.3f}"


def _stage(name: str) -> str:
    """What a training is called; a later round's name ends in its number."""
    first, _, number = name.rpartition("-")
    if first in STAGES and number.isdigit():
        return f"{STAGES[first]}, round {number}"
    return STAGES.get(name, name)
