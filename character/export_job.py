"""An export from its arguments: checked as a whole before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from character.errors import RunError
from character.folder import policy_of
from character.job import Job, job_of
from character.models.gguf_file import check_gguf
from character.models.int8 import check_int8
from character.placing import check_place
from character.rows import content_id

RECORD = "export.json"
WEIGHTS = ("merged", "adapter", "int8", "gguf-f16", "gguf-q8_0")
TO = (*WEIGHTS, "dataset", "hub-folder")
EXPORTS = "exports"


@dataclass(frozen=True, slots=True)
class ExportJob:
    """`job` built the run that the merged policy and its adapter are from; `folders` by form."""

    job: Job
    merged: Path
    folders: Mapping[str, Path]
    measure: bool

    @property
    def run(self) -> Path:
        return self.job.folder

    @property
    def adapter(self) -> Path:
        return self.merged.parent

    def facts(self, form: str) -> dict[str, Any]:
        """What an export's record says of where it is from."""
        return {"run": self.run.resolve().name, "build": content_id(self.job.identity), "to": form}


def prepare_export(run: Path, forms: Sequence[str], out: str | None, measure: bool) -> ExportJob:
    """Check the run, what each form needs, and where it goes; nothing is written.

    Raises RunError for an unfinished run or a place that is taken, ModelError for a form that this
    model or this environment cannot have.
    """
    merged = policy_of(run)
    job = job_of(run)
    if not (run / "dataset").is_dir():
        raise RunError(f"{run} has no dataset. Finish the build with the same command.")
    for form in forms:
        if form == "int8":
            check_int8()
        elif form.startswith("gguf"):
            check_gguf(merged)
    parent = Path(out) if out else Path(EXPORTS) / run.resolve().name
    alone = out is not None and len(forms) == 1
    folders = {form: parent if alone else parent / form for form in dict.fromkeys(forms)}
    found = ExportJob(job, merged, folders, measure)
    for form, folder in folders.items():
        if run.resolve() in (folder.resolve(), *folder.resolve().parents):
            raise RunError(f"{folder} is inside the run. Choose another place with --out.")
        check_place(folder, RECORD, found.facts(form))
    return found
