"""A build's last words in the terminal, the plan before it, and the wording all reports share.

Only plain ASCII is put around what users and models wrote: a log file or an old console shows it
too. A number that is missing is the word "missing", never a zero.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from character.diffing.outcome import BASE, PROMPTED, TRAINED, Line, TraitOutcome
from character.diffing.statistics import Estimate
from character.models.cache import Summary
from character.models.served import Tally
from character.plan import PlannedStage, minutes
from character.report.content import Report
from character.report.printable import printable

Verdict = Literal["holds", "missed", "no bar", "missing"]

MISSING = "missing"
SHORT_RIGHT = "short_right"
SPILLS = "spills over: it rose here too"
SMOKE = "Smoke build: too small to mean anything."
ACCEPTED = "The judge is below the bars of its card and was accepted."

_STYLES: dict[Verdict, str] = {"holds": "green", "missed": "bold red", "missing": "bold yellow"}


# The wording that the page, the cards and the terminal share.


@dataclass(frozen=True, slots=True)
class Unit:
    """How a value is written: times `scale`, with so many digits, before its unit."""

    scale: float = 1.0
    digits: int = 3
    level: str = ""
    change: str = ""


UNITS = {"share": Unit(100, 1, " %", " points"), "tokens": Unit(1, 1)}
WAY = Unit(100, 0, " %")


def unit_of(line: Line) -> Unit:
    return UNITS.get(line.unit, Unit())


def level_text(estimate: Estimate | None, unit: Unit) -> str:
    """The value with its unit, "46.0 %", or "missing"."""
    found = known(estimate)
    return f"{_number(found.value, unit)}{unit.level}" if found else MISSING


def change_text(estimate: Estimate | None, unit: Unit) -> str:
    """The change with its sign, "-1.3 points", or "missing"."""
    found = known(estimate)
    return f"{_number(found.value, unit, '+')}{unit.change}" if found else MISSING


def interval_text(estimate: Estimate | None, unit: Unit) -> str:
    """The 95 % interval, "[38.0, 54.1]"; empty when the estimate is missing."""
    found = known(estimate)
    return f"[{_number(found.low, unit)}, {_number(found.high, unit)}]" if found else ""


def known(estimate: Estimate | None) -> Estimate | None:
    """The estimate when it is there and its three numbers are finite."""
    if estimate is None:
        return None
    finite = all(map(math.isfinite, (estimate.value, estimate.low, estimate.high)))
    return estimate if finite else None


def share_of(trait: TraitOutcome) -> Estimate | None:
    """The share of the way from plain to prompted.

    None when it is missing, and when it means nothing: prompting does not move the base model.
    """
    base = known(trait.contrast.subjects.get(BASE))
    prompted = known(trait.contrast.subjects.get(PROMPTED))
    if base is None or prompted is None or prompted.value <= base.value:
        return None
    return known(trait.share)


def share_text(trait: TraitOutcome) -> str:
    """The share of the way with its interval: "92 % [80, 104]"."""
    share = share_of(trait)
    return f"{level_text(share, WAY)} {interval_text(share, WAY)}".rstrip()


def verdict_of(line: Line) -> Verdict:
    """A bar whose measure is missing is missing: neither held nor missed."""
    if not line.bar:
        return "no bar"
    if line.holds is None or known(line.change) is None:
        return "missing"
    return "holds" if line.holds else "missed"


def lines_of(report: Report, verdict: Verdict) -> list[Line]:
    """The lines with this verdict, movement first, then quality."""
    lines = [*(trait.contrast for trait in report.outcome.traits), *report.outcome.quality]
    return [line for line in lines if verdict_of(line) == verdict]


def before_after(line: Line, to: str = "->") -> str:
    """The base model's value and the trained one's: "47.3 % -> 46.0 %"."""
    unit = unit_of(line)
    base, trained = (level_text(line.subjects.get(name), unit) for name in (BASE, TRAINED))
    return f"{base} {to} {trained}"


def headline(report: Report) -> str:
    """One sentence from the numbers: how far each trait moved, and what it cost in quality."""
    parts = [_moves(report.outcome.traits), bars_text(report.outcome.quality)]
    for line in report.outcome.quality:
        if line.metric == SHORT_RIGHT:
            base, trained = (level_text(line.subjects.get(name), WAY) for name in (BASE, TRAINED))
            parts.append(f"{line.label.lower()}: {base} before, {trained} after")
    sentence = "; ".join(parts)
    return sentence[:1].upper() + sentence[1:] + "."


def bars_text(lines: Iterable[Line]) -> str:
    """How many bars hold, naming every one that does not."""
    barred = [(line.label.lower(), verdict_of(line)) for line in lines if line.bar]
    held = sum(verdict == "holds" for _, verdict in barred)
    notes = []
    for verdict in ("missed", "missing"):
        names = [name for name, found in barred if found == verdict]
        if names:
            notes.append(f"{verdict}: {', '.join(names)}")
    ending = f" ({'; '.join(notes)})" if notes else ""
    return f"{held} of {len(barred)} quality bars hold{ending}"


def spill_text(line: Line) -> str:
    """What a change means where the trait must not show."""
    change = known(line.change)
    if change is None:
        return MISSING
    if change.low > 0:
        return SPILLS
    return "fell" if change.high < 0 else "no change shown"


def spills_of(report: Report) -> list[Line]:
    """The traits' lines that rose where the trait must not show."""
    lines = [trait.unless for trait in report.outcome.traits]
    return [line for line in lines if spill_text(line) == SPILLS]


