"""Several judges as one, worked by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import a_trait

from character.judging.calibration import Calibrated, Calibration
from character.judging.card import Card, Test
from character.judging.judge import Contest, NoVerdict, Outcome, Said, Verdict
from character.judging.panel import (
    MOST,
    ByTrait,
    Panel,
    Seat,
    seat,
    seated,
    together,
    weight_of,
)
from character.spec.schema import Trait

CONTEST = Contest(Said("Is it wet?", "Yes."), Said("Is it wet?", "Well, now."))
LOST = NoVerdict("refusal", "No.")


@dataclass
class Fixed:
    """Says the same of every contest, and counts them."""

    name: str
    outcome: Outcome
    asked: list[Contest] = field(default_factory=list)

    def compare(self, trait: Trait, contests: Sequence[Contest]) -> list[Outcome]:
        self.asked += contests
        return [self.outcome] * len(contests)


def a_panel(*members: tuple[float, Outcome]) -> Panel:
    judges = [Fixed(f"judge {i}", outcome) for i, (_, outcome) in enumerate(members)]
    return Panel(judges, {f"judge {i}": weight for i, (weight, _) in enumerate(members)})


def only(panel: Panel) -> Outcome:
    (found,) = panel.compare(a_trait(), [CONTEST])
    return found


# --- weights --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accuracy", "weight"),
    [(0.75, math.log(3)), (0.9, math.log(9)), (0.5, 0.0), (0.4, 0.0), (0.0, 0.0)],
)
def test_the_log_odds_by_hand(accuracy: float, weight: float) -> None:
    assert weight_of(accuracy) == pytest.approx(weight)


def test_no_judge_is_infinitely_better() -> None:
    assert weight_of(1.0) == weight_of(MOST) == pytest.approx(math.log(99))


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"judge 0": 1.0}, r"missing: \['judge 1'\]"),
        ({}, r"missing: \['judge 0', 'judge 1'\]"),
        ({"judge 0": 1.0, "judge 1": -0.1}, "not negative"),
        ({"judge 0": 0.0, "judge 1": 0.0}, "all of them 0"),
        ({"judge 0": 1.0, "judge 1": math.nan}, "finite"),
        ({"judge 0": 1.0, "judge 1": math.inf}, "finite"),
    ],
)
def test_weights_that_make_no_mean_are_refused(weights: dict[str, float], says: str) -> None:
    judges = [Fixed("judge 0", LOST), Fixed("judge 1", LOST)]
    with pytest.raises(ValueError, match=says):
        Panel(judges, weights)


def test_a_panel_without_members_is_refused() -> None:
    with pytest.raises(ValueError, match="all of them 0"):
        Panel([], {})


def a_card(low_dose: float | None, temperature: float | None = None) -> Card:
    found = Calibration(temperature, 0.2, 0.1, 200) if temperature else None
    return Card("id", "brisk", "judge 0", "planter", (Test("low dose", low_dose),), (), found)


def test_a_seat_is_what_the_card_says_of_pairs_of_low_dose() -> None:
    assert seat(a_card(0.75, 0.5)) == Seat("judge 0", 0.75, 0.5)
    assert seat(a_card(0.75, 0.5)).weight == pytest.approx(math.log(3))
    unmeasured = seat(a_card(None))
    assert (unmeasured.accuracy, unmeasured.temperature, unmeasured.weight) == (None, 1.0, 0.0)


def test_a_member_that_is_always_sure_is_cooled_before_it_speaks() -> None:
    # odds of 81 at temperature 2 are odds of 9; both weigh the same: (.9 + .5) / 2
    judges = [Fixed("sure", Verdict(81 / 82, 1 / 82)), Fixed("torn", Verdict(0.5, 0.5))]
    panel = seated(judges, [Seat("sure", 0.75, 2.0), Seat("torn", 0.75, 1.0)])
    found = only(panel)
    assert isinstance(found, Verdict) and found.first == pytest.approx(0.7)
    assert panel.name == "panel of sure at 2 x1.10, torn at 1 x1.10"
    assert Calibrated(judges[0], 0.25).name == "sure at 0.25"


def test_a_panel_none_of_whose_members_has_a_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="all of them 0"):
        seated([Fixed("lucky", LOST)], [Seat("lucky", 0.5, 1.0)])


def test_each_trait_has_its_own_panel() -> None:
    brisk, warm = Fixed("brisk judge", Verdict(1, 0)), Fixed("warm judge", Verdict(0, 1))
    both = ByTrait({"brisk": brisk, "warm": warm})
    assert both.compare(a_trait(), [CONTEST]) == [Verdict(1, 0)]
    assert both.compare(a_trait("warm"), [CONTEST]) == [Verdict(0, 1)]
    assert both.name == "brisk: brisk judge; warm: warm judge"
    assert ByTrait({"brisk": brisk}).name == "brisk judge"


# --- verdicts -------------------------------------------------------------------------------


def test_the_weighted_mean_and_the_spread_by_hand() -> None:
    found = only(
        a_panel(
            (3.0, Verdict(0.8, 0.2, slot=0.4, flipped=True)), (1.0, Verdict(0.0, 0.4, 0.4, 0.2))
        )
    )
    assert isinstance(found, Verdict)
    shares = (found.first, found.second, found.tie, found.inapplicable, found.slot)
    assert shares == pytest.approx((0.6, 0.25, 0.1, 0.05, 0.3))
    # leans .8 and (1 + 0 - .4) / 2 = .3; mean .675: sqrt(.75 x .125^2 + .25 x .375^2)
    assert found.spread == pytest.approx(math.sqrt(0.75 * 0.125**2 + 0.25 * 0.375**2))
    assert found.flipped  # three quarters of the weight did


@pytest.mark.parametrize("outcome", [Verdict(0.7, 0.2, 0.1, slot=0.1, flipped=True), LOST])
def test_a_single_member_is_itself(outcome: Outcome) -> None:
    found = only(a_panel((weight_of(0.8), outcome)))
    if isinstance(outcome, NoVerdict):
        assert isinstance(found, NoVerdict) and "refusal" in found.why
    else:
        assert found == outcome and isinstance(found, Verdict) and found.spread == 0


def test_a_member_at_chance_has_no_voice_and_is_not_asked() -> None:
    lucky, good = Fixed("lucky", Verdict(0.0, 1.0)), Fixed("good", Verdict(0.9, 0.1))
    panel = Panel([lucky, good], {"lucky": weight_of(0.5), "good": weight_of(0.8)})
    assert only(panel) == Verdict(0.9, 0.1)
    assert lucky.asked == [] and good.asked == [CONTEST]


def test_the_others_speak_for_a_silent_minority() -> None:
    found = only(a_panel((1.0, LOST), (1.1, Verdict(0.9, 0.1))))
    assert isinstance(found, Verdict) and found.first == pytest.approx(0.9)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (2.0, 1.0)])
def test_when_half_of_the_weight_is_silent_so_is_the_panel(weights: tuple[float, float]) -> None:
    found = only(a_panel((weights[0], LOST), (weights[1], Verdict(1.0, 0.0))))
    assert found == NoVerdict("most of the panel is silent: refusal")


def test_outcomes_stay_beside_their_contests() -> None:
    panel = a_panel((1.0, Verdict(1.0, 0.0)), (1.0, Verdict(0.0, 1.0)))
    found = panel.compare(a_trait(), [CONTEST, CONTEST])
    assert found == [Verdict(0.5, 0.5, spread=0.5)] * 2  # far apart, and told so
    assert panel.compare(a_trait(), []) == []
    assert panel.name == "panel of judge 0 x1.00, judge 1 x1.00"


def test_agreement_that_a_trait_has_no_place_is_no_spread() -> None:
    found = together([1.0, 2.0], [Verdict(0.0, 0.0, inapplicable=1.0)] * 2)
    assert found == Verdict(0.0, 0.0, inapplicable=1.0)


@st.composite
def votes(draw: st.DrawFn) -> tuple[float, Outcome]:
    shares = draw(st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda w: sum(w) > 0.1))
    first, second, tie, inapplicable = (share / sum(shares) for share in shares)
    verdict = Verdict(first, second, tie, inapplicable, draw(st.floats(-0.5, 0.5)))
    return draw(st.floats(0.01, 5)), verdict if draw(st.booleans()) else LOST


@settings(deadline=None)
@given(st.lists(votes(), min_size=1, max_size=5))
def test_swapping_the_replies_mirrors_the_panel(members: list[tuple[float, Outcome]]) -> None:
    weights = [weight for weight, _ in members]
    here = together(weights, [outcome for _, outcome in members])
    turned = [o.swapped() if isinstance(o, Verdict) else o for _, o in members]
    there = together(weights, turned)
    if isinstance(here, NoVerdict):
        assert there == here
        return
    assert isinstance(there, Verdict)
    for name in ("first", "second", "tie", "inapplicable", "slot", "spread"):
        assert getattr(here, name) == pytest.approx(getattr(there.swapped(), name), abs=1e-7)
    assert -1e-9 <= here.spread <= 0.5 + 1e-9
