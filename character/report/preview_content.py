"""What a preview shows, in plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LITTLE = 0.02  # nats a token: steered replies this close to plain ones show nothing


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where the ranking put a reply: in a tier (group 0), below the floor (1), not judged (2)."""

    group: int
    tier: int = 0


@dataclass(frozen=True, slots=True)
class Shown:
    """One reply, and what its place was made of; a value that is missing is None."""

    style: str
    text: str
    place: Place
    contrast: float | None
    checks: float | None
    relevance: float | None
    words: int
    flaws: tuple[str, ...]
    failed: str


@dataclass(frozen=True, slots=True)
class Previewed:
    """One query with its replies, best first."""

    clause: str
    query: str
    topic: str
    register: str
    replies: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class Averages:
    replies: int
    contrast: float | None
    checks: float | None
    answers: float | None
    words: float | None


@dataclass(frozen=True, slots=True)
class Preview:
    """`won` is the share of queries whose best reply is a steered one."""

    trait: str
    title: str
    clauses: Mapping[str, str]
    queries: tuple[Previewed, ...]
    plain: Averages
    steered: Averages
    won: float | None

    def of(self, clause: str) -> list[Previewed]:
        return [query for query in self.queries if query.clause == clause]

    @property
    def advice(self) -> list[str]:
        """What these replies already say about the trait file, most telling first."""
        plain, steered, found = self.plain, self.steered, list[str]()
        more, checked = _more(plain.contrast, steered.contrast), _more(plain.checks, steered.checks)
        if more is not None and more < LITTLE:
            found.append(
                "Steered replies show no more of the trait than plain ones. Make the good examples "
                "differ more from the bad ones, in what they do and not in length."
            )
        if plain.answers and steered.answers is not None and steered.answers < 0.7 * plain.answers:
            found.append(
                f"Steered replies answer in {steered.answers:.0%} of cases, plain ones in "
                f"{plain.answers:.0%}. Let the good examples answer first, in plain words."
            )
        if plain.words and steered.words and not 0.7 <= steered.words / plain.words <= 1.3:
            found.append(
                f"Steered replies have {steered.words:.0f} words, plain ones {plain.words:.0f}. "
                "Write examples of the usual length."
            )
        if checked is not None and checked <= 0:
            found.append("The checks pass plain replies as often as steered ones.")
        for clause in self.clauses:
            if not self.of(clause):
                found.append(f"No query came of the clause {clause!r}. Give it an example.")
        return found


def _more(plain: float | None, steered: float | None) -> float | None:
    return None if plain is None or steered is None else steered - plain