def seconds_text(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:,.0f} s"


def minutes_text(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"


def taken_text(report: Report) -> str:
    """What an earlier run had already made; empty when there was nothing."""
    if not report.taken_over:
        return ""
    rows = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in report.taken_over.items())
    return f"Taken over from {report.earlier}: {rows}. Times are of what was made anew."


def memory_text(peak_bytes: int) -> str:
    return f"{peak_bytes / 1e9:.1f} GB" if peak_bytes else MISSING


def chat_command(report: Report) -> str:
    return f"python -m character.chat {shlex.quote(report.folder)}"


def _with_interval(line: Line) -> str:
    unit = unit_of(line)
    return f"{change_text(line.change, unit)} {interval_text(line.change, unit)}".rstrip()


def _number(value: float, unit: Unit, sign: str = "") -> str:
    return format(value * unit.scale, f"{sign}z.{unit.digits}f")


def _moves(traits: Sequence[TraitOutcome]) -> str:
    way = "of the way from plain to prompted"
    if len(traits) > 1:
        return f"{way}, " + ", ".join(f"{trait.title} {_moved(trait)}" for trait in traits)
    (trait,) = traits
    return f"{_moved(trait)} {way}" if share_of(trait) else _moved(trait)


def _moved(trait: TraitOutcome) -> str:
    verdict = verdict_of(trait.contrast)
    if verdict == "missing":
        return "movement missing"
    change = f"{_with_interval(trait.contrast)} {trait.contrast.unit} (share of the way missing)"
    amount = share_text(trait) if share_of(trait) else change
    return f"moved {amount}" if verdict == "holds" else f"not shown to move: {amount}"


# What a build prints.


def counted(counts: Mapping[str, int]) -> str:
    """`312 stop, 4 length`, the commonest first; `none` when there are none."""
    found = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{n:,} {what}" for what, n in found if n) or "none"


def money_text(tally: Tally) -> str:
    """What is known of the cost, and of how many requests it is not."""
    known = f"${tally.dollars:.4f}"
    if not tally.unpriced:
        return known
    unknown = f"price of {tally.unpriced:,} unknown"
    return f"{known}, {unknown}" if tally.dollars else unknown


def outcome_table(report: Report) -> Group:
    """How a build ended: movement, bars, cost, where things are and what to type next."""
    parts: list[RenderableType] = [Text()]
    if report.smoke:
        parts += [Text(SMOKE, style="bold yellow"), Text()]
    if report.judge_refused:
        parts += [Text(ACCEPTED, style="bold red"), Text()]
    parts += [_movements(report.outcome.traits), _qualities(report.outcome.quality)]
    for line in spills_of(report):
        spilt = f"Spills over: {line.label}, by {_with_interval(line)}."
        parts.append(Text(printable(spilt), style="bold red"))
    if report.ppo:
        style = "bold red" if report.ppo.tripped else ""
        parts += [Text(printable(told), style=style) for told in report.ppo.told]
    for tally in report.asked:
        spent = f"{tally.model}: {counted(tally.outcomes)}; {money_text(tally)}."
        parts.append(Text(printable(spent)))
    peak = memory_text(report.peak_bytes)
    parts.append(Text(f"Took {minutes_text(report.seconds)}, peak memory {peak}."))
    parts += [Text(), _places(report)]
    return Group(*parts)


