"""What is left of a character in the forms it ships in: the table that `export` puts into cards.

python -m character.export RUN --to merged --to int8 --to gguf-f16 --to gguf-q8_0
python tests/benchmarks/forms.py exports/*/*
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from character.diffing.kept import Kept, kept_in
from character.export_job import RECORD
from character.report.forms import kept_table


def main(folders: list[str]) -> None:
    """One table a run; an export that was not measured is named."""
    runs: dict[str, tuple[Kept, ...]] = {}
    for folder in map(Path, folders):
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        found = kept_in(record["kept"])
        if not found:
            print(f"{folder}: not measured")
        runs[record["run"]] = max(runs.get(record["run"], ()), found, key=len)
    for run, found in runs.items():
        if found:
            print(f"\n{run}\n\n{kept_table(found)[-1]}")


if __name__ == "__main__":
    main(sys.argv[1:])
