"""A build from its arguments: checked as a whole before the first model call, then run."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from pydantic import ValidationError
from rich.console import Console

from character import prompts
from character.data import documents, introspection, revisions
from character.data.queries import TEMPLATES
from character.errors import RecipeError, ResourceError, RunError, SpecError
from character.fitting import fitted, memory_told
from character.folder import constitution_of, record_of
from character.judging.config import NamedJudge
from character.judging.kinds import NEED_NO_MODEL, NEED_WEIGHTS
from character.judging.kinds import TEMPLATES as JUDGING
from character.models.folders import check_weights
from character.models.loading import check_name, check_trainable
from character.plan import STAGES, PlannedStage, plan
from character.progress import Reporter
from character.recipe import Recipe, load_recipe
from character.rows import content_id
from character.spec.constitution import Constitution, load_constitution
from character.spec.constitution_file import HELPLESS
from character.spec.drafts import drafts_of

MEMORY_GB = 4.0
DISK_GB = 2.0


@dataclass(frozen=True, slots=True)
class Job:
    """Everything a build needs, checked; `command` makes the same build again."""

    constitution: Constitution
    recipe: Recipe
    folder: Path
    until: str
    identity: dict[str, Any]
    command: str

    def memory(self) -> list[str]:
        """What the training steps need, in sentences."""
        return list(memory_told(self.recipe))

    def planned(self) -> list[PlannedStage]:
        wanted = STAGES[: STAGES.index(self.until) + 1]
        return [step for step in plan(self.constitution, self.recipe) if step.stage in wanted]


def prepare(
    traits: Sequence[str],
    recipe_name: str,
    settings: Sequence[str],
    out: str | None,
    until: str,
    leave_out: Sequence[str] = (),
) -> Job:
    """Load and check traits, recipe and models' names; nothing is written.

    Raises SpecError, RecipeError or ModelError for what the user can mend.
    """
    if until not in STAGES:
        raise RecipeError(f"--until {until!r} is not a stage. Stages: {', '.join(STAGES)}")
    constitution = load_constitution(traits)
    for trait_id in leave_out:
        constitution = constitution.without(trait_id)
    recipe = fitted(load_recipe(recipe_name, settings))
    if not constitution.helpfulness_first:
        ranking = recipe.ranking.model_copy(update={"floor": 0.0, "relevance": 0.0})
        recipe = recipe.model_copy(update={"ranking": ranking})
    check_trainable(recipe.roles.policy)
    judges = _judges(recipe)
    for named in judges:
        if named.kind in NEED_WEIGHTS:
            check_weights(named.model)  # whose log-probabilities are read
        elif named.kind not in NEED_NO_MODEL:
            check_name(named.model)
    check_name(recipe.roles.writer)
    for trait in constitution.traits:
        if drafts := list(drafts_of(trait)):
            raise SpecError(
                f"trait {trait.id!r} has {len(drafts)} texts that are still drafts, and a build "
                "would train them. python -m character.check lists them"
            )
        if trait.expect != "up":
            raise SpecError(
                f"trait {trait.id!r} has expect: {trait.expect}, and a build trains towards a "
                "trait. Write `expect: up`; to train the other way swap its good and bad examples"
            )
    identity = {
        "traits": constitution.digest,
        "recipe": recipe.model_dump(mode="json", exclude={"requests"}),  # which decides no data
        "templates": {
            name: prompts.digest(name)
            for name in (
                *TEMPLATES,
                *(t for j in judges for t in JUDGING.get(j.kind, ())),
                *(revisions.TEMPLATES if recipe.revisions.replies else ()),
                *(introspection.TEMPLATES if recipe.introspection.wanted else ()),
                *(documents.TEMPLATES if recipe.documents.count else ()),
            )
        },
        "character": version("character"),
    }
    short = content_id(identity)[:8]
    folder = Path(out) if out else Path("runs") / f"{constitution.name}-{short}"
    command = ["python", "-m", "character.build", "--traits", *traits, "--recipe", recipe_name]
    command += [word for trait_id in leave_out for word in ("--leave-out", trait_id)]
    command += [word for setting in settings for word in ("--set", setting)]
    return Job(constitution, recipe, folder, until, identity, shlex.join(command))


def _judges(recipe: Recipe) -> tuple[NamedJudge, ...]:
    """All that are asked. Raises RecipeError for a panel that cannot be."""
    try:
        judges = recipe.ranking.judges(recipe.roles.judge)
    except ValueError as error:
        raise RecipeError(f"ranking.panel: {error}") from None
    if len(judges) > 1 and not recipe.card.enabled:
        raise RecipeError(
            "ranking.judge=panel weighs its members by their cards, and card.enabled=false makes"
            " none. Leave out one of the two"
        )
    return judges


def job_of(run: Path) -> Job:
    """The job that a run folder was built by, from its record.

    Raises RunError when it is none, or when its recipe was for another version of this program.
    """
    record = record_of(run)
    try:
        recipe = Recipe.model_validate(record["identity"]["recipe"])
    except ValidationError as error:
        raise RunError(
            f"{run} was built with character {record['identity'].get('character')}, whose settings"
            f" {version('character')} does not know. Use that version, or build again."
        ) from error
    constitution = constitution_of(run)
    names = [f"{member.trait.id}:{member.weight:g}" for member in constitution.members]
    command = record.get("command") or shlex.join(
        ["python", "-m", "character.build", "--traits", *names]
    )
    return Job(constitution, recipe, run, STAGES[-1], record["identity"], command)


def check_resources(folder: Path) -> None:
    """Refuse to start what cannot be finished. Raises ResourceError."""
    free = psutil.virtual_memory().available / 1e9
    if free < MEMORY_GB:
        raise ResourceError(
            f"{free:.1f} GB of memory are free and a build needs {MEMORY_GB:.0f} GB. Close other "
            "programs and run the same command again"
        )
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    disk = shutil.disk_usage(place).free / 1e9
    if disk < DISK_GB:
        raise ResourceError(
            f"{place} has {disk:.1f} GB of free disk and a build needs {DISK_GB:.0f} GB. "
            "Free some, or build elsewhere: --out /another/disk/run"
        )


def run_job(
    job: Job,
    console: Console,
    cap: float | None = None,
    accept_judge: bool = False,
    source: Path | None = None,
    fresh: bool = False,
) -> Path:
    """Build, measure and write the report; returns the run folder. `cap` is in dollars.

    What the run `source` made, or else the newest run of these traits beside this one, is taken
    over where it still holds; with `fresh` nothing is.
    """
    check_resources(job.folder)
    from character.quiet import hush_libraries

    hush_libraries()  # before torch and the training stack come in, after everything was checked
    from character.earlier import choose_earlier
    from character.finish import finish
    from character.pipeline import build
    from character.run import Run

    with Run.open(job.folder, job.identity, Reporter(console)) as run:
        run.record(
            spec=job.constitution.plain,
            helpfulness_first=job.constitution.helpfulness_first,
            command=job.command,
        )
        if not job.constitution.helpfulness_first:
            run.reporter.say(HELPLESS)
        earlier = choose_earlier(run, job.constitution, job.identity, source, fresh)
        build(job.constitution, job.recipe, run, job.until, cap, accept_judge, earlier)
        if job.until == STAGES[-1]:
            finish(job, run)
        else:
            run.reporter.say(
                f"Stopped after {job.until}, in {job.folder}. "
                "Without --until the same command goes on."
            )
    return job.folder
