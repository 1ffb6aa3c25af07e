"""The traits that are trained together, first one first."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from character.errors import SpecError
from character.shipped import find
from character.spec.constitution_file import is_constitution, resolve
from character.spec.loading import load_trait
from character.spec.schema import Trait

# No slash in a weight, so that a path with a drive letter (C:\warm.yaml) is not taken for one.
_WEIGHTED = re.compile(r"(?P<trait>.+):(?P<weight>[^/\\:]*)")


@dataclass(frozen=True, slots=True)
class Member:
    """A trait and how much it counts beside the others; the weight is finite and above 0."""

    trait: Trait
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise SpecError(
                f"The weight of trait {self.trait.id!r} is {self.weight}; it must be a number "
                f"above 0, for example {self.trait.id}:0.5"
            )


@dataclass(frozen=True, slots=True)
class Constitution:
    """At least one trait, no trait twice; what a trait counts is its authority times its weight.

    `helpfulness_first`: a reply must answer its query before its character counts.
    """

    members: tuple[Member, ...]
    helpfulness_first: bool = True

    def __post_init__(self) -> None:
        if not self.members:
            raise SpecError("A constitution needs at least one trait, for example curious.yaml")
        for trait_id, count in Counter(trait.id for trait in self.traits).items():
            if count > 1:
                raise SpecError(
                    f"The trait {trait_id!r} is in the constitution {count} times. Name it once; "
                    f"to make it count more, give it a weight: {trait_id}:2"
                )

    @property
    def traits(self) -> tuple[Trait, ...]:
        return tuple(member.trait for member in self.members)

    def without(self, trait_id: str) -> Self:
        """All but one trait. Raises SpecError when it is not there, or the only one."""
        left = tuple(member for member in self.members if member.trait.id != trait_id)
        if len(left) == len(self.members) or not left:
            raise SpecError(
                f"{trait_id!r} cannot be left out of {self.name}: "
                + ("nothing would be left" if not left else "it is not in there")
            )
        return replace(self, members=left)

    @property
    def name(self) -> str:
        """The trait ids in order: "curious+warm"."""
        return "+".join(trait.id for trait in self.traits)

    @property
    def plain(self) -> list[dict[str, Any]]:
        """Traits and weights in order, for JSON."""
        return [
            {
                "trait": member.trait.model_dump(mode="json", by_alias=True),
                "weight": float(member.weight),
            }
            for member in self.members
        ]

    @classmethod
    def from_plain(cls, found: Sequence[Mapping[str, Any]], helpfulness_first: bool = True) -> Self:
        """What `plain` gave."""
        members = (Member(Trait.model_validate(m["trait"]), m["weight"]) for m in found)
        return cls(tuple(members), helpfulness_first)

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of all traits and weights in order; layout and comments do not count."""
        content: Any = self.plain
        if not self.helpfulness_first:
            content = {"members": content, "helpfulness_first": False}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def load_constitution(references: Sequence[str]) -> Constitution:
    """Load traits and constitutions by name or path, each with an optional weight: `warm.yaml:0.5`.

    A constitution's file stands for its traits; its weight multiplies theirs. Raises SpecError for
    a faulty file or weight, for a trait named twice and for no trait at all.
    """
    members: list[Member] = []
    helpfulness_first = True
    for reference in references:
        name, weight = _split(reference)
        path = find("traits", name, ".yaml")
        if path is not None and is_constitution(path):
            resolved = resolve(path)
            members += [Member(one.trait, weight * one.weight) for one in resolved.listed]
            helpfulness_first = helpfulness_first and resolved.helpfulness_first
        else:
            members.append(Member(load_trait(name), weight))
    return Constitution(tuple(members), helpfulness_first)


def _split(reference: str) -> tuple[str, float]:
    """A reference without its weight, and the weight."""
    weighted = _WEIGHTED.fullmatch(reference)
    if weighted is None:
        return reference, 1.0
    try:
        return weighted["trait"], float(weighted["weight"])
    except ValueError:
        raise SpecError(
            f"{reference}: the weight {weighted['weight']!r} is not a number. "
            f"Write it after the colon, for example {weighted['trait']}:0.5"
        ) from None
