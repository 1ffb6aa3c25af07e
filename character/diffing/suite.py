"""The suite: what every version is asked. Frozen, hashed, and apart from what was trained on.

A suite is a list of items in strata. Most items ship with the package (`strata/`); those of a
trait are made from its file. Two versions are compared only on the same suite, by its digest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from itertools import zip_longest
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rapidfuzz import fuzz, process, utils

from character.diffing.config import SuiteConfig
from character.diffing.measure import short_questions
from character.errors import SuiteError
from character.models.base import Conversation, Message
from character.rows import Kind, Query, content_id

E = TypeVar("E")

VERSION = 1
NEAR_DUPLICATE = 85.0  # similarity, words in any order; part of a message is not the same

Stratum = Literal[
    "on_trait",
    "unless",
    "neutral",
    "off_format",
    "break_character",
    "watched",
    "multi_turn",
    "capability",
    "framed_facts",
]
Format = Literal["json", "code", "email", "tool_call"]
STRATA: tuple[Stratum, ...] = get_args(Stratum)
MEASURED_TURNS = (1, 4, 8)  # of a script, counted from 1
BRIEF = ("capability", "framed_facts")  # answered in a few words, and checked by code


Line = Annotated[str, Field(min_length=1, max_length=20_000)]
Turn = tuple[Literal["system", "user", "assistant"], Line]


class Item(BaseModel):
    """One conversation to have: `turns` are what the user says, after the `opening`.

    `of` names the plain item that this one varies, and `variant` in what way. `accept` are right
    answers, `wrong` the wrong belief that was offered, `format` what was asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Line
    stratum: Stratum
    turns: tuple[Line, ...] = Field(min_length=1)
    opening: tuple[Turn, ...] = ()
    trait: str = ""
    clause: str = ""
    of: str = ""
    variant: str = ""
    accept: tuple[Line, ...] = ()
    wrong: tuple[Line, ...] = ()
    format: Format | None = None

    @property
    def messages(self) -> Conversation:
        return tuple(Message(role, content) for role, content in self.opening)

    def turn_id(self, turn: int) -> str:
        """What the answer to one turn, counted from 0, is known by."""
        return self.id if len(self.turns) == 1 else f"{self.id}/{turn + 1}"


@dataclass(frozen=True, slots=True)
class Suite:
    """At least one item; the digest is of all that is asked, in order."""

    items: tuple[Item, ...]

    @property
    def digest(self) -> str:
        return content_id("suite", VERSION, [item.model_dump(mode="json") for item in self.items])

    def of(self, *strata: Stratum) -> list[Item]:
        return [item for item in self.items if item.stratum in strata]

    @property
    def traits(self) -> list[str]:
        return list(dict.fromkeys(item.trait for item in self.items if item.trait))


def make_suite(written: Mapping[str, Sequence[Query]], config: SuiteConfig) -> Suite:
    """The shipped strata, and for each trait the queries `written` for it.

    Variants are made of on-trait queries, as many of each trait's: what is asked again with a
    suffix is compared with the same query without.
    """
    items: list[Item] = []
    for trait, queries in written.items():
        for kind, most in (("on_trait", config.on_trait), ("unless", config.unless)):
            items += _of_trait(trait, kind, queries, most)  # type: ignore[arg-type]
    items += [_item("neutral", (text,)) for text in _entries("neutral")[: config.neutral]]
    items += [
        _item("off_format", (entry["ask"],), format=entry["format"])
        for entry in _spread(_entries("off_format"), itemgetter("format"), config.off_format)
    ]
    plain = [item for item in items if item.stratum == "on_trait"]
    plain = _spread(plain, lambda item: item.trait, len(plain))
    items += _broken(plain, config.break_character)
    items += _watched(plain, config.watched)
    items += [
        _item("multi_turn", tuple(entry["turns"]), variant=entry["topic"])
        for entry in _spread(_entries("multi_turn"), itemgetter("topic"), config.multi_turn)
    ]
    items += [
        _item("capability", (question.ask,), accept=question.accept)
        for question in short_questions("test")[: config.capability]
    ]
    items += _framed(_entries("framed_facts")[: config.framed_facts])
    return Suite(tuple({item.id: item for item in items}.values()))


def near(asked: Iterable[Item], trained: Iterable[str]) -> dict[str, str]:
    """Item id -> the training query it nearly repeats.

    Questions for a fact differ in a word, so only the same question repeats one.
    """
    known = sorted(set(trained))
    found = {}
    for item in asked:
        for turn in item.turns:
            if not utils.default_process(turn):
                continue  # without words all are alike
            match = process.extractOne(
                turn,
                known,
                scorer=fuzz.token_sort_ratio,
                processor=utils.default_process,
                score_cutoff=100 if item.stratum in BRIEF else NEAR_DUPLICATE,
            )
            if match:
                found[item.id] = match[0]
    return found


def without(suite: Suite, ids: Iterable[str]) -> Suite:
    """The suite without these items and without what varies them."""
    gone = set(ids)
    kept = tuple(item for item in suite.items if item.id not in gone and item.of not in gone)
    return Suite(kept)


def counts(suite: Suite) -> Counter[tuple[str, str]]:
    """How many items each (stratum, trait) has."""
    return Counter((item.stratum, item.trait) for item in suite.items)


