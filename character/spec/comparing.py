"""What changed in meaning between two versions of a trait or a constitution.

Layout, comments and the order of things change nothing that a trait says; order is told apart,
since examples are shown to a model in the file's order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from character.spec.constitution import Constitution, Member
from character.spec.schema import Check, Example, Trait

What = Literal["added", "removed", "reworded", "reweighted", "changed", "reordered"]

TEXTS = ("title", "statement", "opposite", "rationale")
SETTINGS = ("version", "authority", "expect", "margin")
SAID = ("user", "good", "bad", "why")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference; `place` is where, as in `clauses.asks-back`. None: nothing there."""

    trait: str
    place: str
    what: What
    old: str | None
    new: str | None

    @property
    def of_meaning(self) -> bool:
        return self.what != "reordered"


def compare(old: Constitution, new: Constitution) -> list[Change]:
    """Every change, in the new one's order. Two lone traits are versions of one another."""
    pairs = list(_paired(old.members, new.members))
    changes: list[Change] = []
    for before, after in pairs:
        if before is None and after is not None:
            changes.append(Change(after.trait.id, "trait", "added", None, after.trait.title))
        elif after is None and before is not None:
            changes.append(Change(before.trait.id, "trait", "removed", before.trait.title, None))
        elif before and after:
            changes += compare_traits(before.trait, after.trait)
            changes += _changed(after.trait.id, "weight", before.weight, after.weight, "reweighted")
    kept = [(b.trait.id, a.trait.id) for b, a in pairs if b and a]
    there = [trait.id for trait in old.traits if trait.id in {b for b, _ in kept}]
    if [b for b, _ in kept] != there:
        order = ", ".join(there), ", ".join(a for _, a in kept)
        # among traits of one authority the order decides, so here it is meant
        changes.append(Change("", "order of traits", "changed", *order))
    first = (old.helpfulness_first, new.helpfulness_first)
    if first[0] != first[1]:
        told = ["above" if value else "below" for value in first]
        changes.append(Change("", "helpfulness", "changed", *told))
    return changes


def compare_traits(old: Trait, new: Trait) -> list[Change]:
    """Every change of one trait, from its id to its controls."""
    name = new.id
    changes = [
        *_changed(name, "id", old.id, new.id),
        *(
            change
            for field in TEXTS
            for change in _changed(name, field, getattr(old, field), getattr(new, field),
                                   "reworded")
        ),
        *(
            change
            for field in SETTINGS
            for change in _changed(name, field, getattr(old, field), getattr(new, field))
        ),
        *_changed(name, "controls.length", old.controls.length, new.controls.length),
        *_clauses(old, new),
        *_examples(old, new),
    ]  # fmt: skip
    for place, before, after in (
        ("applies.when", old.applies.when, new.applies.when),
        ("applies.unless", old.applies.unless, new.applies.unless),
        ("queries.seeds", old.queries.seeds, new.queries.seeds),
        ("queries.unless", old.queries.unless, new.queries.unless),
        ("queries.topics", old.queries.topics, new.queries.topics),
        ("queries.registers", old.queries.registers, new.queries.registers),
        ("checks", [_told(c) for c in old.checks], [_told(c) for c in new.checks]),
    ):
        changes += _listed(name, place, before, after)
    return changes


def _paired(
    old: Sequence[Member], new: Sequence[Member]
) -> Iterator[tuple[Member | None, Member | None]]:
    if len(old) == len(new) == 1:
        yield old[0], new[0]
        return
    before = {member.trait.id: member for member in old}
    after = {member.trait.id for member in new}
    for member in new:
        yield before.get(member.trait.id), member
    for member in old:
        if member.trait.id not in after:
            yield member, None


def _changed(trait: str, place: str, old: Any, new: Any, what: What = "changed") -> list[Change]:
    return [] if old == new else [Change(trait, place, what, _plain(old), _plain(new))]


def _clauses(old: Trait, new: Trait) -> Iterator[Change]:
    before = {clause.id: clause for clause in old.clauses}
    after = {clause.id: clause for clause in new.clauses}
    for name, clause in after.items():
        place = f"clauses.{name}"
        if name not in before:
            yield Change(new.id, place, "added", None, clause.text)
            continue
        was = before[name]
        yield from _changed(new.id, place, was.text, clause.text, "reworded")
        yield from _changed(new.id, f"{place}.weight", was.weight, clause.weight, "reweighted")
    for name, clause in before.items():
        if name not in after:
            yield Change(new.id, f"clauses.{name}", "removed", clause.text, None)
    yield from _reordered(new.id, "clauses", list(before), list(after))


def _examples(old: Trait, new: Trait) -> Iterator[Change]:
    """Examples are the same when their message is, else when their good reply is."""
    left = list(old.examples)
    known: list[tuple[Example, Example | None]] = []
    for example in new.examples:
        was = _matching(example, left)
        if was is not None:
            left.remove(was)
        known.append((example, was))
    for example, was in known:
        place = f"examples of {example.clause}: {example.user}"
        if was is None:
            yield Change(new.id, place, "added", None, example.good)
            continue
        yield from _changed(new.id, f"{place}: clause", was.clause, example.clause)
        for part in SAID:
            there, here = getattr(was, part), getattr(example, part)
            yield from _changed(new.id, f"{place}: {part}", there, here, "reworded")
    for example in left:
        place = f"examples of {example.clause}: {example.user}"
        yield Change(new.id, place, "removed", example.good, None)
    yield from _reordered(
        new.id,
        "examples",
        [old.examples.index(was) for _, was in known if was is not None],
        sorted(old.examples.index(was) for _, was in known if was is not None),
    )


def _matching(example: Example, among: Sequence[Example]) -> Example | None:
    for part in ("user", "good"):
        for other in among:
            if getattr(other, part) == getattr(example, part):
                return other
    return None


def _listed(trait: str, place: str, old: Sequence[str], new: Sequence[str]) -> Iterator[Change]:
    for text in new:
        if text not in old:
            yield Change(trait, place, "added", None, text)
    for text in old:
        if text not in new:
            yield Change(trait, place, "removed", text, None)
    yield from _reordered(trait, place, old, new)


def _reordered(
    trait: str, place: str, old: Sequence[object], new: Sequence[object]
) -> Iterator[Change]:
    """Whether what both have is in another order."""
    both = [item for item in old if item in new]
    if both != [item for item in new if item in old]:
        yield Change(trait, place, "reordered", None, None)


def _told(check: Check) -> str:
    return ", ".join(f"{key}: {_plain(value)}" for key, value in _items(check.model_dump()))


def _items(fields: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    return ((key, value) for key, value in fields.items() if (key, value) != ("weight", 1.0))


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
