"""The report's plots as inline SVG: no fonts, no network, the same bytes for the same numbers.

Colours become CSS variables of the page, so that one plot reads well in light and in dark. What a
colour says, a marker or a label says too, and the numbers stand in the label for screen readers.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from math import isfinite
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from character.diffing.inference import Movement
from character.diffing.outcome import (
    BASE,
    BEST,
    OPPOSITE,
    PROMPTED,
    TRAINED,
    TraitOutcome,
    subjects_of,
)
from character.judging.front import Front, Point, conflicts
from character.report.content import FunnelStep, StageCost
from character.report.frontier import Checkpoint
from character.report.printable import printable
from character.report.terminal import (
    interval_text,
    known,
    level_text,
    seconds_text,
    share_of,
    share_text,
    unit_of,
)
from character.rows import Step

INK, FAINT = "#1b1f24", "#c9ced6"
COLOURS = {
    BASE: "#5d6673",
    TRAINED: "#0072b2",
    PROMPTED: "#d55e00",
    OPPOSITE: "#a64d80",
    BEST: "#00805e",
}
MARKERS = {BASE: "o", TRAINED: "D", PROMPTED: "^", OPPOSITE: "s", BEST: "v"}
VARIABLES = {
    INK: "currentColor",
    FAINT: "var(--faint)",
    **{colour: f"var(--{subject})" for subject, colour in COLOURS.items()},
}

METRICS = (
    *("loss", "nll", "anchor_kl", "rewards/accuracies", "rewards/margins", "accuracy", "margin"),
    *("reward", "kl", "probe/reward", "probe/independent", "probe/words", "probe/entropy"),
    "probe/short",
)

ALARMS = ("REGRESSED", "CONFOUNDED", "MOVED")
UNSURE = ("INCONCLUSIVE", "CONFOUNDED", "UNMEASURABLE")

WIDTH, ROW = 4.6, 0.2  # inches; a row is a line of text
FRONT_PAIRS, FRONT_QUERIES = 6, 60  # a point is a hundred bytes of the page
TITLE = 42  # characters of a trait's title that fit

SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "character",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.unicode_minus": True,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "ytick.left": False,
}


@dataclass(frozen=True, slots=True)
class Curve:
    """One metric of a training stage, and its plot; `note` says what the plot leaves out."""

    metric: str
    svg: str
    note: str


def forest(traits: Sequence[TraitOutcome]) -> str:
    """Each trait's subjects with their 95 % intervals on one axis."""
    subjects = subjects_of(traits)
    rows = sum(len(subjects) + 1.6 for _ in traits)
    told = []
    with _figure(rows * ROW + 0.6) as figure:
        axes = figure.subplots()
        y, ticks, labels = 0.0, [], []
        for trait in traits:
            axes.text(0, y - 0.1, _short(trait.title), weight="bold", transform=_beside(axes))
            for subject in subjects:
                y += 1
                ticks.append(y)
                labels.append(subject)
                found = known(trait.contrast.subjects.get(subject))
                unit = unit_of(trait.contrast)
                told.append(f"{trait.title}, {subject}: {level_text(found, unit)}")
                if found is None:
                    axes.text(
                        0.01, y, "missing", va="center", style="italic", transform=_beside(axes)
                    )
                    continue
                told[-1] += f" {interval_text(found, unit)}"
                colour, marker = COLOURS[subject], MARKERS[subject]
                axes.plot([found.low, found.high], [y, y], color=colour, linewidth=1.6)
                axes.plot([found.value], [y], color=colour, marker=marker, markersize=6)
            y += 1.6
        axes.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
        axes.set_yticks(ticks, labels)
        axes.set_ylim(y - 0.9, -0.9)
        axes.set_xlabel("contrast, nats a token; further right is more of the trait")
        return _svg(figure, "forest", "Movement of each trait. " + "; ".join(told))


