"""Where two judges differ, by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import yaml

from character.judging.agreement import agreement, as_examples
from character.judging.judge import Contest, NoVerdict, Outcome, Said, Verdict
from character.judging.plants import Planted
from character.spec.drafts import MARK
from character.spec.schema import Trait


class Told:
    """Prefers the reply with more of a letter."""

    def __init__(self, letter: str) -> None:
        self.name = f"counts {letter}"
        self.letter = letter

    def compare(self, trait: Trait, contests: Sequence[Contest]) -> list[Outcome]:
        return [self.one(contest) for contest in contests]

    def one(self, contest: Contest) -> Outcome:
        gap = contest.first.reply.count(self.letter) - contest.second.reply.count(self.letter)
        if contest.first.query == "silent":
            return NoVerdict("refused")
        if not gap:
            return Verdict(0, 0, 1)
        return Verdict(0.9, 0.1) if gap > 0 else Verdict(0.2, 0.8)


def planted(clause: str, full: str, plain: str, query: str = "Why?") -> Planted:
    return Planted(
        query, clause, {("full", 0): Said(query, full), ("plain", 0): Said(query, plain)}
    )


PLANTED = [
    *[planted("clear", "aabb", f"cc{n}") for n in range(10)],
    *[planted("unclear", "aa", f"bb{n}") for n in range(6)],
    *[planted("unclear", "aabb", f"cc{n}") for n in range(4)],
    planted("clear", "aa", "bb", "silent"),
    planted("clear", "aabb", "aabc"),  # a tie for one of them
]


def test_a_clause_that_splits_the_judges_is_unclear(small_trait: Trait) -> None:
    found = agreement(Told("a"), Told("b"), small_trait, PLANTED)
    clear, unclear = found.clauses
    assert (clear.clause, clear.value, clear.count, clear.unclear) == ("clear", 0, 10, False)
    assert (unclear.clause, unclear.value, unclear.unclear) == ("unclear", pytest.approx(0.6), True)
    assert found.missing == 2 and found.judges == ("counts a", "counts b")
    assert not clear.examples and len(unclear.examples) == 3
    example = unclear.examples[0]
    assert (example.better, example.worse[:2], example.preference) == ("aa", "bb", 0.2)


def test_kappa_worked_by_hand(small_trait: Trait) -> None:
    # 20 contests: the first names "first" in all; then chance agreement is what the other does
    found = agreement(Told("a"), Told("b"), small_trait, PLANTED)
    # the second names "first" in 14 of 20: po = pe = .7, so kappa is 0
    assert found.kappa == pytest.approx(0)
    turned = [*PLANTED[:10], *[planted("clear", f"cc{n}", "aabb") for n in range(10)]]
    both = agreement(Told("a"), Told("b"), small_trait, turned)
    assert both.kappa == pytest.approx(1)  # po = 1, pe = 1/2
    assert agreement(Told("a"), Told("a"), small_trait, PLANTED[:10]).kappa is None


def test_two_replies_of_one_dose_are_compared_too(small_trait: Trait) -> None:
    each = Planted("Why?", "c", {("full", 0): Said("Why?", "a"), ("full", 1): Said("Why?", "b")})
    (split,) = agreement(Told("a"), Told("b"), small_trait, [each]).clauses
    assert (split.count, split.value, split.unclear) == (1, 1, False)  # one is too few


def test_examples_can_be_pasted_into_the_trait_file(small_trait: Trait) -> None:
    unclear = agreement(Told("a"), Told("b"), small_trait, PLANTED).clauses[1]
    rows = yaml.safe_load(as_examples(unclear))
    assert rows[0] == {
        "clause": "unclear",
        "user": "Why?",
        "good": "aa",
        "bad": "bb0",
        "why": MARK,
    }
