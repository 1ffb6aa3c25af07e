"""Which clause is ambiguous: two readers of one trait, each shown one half of its examples.

Both are the same judge. Where the halves teach the same behaviour they name the same winners; a
clause on which they split means one thing to the reader of one half and another to the other's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from character.judging.agreement import FEWEST, Split, agreement
from character.judging.judge import Contest, Judge, Outcome
from character.judging.plants import Planted
from character.spec.schema import Trait

AMBIGUOUS = 0.25  # lower end of the share of split verdicts


@dataclass(frozen=True, slots=True)
class HalfReader:
    """A judge that knows every other example of each clause, from the first or the second on."""

    judge: Judge
    half: int

    @property
    def name(self) -> str:
        return f"{self.judge.name} from half {self.half + 1}"

    def compare(self, trait: Trait, contests: Sequence[Contest]) -> list[Outcome]:
        return self.judge.compare(half_of(trait, self.half), contests)


@dataclass(frozen=True, slots=True)
class Ambiguity:
    """One clause: how often the halves split; `split` None: not measured, and `note` says why."""

    clause: str
    split: Split | None
    note: str = ""

    @property
    def ambiguous(self) -> bool:
        split = self.split
        return split is not None and split.count >= FEWEST and split.low >= AMBIGUOUS


def half_of(trait: Trait, half: int) -> Trait:
    """The trait with every other example of each clause: the 1st, 3rd... or the 2nd, 4th..."""
    seen: Counter[str] = Counter()
    kept = []
    for example in trait.examples:
        if seen[example.clause] % 2 == half:
            kept.append(example)
        seen[example.clause] += 1
    return trait.model_copy(update={"examples": kept})


def ambiguities(judge: Judge, trait: Trait, planted: Sequence[Planted]) -> list[Ambiguity]:
    """Both halves' verdicts on planted replies, clause by clause in the trait's order.

    A clause with fewer than two examples cannot be halved.
    """
    shown = Counter(example.clause for example in trait.examples)
    halved = [clause.id for clause in trait.clauses if shown[clause.id] > 1]
    found: dict[str, Split] = {}
    if halved:
        tried = [each for each in planted if each.clause in halved]
        told = agreement(HalfReader(judge, 0), HalfReader(judge, 1), trait, tried)
        found = {split.clause: split for split in told.clauses}
    return [
        Ambiguity(clause.id, found.get(clause.id), _why(clause.id in halved, clause.id in found))
        for clause in trait.clauses
    ]


def _why(halved: bool, found: bool) -> str:
    if not halved:
        return "it has fewer than two examples"
    return "" if found else "no query of it had two verdicts"