def way(traits: Sequence[TraitOutcome]) -> str:
    """How far each trait has come from plain, at 0, to prompted, at 1."""
    told = [f"{trait.title}: {share_text(trait)}" for trait in traits]
    with _figure(len(traits) * 2.2 * ROW + 0.4) as figure:
        axes = figure.subplots()
        ends = [0.0, 1.0]
        for row, trait in enumerate(traits):
            share = share_of(trait)
            title = f"{_short(trait.title)}: {share_text(trait)}"
            axes.text(0, row - 0.32, title, transform=_beside(axes))
            axes.plot([0, 1], [row, row], color=FAINT, marker="|", markersize=11, linewidth=0.8)
            if share is None:
                continue
            axes.plot([share.low, share.high], [row, row], color=COLOURS[TRAINED], linewidth=3)
            axes.plot([share.value], [row], color=COLOURS[TRAINED], marker="D", markersize=6)
            ends += [share.low, share.high]
        axes.spines["bottom"].set_visible(False)
        axes.set_yticks([])
        axes.set_ylim(len(traits) - 0.7, -0.9)
        axes.set_xlim(max(-2.0, min(ends)) - 0.12, min(3.0, max(ends)) + 0.12)
        axes.set_xticks([0, 1], ["plain", "prompted"])
        axes.tick_params(axis="x", length=0)
        return _svg(figure, "way", "Share of the way from plain to prompted. " + "; ".join(told))


