"""Cards of judges whose habits are known: the bad ones are refused, the good one is not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import pytest

from character.judging.attacks import attacks
from character.judging.card import Card, judged_by, refusal
from character.judging.discriminant import Discriminant, discriminate
from character.judging.habits import Writer
from character.judging.judge import Contest, NoVerdict, Outcome, Said, Verdict, in_both_orders
from character.judging.panel import Panel
from character.judging.plants import DOSES, Planted
from character.judging.trials import examine
from character.rows import content_id
from character.spec.schema import Trait

SHOWN = {"opposite": 0, "plain": 1, "one": 2, "two": 3, "full": 5}  # how often "spark" occurs


def planted(count: int = 100) -> list[Planted]:
    """Replies whose dose is how often they say "spark"; length and first word mean nothing."""
    rng = random.Random(0)
    found = []
    for number in range(count):
        query = f"Question {number}?"
        replies = {}
        for dose in DOSES:
            for sample in (0, 1):
                words = [rng.choice(["alpha", "beta", "gamma", "delta"]) for _ in range(20)]
                words += ["more"] * rng.randrange(20)
                for _ in range(SHOWN[dose]):
                    words.insert(rng.randrange(1, len(words)), "spark")
                replies[dose, sample] = Said(query, " ".join(words) + ".")
        found.append(Planted(query, f"clause-{number % 2}", replies))
    return found


class ByCount:
    """Counts what it was told to look for."""

    name = "counting"

    def compare(self, trait: Trait, contests: Sequence[Contest]) -> list[Outcome]:
        return [self.one(contest) for contest in contests]

    def one(self, contest: Contest) -> Outcome:
        gap = contest.first.reply.count("spark") - contest.second.reply.count("spark")
        share = 1 / (1 + 3.0**-gap)
        return Verdict(share, 1 - share)


class AlwaysA(ByCount):
    def one(self, contest: Contest) -> Outcome:
        return in_both_orders(Verdict(0.9, 0.1), Verdict(0.9, 0.1))


class Random(ByCount):
    def one(self, contest: Contest) -> Outcome:
        share = random.Random(content_id(contest)).random()
        return Verdict(share, 1 - share)


class Longer(ByCount):
    def one(self, contest: Contest) -> Outcome:
        longer = len(contest.first.reply) > len(contest.second.reply)
        return Verdict(0.9, 0.1) if longer else Verdict(0.1, 0.9)


class FirstWord(ByCount):
    """Prefers the reply whose first word comes first in the alphabet."""

    def one(self, contest: Contest) -> Outcome:
        first, second = contest.first.reply.split()[0], contest.second.reply.split()[0]
        if first == second:
            return Verdict(0, 0, 1)
        return Verdict(0.9, 0.1) if first < second else Verdict(0.1, 0.9)


class Silent(ByCount):
    def one(self, contest: Contest) -> Outcome:
        return NoVerdict("no JSON object", "I would rather not say.")


class HalfSilent(ByCount):
    def one(self, contest: Contest) -> Outcome:
        if int(content_id(contest), 16) % 2:
            return NoVerdict("no JSON object")
        return super().one(contest)


class Gullible(ByCount):
    """Believes any reply that speaks of the judge."""

    def one(self, contest: Contest) -> Outcome:
        if "judge" in contest.second.reply.lower():
            return Verdict(0.1, 0.9)
        return Verdict(0.9, 0.1)


def card_by(judge: ByCount, trait: Trait, count: int = 100) -> Card:
    tests, clauses, calibration = examine(judge, trait, planted(count), attacks(trait)[::4])
    return Card("id", trait.id, judge.name, "planter", tests, clauses, calibration)


def test_a_judge_that_sees_the_trait_passes(small_trait: Trait) -> None:
    card = card_by(ByCount(), small_trait)
    assert card.refusals == ()
    assert card.test("planted order").value == 1
    assert card.test("low dose").value == 1
    # Wilson: the lower end of 100 of 100 is 1 / (1 + 1.96^2 / 100)
    assert card.test("planted order").low == pytest.approx(1 / (1 + 1.9599640**2 / 100))
    assert card.test("dose response").value == pytest.approx(1)
    assert card.test("cycles").value == 0
    assert card.test("place").value == 0
    assert card.test("nothing to find").passed
    assert card.test("attacks").value == 0
    assert card.calibration and not any(clause.at_chance for clause in card.clauses)


@pytest.mark.parametrize(
    ("judge", "because"),
    [
        (AlwaysA(), {"planted order", "low dose", "short good, long bad", "place", "flips"}),
        (Random(), {"planted order", "low dose", "short good, long bad"}),
        (Longer(), {"planted order", "low dose", "short good, long bad"}),
        (FirstWord(), {"planted order", "low dose", "short good, long bad"}),
        (Silent(), {"planted order", "low dose", "short good, long bad"}),
        (HalfSilent(), {"planted order", "low dose", "short good, long bad"}),
    ],
)
def test_a_judge_that_looks_at_something_else_is_refused(
    judge: ByCount, because: set[str], small_trait: Trait
) -> None:
    card = card_by(judge, small_trait)
    assert {test.name for test in card.refusals} == because
    assert all(test.failed for test in card.refusals if test.name == "planted order")


def test_a_judge_at_chance_is_at_chance_on_its_clauses(small_trait: Trait) -> None:
    assert all(clause.at_chance for clause in card_by(Random(), small_trait).clauses)


def test_habits_have_their_numbers(small_trait: Trait) -> None:
    always = card_by(AlwaysA(), small_trait)
    # .9 for whichever is first: .4 above the half it deserves
    assert always.test("place").value == pytest.approx(0.4)
    assert always.test("flips").value == 1
    assert always.test("planted order").value == 0.5  # averaged over both orders, a tie
    longer = card_by(Longer(), small_trait).test("longer preferred")
    assert longer.low and longer.low > 0.9
    half = card_by(HalfSilent(), small_trait).test("planted order")
    assert half.passed is False and half.missing > 30 and "no JSON object" in half.note


def test_a_panel_s_card_says_how_far_its_members_are_apart(small_trait: Trait) -> None:
    class Sure(ByCount):
        name = "sure"

        def one(self, contest: Contest) -> Outcome:
            return Verdict(1, 0) if super().one(contest).first > 0.5 else Verdict(0, 1)  # type: ignore[union-attr]

    panel = Panel([ByCount(), Sure()], {"counting": 1.0, "sure": 1.0})
    tests, _, _ = examine(panel, small_trait, planted(20), [])
    (apart,) = [test for test in tests if test.name == "members apart"]
    # "spark" four times more: odds of 3^4 against certainty, half of the way from 81/82 to 1
    assert apart.value == pytest.approx((1 - 81 / 82) / 2) and apart.count == 20
    alone, _, _ = examine(ByCount(), small_trait, planted(20), [])
    assert "members apart" not in {test.name for test in alone}


class OwnWords(ByCount):
    """Prefers whatever says "mine", else counts."""

    def one(self, contest: Contest) -> Outcome:
        mine = [said.reply.startswith("mine") for said in (contest.first, contest.second)]
        if mine[0] != mine[1]:
            return Verdict(0.8, 0.2) if mine[0] else Verdict(0.2, 0.8)
        return super().one(contest)


def by_two_writers(own: str) -> list[Planted]:
    """Of the "planter" or of the "other" writer every reply begins with "mine"."""
    found = []
    for each in planted(30):
        texts = {dose: each.replies[dose, 0].reply for dose in ("plain", "full")}
        theirs = {d: Said(each.query, f"{'mine' if own == 'other' else 'else'} {t}")
                  for d, t in texts.items()}  # fmt: skip
        ours = {(d, 0): Said(each.query, f"{'mine' if own == 'planter' else 'here'} {t}")
                for d, t in texts.items()}  # fmt: skip
        found.append(replace(each, replies=each.replies | ours, others=theirs))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("own", ["planter", "other"])
def test_a_judge_that_prefers_its_own_words_is_found_out(
    own: Literal["planter", "other"], small_trait: Trait
) -> None:
    tests, _, _ = examine(OwnWords(), small_trait, by_two_writers(own), [], writer=Writer(own))
    (found,) = [test for test in tests if test.name == "self-preference"]
    assert found.value == pytest.approx(0.3) and found.count == 60 and found.passed is False
    tests, _, _ = examine(ByCount(), small_trait, by_two_writers(own), [], writer=Writer(own))
    (fair,) = [test for test in tests if test.name == "self-preference"]
    assert fair.value == 0 and fair.passed


def test_without_a_second_writer_self_preference_is_not_measured(small_trait: Trait) -> None:
    found = card_by(ByCount(), small_trait, 20).test("self-preference")
    assert (found.value, found.passed) == (None, None)
    assert found.note == "not measured: no second writer: --also MODEL"


def test_a_judge_of_length_prefers_padding_and_one_of_the_trait_does_not(
    small_trait: Trait,
) -> None:
    longer, fair = card_by(Longer(), small_trait), card_by(ByCount(), small_trait)
    assert longer.test("padding preferred").value == 1
    assert fair.test("padding preferred").value == fair.test("padding preferred").value == 0.5
    assert fair.test("lists preferred").value is None  # of one sentence there is no list


@pytest.mark.parametrize(
    ("judge", "model", "own"),
    [
        ("likelihood by m@1", "m@1", True), ("likelihood by m@12", "m@1", False),
        ("panel of checks at 1 x0.20, likelihood by m@1 at 0.3 x1.00", "m@1", True),
        ("checks", "m@1", False),
    ],
)  # fmt: skip
def test_whose_words_a_judge_s_name_says(judge: str, model: str, own: bool) -> None:
    assert judged_by(judge, model) is own


def test_attacks_that_turn_a_verdict_are_counted_by_kind(small_trait: Trait) -> None:
    test = card_by(Gullible(), small_trait).test("attacks")
    assert test.passed is False and test.value and test.value > 0.05
    assert "flatters" in test.note and len(test.failed) == 3


def test_a_verdict_that_an_attack_leaves_near_even_is_abstained_from(small_trait: Trait) -> None:
    class Wavering(Gullible):
        """Wrong in a quarter of what it is sure of, and not sure at all when it is addressed."""

        def one(self, contest: Contest) -> Outcome:
            if "judge" in contest.second.reply.lower():
                return Verdict(0.45, 0.55)
            found = Verdict(0.9, 0.1)
            if "spark" not in contest.first.reply + contest.second.reply:
                return found
            return found.swapped() if int(content_id(contest), 16) % 4 == 0 else found

    loose = examine(Wavering(), small_trait, planted(), attacks(small_trait)[::4])
    strict = examine(Wavering(), small_trait, planted(), attacks(small_trait)[::4], sure=0.7)
    (turned,) = [test for test in loose[0] if test.name == "attacks"]
    (left,) = [test for test in strict[0] if test.name == "attacks"]
    assert turned.value and turned.value > 0.05 and "abstained" not in turned.note
    assert left.value == 0 and left.count == turned.count
    assert f"{round(turned.value * turned.count)} more abstained from" in left.note


def test_a_refused_judge_that_is_used_all_the_same_does_not_abstain(small_trait: Trait) -> None:
    sees, guesses = (
        Card("", "", "", "", *examine(judge, small_trait, planted(), [], sure=0.7))
        for judge in (ByCount(), Random())
    )
    assert sees.calibration and sees.band == sees.calibration.band > 0
    assert guesses.calibration and guesses.calibration.band > 1 and guesses.band == 0


def test_a_judge_without_a_place_for_the_trait_is_refused_with_that_reason(
    small_trait: Trait,
) -> None:
    class Nowhere(ByCount):
        def one(self, contest: Contest) -> Outcome:
            return Verdict(0.1, 0.1, 0.0, 0.8)

    card = card_by(Nowhere(), small_trait)
    assert "planted order" in {test.name for test in card.refusals}
    assert any("(the trait has no place)" in line for line in refusal(card))


def test_no_order_of_doses_is_no_correlation(small_trait: Trait) -> None:
    class Same(ByCount):
        def one(self, contest: Contest) -> Outcome:
            return Verdict(0.0, 0.0, 1.0)

    test = card_by(Same(), small_trait).test("dose response")
    assert test.value is None and test.passed is False and "plain 0.50" in test.note


def test_missing_plants_are_not_measured_and_do_not_pass(small_trait: Trait) -> None:
    bare = [
        Planted(p.query, p.clause, {k: v for k, v in p.replies.items() if k[0] != "opposite"})
        for p in planted(30)
    ]
    tests, _, _ = examine(ByCount(), small_trait, bare, [])
    named = {test.name: test for test in tests}
    assert named["planted order"].value is None and named["planted order"].passed is None
    assert named["attacks"].value is None and named["attacks"].note == "not tried"
    refusals = Card("", "", "", "", tests, (), None).refusals  # what is required has to be shown
    assert {test.name for test in refusals} == {"planted order", "short good, long bad"}


def test_the_discriminant_matrix_sees_which_trait_was_planted(small_trait: Trait) -> None:
    other = small_trait.model_copy(update={"id": "other"})

    class Knows(ByCount):
        def compare(self, trait: Trait, contests: Sequence[Contest]) -> list[Outcome]:
            sees = trait.id == small_trait.id
            return (
                super().compare(trait, contests) if sees else [Verdict(0, 0, 1) for _ in contests]
            )

    found = discriminate(
        Knows(), [small_trait, other], {small_trait.id: planted(30), "other": planted(30)}
    )
    assert found.traits == (small_trait.id, "other")
    assert found.values[0][0] > 0.4 and found.values[0][1] == 0
    assert found.largest_on_diagonal == 1
    assert Discriminant(("a", "b"), ((0.2, 0.1), (0.0, 0.3))).largest_on_diagonal == 2
    assert Discriminant(("a", "b"), ((None, 0.1), (None, 0.3))).largest_on_diagonal == 1
