"""Two readers of half the examples each, by hand."""

from __future__ import annotations

from collections.abc import Sequence

from making import EXAMPLES, a_trait

from character.judging.halves import AMBIGUOUS, Ambiguity, HalfReader, ambiguities, half_of
from character.judging.judge import Contest, Outcome, Said, Verdict
from character.judging.plants import Planted
from character.spec.schema import Trait


class LikesLetters:
    """Prefers the reply that holds the first letter of the last example it knows."""

    name = "letters"

    def compare(self, trait: Trait, contests: Sequence[Contest]) -> list[Outcome]:
        letter = trait.examples[-1].good[0]
        return [
            Verdict(0.9, 0.1) if letter in contest.first.reply else Verdict(0.2, 0.8)
            for contest in contests
        ]


def the_trait(*good: tuple[str, str]) -> Trait:
    examples = [
        EXAMPLES[0] | {"clause": clause, "good": text, "user": f"{n}?"}
        for n, (clause, text) in enumerate(good)
    ]
    return a_trait(examples=examples)


def planted(clause: str, full: str, plain: str, number: int) -> Planted:
    query = f"{clause} {number}?"
    said = {("full", 0): Said(query, full), ("plain", 0): Said(query, plain)}
    return Planted(query, clause, said)  # type: ignore[arg-type]


def test_halves_take_turns_within_each_clause() -> None:
    trait = the_trait(
        ("first-word", "a"), ("no-coda", "b"), ("first-word", "c"), ("first-word", "d"),
        ("no-coda", "e"),
    )  # fmt: skip
    assert [e.good for e in half_of(trait, 0).examples] == ["a", "b", "d"]
    assert [e.good for e in half_of(trait, 1).examples] == ["c", "e"]


def test_a_clause_whose_halves_differ_is_ambiguous() -> None:
    # the first half ends with x, the second with y
    trait = the_trait(("first-word", "x"), ("first-word", "y"), ("no-coda", "x"), ("no-coda", "y"))
    plants = [planted("first-word", "xy", f"zz {n}", n) for n in range(10)]  # both want it
    plants += [planted("no-coda", "xx", f"yy {n}", n) for n in range(10)]  # one wants each
    clear, unclear = ambiguities(LikesLetters(), trait, plants)
    assert clear.clause == "first-word" and clear.split and clear.split.value == 0
    assert not clear.ambiguous
    assert unclear.split and (unclear.split.value, unclear.split.count) == (1.0, 10)
    assert unclear.split.low > AMBIGUOUS and unclear.ambiguous


def test_few_contests_make_nothing_ambiguous() -> None:
    trait = the_trait(("first-word", "z"), ("no-coda", "x"), ("no-coda", "y"))
    plants = [planted("no-coda", "xx", f"yy {n}", n) for n in range(7)]
    few = ambiguities(LikesLetters(), trait, plants)[1]
    assert few.split and few.split.value == 1 and not few.ambiguous


def test_what_cannot_be_halved_is_missing() -> None:
    trait = the_trait(("first-word", "x"), ("no-coda", "x"), ("no-coda", "y"))
    one, silent = ambiguities(LikesLetters(), trait, [])
    assert one == Ambiguity("first-word", None, "it has fewer than two examples")
    assert silent == Ambiguity("no-coda", None, "no query of it had two verdicts")
    assert not one.ambiguous and not silent.ambiguous


def test_readers_are_told_apart_by_name() -> None:
    names = {HalfReader(LikesLetters(), half).name for half in (0, 1)}
    assert names == {"letters from half 1", "letters from half 2"}
