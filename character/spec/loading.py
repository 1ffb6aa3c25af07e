"""Read a trait file, and say everything that is wrong with it at once, by line and column.

    bytes -> text -> YAML nodes, which know their places -> plain data -> Trait

Each step stops on its own kind of fault. A trait file may come from a stranger, so nothing in it
is ever executed, and size, depth and the growth of anchors are bounded before they can cost.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from yaml.constructor import ConstructorError
from yaml.reader import Reader

from character import shipped
from character.errors import SpecError
from character.spec.schema import Applies, Check, Clause, Controls, Example, QuerySeeds, Trait

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # a PyYAML built without libyaml
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

_STR, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
MAX_DEPTH = 50  # a trait needs 4; composing recurses, and tens of thousands crash the process


def load_trait(reference: str | Path) -> Trait:
    """The trait a name (`curious`) or a path stands for.

    Raises SpecError with every fault of the file, one line each, as `path:line:column: ...`.
    """
    path = _locate(str(reference))
    try:
        root = _compose(_decode(_read(path)))
        return _validate(root, _construct(root))
    except _FaultyFileError as error:
        lines = (f"{path}:{fault.line}:{fault.column}: {fault.message}" for fault in error.faults)
        raise SpecError("\n".join(lines)) from None


@dataclass(frozen=True, slots=True, order=True)
class _Fault:
    """One thing wrong at one place; lines and columns count from 1."""

    line: int
    column: int
    message: str


class _FaultyFileError(Exception):
    """Carries the faults of a file, in file order, to where its path is known."""

    def __init__(self, faults: Iterable[_Fault]) -> None:
        self.faults = sorted(faults)


class _Mark(Protocol):
    """A place as PyYAML and libyaml mark it, counting from 0."""

    line: int
    column: int


def _at(mark: _Mark | None, message: str) -> _Fault:
    line, column = (mark.line, mark.column) if mark else (0, 0)
    return _Fault(line + 1, column + 1, message)


def _after(text: str, message: str) -> _Fault:
    """A fault at the character that follows `text`."""
    return _Fault(text.count("\n") + 1, len(text) - text.rfind("\n"), message)


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


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}.") from None
    if len(raw) > MAX_BYTES:
        raise _FaultyFileError([_Fault(1, 1, "is larger than 1 MB, the limit for a trait file.")])
    return raw


def _decode(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8")
        raise _FaultyFileError(
            [_after(before, "is not UTF-8 text. Save the file as UTF-8.")]
        ) from None
    if odd := Reader.NON_PRINTABLE.search(text):
        message = f"found the control character {odd.group()!r}; a trait file is plain text."
        raise _FaultyFileError([_after(text[: odd.start()], message)])
    return text


# --- from text to YAML nodes ----------------------------------------------------------------


class _Loader(_SafeLoader):
    """The safe loader, with a place for values that match a YAML type and yet are none of it."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, OverflowError):  # 2024-13-45
            problem = f"found {_shorten(node.value)}, in the form of a number or date but none"
            raise ConstructorError(None, None, problem, node.start_mark) from None


def _compose(text: str) -> yaml.MappingNode:
    try:
        _check_events(text)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise _FaultyFileError([_syntax_fault(error)]) from None
    if root is None:
        raise _FaultyFileError([_Fault(1, 1, f"holds no trait. {_START}")])
    if not isinstance(root, yaml.MappingNode):
        raise _FaultyFileError(
            [_at(root.start_mark, f"found {_found(root)}, not a trait. {_START}")]
        )
    nodes = _expand(root)
    mappings = dict.fromkeys(node for node in nodes if isinstance(node, yaml.MappingNode))
    if faults := list(chain.from_iterable(map(_key_faults, mappings))):
        raise _FaultyFileError(faults)
    return root


