"""A diff from its arguments: checked as a whole before the first model call."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Literal

from character import prompts, shipped
from character.data.queries import TEMPLATES
from character.diffing.config import DiffConfig, SuiteConfig
from character.diffing.saved import SUFFIX, read_saved
from character.diffing.subjects import built_without
from character.diffing.suite import Suite, read_suite
from character.diffing.verdicts import Gate, load_gate
from character.errors import ModelError, RecipeError, SpecError, SuiteError
from character.folder import constitution_of, is_run, policy_of, role_of
from character.judging.config import CardConfig
from character.models.folders import check_weights
from character.models.loading import check_name
from character.models.names import BUNDLED_DEFAULT, has_weights, is_hub_id, path_of, split_name
from character.rows import content_id
from character.spec.constitution import Constitution, load_constitution
from character.spec.loading import load_trait
from character.spec.schema import Trait

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
class Without:
    """A version like NEW, built without one of its traits; `subject` names what it says."""

    trait: str
    version: Version
    subject: str


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
    command: str = ""  # makes the same diff again
    card: CardConfig | None = None  # how the examiner is tried; None in a small look
    accept_judge: bool = False
    proposer: str = ""  # reads replies of both and names differences; nobody when empty
    embeddings: bool | None = None  # compare meanings; None where the embedder is here
    without: tuple[Without, ...] = ()  # which trait caused what

    @property
    def versions(self) -> tuple[Version, ...]:
        """All that are asked."""
        return (self.old, self.new, *(left_out.version for left_out in self.without))

    @property
    def traits(self) -> tuple[Trait, ...]:
        return self.constitution.traits

    @property
    def compares(self) -> bool:
        """Whether the examiner is asked in words which of two replies shows more."""
        return not has_weights(self.examiner)

    @property
    def reader(self) -> str:
        """Whose log-probabilities say what is fluent and what answers its query."""
        if not self.compares:
            return self.examiner
        own = self.old.model and has_weights(self.old.model)
        return self.old.model if own else BUNDLED_DEFAULT

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
    accept_judge: bool = False,
    proposer: str = "",
    embeddings: bool | None = None,
    left_out: Sequence[str] = (),
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
            f"suite.lock {' '.join(f'--traits {name}' for name in known)}"
        )
    if proposer:
        check_name(proposer)
    if has_weights(examiner):
        check_weights(examiner)  # whose log-probabilities are read
    else:
        check_name(examiner)  # which is asked in words
    rules = _expecting(load_gate(Path(gate)) if gate else Gate(), expect, known)
    config = DiffConfig(seed=seed, again=not quick, preferences=not has_weights(examiner))
    suite_config = QUICK_SUITE if quick else SuiteConfig()
    besides = [trait for trait in load_panel() if trait.id not in known] if panel else []
    others = _versions_without(left_out, new, constitution)
    for version in (old, new, *(each.version for each in others)):
        _check_saved(version, given, config)
    command = ["python", "-m", "character.diff", *references]
    for option, values in (
        ("--traits", traits), ("--suite", [suite]), ("--gate", [gate]), ("--expect", expect),
        ("--examiner", [examiner]), ("--seed", [str(seed)]), ("--out", [out]),
        ("--proposer", [proposer or None]), ("--without", left_out),
    ):  # fmt: skip
        command += [word for value in values if value is not None for word in (option, value)]
    flags = {"--quick": quick, "--no-panel": not panel, "--drop-overlap": drop_overlap}
    flags["--accept-judge"] = accept_judge
    flags |= {"--embeddings": embeddings is True, "--no-embeddings": embeddings is False}
    command += [flag for flag, given_so in flags.items() if given_so]
    job = DiffJob(
        old, new, constitution, () if quick else tuple(besides), given, suite_config, drop_overlap,
        rules, config, BUNDLED_DEFAULT, examiner, quick, Path(out or ""), shlex.join(command),
        None if quick else CardConfig(), accept_judge, proposer, embeddings, others,
    )  # fmt: skip
    return job if out else replace(job, folder=own_folder(job))


def own_folder(job: DiffJob) -> Path:
    """Where a diff is kept that names no folder."""
    identity = content_id(identity_of_job(job))[:8]
    return Path("diffs") / f"{job.old.label}-{job.new.label}-{identity}"


def identity_of_job(job: DiffJob) -> dict[str, Any]:
    """What decides a diff's data; the gate and the statistics may change afterwards.

    Versions without a trait may be added: their rows name them, and change none of the others.
    """
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
    path = path_of(reference)
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


def _versions_without(
    settings: Sequence[str], new: Version, constitution: Constitution
) -> tuple[Without, ...]:
    """The versions built without a trait, from TRAIT=VERSION.

    Raises RecipeError for a trait that is not there or is named twice, and for a version that
    cannot be NEW without it.
    """
    known = [trait.id for trait in constitution.traits]
    found: list[Without] = []
    taken = {named(new): "NEW"} if settings else {}
    for setting in settings:
        trait, separator, reference = setting.partition("=")
        if not separator or not reference or trait not in known:
            raise RecipeError(
                f"--without {setting!r}: write one of {', '.join(known)}, and a version that was "
                f"built without it, for example --without {known[0]}=runs/without-{known[0]}"
            )
        if trait in [each.trait for each in found]:
            raise RecipeError(f"--without names {trait} twice. Name one version without it.")
        version = version_of(reference)
        identity = named(version)
        if identity in taken:
            raise RecipeError(
                f"--without {setting}: {reference} is {taken[identity]}. A version without {trait} "
                f"is another build: python -m character.build ... --leave-out {trait}"
            )
        _check_without(trait, version, new, constitution)
        taken[identity] = f"the version without {trait}"
        found.append(Without(trait, version, built_without(trait, content_id(identity)[:8])))
    return tuple(found)


def _check_without(trait: str, version: Version, new: Version, constitution: Constitution) -> None:
    """Raise RecipeError for a run that is not of NEW's constitution less the trait."""
    if version.run is None:
        return
    whole = constitution_of(new.run) if new.run else constitution
    built = constitution_of(version.run)
    wanted = [each.id for each in whole.traits if each.id != trait]
    if [each.id for each in built.traits] != wanted:
        raise RecipeError(
            f"--without {trait}: {version.reference} was built from {built.name}, and NEW without "
            f"{trait} is {'+'.join(wanted) or 'its base model'}. Build that: python -m "
            f"character.build ... --leave-out {trait}"
        )
    if new.run and built.digest != whole.without(trait).digest:
        raise RecipeError(
            f"--without {trait}: {version.reference} was built from other texts or weights of "
            f"{built.name} than NEW, so that more than {trait} tells them apart. Build it again "
            f"from NEW's: python -m character.build ... --leave-out {trait}"
        )


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
        "old": named(old),
        "new": named(new),
        "traits": constitution.digest,
        "suite": suite.digest if suite else suite_config.model_dump(mode="json"),
        "examiner": _weights_of(examiner),
        "sampling": config.model_dump(mode="json", include=DECIDING),
        "panel": panel,
        "templates": {name: prompts.digest(name) for name in TEMPLATES},
        "character": installed("character"),
    }


def named(version: Version) -> str:
    """What decides a version's replies."""
    if version.saved is not None:
        return f"replies {content_id(version.saved.read_bytes().hex())}"
    return _weights_of(version.model)


def _weights_of(model: str) -> str:
    """A model's name, with a digest where its weights lie in a folder here and may change."""
    from character.models.loading import identity_of

    kind, rest = split_name(model)
    fetched = kind == "bundled" or (kind == "local" and is_hub_id(rest))
    return model if fetched else identity_of(model)


def _check_saved(version: Version, suite: Suite | None, config: DiffConfig) -> None:
    """Raise SuiteError for a file of replies that cannot be read against the suite."""
    if version.saved is None:
        return
    if suite is None:
        raise SuiteError(
            f"{version.reference} holds replies to a suite; say to which: --suite suite.lock"
        )
    read_saved(version.saved, version.label, suite.items, config.samples)
