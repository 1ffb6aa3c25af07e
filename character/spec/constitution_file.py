"""A file that lists traits: in order, with weights, on top of another such file.

    schema: 1
    constitution: helper
    title: A helper who stays curious
    extends: base.yaml
    remove: [playful]
    traits:
      - trait: curious
        weight: 2
      - trait: steady
        authority: developer
    helpfulness: above

What is inherited comes first and keeps its place; an entry of the same trait overrides its weight
and authority. In the end higher authority comes first, and the file's order decides among equals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError

from character.errors import SpecError
from character.spec.loading import Source, read_trait
from character.spec.schema import Authority, Part, Slug, Text, Trait
from character.yaml_file import FaultyFileError, at, descend, read_yaml

KEY = "constitution"
RANKS: tuple[Authority, ...] = ("root", "system", "developer", "user", "guideline")
HELPLESS = (
    "HELPFULNESS IS BELOW CHARACTER: a reply need not answer to be chosen. Expect the model to "
    "lose what it knows."
)
DEEPEST = 20  # files that extend one another
_START = "A constitution starts with `schema: 1` and `constitution: helper`, one key per line."


class Entry(Part):
    trait: Text = Field(description="A trait's name, or its file in this folder or below.")
    weight: float | None = Field(default=None, gt=0, le=100)
    authority: Authority | None = None


class ConstitutionFile(Part):
    schema_: Literal[1] = Field(alias="schema")
    constitution: Slug
    title: Text = ""
    extends: Text | None = Field(default=None, description="Another constitution's file.")
    remove: list[Slug] = Field(default_factory=list)
    traits: list[Entry] = Field(default_factory=list)
    helpfulness: Literal["above", "below"] | None = Field(
        default=None,
        description="Whether a reply must answer before its character counts: above, unless said "
        "otherwise.",
    )


@dataclass(frozen=True, slots=True)
class Listed:
    """One trait as a constitution has it, and the constitution that had the last word on it."""

    read: Source
    weight: float
    said_by: Path

    @property
    def trait(self) -> Trait:
        return self.read.trait


@dataclass(frozen=True, slots=True)
class Resolved:
    """All files of a constitution put together, in the order of priority."""

    name: str
    listed: tuple[Listed, ...]
    helpfulness_first: bool


def is_constitution(path: Path) -> bool:
    """Whether a file says that it is one; a faulty file is told of by whoever reads it."""
    try:
        root, _ = read_yaml(path, "trait", _START)
    except (FaultyFileError, OSError):
        return False
    return any(key.value == KEY for key, _ in root.value)


def resolve(path: Path) -> Resolved:
    """Raises SpecError for a faulty file, a cycle, or an include that leaves the folder."""
    page, listed, first = _resolve(path, path.absolute().parent, ())
    if not listed:
        raise SpecError(f"{path}: no trait is left. Add one: `traits: [{{trait: curious}}]`")
    ordered = sorted(listed.values(), key=lambda found: RANKS.index(found.trait.authority))
    return Resolved(page.constitution, tuple(ordered), first)


def _resolve(
    path: Path, folder: Path, above: tuple[Path, ...]
) -> tuple[ConstitutionFile, dict[str, Listed], bool]:
    """One file on top of what it extends: trait id -> how it is listed, in order."""
    if path.resolve() in above or len(above) == DEEPEST:
        chain = " -> ".join(part.name for part in (*above, path))
        raise SpecError(f"{path}: constitutions extend one another in a circle: {chain}")
    root, page = _read(path)
    listed: dict[str, Listed] = {}
    first = True
    if page.extends:
        base = _inside(path, page.extends, folder)
        _, listed, first = _resolve(base, folder, (*above, path.resolve()))
    for name in page.remove:
        if name not in listed:
            raise _fault(path, root, ("remove",), f"{name!r} is not inherited{_among(listed)}")
        del listed[name]
    for number, entry in enumerate(page.traits):
        own = _listed(path, folder, entry)
        known = listed.get(own.trait.id)
        if known is not None and known.said_by == path:
            message = f"the trait {own.trait.id!r} is listed twice"
            raise _fault(path, root, ("traits", number, "trait"), message)
        listed[own.trait.id] = _over(known, own, entry) if known else own
    if page.helpfulness is not None:
        first = page.helpfulness == "above"
    return page, listed, first


def _listed(path: Path, folder: Path, entry: Entry) -> Listed:
    """The entry as if it inherited nothing."""
    is_path = "/" in entry.trait or entry.trait.endswith(".yaml")
    read = read_trait(_inside(path, entry.trait, folder) if is_path else entry.trait)
    read = _with_authority(read, entry.authority or read.trait.authority)
    return Listed(read, 1.0 if entry.weight is None else entry.weight, path)


def _over(known: Listed, own: Listed, entry: Entry) -> Listed:
    """What the entry does not say stays as it was inherited."""
    read = _with_authority(own.read, entry.authority or known.trait.authority)
    weight = known.weight if entry.weight is None else entry.weight
    return Listed(read, weight, own.said_by)


def _with_authority(read: Source, authority: Authority) -> Source:
    return replace(read, trait=read.trait.model_copy(update={"authority": authority}))


def _inside(path: Path, reference: str, folder: Path) -> Path:
    """The file a constitution names, which must be in the first one's folder or below."""
    found = path.absolute().parent / reference
    if not found.resolve().is_relative_to(folder.resolve()):
        raise SpecError(
            f"{path}: {reference!r} is outside of {folder}. Put it beside the constitution, or "
            "name a shipped trait, for example `trait: curious`"
        )
    return found


def _read(path: Path) -> tuple[yaml.MappingNode, ConstitutionFile]:
    try:
        root, data = read_yaml(path, KEY, _START)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}.") from None
    except FaultyFileError as error:
        raise SpecError(error.lines(path)) from None
    try:
        return root, ConstitutionFile.model_validate(data)
    except ValidationError as error:
        told = error.errors()
        faults = []
        for each in told:
            key, value = descend(root, each["loc"])
            mark = (key if each["type"] == "extra_forbidden" else value).start_mark
            name = ".".join(map(str, each["loc"]))
            faults.append(at(mark, f"{name}: {each['msg'].lower()}."))
        raise SpecError(FaultyFileError(faults).lines(path)) from None


def _fault(
    path: Path, root: yaml.MappingNode, place: Sequence[int | str], message: str
) -> SpecError:
    _, value = descend(root, place)
    return SpecError(FaultyFileError([at(value.start_mark, f"{message}.")]).lines(path))


def _among(listed: Mapping[str, Listed]) -> str:
    return f"; these are: {', '.join(listed)}" if listed else "; nothing is"
