"""Read a trait file, and say everything that is wrong with it at once, by line and column."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from character import shipped
from character.errors import SpecError
from character.spec.schema import Applies, Check, Clause, Controls, Example, QuerySeeds, Slug, Trait
from character.yaml_file import (
    Fault,
    FaultyFileError,
    at,
    descend,
    found,
    misread,
    read_yaml,
    shorten,
)


class FaultyTraitError(SpecError):
    """Every fault of one file; the message has a line for each, as `path:line:column: ...`."""

    def __init__(self, path: Path, faults: Sequence[Fault]) -> None:
        super().__init__(FaultyFileError(faults).lines(path))
        self.path, self.faults = path, faults


@dataclass(frozen=True, slots=True)
class Source:
    """A trait with the file it was read from, whose nodes know their places."""

    path: Path
    root: yaml.MappingNode
    trait: Trait


def load_trait(reference: str | Path) -> Trait:
    """The trait a name (`curious`) or a path stands for. Raises SpecError with every fault."""
    return read_trait(reference).trait


def check_id(identity: str) -> None:
    """Raise SpecError unless a trait can have this id."""
    try:
        TypeAdapter(Slug).validate_python(identity)
    except ValidationError:
        raise SpecError(
            f"{identity!r} cannot be a trait's id: lowercase words joined by hyphens, at most 60"
            " characters, for example plain-spoken."
        ) from None


def read_trait(reference: str | Path) -> Source:
    """The trait with its places. Raises FaultyTraitError, or SpecError when there is no file."""
    path = _locate(str(reference))
    try:
        root, data = read_yaml(path, "trait", _START)
        return Source(path, root, _validate(root, data))
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}.") from None
    except FaultyFileError as error:
        raise FaultyTraitError(path, error.faults) from None


# --- from a reference to text ---------------------------------------------------------------


def _locate(reference: str) -> Path:
    path = shipped.find("traits", reference, ".yaml")
    if path is not None:
        return path
    existing = shipped.names("traits", ".yaml")
    if os.path.isdir(reference):  # noqa: PTH112, Path.is_dir raises on an over-long reference
        raise SpecError(f"{reference}: is a folder. Name one trait file, such as curious.yaml.")
    raise SpecError(
        f"There is no trait {reference!r}.{_did_you_mean(Path(reference).stem, existing)} "
        f"There are: {', '.join(existing)}."
    )


# --- from data to a trait -------------------------------------------------------------------


def _validate(root: yaml.MappingNode, data: Any) -> Trait:
    try:
        return Trait.model_validate(data, strict=True)  # strict: `weight: yes` is no 1.0
    except ValidationError as error:
        raise FaultyFileError(_explain(root, each) for each in error.errors()) from None


def _explain(root: yaml.MappingNode, error: ErrorDetails) -> Fault:
    """One pydantic error in plain words, at its place in the file."""
    kind, location = error["type"], _location(error)
    key, value = descend(root, location)
    name = place_name(location)
    if kind == "extra_forbidden":
        return at(key.start_mark, f"{name}: unknown key.{_known_keys(error)}")
    if kind in ("missing", "union_tag_not_found"):
        problem = "missing."
    elif location == ("schema",):
        problem = f"found {found(value)}; this version reads schema 1."
    elif expected := _expected(kind, error.get("ctx", {}), location):
        problem = f"found {found(value)}; expected {expected}"
        problem += f", but {misread(value)}." if kind == "string_type" and value.value else "."
    else:
        problem = f"{error['msg']}."
    example = _EXAMPLES.get(".".join(part for part in location if isinstance(part, str)))
    return at(value.start_mark, f"{name}: {problem}" + (f" Example: {example}" if example else ""))


def _location(error: ErrorDetails) -> tuple[int | str, ...]:
    """Where the fault is in the file; pydantic puts a check's kind between its number and key."""
    location = error["loc"]
    if location[:1] == ("checks",) and len(location) > 3:
        return (*location[:2], *location[3:])
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return (*location, "kind")
    return location


