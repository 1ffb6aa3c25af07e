"""YAML files that may come from strangers: read with bounds, every value with its place.

    bytes -> text -> YAML nodes, which know their places -> plain data

Nothing in a file is ever executed, and size, depth and the growth of anchors are bounded before
they can cost. Each step stops on its own kind of fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import yaml
from yaml.constructor import ConstructorError
from yaml.reader import Reader

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # a PyYAML built without libyaml
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
MAX_DEPTH = 50  # 4 are needed; composing recurses, and tens of thousands crash the process
_TOO_MANY = (
    f"the file holds more than {MAX_VALUES:,} values once its anchors (&, *) are written out, or an"
    " anchor contains itself. Use fewer values and no such anchors."
)


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong at one place; lines and columns count from 1."""

    line: int
    column: int
    message: str


class FaultyFileError(Exception):
    """Carries the faults of a file, in file order, to where its path is known."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = sorted(faults)

    def lines(self, path: Path) -> str:
        """Every fault as `path:line:column: message`."""
        return "\n".join(f"{path}:{f.line}:{f.column}: {f.message}" for f in self.faults)


def read_yaml(path: Path, noun: str, start: str) -> tuple[yaml.MappingNode, dict[str, Any]]:
    """The file's mapping twice: as nodes with places, and as plain data.

    `noun` is what the file holds, a trait or a recipe, and `start` how such a file starts. Raises
    FaultyFileError, and OSError when it cannot be read.
    """
    root = _compose(_decode(_read(path, noun), noun), noun, start)
    return root, _construct(root)


def descend(root: yaml.Node, location: Iterable[int | str]) -> tuple[yaml.Node, yaml.Node]:
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


class _Mark(Protocol):
    """A place as PyYAML and libyaml mark it, counting from 0."""

    line: int
    column: int


def at(mark: _Mark | None, message: str) -> Fault:
    line, column = (mark.line, mark.column) if mark else (0, 0)
    return Fault(line + 1, column + 1, message)


def _after(text: str, message: str) -> Fault:
    """A fault at the character that follows `text`."""
    return Fault(text.count("\n") + 1, len(text) - text.rfind("\n"), message)


def _read(path: Path, noun: str) -> bytes:
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise FaultyFileError([Fault(1, 1, f"is larger than 1 MB, the limit for a {noun} file.")])
    return raw


def _decode(raw: bytes, noun: str) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8")
        raise FaultyFileError(
            [_after(before, "is not UTF-8 text. Save the file as UTF-8.")]
        ) from None
    if odd := Reader.NON_PRINTABLE.search(text):
        message = f"found the control character {odd.group()!r}; a {noun} file is plain text."
        raise FaultyFileError([_after(text[: odd.start()], message)])
    return text


class _Loader(_SafeLoader):
    """The safe loader, with a place for values that match a YAML type and yet are none of it."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, OverflowError):  # 2024-13-45
            problem = f"found {shorten(node.value)}, in the form of a number or date but none"
            raise ConstructorError(None, None, problem, node.start_mark) from None


def _compose(text: str, noun: str, start: str) -> yaml.MappingNode:
    try:
        _check_events(text, noun)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise FaultyFileError([_syntax_fault(error)]) from None
    if root is None:
        raise FaultyFileError([Fault(1, 1, f"holds no {noun}. {start}")])
    if not isinstance(root, yaml.MappingNode):
        raise FaultyFileError([at(root.start_mark, f"found {found(root)}, not a {noun}. {start}")])
    nodes = _expand(root)
    mappings = dict.fromkeys(node for node in nodes if isinstance(node, yaml.MappingNode))
    if faults := list(chain.from_iterable(map(_key_faults, mappings))):
        raise FaultyFileError(faults)
    return root


def _check_events(text: str, noun: str) -> None:
    """Refuse tags, and depth and size while they are only counts: composing recurses, and costs."""
    depth = values = 0
    for event in yaml.parse(text, Loader=_Loader):
        if tag := getattr(event, "tag", None):
            name = shorten(tag.replace("tag:yaml.org,2002:", "!!"))
            message = f"found the YAML tag {name}; a {noun} file has no tags. Remove it."
            raise FaultyFileError([at(event.start_mark, message)])
        values += isinstance(event, yaml.NodeEvent)
        if values > MAX_VALUES:
            raise FaultyFileError([at(event.start_mark, _TOO_MANY)])
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            message = f"is nested more than {MAX_DEPTH} levels deep; a {noun} needs 4."
            raise FaultyFileError([at(event.start_mark, message)])


def _expand(root: yaml.Node) -> list[yaml.Node]:
    """Every node, as often as anchors repeat it; one that contains itself never ends."""
    nodes: list[yaml.Node] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        if len(nodes) > MAX_VALUES:
            raise FaultyFileError([at(node.start_mark, _TOO_MANY)])
        if isinstance(node, yaml.MappingNode):
            waiting.extend(chain.from_iterable(node.value))
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
    return nodes


def _key_faults(mapping: yaml.MappingNode) -> Iterator[Fault]:
    """Keys that are not text, and keys that come twice: PyYAML would keep the last, silently."""
    lines: dict[str, int] = {}
    for key, _ in mapping.value:
        if key.tag not in (TEXT, _MERGE):
            yield at(key.start_mark, f"found {found(key)} as a key, but {misread(key)}.")
        elif key.value in lines:
            message = f"appears twice, on line {lines[key.value]} and again here on line"
            message = f"{shorten(key.value)}: {message} {key.start_mark.line + 1}. Keep one."
            yield at(key.start_mark, message)
        else:
            lines[key.value] = key.start_mark.line + 1


def _construct(root: yaml.MappingNode) -> dict[str, Any]:
    try:
        data: dict[str, Any] = _Loader("").construct_document(root)
    except yaml.MarkedYAMLError as error:
        raise FaultyFileError([_syntax_fault(error)]) from None
    return data


def _syntax_fault(error: yaml.MarkedYAMLError) -> Fault:
    context = ""
    if error.context and error.context_mark:
        context = f" ({error.context}, from line {error.context_mark.line + 1})"
    return at(
        error.problem_mark,
        f"is not valid YAML: {error.problem}{context}. Check the indentation, and write text in "
        "quotes when it holds ': ' or ' #' or begins with a sign such as @ * & ! % [ {.",
    )


def found(node: yaml.Node) -> str:
    """What the file says there, as it is written."""
    if isinstance(node, yaml.MappingNode):
        keys = ", ".join(shorten(str(key.value)) for key, _ in node.value[:3])
        return f"a mapping ({keys})" if keys else "an empty mapping"
    if isinstance(node, yaml.SequenceNode):
        return f"a list of {len(node.value)}"
    text = shorten(node.value)
    return f"'{text}'" if node.tag == TEXT else text or "nothing"


def misread(node: yaml.Node) -> str:
    """What YAML took text for that its author did not quote, and the way out."""
    kind = node.tag.rpartition(":")[2]
    if kind == "bool":
        reading = "true" if node.value.lower() in ("yes", "on", "true") else "false"
    else:
        reading = _READINGS.get(kind, kind)
    return f"YAML reads this as {reading}: write it in quotes"


def shorten(text: str) -> str:
    """Fit for one line of a message, whatever the file put into it."""
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text):,} characters)"


_READINGS = {
    "null": "nothing",
    "int": "a number",
    "float": "a number",
    "timestamp": "a date",
    "map": "a mapping, because of its ': '",
    "seq": "a list, because of its brackets or '- '",
}
