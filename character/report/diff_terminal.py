"""A diff's last words in the terminal, and the wording that its page and exports share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from character.diffing.discovery import Discovery
from character.diffing.inference import Ratio, Strength
from character.diffing.phrases import Phrase, Telling
from character.diffing.proposals import Hypothesis
from character.diffing.results import Contribution, Difference, Kept, Result
from character.diffing.themes import Theme
from character.diffing.verdicts import FEWEST, Verdict
from character.report.diff_content import DiffReport
from character.report.printable import printable
from character.report.terminal import MISSING, memory_text, minutes_text, simple_table

STYLES: dict[Verdict, str] = {
    "INTENDED": "green",
    "HELD": "green",
    "REGRESSED": "bold red",
    "INCONCLUSIVE": "yellow",
    "CONFOUNDED": "bold yellow",
    "UNMEASURABLE": "bold yellow",
    "MOVED": "yellow",
}
CODES = {0: "green", 1: "bold red", 2: "bold yellow", 3: "bold red"}
ADDED = (
    "NEW minus NEW built without a trait, by query; * where a trait is shown to have caused it, at "
    "most 5 % of these falsely. Traits interact: what they added need not add up."
)
QUICK = "A quick look: it can find a regression, and passes nothing."
UNFIT = "The examiner is below the bars of its card: see How it was made."
CIRCULAR = (
    "The examiner also ranked the replies that NEW learned from: that they agree is circular. "
    "Certify with a model of another family: --examiner local:PATH"
)


def number(value: float | None, sign: bool = False) -> str:
    """Three digits, or "missing"."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:+.3f}" if sign else f"{value:.3f}"


def moved(result: Result | Contribution) -> str:
    """The movement with its interval, "+0.062 [+0.041, +0.083]" or "missing"."""
    found = result.movement
    if found is None:
        return MISSING
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def share(found: Ratio | None) -> str:
    """A share with its interval, "+38 % [29, 47]" or "missing"."""
    if found is None:
        return MISSING
    return f"{found.value:+.0%} [{100 * found.low:.0f}, {100 * found.high:.0f}]".replace("%", " %")


def added(cell: Contribution) -> str:
    """What a trait added, with its interval, or "missing"."""
    return MISSING if cell.why else moved(cell)


def caused(difference: Difference) -> list[tuple[Result, list[Contribution]]]:
    """Who caused what: each measure that moved, and a cell for each trait that was left out."""
    cells: dict[str, list[Contribution]] = {}
    for cell in difference.contributions:
        cells.setdefault(cell.measure, []).append(cell)
    return [(r, cells[r.name]) for r in difference.results if r.name in cells]


def side_effects(difference: Difference) -> list[Result]:
    """What moved though nobody asked, the largest first in its own standard errors."""
    found = [r for r in (*difference.of("style"), *difference.of("panel")) if r.verdict == "MOVED"]
    return sorted(found, key=lambda result: result.q if result.q is not None else 1.0)


def discovered(found: Discovery, most: int = 5) -> list[str]:
    """What nobody named, with what chance finds beside it."""
    lines = [
        f"Discovered on {found.queries} queries: {len(found.phrases)} of {found.tested} phrases; "
        f"OLD against itself: {count(found.by_chance)}."
    ]
    lines += [f"  {told(phrase)}" for phrase in found.phrases[:most]]
    if themes := found.themes:
        lines.append(f"{len(themes.found)} of {themes.tested} clusters of meaning; OLD against "
                     f"itself: {count(themes.by_chance)}.")  # fmt: skip
        lines += [f"  {name(theme)}: {shares(theme)}" for theme in themes.found[:most]]
    if named := found.hypotheses:
        lines.append(f"{len(named.found)} of {named.tested} statements that {named.model} proposed;"
                     f" OLD against itself: {count(named.by_chance)}.")  # fmt: skip
        lines += [f"  {one.statement} {shares(one)}" for one in named.found[:most]]
    if found.telling:
        lines.append(f"A classifier tells NEW from OLD in {certainty(found.telling)} of replies"
                     + (f", without these phrases in {certainty(found.left)}" if found.left else "")
                     + (", without the words of the named traits in "
                        f"{certainty(found.unnamed)}" if found.unnamed else "")
                     + (f"; OLD from itself in {certainty(found.telling_by_chance)}"
                        if found.telling_by_chance else "") + ".")  # fmt: skip
    if kl := found.divergence:
        lines.append(
            f"KL from OLD {kl.value:.3f} [{kl.low:.3f}, {kl.high:.3f}] nats a token; most at "
            + ", ".join(f"{habit.said!r}" for habit in kl.habits[:most])
            + "."
        )
    lines += [f"Not looked for: {why}." for why in found.unseen]
    return lines


def count(by_chance: int | None) -> str:
    return "not known" if by_chance is None else f"{by_chance}"


