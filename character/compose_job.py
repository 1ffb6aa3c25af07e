"""A composition from its arguments: checked as a whole before anything is loaded."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from character.errors import ModelError, RecipeError
from character.folder import is_run, policy_of
from character.job import Job, job_of
from character.models.folders import base_name, check_folder, is_adapter, model_identity
from character.placing import check_place

RECORD = "compose.json"
# no slash in a weight, so that a path with a drive letter is not taken for one
_WEIGHTED = re.compile(r"(?P<folder>.+):(?P<weight>[^/\\:]*)")


@dataclass(frozen=True, slots=True)
class Part:
    """One adapter of the whole and how much of it; `job` built the run it is from, if it is one."""

    label: str
    adapter: Path
    weight: float
    job: Job | None


@dataclass(frozen=True, slots=True)
class ComposeJob:
    parts: tuple[Part, ...]
    base: str
    folder: Path
    leave_one_out: bool

    @property
    def facts(self) -> dict[str, Any]:
        """What the record says of what was composed."""
        return {"of": [{"part": part.label, "weight": part.weight} for part in self.parts]}


def prepare_compose(references: Sequence[str], out: str, leave_one_out: bool) -> ComposeJob:
    """Read weights, find adapters, and check that they are of one base model.

    Raises RecipeError, RunError or ModelError for what the user can mend; nothing is written.
    """
    parts = tuple(_part(reference) for reference in references)
    if len(parts) < 2:
        raise RecipeError(
            "One adapter is no composition. Name two or more, for example runs/curious"
            " runs/warm:0.5"
        )
    for label, times in Counter(part.label for part in parts).items():
        if times > 1:
            raise RecipeError(f"{label!r} is named {times} times. Name it once, with a weight.")
    bases = {
        part.label: model_identity(base_name(part.adapter), lambda told: None) for part in parts
    }
    if len(set(bases.values())) > 1:
        told = "; ".join(f"{label}: {base}" for label, base in bases.items())
        raise ModelError(
            f"The adapters are of different base models ({told}), and cannot be added."
        )
    for part in parts if leave_one_out else ():
        if part.job is None:
            raise RecipeError(
                f"{part.label} is an adapter without its run, so there are no held-out queries to"
                " measure it on. Name its run, or leave out --leave-one-out."
            )
    job = ComposeJob(parts, _base_of(parts[0]), Path(out), leave_one_out)
    check_place(job.folder, RECORD, job.facts)
    return job


def _part(reference: str) -> Part:
    name, weight = _split(reference)
    folder = Path(name)
    if is_run(folder):
        return Part(folder.resolve().name, policy_of(folder).parent, weight, job_of(folder))
    if not (folder.is_dir() and is_adapter(folder)):
        raise ModelError(
            f"{name} is neither a run folder nor a folder with an adapter. Runs are in runs/: try"
            " ls runs"
        )
    check_folder(folder)
    return Part(folder.resolve().name, folder, weight, None)


def _base_of(part: Part) -> str:
    """The base model's name; a run knows it better than its adapter, which has a path."""
    return part.job.recipe.roles.policy if part.job else base_name(part.adapter)


def _split(reference: str) -> tuple[str, float]:
    """A reference without its weight, and the weight."""
    weighted = _WEIGHTED.fullmatch(reference)
    if weighted is None:
        return reference, 1.0
    try:
        weight = float(weighted["weight"])
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight) or not weight:
        raise RecipeError(
            f"{reference}: the weight {weighted['weight']!r} is no number, or 0. Write it after the"
            f" colon, for example {weighted['folder']}:0.5; a negative one takes a trait away."
        )
    return weighted["folder"], weight
