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
    made = [run / stage / "merged" for stage in ("settled", "ppo", "policy")]
    trained = next((folder for folder in made if folder.exists()), None)
    if trained is None:
        raise RunError(f"{run} has no trained policy yet. Finish the build with the same command.")
    return trained


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
    spec = record_of(run).get("spec")
    if not spec:
        raise SpecError(
            f"which traits? {run} does not say. Name them, for example --traits curious"
        )
    return Constitution.from_plain(spec)