def told(phrase: Phrase) -> str:
    """A phrase, how often either says it, and the named trait that it is part of."""
    whose = f" (how {phrase.trait} shows)" if phrase.trait else ""
    return f'"{phrase.text}": {shares(phrase)}{whose}'


def name(theme: Theme) -> str:
    """What a cluster of replies is called."""
    return ", ".join(f'"{word}"' for word in theme.words) or "a cluster without words of its own"


def shares(found: Phrase | Theme | Hypothesis) -> str:
    return f"in {found.old:.0%} of OLD's replies, in {found.new:.0%} of NEW's"


def certainty(found: Telling) -> str:
    return f"{found.share:.0%} [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def traits_line(report: DiffReport) -> str:
    """The traits' verdicts in a line."""
    counts: dict[str, list[str]] = {}
    for result in report.difference.of("trait"):
        counts.setdefault(result.verdict, []).append(result.title)
    told = "; ".join(f"{', '.join(titles)}: {verdict}" for verdict, titles in counts.items())
    return told or "no trait was measured"


def sentence(report: DiffReport) -> str:
    """The whole diff in a line."""
    return f"{report.decision.word}. {traits_line(report)}"


def verdict_table(report: DiffReport) -> Group:
    """Verdict, traits, what quality did, what is kept, side effects, and where the page is."""
    difference = report.difference
    parts: list[RenderableType] = [Text()]
    if report.quick:
        parts += [Text(QUICK, style="bold yellow"), Text()]
    parts.append(_table(("Trait", "NEW minus OLD", "Dose"), difference.of("trait"), dose=True))
    parts.append(
        _table(
            ("Quality, and where it must not show", "NEW minus OLD", ""),
            [*difference.of("unless"), *difference.of("quality")],
        )
    )
    decided = [kept for kept in difference.kept if kept.kept and kept.kept.queries >= FEWEST]
    if decided:
        parts.append(_kept(decided))
    if moved_too := side_effects(difference):
        parts.append(_table(("Moved, though nobody asked", "NEW minus OLD", ""), moved_too[:8]))
    if report.without:
        parts += _caused(report)
    if report.discovery:
        parts += [Text(printable(line)) for line in discovered(report.discovery)]
    for trait, value in difference.specificity.items():
        parts.append(Text(printable(f"Specificity of {trait}: {value:.1f}.")))
    if report.judge_refused:
        parts.append(Text(UNFIT, style="bold red"))
    if report.circular:
        parts.append(Text(CIRCULAR, style="yellow"))
    parts += [Text(), Text(printable(sentence(report)), style=CODES[report.decision.code])]
    parts += [Text(printable(f"  {reason}")) for reason in report.decision.reasons[:5]]
    took = f"Took {minutes_text(report.seconds)}, peak memory {memory_text(report.peak_bytes)}."
    parts += [Text(), Text(took), Text(printable(f"Report  {report.folder}/report.html"))]
    return Group(*parts)


def leaderboard_table(boards: Mapping[str, Sequence[Strength]]) -> Group:
    """For each trait every version's strength beside the first one's."""
    parts: list[RenderableType] = [Text()]
    for trait, found in boards.items():
        if not found:
            parts.append(
                Text(
                    printable(f"{trait}: no order; a version never loses, or too little is shared.")
                )
            )
            continue
        table = simple_table(f"{trait}, strongest first", "Log-odds against the first", "Wins")
        for strength in found:
            wins = 1 / (1 + math.exp(-strength.value))
            interval = f"{strength.value:+.2f} [{strength.low:+.2f}, {strength.high:+.2f}]"
            table.add_row(Text(printable(strength.version)), interval, f"{wins:.0%}")
        parts.append(table)
    return Group(*parts)


def _table(titles: tuple[str, str, str], results: Iterable[Result], dose: bool = False) -> Table:
    table = simple_table(*titles, "")
    for result in results:
        table.add_row(
            Text(printable(result.title)),
            moved(result),
            share(result.dose) if dose else "",
            Text(result.verdict, style=STYLES[result.verdict]),
        )
    return table


def _caused(report: DiffReport) -> list[RenderableType]:
    rows = caused(report.difference)
    if not rows:
        return [Text("Who caused what: nothing moved, so nothing was caused.")]
    titles = [report.traits[trait] for trait in report.without]
    table = simple_table("Who caused what", "NEW minus OLD", *map(printable, titles))
    for result, cells in rows:
        told = [
            Text(added(cell) + " *" * cell.discovered, style="bold" if cell.discovered else "")
            for cell in cells
        ]
        table.add_row(Text(printable(result.title)), moved(result), *told)
    return [table, Text(ADDED)]


def _kept(found: Iterable[Kept]) -> Table:
    table = simple_table("Kept when", "Share of the effect", "", "")
    for kept in found:
        table.add_row(
            Text(printable(f"{kept.trait}: {kept.condition}")),
            share(kept.kept).lstrip("+"),
            "",
            Text(kept.verdict, style=STYLES[kept.verdict]),
        )
    return table
