"""What an import gives: a trait as far as a foreign file tells it.

Words that fit a field are carried as they are. Words that say the right thing in the wrong voice
are kept as drafts, what nobody wrote is a bare DRAFT, and what has no place is listed.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from character.errors import SpecError
from character.spec.drafts import MARK
from character.yaml_file import shorten

MOST = 4000  # characters in one text of a trait
MOST_TRAITS = 500  # that one file may become
EXAMPLES, SEEDS = 3, 4  # the fewest a trait may have
ID_LENGTH = 50  # leaves room for a number that makes it unique
NAMES = {"id", "clauses.id", "examples.clause"}  # made here, not carried


@dataclass(frozen=True, slots=True)
class Shown:
    """An example of the clause with this number; what the file does not say is blank."""

    clause: int
    user: str
    good: str
    bad: str
    why: str


@dataclass(frozen=True, slots=True)
class Told:
    """What a foreign file tells of one trait; blank where it is silent.

    `clauses` pairs what an id is made from with the text. `dropped` names what has no place here.
    """

    name: str
    clauses: Sequence[tuple[str, str]]
    title: str = ""
    version: str = ""
    authority: str = ""
    opposite: str = ""
    rationale: str = ""
    examples: Sequence[Shown] = ()
    seeds: Sequence[str] = ()
    dropped: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    """A trait as plain data, what a person must still write, and what was left out."""

    fields: Mapping[str, Any]
    missing: tuple[str, ...]
    dropped: tuple[str, ...]

    @property
    def carried(self) -> tuple[str, ...]:
        """The fields whose words the file had, with how many."""
        counts = Counter(
            place
            for place, text in _texts(self.fields)
            if place not in NAMES and not text.startswith(MARK)
        )
        return _listed(counts)


class Foreign(BaseModel):
    """A mapping of a foreign JSON file; keys we do not know are kept, to be listed."""

    model_config = ConfigDict(frozen=True, extra="allow")


def unknown(value: Any, place: str = "") -> Iterator[str]:
    """The keys we do not know, in a mapping and all it holds, as in `criteria.reasoning`."""
    if isinstance(value, tuple):
        for held in value:
            yield from unknown(held, place)
    elif isinstance(value, Foreign):
        yield from (f"{place}{shorten(key)}" for key in value.model_extra or ())
        for key in type(value).model_fields:
            yield from unknown(getattr(value, key), f"{place}{key}.")


def read_json(shape: TypeAdapter[Any], text: str, expected: str) -> Any:
    """The file as this shape. Raises SpecError that says what was expected, and the first fault."""
    try:
        return shape.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(shorten(str(part)) for part in first["loc"])
        found = f"{place}: {first['msg']}" if place else first["msg"]
        raise SpecError(f"expected {expected}. Found: {found}.") from None


def unique_ids(labels: Sequence[str], otherwise: str) -> list[str]:
    """An id for each label, made from its words; `otherwise` where there are none."""
    taken: Counter[str] = Counter()
    ids = []
    for label in labels:
        base = identity = _slug(label) or otherwise
        while identity in taken:
            taken[base] += 1
            identity = f"{base}-{taken[base]}"
        taken[identity] = 1
        ids.append(identity)
    return ids


def imported(told: Sequence[Told]) -> list[Imported]:
    """One trait for each that was told of, under ids of their own. Raises SpecError over 500."""
    if len(told) > MOST_TRAITS:
        raise SpecError(f"holds {len(told):,} traits, of at most {MOST_TRAITS}. Split the file.")
    ids = unique_ids([each.name for each in told], "trait")
    return [_imported(identity, each) for identity, each in zip(ids, told, strict=True)]


def _imported(identity: str, told: Told) -> Imported:
    dropped = [" ".join(what.split()) for what in told.dropped]

    def text(said: str, place: str) -> str:
        if len(said) > MOST:
            dropped.append(f"{place}: {len(said):,} characters, at most {MOST:,} fit")
        return said if said.strip() and len(said) <= MOST else MARK

    clauses = told.clauses or [("", "")]
    ids = unique_ids([label for label, _ in clauses], "clause")
    shown = [*told.examples, *_to_show(len(ids), told.examples)]
    seeds = [text(seed, "queries.seeds") for seed in told.seeds if seed.strip()]
    fields = {
        "schema": 1,
        "id": identity,
        "title": text(told.title or identity.replace("-", " ").capitalize(), "title"),
        **({"version": told.version} if told.version else {}),
        "statement": MARK,
        "opposite": text(told.opposite, "opposite"),
        "rationale": text(told.rationale, "rationale"),
        **({"authority": told.authority} if told.authority else {}),
        "clauses": [
            {"id": clause, "text": text(said, f"clause {clause}")}
            for clause, (_, said) in zip(ids, clauses, strict=True)
        ],
        "examples": [
            {"clause": ids[each.clause]}
            | {key: text(getattr(each, key), f"examples.{key}") for key in _SAID}
            for each in shown
        ],
        "queries": {"seeds": seeds + [MARK] * (SEEDS - len(seeds))},
    }
    return Imported(fields, _missing(fields), tuple(dict.fromkeys(dropped)))


_SAID = ("user", "good", "bad", "why")


def _to_show(clauses: int, shown: Sequence[Shown]) -> Iterator[Shown]:
    """Blank examples up to the fewest a trait may have, of clauses that have none first."""
    bare = sorted({*range(clauses)} - {example.clause for example in shown})
    for number in range(EXAMPLES - len(shown)):
        yield Shown(bare[number] if number < len(bare) else 0, "", "", "", "")


def _missing(fields: Mapping[str, Any]) -> tuple[str, ...]:
    texts = list(_texts(fields))
    bare = Counter(place for place, text in texts if text == MARK)
    kept = Counter(place for place, text in texts if text.startswith(f"{MARK} "))
    return (*_listed(bare), *(f"{what}: words kept as a draft" for what in _listed(kept)))


def _listed(counts: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(name if n == 1 else f"{name} ({n})" for name, n in counts.items())


def _texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text with the name of its field, as in `examples.good`."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, held in value.items():
            yield from _texts(held, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list):
        for held in value:
            yield from _texts(held, place)


def _slug(label: str) -> str:
    plain = unicodedata.normalize("NFKD", label[:1000]).encode("ascii", "ignore").decode().lower()
    whole = "-".join(re.findall(r"[a-z0-9]+", plain)).lstrip("0123456789-")
    cut = whole[: ID_LENGTH + 1]
    return whole if len(whole) <= ID_LENGTH else (cut.rpartition("-")[0] or cut[:-1])