def plan_table(
    stages: Sequence[PlannedStage], folder: str, verb: str = "build", notes: Sequence[str] = ()
) -> Group:
    """What a command would do, for --dry-run."""
    table = simple_table("Stage", "What")
    for title in ("Calls", "Tokens", "Minutes"):
        table.add_column(title, justify="right", no_wrap=True)
    for stage in stages:
        table.add_row(
            _safe(stage.stage),
            _safe(stage.what),
            f"{stage.calls:,}",
            f"{stage.tokens:,}",
            f"{stage.seconds / 60:.1f}",
        )
    table.add_section()
    calls, tokens = sum(s.calls for s in stages), sum(s.tokens for s in stages)
    table.add_row("total", "at most", f"{calls:,}", f"{tokens:,}", f"{minutes(stages):.1f}")
    return Group(
        Text(),
        _safe(f"Would {verb} in {folder}"),
        table,
        *(_safe(price) for price in _prices(stages)),
        *(_safe(note) for note in notes),
        Text("Nothing was started; leave out --dry-run to start."),
    )


def _prices(stages: Sequence[PlannedStage]) -> Iterator[str]:
    """What models behind APIs will cost; nothing for those that run here."""
    unknown = [stage.stage for stage in stages if stage.dollars is None]
    known = sum(stage.dollars or 0.0 for stage in stages)
    if known:
        yield f"About ${known:.4f} for models behind APIs, by the price table."
    if unknown:
        yield f"What {', '.join(unknown)} will cost is unknown: the price table has no such model."


def cache_table(models: Mapping[str, Summary], folder: str) -> Group:
    """What the request cache holds, by model."""
    table = simple_table("Model")
    for title in ("Answers", "MB", "Paid", "First", "Last"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, found in models.items():
        table.add_row(
            _safe(name),
            f"{found.entries:,}",
            f"{found.bytes / 1e6:.1f}",
            f"${found.dollars:.2f}",
            found.first[:10],
            found.last[:10],
        )
    return Group(_safe(f"Answers kept in {folder}"), table if models else Text("None yet."))


def _movements(traits: Sequence[TraitOutcome]) -> Table:
    table = simple_table("Trait", "Change, nats a token", "Of the way", "")
    for trait in traits:
        table.add_row(
            _safe(trait.title),
            _with_interval(trait.contrast),
            share_text(trait),
            _word(verdict_of(trait.contrast), {"holds": _how_far(trait), "missed": "not shown"}),
        )
    return table


def _how_far(trait: TraitOutcome) -> str:
    share = share_of(trait)
    return "moved, less than half" if share is not None and share.value < 0.5 else "moved"


def _qualities(lines: Sequence[Line]) -> Table:
    """The lines with a bar: the others are in the report."""
    table = simple_table("Quality", "Base -> trained", "Bar", "")
    for line in lines:
        if line.bar:
            word = _word(verdict_of(line))
            table.add_row(_safe(line.label), before_after(line), _safe(line.bar), word)
    return table


def _places(report: Report) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    for name, inside in (
        ("Report", "report.html"),
        ("Policy", report.policy),
        ("Reward model", "reward_model"),
        ("Dataset", "dataset"),
    ):
        table.add_row(name, _safe(f"{report.folder.rstrip('/')}/{inside}"))
    table.add_row("Next", _safe(chat_command(report)))
    return table


def simple_table(*titles: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _word(verdict: Verdict, words: dict[str, str] | None = None) -> Text:
    return Text((words or {}).get(verdict, verdict), style=_STYLES.get(verdict, ""))


def _safe(text: str) -> Text:
    """What others wrote, never read as markup."""
    return Text(printable(text))
