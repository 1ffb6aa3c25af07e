"""Differences that nobody named: phrases, themes, what a model proposes, and where tokens part.

Proposed on half of the queries, tested on the other half, which the proposals have not seen. The
same is done with OLD against its own fresh replies: what is found there is chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from character.diffing.divergence import Divergence
from character.diffing.phrases import Phrase, PhraseTable, Telling
from character.diffing.proposals import Hypotheses
from character.diffing.themes import Themes

FEWEST = 40  # queries

Said = Mapping[str, str]  # query id -> reply


@dataclass(frozen=True, slots=True)
class Discovery:
    """`by_chance` is how many phrases OLD against itself gives, None when it was not asked twice.

    `left` is the classifier's share without the phrases found, `unnamed` without those by which the
    named traits show. `unseen` says what was not looked for, and why.
    """

    phrases: tuple[Phrase, ...]
    tested: int
    queries: int
    by_chance: int | None
    telling: Telling | None
    left: Telling | None
    telling_by_chance: Telling | None
    unnamed: Telling | None = None
    themes: Themes | None = None
    hypotheses: Hypotheses | None = None
    divergence: Divergence | None = None
    unseen: tuple[str, ...] = ()


def discover(
    old: Said,
    new: Said,
    again: Said | None = None,
    planted: Mapping[str, tuple[Said, Said]] | None = None,
) -> Discovery | None:
    """What tells two versions' words apart; None with under 40 queries.

    `again` are fresh replies of OLD to the same queries; `planted` are each named trait's good and
    bad replies: the phrases that tell those apart are how the trait shows.
    """
    planted = planted or {}
    named = {word: trait for trait, replies in planted.items() for word in _own(*replies)}
    table = _table(old, new, named)
    if table is None:
        return None
    phrases, tested = table.phrases()
    found = [word for phrase in phrases for word in (phrase.text, *phrase.also)]
    chance = _table(old, again) if again is not None else None
    return Discovery(
        tuple(phrases),
        tested,
        len(shared_queries(old, new)),
        len(chance.phrases()[0]) if chance else None,
        table.telling(),
        table.telling(found) if found else None,
        chance.telling() if chance else None,
        table.telling(named) if named else None,
    )


def shared_queries(old: Said, new: Said) -> list[str]:
    return [query for query in old if query in new]


def _table(old: Said, new: Said, own: Mapping[str, str] | None = None) -> PhraseTable | None:
    shared = shared_queries(old, new)
    return PhraseTable(shared, old, new, own) if len(shared) >= FEWEST else None


def _own(good: Said, bad: Said) -> set[str]:
    shared = shared_queries(good, bad)
    return PhraseTable(shared, bad, good).planted() if shared else set()
