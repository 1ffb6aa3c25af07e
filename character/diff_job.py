"""A diff from its arguments: checked as a whole before the first model call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Literal, get_args

from character import prompts, shipped
from character.data.queries import TEMPLATES
from character.diffing.config import DiffConfig, SuiteConfig
from character.diffing.saved import SUFFIX
from character.diffing.suite import Suite, read_suite
from character.diffing.verdicts import Expect, Gate, load_gate
from character.errors import ModelError, RecipeError, SpecError
from character.folder import constitution_of, is_run, policy_of, role_of
from character.models.folders import check_weights
from character.models.loading import check_name
from character.models.names import has_weights
from character.rows import content_id
from character.spec.constitution import Constitution, load_constitution
from character.spec.loading import load_trait
from character.spec.schema import Trait

EXAMINER = "bundled:smollm2-135m"
PANEL = "panel"
DECIDING = {"samples", "sampling", "brief", "seed", "again"}  # the data, and not what it means
QUICK_SUITE = SuiteConfig(
    on_trait=24, unless=10, neutral=24, off_format=8, break_character=1, watched=1, multi_turn=4,
    capability=40, framed_facts=10,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Version:
    """One side of a diff: a model to ask, or replies that were saved. `run` trained it."""

    reference: str
    model: str = ""
    saved: Path | None = None
    run: Path | None = None

    @property
    def label(self) -> str:
        """Short enough for a folder's name."""
        plain = self.reference.rstrip("/").rpartition("/")[2].rpartition(":")[2]
        return "".join(c if c.isalnum() or c in "-_." else "-" for c in plain)[:40] or "version"


@dataclass(frozen=True, slots=True)
class DiffJob:
    """Everything a diff needs, checked."""

    old: Version
    new: Version
    constitution: Constitution
    panel: tuple[Trait, ...]
    suite: Suite | None
    suite_config: SuiteConfig
    drop_overlap: bool
    gate: Gate
    config: DiffConfig
    writer: str
    examiner: str
    quick: bool
    folder: Path

    @property
    def traits(self) -> tuple[Trait, ...]:
        return self.constitution.traits

    @property
    def planter(self) -> str:
        """Who is prompted with the examples: OLD, or the examiner where OLD cannot be asked."""
        return self.old.model or self.examiner


def prepare_diff(
    references: Sequence[str],
    traits: Sequence[str],
    suite: str | None,
    gate: str | None,
    expect: Sequence[str],
    examiner: str,
    out: str | None,
    quick: bool,
    panel: bool,
    drop_overlap: bool,
    seed: int,
) -> DiffJob:
    """Load and check versions, traits, suite and gate; nothing is written.

    Raises CharacterError for what the user can mend.
    """
    old, new = _versions(references)
    constitution = load_constitution(traits) if traits else _as_trained(new)
    known = [trait.id for trait in constitution.traits]
    given = read_suite(Path(suite)) if suite else None
    if given is not None and (unasked := [t for t in known if t not in given.traits]):
        raise SpecError(
            f"{suite} has no queries for the trait {unasked[0]!r}; it has them for "
            f"{', '.join(given.traits) or 'none'}. Make another: python -m character.suite make "
            f"suite.lock --traits {' '.join(known)}"
        )
    check_weights(examiner)  # whose log-probabilities are read
    rules = _expecting(load_gate(Path(gate)) if gate else Gate(), expect, known)
    config = DiffConfig(seed=seed, again=not quick)
    suite_config = QUICK_SUITE if quick else SuiteConfig()
    judged_besides = load_panel() if panel and not quick else ()
    identity = _identity(old, new, constitution, given, suite_config, examiner, config, panel)
    name = f"{old.label}-{new.label}-{content_id(identity)[:8]}"
    folder = Path(out) if out else Path("diffs") / name
    return DiffJob(
        old, new, constitution, judged_besides, given, suite_config, drop_overlap, rules, config,
        EXAMINER, examiner, quick, folder,
    )  # fmt: skip


