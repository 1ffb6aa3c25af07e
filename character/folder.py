"""A run folder that others read: its record, its traits, its database, its trained policy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from character.errors import RunError, SpecError
from character.run import DATABASE, RECORD
from character.spec.constitution import Constitution, load_constitution


def is_run(folder: Path) -> bool:
    return (folder / RECORD).is_file()


def record_of(run: Path) -> Mapping[str, Any]:
    """What run.json says. Raises RunError when there is none, or when it is damaged."""
    if not is_run(run):
        raise RunError(f"{run} is not a run folder (no {RECORD}). Runs are in runs/: try ls runs")
    try:
        found: dict[str, Any] = json.loads((run / RECORD).read_text(encoding="utf-8"))
        found["identity"]["recipe"]["roles"]["policy"]
        return found
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(f"{run / RECORD} is damaged. Move {run} away and build again.") from None


def role_of(run: Path, role: str) -> str:
    """The name of the model that played a role in the build."""
    return str(record_of(run)["identity"]["recipe"]["roles"][role])


def policy_of(run: Path) -> Path:
    """The merged policy of the last stage that made one. Raises RunError while there is none."""
    record_of(run)
    trained = trained_in(run)
    if trained is None or not (trained / "merged").exists():
        raise RunError(f"{run} has no trained policy yet. Finish the build with the same command.")
    return trained / "merged"


def trained_in(run: Path) -> Path | None:
    """The folder of the policy that a build ends with: settled, or else that of its last round."""
    settled = run / "settled"
    return settled if settled.is_dir() else newest(run, "ppo", "policy")


def newest(run: Path, *stages: str) -> Path | None:
    """What the last round made in one of these stages, the first of them that it has; None when no
    round made any.
    """
    rounds = (int(n) for path in run.glob("*-*") if (n := path.name.rpartition("-")[2]).isdigit())
    for number in sorted({*rounds, 0}, reverse=True):
        for stage in stages:
            folder = run / (f"{stage}-{number}" if number else stage)
            if folder.is_dir():
                return folder
    return None


def database_of(run: Path) -> Path:
    record_of(run)
    path = run / DATABASE
    if not path.is_file():
        raise RunError(f"{run} has no {DATABASE}. Build with the same command again.")
    return path


def constitution_of(run: Path, traits: Sequence[str] = ()) -> Constitution:
    """The traits given, or those the run was built from, as they then were."""
    if traits:
        return load_constitution(traits)
    record = record_of(run)
    spec = record.get("spec")
    if not spec:
        raise SpecError(
            f"which traits? {run} does not say. Name them, for example --traits curious"
        )
    return Constitution.from_plain(spec, record.get("helpfulness_first", True))
