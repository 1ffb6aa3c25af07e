"""What changed between two versions of a trait, and what that leaves of a run's data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from character.report.printable import printable
from character.spec.comparing import Change
from character.validity import Holds, Valid

AFTER = (
    "Rankings and pairs are worked out again without a model. Training and measurement are made "
    "anew; where all data stays they come to the same."
)


def changes_text(old: str, new: str, changes: Sequence[Change], valid: Valid) -> str:
    """One change after the other, then stage by stage what stays."""
    lines = [f"{old} -> {new}"]
    for change in changes:
        lines += _change(change)
    if not any(change.of_meaning for change in changes):
        lines.append("  nothing changed in meaning")
    where = f"the data of {valid.run}" if valid.run else "the data of a build with the old one"
    lines += ["", f"What stays of {where}, judged by {valid.judge}:"]
    width = max((len(_name(one)) for one in valid.holds), default=0)
    lines += [_holds(one, width) for one in valid.holds]
    lines.append(f"  {AFTER}")
    took = f" --from {valid.run}" if valid.run else ""
    lines.append(f"To build on it: python -m character.build --traits {new}{took}")
    return printable("\n".join(lines))


def changes_plain(old: str, new: str, changes: Sequence[Change], valid: Valid) -> dict[str, Any]:
    """The same for JSON."""
    return {
        "old": old,
        "new": new,
        "changed": any(change.of_meaning for change in changes),
        "changes": [asdict(change) for change in changes],
        "run": str(valid.run) if valid.run else None,
        "judge": valid.judge,
        "data": [asdict(one) for one in valid.holds],
    }


def _change(change: Change) -> list[str]:
    place = f"{change.trait}: {change.place}" if change.trait else change.place
    head = f"  {place}: {change.what}"
    if change.what == "reordered":
        return [f"{head} (no change of meaning; models are shown things in this order)"]
    if change.what == "reworded":
        return [head, f"    - {_one_line(change.old)}", f"    + {_one_line(change.new)}"]
    if change.old is None or change.new is None:
        sign, text = ("+", change.new) if change.old is None else ("-", change.old)
        return [head, f"    {sign} {_one_line(text)}"]
    return [f"{head}: {_one_line(change.old)} -> {_one_line(change.new)}"]


def _holds(one: Holds, width: int) -> str:
    word, counted = "stays" if one.holds else "anew", ""
    if one.kept is not None and one.stored is not None:
        counted = f"{one.kept} of {one.stored}, " if one.stored else "none there, "
        if one.holds and one.kept < one.stored:
            word = "partly" if one.kept else "anew"
    return f"  {word:<7}{_name(one):<{width}}  {counted}{one.why}".rstrip(", ")


def _name(one: Holds) -> str:
    return f"{one.trait}{'/' if one.clause else ''}{one.clause} {one.stage}"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())