def identity_of_job(job: DiffJob) -> dict[str, Any]:
    """What decides a diff's data; the gate and the statistics may change afterwards."""
    return _identity(
        job.old, job.new, job.constitution, job.suite, job.suite_config, job.examiner, job.config,
        bool(job.panel),
    )  # fmt: skip


def load_panel() -> tuple[Trait, ...]:
    """The shipped traits nobody asked for, in the order of their names."""
    folder = shipped.shipped("traits") / PANEL
    return tuple(load_trait(str(path)) for path in sorted(folder.glob("*.yaml")))


def version_of(reference: str) -> Version:
    """A model name, a run folder, a checkpoint or adapter folder, or a file of saved replies.

    Raises ModelError or RunError, saying what it could be.
    """
    path = Path(reference).expanduser()
    if path.is_dir():
        if is_run(path):
            return Version(reference, f"local:{policy_of(path)}", run=path)
        run = next((p for p in path.absolute().parents if is_run(p)), None)
        check_weights(f"local:{path}")
        return Version(reference, f"local:{path}", run=run)
    if path.is_file() or reference.endswith(SUFFIX):
        if not path.is_file():
            raise ModelError(f"{reference}: there is no such file of saved replies.")
        return Version(reference, saved=path)
    check_name(reference)
    return Version(reference, reference)


def _versions(references: Sequence[str]) -> tuple[Version, Version]:
    if len(references) == 1:  # a run against what it was trained from
        new = version_of(references[0])
        if new.run is None:
            raise RecipeError(
                "name two versions, or one run folder to diff against its base model, for example "
                "python -m character.diff bundled:smollm2-135m runs/mine"
            )
        return version_of(role_of(new.run, "policy")), new
    old, new = (version_of(reference) for reference in references)
    return old, new


def _as_trained(new: Version) -> Constitution:
    """The traits NEW was built from, as they then were."""
    if new.run is None:
        raise SpecError(
            f"which traits? {new.reference} does not say. Name them, for example --traits curious"
        )
    return constitution_of(new.run)


def _expecting(gate: Gate, settings: Sequence[str], known: Sequence[str]) -> Gate:
    """`hold` for every trait, `curious=hold` for one."""
    expect = dict(gate.expect)
    for setting in settings:
        name, separator, word = setting.rpartition("=")
        names = [name] if separator else known
        if word not in ("up", "down", "hold") or (separator and name not in known):
            raise RecipeError(
                f"--expect {setting!r}: write up, down or hold, for all traits or for one of "
                f"{', '.join(known)}, for example --expect {known[0]}=hold"
            )
        chosen: Literal["up", "down", "hold"] = word  # type: ignore[assignment]
        expect |= {f"trait/{name}": chosen for name in names}
    if wrong := [value for value in expect.values() if value not in get_args(Expect)]:
        raise RecipeError(f"{wrong[0]!r} is nothing to expect")
    return gate.model_copy(update={"expect": expect})


def _identity(
    old: Version,
    new: Version,
    constitution: Constitution,
    suite: Suite | None,
    suite_config: SuiteConfig,
    examiner: str,
    config: DiffConfig,
    panel: bool,
) -> dict[str, Any]:
    return {
        "old": _named(old),
        "new": _named(new),
        "traits": constitution.digest,
        "suite": suite.digest if suite else suite_config.model_dump(mode="json"),
        "examiner": examiner,
        "sampling": config.model_dump(mode="json", include=DECIDING),
        "panel": panel,
        "templates": {name: prompts.digest(name) for name in TEMPLATES},
        "character": installed("character"),
    }


def _named(version: Version) -> str:
    """What decides a version's replies."""
    from character.models.loading import identity_of

    if version.saved is not None:
        return f"replies {content_id(version.saved.read_bytes().hex())}"
    if has_weights(version.model) and not version.model.startswith("local:"):
        return version.model
    return identity_of(version.model)
