"""Replies valued by comparing them: against the plain ones, side by side, within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import log

import pytest

from character.judging.judge import Contest, NoVerdict, Outcome, Said, Verdict
from character.judging.tournament import Tournament, budget
from character.spec.schema import Trait


class ByLength:
    """Odds of 3 for every word more; remembers how often it was asked, and what."""

    name = "length"

    def __init__(self) -> None:
        self.rounds: list[int] = []

    def compare(self, trait: Trait, contests: Sequence[Contest]) -> list[Outcome]:
        self.rounds.append(len(contests))
        return [self.one(contest) for contest in contests]

    def one(self, contest: Contest) -> Outcome:
        if "mute" in (contest.first.reply, contest.second.reply):
            return NoVerdict("refused")
        gap = len(contest.first.reply.split()) - len(contest.second.reply.split())
        share = 1 / (1 + 3.0**-gap)
        return Verdict(share, 1 - share)


def said(words: int, query: str = "q") -> Said:
    return Said(query, " ".join(["word"] * words))


def test_a_worth_is_the_log_strength_above_the_plain_replies(small_trait: Trait) -> None:
    replies = [said(3), said(2), said(1)]
    values = Tournament(ByLength(), 1.0, {"q": [said(1)]}).value(small_trait, replies)
    found = [value for value in values if isinstance(value, float)]
    # a word more is odds of 3, a little less with the prior
    assert found == pytest.approx([2 * log(3), log(3), 0], rel=0.05)
    assert found[2] == 0  # the plain reply itself


def test_replies_judged_later_are_worth_the_same_beside_the_same_plain_ones(
    small_trait: Trait,
) -> None:
    plain = {"q": [said(2)]}
    first = Tournament(ByLength(), 1.0, plain).value(small_trait, [said(2), said(4)])
    later = Tournament(ByLength(), 1.0, plain, {"q": [said(4)]}).value(small_trait, [said(3)])
    assert first[0] == 0 and 0 < later[0] < first[1]  # type: ignore[operator]


def test_queries_are_asked_for_side_by_side_within_the_budget(small_trait: Trait) -> None:
    judge = ByLength()
    replies = [said(n, query) for query in ("a", "b", "c") for n in range(1, 9)]
    values = Tournament(judge, 0.4).value(small_trait, replies)
    assert budget(8, 0.4) == 12 and sum(judge.rounds) == 3 * 12
    assert judge.rounds == [12] + [3] * 8  # four pairs a query at first, then one each
    for start in (0, 8, 16):
        own = values[start : start + 8]
        assert own == sorted(own)  # type: ignore[type-var]


def test_a_list_is_judged_in_one_go(small_trait: Trait) -> None:
    judge = ByLength()
    Tournament(judge, 0.1, at_once=True).value(small_trait, [said(n) for n in range(1, 7)])
    assert judge.rounds == [15]


def test_what_was_never_compared_has_no_worth(small_trait: Trait) -> None:
    alone = Tournament(ByLength(), 1.0).value(small_trait, [said(1)])
    assert alone == [NoVerdict("nothing to compare with")]
    mute = Said("q", "mute")
    values = Tournament(ByLength(), 1.0).value(small_trait, [mute, said(1), said(2)])
    assert values[0] == NoVerdict("refused")
    assert all(isinstance(value, float) for value in values[1:])


def test_plain_replies_that_were_never_compared_are_no_zero(small_trait: Trait) -> None:
    mute = Said("q", "mute")
    values = Tournament(ByLength(), 1.0, {"q": [mute]}).value(small_trait, [said(1), said(2)])
    assert all(isinstance(value, NoVerdict) and "no zero" in value.why for value in values)
    one = Tournament(ByLength(), 1.0, {"q": [mute, said(1)]}).value(small_trait, [said(1), said(2)])
    assert one[0] == 0 and isinstance(one[1], float) and one[1] > 0


def test_how_far_members_were_apart_is_kept_for_each_reply(small_trait: Trait) -> None:
    class Apart(ByLength):
        """Members are .1 apart for every word by which two replies differ."""

        def one(self, contest: Contest) -> Outcome:
            found = super().one(contest)
            gap = len(contest.first.reply.split()) - len(contest.second.reply.split())
            return replace(found, spread=abs(gap) / 10) if isinstance(found, Verdict) else found

    judge = Tournament(Apart(), 1.0)
    replies = [said(1), said(2), said(4), Said("q", "mute")]
    judge.value(small_trait, replies)
    found = [judge.apart(small_trait, one) for one in replies]
    # 1 and 2, 1 and 4, 2 and 4 are .1, .3 and .2 apart
    assert found == [pytest.approx(0.2), pytest.approx(0.15), pytest.approx(0.25), None]
    assert judge.apart(small_trait, said(9)) is None


@pytest.mark.parametrize(("count", "share", "pairs"), [(1, 0.4, 0), (2, 0.1, 1), (4, 0.1, 6),
                                                       (5, 0.1, 4), (8, 1.0, 28)])  # fmt: skip
def test_budgets(count: int, share: float, pairs: int) -> None:
    assert budget(count, share) == pairs