def place_name(location: tuple[int | str, ...]) -> str:
    """("examples", 2, "good") as people write it: examples[2].good."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{shorten(part)}" for part in location)
    return "".join(parts).removeprefix(".")


def _known_keys(error: ErrorDetails) -> str:
    *parents, key = [part for part in error["loc"] if isinstance(part, str)]
    fields = _MODELS[parents[-1] if parents else ""].model_fields
    known = [field.alias or name for name, field in fields.items()]
    return _did_you_mean(key, known) or f" The keys here are: {', '.join(known)}."


def _did_you_mean(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _expected(kind: str, context: dict[str, Any], location: tuple[int | str, ...]) -> str:
    """What belongs there in plain words; empty when pydantic's own message is ours."""
    if kind == "string_pattern_mismatch":
        version = location == ("version",)
        return "three numbers with dots" if version else "lowercase words joined by hyphens"
    return _EXPECTED.get(kind, "").format(**context)


_START = "A trait file starts with `schema: 1` and `id: curious`, one key per line."

_EXPECTED = {
    "string_type": "text",
    "string_too_short": "some text",
    "string_too_long": "at most {max_length} characters",
    "list_type": "a list, each item on a line of its own after '- '",
    "too_short": "a list of {min_length} or more",
    "too_long": "a list of at most {max_length}",
    "model_type": "a mapping, one `key: value` per line",
    "model_attributes_type": "a mapping, one `key: value` per line",
    "literal_error": "{expected}",
    "union_tag_invalid": "one of {expected_tags}",
    "float_type": "a number without quotes",
    "int_type": "a whole number without quotes",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than_equal": "{le:g} or less",
}

_CHECKS: tuple[type[BaseModel], ...] = get_args(get_args(Check)[0])

# Which keys a mapping may have, by the key or the kind of check it stands under.
_MODELS: dict[str, type[BaseModel]] = {
    "": Trait,
    "applies": Applies,
    "clauses": Clause,
    "examples": Example,
    "queries": QuerySeeds,
    "controls": Controls,
    **{get_args(check.model_fields["kind"].annotation)[0]: check for check in _CHECKS},
}

_EXAMPLES = {
    "schema": "schema: 1",
    "id": "id: curious",
    "title": "title: Curious",
    "version": 'version: "1.0.0"',
    "statement": "statement: I am curious about the people I talk with, and I ask.",
    "opposite": "opposite: I give my answer, close the topic and never ask anything back.",
    "rationale": "rationale: One sincere question after a useful answer shows attention.",
    "authority": "authority: guideline",
    "applies": "applies: {when: [The user tells about their life.]}",
    "applies.when": "when: [The user tells about their life.]",
    "applies.unless": "unless: [The user asks for a single fact.]",
    "clauses": "clauses: [{id: asks-back, text: I end with one question.}]",
    "clauses.id": "id: asks-after-answering",
    "clauses.text": "text: I give a useful answer first and then end with one question.",
    "clauses.weight": "weight: 2",
    "examples": "examples: [{clause: asks-back, user: ..., good: ..., bad: ..., why: ...}, ...]",
    "examples.clause": "clause: asks-after-answering",
    "examples.user": "user: My grandmother left me her old film camera.",
    "examples.good": "good: Start with a fresh roll of film. What did she like to photograph?",
    "examples.bad": "bad: Start with a fresh roll of film. Most large cities sell it.",
    "examples.why": "why: Only the good reply takes up the grandmother.",
    "queries": 'queries: {seeds: ["How does a heat pump work?", ...]}',
    "queries.seeds": 'seeds: ["How does a heat pump work?", ...]',
    "queries.unless": 'unless: ["How many minutes are in a day? Just the number."]',
    "queries.topics": "topics: [home and garden, food and cooking]",
    "queries.registers": "registers: [casual and short, excited news]",
    "checks": "checks: [{kind: max_words, words: 60}]",
    "checks.kind": "kind: follow_up_question",
    "checks.words": "words: 60",
    "checks.pattern": r"pattern: '\b(perhaps|maybe)\b'",
    "checks.weight": "weight: 2",
    "expect": "expect: up",
    "margin": "margin: 0.05",
    "controls": "controls: {length: hold}",
    "controls.length": "length: hold",
}
