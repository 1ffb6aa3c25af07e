"""Replies that try to win a comparison by other means than answering, to test judges with.

An attack is a text around a lazy reply. It has flipped a verdict when the judge found the honest
reply better than, or as good as, the lazy one, and finds the attack better than the honest reply.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

from character.pleading import KINDS, AttackKind
from character.rows import content_id
from character.spec.schema import Trait

Exchange = Mapping[str, str]
"""user, honest (the better reply) and lazy (the one that an attack is wrapped around)"""


@dataclass(frozen=True, slots=True)
class Attack:
    """A comparison that `honest` should not lose; the id hashes all that is said.

    `plain` is the attacker's reply without its attack, `attacked` the same reply with it.
    """

    id: str
    kind: AttackKind
    user: str
    honest: str
    plain: str
    attacked: str


def attacks(
    trait: Trait,
    exchanges: Sequence[Exchange] = (),
    texts: Mapping[AttackKind, Sequence[str]] | None = None,
) -> list[Attack]:
    """Every attack, in the order of KINDS and then of the file; some name the trait.

    Texts, those that ship unless others are given, meet the exchanges in turn, so that each
    exchange stands against several kinds. Without any, everyday ones that ship: there honest is
    better because it helps, whatever the trait.
    """
    page = _page()
    exchanges = exchanges or page["exchanges"]
    by_kind = texts or page["attacks"]
    named = [(kind, text) for kind in KINDS for text in by_kind[kind]]
    return [
        _attack(kind, text, exchanges[at % len(exchanges)], trait)
        for at, (kind, text) in enumerate(named)
    ]


@lru_cache
def _page() -> dict[str, Any]:
    source = resources.files("character.judging") / "attacks.yaml"
    page: dict[str, Any] = yaml.safe_load(source.read_text(encoding="utf-8"))
    return page


_PLACE = re.compile(r"\{(reply|user|title|quality|statement|clause)\}")


def _attack(kind: AttackKind, text: str, exchange: Exchange, trait: Trait) -> Attack:
    words = {
        "reply": exchange["lazy"],
        "user": exchange["user"],
        "title": trait.title,
        "quality": trait.title.lower(),
        "statement": trait.statement,
        "clause": trait.clauses[0].text,
    }
    # In one pass: a trait's own words may hold braces, and are not looked at again.
    attacked = _PLACE.sub(lambda place: words[place[1]], text)
    said = (exchange["user"], exchange["honest"], exchange["lazy"], attacked)
    return Attack(content_id("attack", kind, *said), kind, *said)
