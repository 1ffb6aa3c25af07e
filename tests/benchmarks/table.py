"""Print the table of finished builds, as it stands in the README.

    python tests/benchmarks/table.py runs/*/run.json

Each row is one build: movement and its share of the way from plain to prompted, with intervals, and
what it cost. A bar that is missed is marked with *. Spill is the movement on queries where the
trait must not show; dose is how much of the distillation was kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HEAD = (
    "trait", "seed", "contrast base -> trained", "moved", "share of the way", "short right",
    "answers", "fluency (prompted)", "repeats", "length", "asks", "spill", "KL", "dose", "minutes",
    "GB",
)  # fmt: skip


def main(paths: list[str]) -> None:
    print("| " + " | ".join(HEAD) + " |")
    print("|" + "---|" * len(HEAD))
    for path in sorted(paths):
        print("| " + " | ".join(row(json.loads(Path(path).read_text(encoding="utf-8")))) + " |")


def row(record: dict[str, Any]) -> list[str]:
    outcome = record["outcome"]
    trait = outcome["traits"][0]
    lines = {line["metric"]: line for line in outcome["quality"]}
    contrast, share = trait["contrast"], trait["share"]
    return [
        trait["trait"],
        str(record["identity"]["recipe"]["seed"]),
        arrow(contrast, "+.3f"),
        interval(contrast["change"], "+.3f") + star(contrast),
        interval(share, ".2f") + ("" if share and share["value"] >= 0.5 else "*"),
        arrow(lines["short_right"], ".3f") + star(lines["short_right"]),
        arrow(lines["answers"], ".2f") + star(lines["answers"]),
        arrow(lines["fluency"], ".2f")
        + f" ({value(lines['fluency'], 'prompted', '.2f')})"
        + star(lines["fluency"]),
        arrow(lines["repetition"], ".3f") + star(lines["repetition"]),
        arrow(lines["tokens"], ".0f") + star(lines["tokens"]),
        arrow(lines["follow_up_question"], ".2f"),
        interval(trait["unless"]["change"], "+.2f"),
        value(lines["kl"], "trained", ".2f"),
        f"{record['doses']['chosen']:g}" if record.get("doses") else "none tried",
        f"{record['seconds'] / 60:.1f}",
        f"{record['peak_bytes'] / 1e9:.1f}",
    ]


def arrow(line: dict[str, Any], form: str) -> str:
    return f"{value(line, 'base', form)} -> {value(line, 'trained', form)}"


def value(line: dict[str, Any], subject: str, form: str) -> str:
    found = line["subjects"].get(subject)
    return format(found["value"], form) if found else "missing"


def interval(found: dict[str, Any] | None, form: str) -> str:
    if not found:
        return "missing"
    return f"{found['value']:{form}} [{found['low']:{form}}, {found['high']:{form}}]"


def star(line: dict[str, Any]) -> str:
    return "" if line["holds"] in (True, None) else "*"


if __name__ == "__main__":
    main(sys.argv[1:])