def _check_events(text: str) -> None:
    """Refuse tags, and depth while it is still only a count: composing recurses."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if tag := getattr(event, "tag", None):
            name = _shorten(tag.replace("tag:yaml.org,2002:", "!!"))
            message = f"found the YAML tag {name}; a trait file has no tags. Remove it."
            raise _FaultyFileError([_at(event.start_mark, message)])
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            message = f"is nested more than {MAX_DEPTH} levels deep; a trait needs 4."
            raise _FaultyFileError([_at(event.start_mark, message)])


def _expand(root: yaml.Node) -> list[yaml.Node]:
    """Every node, as often as anchors repeat it; one that contains itself never ends."""
    nodes: list[yaml.Node] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        if len(nodes) > MAX_VALUES:
            message = (
                f"the file holds more than {MAX_VALUES:,} values once its anchors (&, *) are "
                "written out, or an anchor contains itself. Use fewer values and no such anchors."
            )
            raise _FaultyFileError([_at(node.start_mark, message)])
        if isinstance(node, yaml.MappingNode):
            waiting.extend(chain.from_iterable(node.value))
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
    return nodes


def _key_faults(mapping: yaml.MappingNode) -> Iterator[_Fault]:
    """Keys that are not text, and keys that come twice: PyYAML would keep the last, silently."""
    lines: dict[str, int] = {}
    for key, _ in mapping.value:
        if key.tag not in (_STR, _MERGE):
            yield _at(key.start_mark, f"found {_found(key)} as a key, but {_misread(key)}.")
        elif key.value in lines:
            message = f"appears twice, on line {lines[key.value]} and again here on line"
            message = f"{_shorten(key.value)}: {message} {key.start_mark.line + 1}. Keep one."
            yield _at(key.start_mark, message)
        else:
            lines[key.value] = key.start_mark.line + 1


def _construct(root: yaml.MappingNode) -> Any:
    try:
        return _Loader("").construct_document(root)
    except yaml.MarkedYAMLError as error:
        raise _FaultyFileError([_syntax_fault(error)]) from None


def _syntax_fault(error: yaml.MarkedYAMLError) -> _Fault:
    context = ""
    if error.context and error.context_mark:
        context = f" ({error.context}, from line {error.context_mark.line + 1})"
    return _at(
        error.problem_mark,
        f"is not valid YAML: {error.problem}{context}. Check the indentation, and write text in "
        "quotes when it holds ': ' or ' #' or begins with a sign such as @ * & ! % [ {.",
    )


# --- from data to a trait -------------------------------------------------------------------


def _validate(root: yaml.MappingNode, data: Any) -> Trait:
    try:
        return Trait.model_validate(data, strict=True)  # strict: `weight: yes` is no 1.0
    except ValidationError as error:
        raise _FaultyFileError(_explain(root, each) for each in error.errors()) from None


def _explain(root: yaml.MappingNode, error: ErrorDetails) -> _Fault:
    """One pydantic error in plain words, at its place in the file."""
    kind, location = error["type"], _location(error)
    key, value = _descend(root, location)
    name = _name(location)
    if kind == "extra_forbidden":
        return _at(key.start_mark, f"{name}: unknown key.{_known_keys(error)}")
    if kind in ("missing", "union_tag_not_found"):
        problem = "missing."
    elif location == ("schema",):
        problem = f"found {_found(value)}; this version reads schema 1."
    elif expected := _expected(kind, error.get("ctx", {}), location):
        problem = f"found {_found(value)}; expected {expected}"
        problem += f", but {_misread(value)}." if kind == "string_type" and value.value else "."
    else:
        problem = f"{error['msg']}."
    example = _EXAMPLES.get(".".join(part for part in location if isinstance(part, str)))
    return _at(value.start_mark, f"{name}: {problem}" + (f" Example: {example}" if example else ""))


def _location(error: ErrorDetails) -> tuple[int | str, ...]:
    """Where the fault is in the file; pydantic puts a check's kind between its number and key."""
    location = error["loc"]
    if location[:1] == ("checks",) and len(location) > 3:
        return (*location[:2], *location[3:])
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return (*location, "kind")
    return location


def _name(location: tuple[int | str, ...]) -> str:
    """("examples", 2, "good") as people write it: examples[2].good."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{_shorten(part)}" for part in location)
    return "".join(parts).removeprefix(".")


def _descend(root: yaml.Node, location: Iterable[int | str]) -> tuple[yaml.Node, yaml.Node]:
    """The key and the value at a location; for a missing key, twice the mapping that lacks it."""
    key = value = root
    for part in location:
        if isinstance(part, int):
            key, value = value, value.value[part]
            continue
        entries = {entry.value: (entry, held) for entry, held in value.value}
        if part not in entries:
            return value, value
        key, value = entries[part]
    return key, value


def _known_keys(error: ErrorDetails) -> str:
    *parents, key = [part for part in error["loc"] if isinstance(part, str)]
    fields = _MODELS[parents[-1] if parents else ""].model_fields
    known = [field.alias or name for name, field in fields.items()]
    return _did_you_mean(key, known) or f" The keys here are: {', '.join(known)}."


def _did_you_mean(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _found(node: yaml.Node) -> str:
    """What the file says there, as it is written."""
    if isinstance(node, yaml.MappingNode):
        keys = ", ".join(_shorten(str(key.value)) for key, _ in node.value[:3])
        return f"a mapping ({keys})" if keys else "an empty mapping"
    if isinstance(node, yaml.SequenceNode):
        return f"a list of {len(node.value)}"
    text = _shorten(node.value)
    return f"'{text}'" if node.tag == _STR else text or "nothing"


def _misread(node: yaml.Node) -> str:
    """What YAML took text for that its author did not quote, and the way out."""
    kind = node.tag.rpartition(":")[2]
    if kind == "bool":
        reading = "true" if node.value.lower() in ("yes", "on", "true") else "false"
    else:
        reading = _READINGS.get(kind, kind)
    return f"YAML reads this as {reading}: write it in quotes"


def _shorten(text: str) -> str:
    """Fit for one line of a message, whatever the file put into it."""
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text):,} characters)"


def _expected(kind: str, context: dict[str, Any], location: tuple[int | str, ...]) -> str:
    """What belongs there in plain words; empty when pydantic's own message is ours."""
    if kind == "string_pattern_mismatch":
        version = location == ("version",)
        return "three numbers with dots" if version else "lowercase words joined by hyphens"
    return _EXPECTED.get(kind, "").format(**context)


_START = "A trait file starts with `schema: 1` and `id: curious`, one key per line."

_READINGS = {
    "null": "nothing",
    "int": "a number",
    "float": "a number",
    "timestamp": "a date",
    "map": "a mapping, because of its ': '",
    "seq": "a list, because of its brackets or '- '",
}

_EXPECTED = {
    "string_type": "text",
    "string_too_short": "some text",
    "string_too_long": "at most {max_length} characters",
    "list_type": "a list, each item on a line of its own after '- '",
    "too_short": "a list of {min_length} or more",
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