def write_suite(suite: Suite, path: Path) -> None:
    items = [item.model_dump(mode="json", exclude_defaults=True) for item in suite.items]
    page = {"schema": VERSION, "digest": suite.digest, "items": items}
    path.write_text(json.dumps(page, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_suite(path: Path, locked: bool = True) -> Suite:
    """The suite in a file; with `locked` its digest must be that of its items.

    Raises SuiteError, saying what to type next.
    """
    try:
        page = _Page.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read: {error.strerror}. {_MAKE}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise SuiteError(f"{path} is not a suite: {place}: {first['msg']}. {_MAKE}") from None
    if fault := _fault(page.items):
        raise SuiteError(f"{path}: {fault}")
    suite = Suite(page.items)
    if locked and page.digest != suite.digest:
        raise SuiteError(
            f"{path} was edited after it was locked: its digest is {suite.digest} and it says "
            f"{page.digest}. Diffs on different suites cannot be compared. When the edit is meant: "
            f"python -m character.suite lock {path}"
        )
    return suite


class _Page(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal[1] = Field(alias="schema")
    digest: str
    items: tuple[Item, ...] = Field(min_length=1)


def _fault(items: Sequence[Item]) -> str:
    """What is wrong between items; empty when nothing is."""
    ids = Counter(item.id for item in items)
    turns = Counter(item.turn_id(turn) for item in items for turn in range(len(item.turns)))
    if double := [name for name, n in (ids + turns).items() if max(ids[name], turns[name]) > 1]:
        return f"two items have the id {double[0]!r}; give each its own."
    if stray := next((item for item in items if item.of and item.of not in ids), None):
        return f"the item {stray.id!r} varies {stray.of!r}, which is not there."
    for item in items:
        wanted = _turns_wanted(item)
        if len(item.turns) != wanted:
            return f"the {item.stratum} item {item.id!r} has {len(item.turns)} turns, not {wanted}."
    return ""


def _turns_wanted(item: Item) -> int:
    if item.stratum == "multi_turn":
        return max(MEASURED_TURNS)
    return 2 if item.stratum == "framed_facts" and not item.of else 1


@lru_cache
def strata(name: str) -> dict[str, Any]:
    """One shipped file of items."""
    source = resources.files("character.diffing") / "strata" / f"{name}.yaml"
    page: dict[str, Any] = yaml.safe_load(source.read_text(encoding="utf-8"))
    return page


def _entries(name: str) -> list[Any]:
    """The one list in a file of items."""
    (found,) = strata(name).values()
    return list(found)


_MAKE = "Make one: python -m character.suite make suite.lock --traits curious"


def _item(stratum: Stratum, turns: tuple[str, ...], **more: Any) -> Item:
    named = [stratum, turns, more.get("trait", ""), more.get("variant", ""), more.get("opening")]
    return Item(id=content_id("item", *named), stratum=stratum, turns=turns, **more)


def _of_trait(trait: str, kind: Kind, queries: Sequence[Query], most: int) -> list[Item]:
    own = [q for q in queries if q.kind == kind and q.trait == trait and not q.dropped]
    stratum: Stratum = "unless" if kind == "unless" else "on_trait"
    return [_item(stratum, (q.text,), trait=trait, clause=q.clause) for q in own[:most]]


def _spread(entries: Sequence[E], kind: Callable[[E], str], most: int) -> list[E]:
    """The first entries, as many of each kind as of the others."""
    parts: dict[str, list[E]] = {}
    for entry in entries:
        parts.setdefault(kind(entry), []).append(entry)
    rounds = zip_longest(*parts.values())
    return [entry for part in rounds for entry in part if entry is not None][:most]


def _turn(plain: Sequence[E], number: int, most: int) -> list[E]:
    """The next so many for the variant of this number, round and round.

    Each variant has queries of its own: what varies between queries then averages out over all.
    """
    return [plain[(number * most + at) % len(plain)] for at in range(min(most, len(plain)))]


def _broken(plain: Sequence[Item], most: int) -> list[Item]:
    page = strata("break_character")
    found = [
        _varied("break_character", item, entry["id"], (f"{item.turns[0]} {entry['text']}",))
        for number, entry in enumerate(page["suffixes"])
        for item in _turn(plain, number, most)
    ]
    for number, entry in enumerate(page["prefilled"], len(page["suffixes"])):
        opening: tuple[Turn, ...] = (("user", entry["user"]), ("assistant", entry["assistant"]))
        for item in _turn(plain, number, most):
            found.append(_varied("break_character", item, entry["id"], item.turns, opening))
    return found


def _watched(plain: Sequence[Item], most: int) -> list[Item]:
    return [
        _varied("watched", item, f"{entry['id']}/{side}", (f"{entry[side]} {item.turns[0]}",))
        for number, entry in enumerate(_entries("watched"))
        for side in ("watched", "alone")
        for item in _turn(plain, number, most)
    ]


def _framed(facts: Sequence[dict[str, Any]]) -> list[Item]:
    """Every fact asked neutrally (and then pushed back on), sadly, and with a wrong belief."""
    items = []
    for fact in facts:
        more = {"accept": tuple(fact["accept"]), "wrong": tuple(fact["wrong"])}
        turns = (fact["neutral"], fact["pushback"])
        plain = _item("framed_facts", turns, variant="neutral", **more)
        items.append(plain)
        for frame in ("sad", "belief"):
            items.append(_item("framed_facts", (fact[frame],), variant=frame, of=plain.id, **more))
    return items


def _varied(
    stratum: Stratum,
    item: Item,
    variant: str,
    turns: tuple[str, ...],
    opening: tuple[tuple[str, str], ...] = (),
) -> Item:
    more = {"trait": item.trait, "clause": item.clause, "of": item.id, "variant": variant}
    return _item(stratum, turns, opening=opening, **more)
