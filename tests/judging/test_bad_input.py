"""What every kind of judge makes of bad replies, and of a model that answers badly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from making import a_trait
from numpy.typing import NDArray

from character.errors import SpecError
from character.judging.calibration import tempered
from character.judging.config import KINDS, Kind
from character.judging.judge import Contest, Judge, NoVerdict, Outcome, Said, Verdict
from character.judging.kinds import NEED_NO_MODEL, all_at_once, judge_of
from character.judging.tournament import Tournament, budget
from character.models.base import Choice, Generation, OnDone, Request, Sampling
from character.models.fake import ScriptedModel
from character.spec.loading import load_trait
from character.spec.schema import Trait

QUERY = "Is it wet?"
TRAIT = a_trait(checks=[{"kind": "max_words", "words": 3}])
ASKED: tuple[Kind, ...] = ("verdict", "verdict-reasons", "listwise", "rubric")


class Letters:
    """A text's length and its first letter."""

    name = "letters"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.array([[len(text), ord(text[0])] for text in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def able() -> ScriptedModel:
    """Finds the shorter reply likelier, and all else alike."""
    return ScriptedModel(
        lambda request: '{"order": [1, 2]}',
        score=lambda item: -float(len(item.reply)) * len(item.conversation),
        choose=lambda turns, options: dict.fromkeys(options, 1 / len(options)),
        name="judge",
    )


def a_judge(kind: Kind, model: ScriptedModel | None = None) -> Judge:
    return judge_of(kind, None if kind in NEED_NO_MODEL else model or able(), Letters())


def contest(first: str, second: str) -> Contest:
    return Contest(Said(QUERY, first), Said(QUERY, second))


# --- replies --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_identical_replies_are_even_and_unreadable_ones_missing(kind: Kind) -> None:
    long = "word " * 4000
    judge = a_judge(kind)
    same, empty, blank, endless = judge.compare(
        TRAIT, [contest("Yes.", "Yes."), contest("", "Yes."), contest("Yes.", " \n"),
                contest(long, "Yes.")],
    )  # fmt: skip
    assert isinstance(same, Verdict) and same.preference == 0.5
    assert [empty, blank] == [NoVerdict("empty reply")] * 2
    assert isinstance(endless, NoVerdict) and "20000 characters" in endless.why


@pytest.mark.parametrize("kind", KINDS)
def test_one_reply_has_nothing_to_be_compared_with(kind: Kind) -> None:
    judge = a_judge(kind)
    assert judge.compare(TRAIT, []) == []
    found = Tournament(judge, 0.4).value(TRAIT, [Said(QUERY, "Yes.")])
    assert found == [NoVerdict("nothing to compare with")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_replies_are_ranked_within_the_budget_or_refused_as_a_list(kind: Kind) -> None:
    asked: list[int] = []
    judge = a_judge(kind)

    class Counting:
        name = "counting"

        def compare(self, trait: Trait, contests: Sequence[Contest]) -> list[Outcome]:
            asked.append(len(contests))
            return judge.compare(trait, contests)

    replies = [Said(QUERY, "so " * n + "it is.") for n in range(100)]
    once = all_at_once([kind])
    found = Tournament(Counting(), 0.02, at_once=once).value(TRAIT, replies)
    assert sum(asked) == (4950 if once else budget(100, 0.02))
    if kind == "listwise":
        assert found == [NoVerdict("100 replies; a list holds at most 16")] * 100
    else:
        assert all(isinstance(value, float) for value in found)


# --- models that answer badly ---------------------------------------------------------------


class Failing(ScriptedModel):
    """Answers nothing, and says why."""

    def __init__(self, failure: str, can_choose: bool) -> None:
        super().__init__(
            choose=lambda turns, options: Choice({}, 0.0, failure), can_choose=can_choose
        )
        self.failure = failure

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, on_done: OnDone = lambda count: None
    ) -> list[Generation]:
        return [Generation("", 0, "failed", failure=self.failure) for _ in requests]


@pytest.mark.parametrize("can_choose", [True, False])
@pytest.mark.parametrize("failure", ["refusal", "timed out after 60 s"])
@pytest.mark.parametrize("kind", ASKED)
def test_a_judge_that_refuses_or_times_out_gives_no_verdict(
    kind: Kind, failure: str, can_choose: bool
) -> None:
    (found,) = a_judge(kind, Failing(failure, can_choose)).compare(
        TRAIT, [contest("Yes.", "Well, now.")]
    )
    assert isinstance(found, NoVerdict) and failure in found.why


@pytest.mark.parametrize("kind", ASKED)
def test_prose_is_kept_and_is_no_verdict(kind: Kind) -> None:
    model = ScriptedModel(lambda request: "I like both of them.", can_choose=False)
    (found,) = a_judge(kind, model).compare(TRAIT, [contest("Yes.", "Well, now.")])
    assert isinstance(found, NoVerdict) and found.raw == "I like both of them."


@pytest.mark.parametrize("shares", [{"A": 0.9, "B": 0.9}, {"A": 0.2}, {"A": -0.5, "B": 1.5}])
def test_letters_whose_probabilities_do_not_sum_are_no_verdict(shares: dict[str, float]) -> None:
    model = ScriptedModel(choose=lambda turns, options: Choice(shares, 1.0))
    (found,) = a_judge("verdict", model).compare(TRAIT, [contest("Yes.", "Well, now.")])
    assert isinstance(found, NoVerdict) and found.why == "probabilities that do not sum to 1"


@pytest.mark.parametrize("shares", [{"1": 0.9, "5": 0.9}, {"4": 0.2}, {"1": -0.5, "5": 1.5}])
def test_digits_whose_probabilities_do_not_sum_are_no_grade(shares: dict[str, float]) -> None:
    model = ScriptedModel(choose=lambda turns, options: Choice(shares, 1.0))
    (found,) = a_judge("rubric", model).compare(TRAIT, [contest("Yes.", "Well, now.")])
    assert isinstance(found, NoVerdict) and found.why == "probabilities that do not sum to 1"


@pytest.mark.parametrize("kind", ["verdict", "listwise"])
def test_a_judge_that_disagrees_with_itself_decides_nothing_and_says_so(kind: Kind) -> None:
    def first(turns: object, options: Sequence[str]) -> Mapping[str, float]:
        return {"A": 0.9, "B": 0.1}

    model = ScriptedModel(lambda request: '{"order": [1, 2]}', choose=first)
    (found,) = a_judge(kind, model).compare(TRAIT, [contest("Yes.", "Well, now.")])
    assert isinstance(found, Verdict) and found.preference == 0.5
    assert found.flipped and found.slot > 0.3


# --- traits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("opposite", [None, "", " "])
def test_a_trait_without_an_opposite_is_refused_before_anything_is_asked(
    opposite: str | None, tmp_path: Path
) -> None:
    told = a_trait().model_dump(mode="json", by_alias=True)
    if opposite is None:
        del told["opposite"]
    else:
        told["opposite"] = opposite
    file = tmp_path / "brisk.yaml"
    file.write_text(yaml.safe_dump(told))
    with pytest.raises(SpecError, match="opposite"):
        load_trait(str(file))


# --- aggregations ---------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda w: sum(w) > 0.1),
       st.floats(0.01, 100))  # fmt: skip
def test_a_temperature_turns_no_winner_and_mirrors(
    weights: list[float], temperature: float
) -> None:
    first, second, tie, inapplicable = (weight / sum(weights) for weight in weights)
    verdict = Verdict(first, second, tie, inapplicable)
    found, turned = (tempered(v, temperature) for v in (verdict, verdict.swapped()))
    assert isinstance(found, Verdict) and isinstance(turned, Verdict)
    assert (found.first, found.second) == pytest.approx((turned.second, turned.first), abs=1e-9)
    assert (found.first - found.second) * (first - second) >= 0 or first == pytest.approx(second)
    assert (found.tie, found.inapplicable) == (tie, inapplicable)


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(6)), st.lists(st.floats(-3, 3), min_size=6, max_size=6))
def test_a_worth_does_not_depend_on_the_order_of_replies(
    order: list[int], strengths: list[float]
) -> None:
    class ByStrength:
        name = "strength"

        def compare(self, trait: Trait, contests: Sequence[Contest]) -> list[Outcome]:
            return [self.one(c) for c in contests]

        def one(self, contest: Contest) -> Outcome:
            gap = strengths[int(contest.first.reply)] - strengths[int(contest.second.reply)]
            share = 1 / (1 + float(np.exp(-gap)))
            return Verdict(share, 1 - share)

    replies = [Said(QUERY, str(n)) for n in range(6)]
    judge = Tournament(ByStrength(), 1.0)
    found = judge.value(TRAIT, replies)
    turned = judge.value(TRAIT, [replies[n] for n in order])
    assert turned == pytest.approx([found[n] for n in order], abs=1e-4)
    for (a, x), (b, y) in combinations(enumerate(found), 2):
        assert isinstance(x, float) and isinstance(y, float)
        assert abs(strengths[a] - strengths[b]) < 1e-3 or (x > y) == (strengths[a] > strengths[b])