def changes(rows: Sequence[tuple[str, Movement | None, str]], name: str, unit: str) -> str:
    """NEW minus OLD of each (title, movement, verdict), with its interval, on one axis."""
    told = []
    with _figure(len(rows) * 1.5 * ROW + 0.6) as figure:
        axes = figure.subplots()
        for row, (title, found, verdict) in enumerate(rows):
            if found is None:
                told.append(f"{title}: missing")
                continue
            told.append(
                f"{title}: {found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}], {verdict}"
            )
            colour = COLOURS[OPPOSITE if verdict in ALARMS else TRAINED]
            solid = verdict not in UNSURE
            axes.plot([found.low, found.high], [row, row], color=colour, linewidth=1.8)
            axes.plot(
                [found.value], [row], color=colour, marker="D", markersize=6,
                markerfacecolor=colour if solid else "none",
            )  # fmt: skip
        axes.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
        axes.set_yticks(range(len(rows)), [_short(title) for title, *_ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(f"NEW minus OLD, {unit}; hollow: not certain")
        return _svg(figure, name, "What moved. " + "; ".join(told))


def shares(rows: Sequence[tuple[str, float, float, float, bool]], name: str) -> str:
    """Each (title, value, low, high, missed) between 0 and 1, with a line at chance."""
    told = []
    with _figure(len(rows) * 1.5 * ROW + 0.5) as figure:
        axes = figure.subplots()
        for row, (title, value, low, high, missed) in enumerate(rows):
            told.append(f"{title}: {value:.2f} [{low:.2f}, {high:.2f}]")
            colour = COLOURS[OPPOSITE if missed else TRAINED]
            axes.plot([low, high], [row, row], color=colour, linewidth=1.8)
            axes.plot([value], [row], color=colour, marker="X" if missed else "D", markersize=6)
        axes.axvline(0.5, color=FAINT, linewidth=0.8, zorder=0)
        axes.set_yticks(range(len(rows)), [_short(title) for title, *_ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(min(-0.02, *(low for _, _, low, _, _ in rows)) if rows else 0, 1.02)
        axes.set_xlabel("the line is chance; a cross is below its bar")
        return _svg(figure, name, "Tests of the judge. " + "; ".join(told))


def front(found: Front) -> list[str]:
    """Two aims at a time, every reply a point: chosen, on its query's front, ranked, or below the
    floor. At most six pairs, those that pull apart most, of the first queries."""
    queries = set(list(dict.fromkeys(point.query_id for point in found.points))[:FRONT_QUERIES])
    shown = [point for point in found.points if point.query_id in queries]
    kinds = (
        ("below the floor", "x", FAINT, [p for p in shown if p.below_floor]),
        ("ranked", ".", COLOURS[BASE], [p for p in shown if not (p.below_floor or p.on_front)]),
        ("on the front", "o", COLOURS[PROMPTED], [p for p in shown if p.on_front]),
        ("chosen", "D", COLOURS[TRAINED], [p for p in shown if p.chosen]),
    )
    return [_pair(found, across, up, kinds) for across, up in conflicts(found)[:FRONT_PAIRS]]


def _pair(
    found: Front,
    across: int,
    up: int,
    kinds: Sequence[tuple[str, str, str, Sequence[Point]]],
) -> str:
    names = [_short(found.aims[aim]) for aim in (across, up)]
    told = "; ".join(f"{len(points)} {kind}" for kind, _, _, points in kinds)
    with _figure(2.6, width=WIDTH) as figure:
        axes = figure.subplots()
        for kind, marker, colour, points in kinds:
            axes.plot(
                [p.values[across] for p in points], [p.values[up] for p in points],
                linestyle="none", marker=marker, markersize=3 if kind == "chosen" else 4,
                color=colour, markerfacecolor="none" if marker == "o" else colour, label=kind,
            )  # fmt: skip
        axes.set_xlabel(names[0])
        axes.set_ylabel(names[1])
        axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
        return _svg(figure, f"front-{across}-{up}", f"{names[0]} against {names[1]}: {told}")


def frontier(points: Sequence[Checkpoint]) -> str:
    """Movement towards the traits against KL, and against the share of replies that answer.

    A checkpoint without one of the two numbers is in the other panel only.
    """
    told = [
        f"{p.name}: moved {_known(p.movement)}, KL {_known(p.kl)}, answers {_known(p.answers)}"
        for p in points
    ]
    with _figure(2.3) as figure:
        for axes, label, across in zip(
            figure.subplots(1, 2, sharey=True),
            ("KL from base, nats a token", "replies that answer, %"),
            ([p.kl for p in points], [p.answers and 100 * p.answers for p in points]),
            strict=True,
        ):
            for point, x in zip(points, across, strict=True):
                if x is None or point.movement is None:
                    continue
                kind = TRAINED if point.kind == "dose" else point.kind
                hollow = {"markerfacecolor": "none"} if point.kind == "dose" else {}
                marker = "o" if point.kind == "dose" else MARKERS[kind]
                axes.plot([x], [point.movement], color=COLOURS[kind], marker=marker, **hollow)
                axes.annotate(
                    point.name, (x, point.movement), (4, 3), textcoords="offset points", size=7
                )
            axes.margins(x=0.3, y=0.15)
            axes.grid(color=FAINT, linewidth=0.5)
            axes.set_xlabel(label)
        figure.axes[0].set_ylabel("movement, nats a token")
        return _svg(figure, "frontier", "Movement against what it costs. " + "; ".join(told))


def _known(value: float | None) -> str:
    return "missing" if value is None else f"{value:.3f}"


def funnel(steps: Sequence[FunnelStep]) -> str:
    """How many items each stage kept."""
    bars = [(step.stage, float(step.kept), f"{step.kept:,}") for step in steps]
    return _bars("funnel", "Items kept by each stage. ", bars)


def stage_seconds(costs: Sequence[StageCost]) -> str:
    """How long each stage took."""
    bars = [(c.stage.replace("_", " "), c.seconds, seconds_text(c.seconds)) for c in costs]
    return _bars("seconds", "Seconds of each stage. ", bars)


def curves(steps: Iterable[Step]) -> dict[str, list[Curve]]:
    """The training curves worth seeing of each stage, in the order given."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for step in steps:
        if step.metric in METRICS:
            found.setdefault((step.stage, step.metric), {})[step.step] = step.value
    stages = dict.fromkeys(stage for stage, _ in found)
    return {
        stage: [
            _curve(stage, metric, found[stage, metric])
            for metric in METRICS
            if (stage, metric) in found
        ]
        for stage in stages
    }


def _curve(stage: str, metric: str, values: Mapping[int, float]) -> Curve:
    points = sorted((step, value) for step, value in values.items() if isfinite(value))
    lost = len(values) - len(points)
    note = f"{lost} of {len(values)} values are not finite" if lost else ""
    if not points:
        return Curve(metric, "", note)
    first, last = points[0], points[-1]
    with _figure(1.5, width=2.6) as figure:
        axes = figure.subplots()
        marker = "o" if len(points) == 1 else ""
        axes.plot(*zip(*points, strict=True), color=COLOURS[TRAINED], linewidth=1.3, marker=marker)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        if len(points) == 1:
            axes.set_xticks([first[0]])
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="y", color=FAINT, linewidth=0.5)
        axes.set_xlabel("step")
        label = (
            f"{metric} of {stage}: {first[1]:.3g} at step {first[0]}, "
            f"{last[1]:.3g} at step {last[0]}"
        )
        return Curve(metric, _svg(figure, f"curve-{stage}-{metric}", label), note)


def _bars(name: str, label: str, bars: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars, each with its name and its number."""
    told = [f"{title}: {text}" for title, _, text in bars]
    longest = max((value for _, value, _ in bars), default=0) or 1
    with _figure(len(bars) * 1.35 * ROW + 0.1) as figure:
        axes = figure.subplots()
        for row, (_, value, text) in enumerate(bars):
            axes.barh(row, value, height=0.62, color=COLOURS[TRAINED])
            axes.text(value + longest * 0.015, row, text, va="center", size=8)
        axes.set_yticks(range(len(bars)), [_short(title) for title, _, _ in bars])
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.set_xlim(0, longest * 1.17)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        return _svg(figure, name, label + "; ".join(told))


@contextmanager
def _figure(height: float, width: float = WIDTH) -> Iterator[Figure]:
    """A figure in inches, drawn with this module's settings and not with the user's."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # titles in scripts that its font lacks
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield Figure(figsize=(width, height), layout="constrained")


def _beside(axes: Any) -> Any:
    """Across in axes, down in data: text beside a row."""
    return axes.get_yaxis_transform()


def _short(text: str) -> str:
    line = " ".join(printable(text).split())
    return line if len(line) <= TITLE else line[: TITLE - 1] + "…"


def _svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an SVG element for a page: its own ids, the page's font and colours."""
    drawn = StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(drawn, format="svg", transparent=True, metadata=nothing)
    root = ElementTree.fromstring(drawn.getvalue())
    prefix = re.sub(r"[^a-z]+", "-", name.lower())
    for element in root.iter():
        element.tag = _local(element.tag)
        attributes = {_local(key): value for key, value in element.attrib.items()}
        if element.tag == "g":
            attributes.pop("id", None)  # named by nothing
        element.attrib.clear()
        for key, value in attributes.items():
            element.set(key, _for_page(key, value, prefix))
    for styles in [defs for defs in root.findall("defs") if defs.find("style") is not None]:
        root.remove(styles)
    viewbox = root.get("viewBox", "")
    told = " ".join(printable(label).split())
    root.attrib.clear()
    for key, value in {
        "class": "plot",
        "role": "img",
        "aria-label": told,
        "viewBox": viewbox,
    }.items():
        root.set(key, value)
    return ElementTree.tostring(root, encoding="unicode")


def _for_page(key: str, value: str, prefix: str) -> str:
    """An attribute as the page needs it: ids are the plot's own, colours and font the page's."""
    if key == "id":
        return f"{prefix}-{value}"
    if key == "href":
        return f"#{prefix}-{value.removeprefix('#')}"
    if key == "style":
        value = re.sub(r"font-family: [^;]+", "font-family: inherit", value)
        for colour, variable in VARIABLES.items():
            value = value.replace(colour, variable)
    return value.replace("url(#", f"url(#{prefix}-")


def _local(name: str) -> str:
    return name.rpartition("}")[2]
