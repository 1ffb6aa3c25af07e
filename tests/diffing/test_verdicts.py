from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from character.diffing.inference import Adjusted, Floats, movements
from character.diffing.verdicts import (
    Evidence,
    Expect,
    Gate,
    Judged,
    Verdict,
    decide,
    load_gate,
    verdict_of,
)
from character.errors import SuiteError

STEADY = np.random.default_rng(0).normal(scale=0.1, size=100)
STEADY -= STEADY.mean()


def evidence(values: Floats, **more: object) -> Evidence:
    (movement,) = movements(values[:, None], 999)
    return Evidence(values, movement, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shift", "expect", "verdict"),
    [
        (0.3, "up", "INTENDED"),
        (0.3, "down", "REGRESSED"),
        (0.3, "hold", "REGRESSED"),
        (0.3, "no_less", "HELD"),
        (0.3, "no_more", "REGRESSED"),
        (-0.3, "up", "REGRESSED"),
        (-0.3, "down", "INTENDED"),
        (-0.3, "no_less", "REGRESSED"),
        (-0.3, "no_more", "HELD"),
        (0.0, "up", "HELD"),
        (0.0, "hold", "HELD"),
    ],
)
def test_direction_and_what_was_expected_decide(
    shift: float, expect: Expect, verdict: Verdict
) -> None:
    assert verdict_of(evidence(STEADY + shift), expect, 0.05, 0.02)[0] == verdict


def test_not_significant_never_means_held() -> None:
    noisy = STEADY * 20
    verdict, why = verdict_of(evidence(noisy), "hold", 0.05, 0.02)
    assert verdict == "INCONCLUSIVE" and "not shown to lie within" in why


def test_a_movement_within_the_margin_is_held_however_certain() -> None:
    assert verdict_of(evidence(STEADY / 10 + 0.01), "up", 0.05, 0.02)[0] == "HELD"


def test_few_queries_and_missing_ones_are_inconclusive() -> None:
    assert verdict_of(evidence(STEADY[:19] + 1), "up", 0.05, 0.02)[0] == "INCONCLUSIVE"
    verdict, why = verdict_of(evidence(STEADY + 1, missing_new=3), "up", 0.05, 0.02)
    assert verdict == "INCONCLUSIVE" and "3 (new)" in why
    assert verdict_of(evidence(STEADY + 1, missing_new=2), "up", 0.05, 0.02)[0] == "INTENDED"


def test_what_length_explains_is_confounded() -> None:
    explained = Adjusted(0.01, -0.1, 0.1, 0.8, {"length": 0.4})
    opposite = Adjusted(-0.2, -0.3, -0.1, 0.001, {"length": 0.4})
    agrees = Adjusted(0.2, 0.1, 0.3, 0.001, {"length": 0.1})
    for adjusted, verdict in (
        (explained, "CONFOUNDED"),
        (opposite, "CONFOUNDED"),
        (agrees, "INTENDED"),
    ):
        whole = evidence(STEADY + 0.3, adjusted=adjusted, controlled=True)
        assert verdict_of(whole, "up", 0.05, 0.02)[0] == verdict


def test_what_cannot_be_told_from_length_is_not_intended() -> None:
    unknown = evidence(STEADY + 0.3, controlled=True)
    assert verdict_of(unknown, "up", 0.05, 0.02)[0] == "INCONCLUSIVE"
    alike = Adjusted(float("nan"), -np.inf, np.inf, 1.0, {})
    found = verdict_of(evidence(STEADY + 0.3, adjusted=alike, controlled=True), "up", 0.05, 0.02)
    assert found[0] == "CONFOUNDED"


def test_length_can_also_hide_a_movement() -> None:
    hidden = Adjusted(-0.4, -0.5, -0.3, 0.001, {"length": 1.0})
    found = verdict_of(evidence(STEADY, adjusted=hidden, controlled=True), "hold", 0.05, 0.02)
    assert found[0] == "CONFOUNDED"


def test_equal_outcomes_of_few_queries_hold_nothing_but_identical_replies_do() -> None:
    zeros = np.zeros(20)
    assert verdict_of(evidence(zeros), "no_less", 0.05, 0.02)[0] == "INCONCLUSIVE"
    assert verdict_of(evidence(zeros, identical=True), "no_less", 0.05, 0.02)[0] == "HELD"
    assert verdict_of(evidence(np.zeros(150)), "no_less", 0.05, 0.02)[0] == "HELD"


def test_an_examiner_that_fails_measures_nothing() -> None:
    found = verdict_of(evidence(STEADY + 1, unmeasurable="11 of 20"), "up", 0.05, 0.02)
    assert found == ("UNMEASURABLE", "11 of 20")


# --- the gate ---


def judged(name: str, verdict: Verdict, expect: Expect = "up") -> Judged:
    return Judged(name, verdict, expect, "because")


GOOD = judged("trait/curious", "INTENDED")
HELD = [judged(f"quality/{name}", "HELD", "no_less") for name in ("capability", "answers")]


@pytest.mark.parametrize(
    ("other", "code"),
    [
        (judged("trait/warm", "INTENDED"), 0),
        (judged("trait/warm", "REGRESSED"), 1),
        (judged("trait/warm", "HELD", "hold"), 0),
        (judged("trait/warm", "HELD", "up"), 1),  # asked for, and it did not happen
        (judged("trait/warm", "INCONCLUSIVE"), 2),
        (judged("trait/warm", "CONFOUNDED"), 2),
        (judged("trait/warm", "UNMEASURABLE"), 3),
        (judged("quality/refusals", "REGRESSED", "no_more"), 1),
        (judged("quality/refusals", "INCONCLUSIVE", "no_more"), 0),
        (judged("robustness/curious/polite", "REGRESSED", "hold"), 1),
        (judged("style/emoji", "REGRESSED", "hold"), 0),
        (judged("panel/gloomy", "MOVED", "hold"), 0),
        (judged("quality/format", "MOVED", "hold"), 1),
    ],
)
def test_tiers_decide_the_exit_code(other: Judged, code: int) -> None:
    assert decide(Gate(), [GOOD, *HELD, other]).code == code


def test_the_worst_comes_first_and_says_why() -> None:
    both = [judged("trait/a", "INCONCLUSIVE"), judged("trait/b", "REGRESSED")]
    found = decide(Gate(), [*both, *HELD])
    assert (found.code, found.word) == (1, "REGRESSION")
    assert found.reasons == (
        "trait/b (critical): REGRESSED, because",
        "trait/a (critical): INCONCLUSIVE, because",
    )
    assert decide(Gate(), [GOOD], ("the suites differ",)).word == "INVALID"


def test_a_gate_that_speaks_of_nothing_measured_is_invalid() -> None:
    found = decide(Gate(), [GOOD, HELD[0]])
    assert (found.code, found.reasons) == (
        3, ("the gate's critical 'quality/answers' fits nothing that was measured",),
    )  # fmt: skip
    for gate in (
        Gate(critical=("trait/curios",)),
        Gate(expect={"trait/curios": "hold"}),
        Gate(margin={"quality/capabilty": 0.1}),
    ):
        assert decide(gate, [GOOD, *HELD]).code == 3


def test_patterns_decide_what_is_expected_and_names_go_before_them() -> None:
    gate = Gate(expect={"trait/*": "hold", "trait/warm": "up"}, margin={"quality/*": 0.2})
    assert gate.expected("trait/curious", "up") == "hold"
    assert gate.expected("trait/warm", "down") == "up"
    assert gate.expected("unless/warm", "no_more") == "no_more"
    assert (gate.margin_of("quality/answers", 0.05), gate.margin_of("trait/a", 0.05)) == (0.2, 0.05)


def test_a_gate_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text("critical: [style/emoji]\nsupporting: []\nexpect: {style/emoji: hold}\n")
    gate = load_gate(path)
    assert gate.tier_of("style/emoji") == "critical"
    assert gate.tier_of("trait/curious") == "advisory"
    assert decide(gate, [judged("style/emoji", "REGRESSED", "hold")]).code == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("critcal: [a]\n", "gate.yaml:1:1"),
        ("critical: [a]\nexpect: {trait/a: sideways}\n", "gate.yaml:2:"),
        ("- a\n", "gate.yaml:1:1"),
        ("margin: {trait/a: .inf}\n", "gate.yaml:1:"),
        ("margin: {trait/a: -1}\n", "gate.yaml:1:"),
        ("critical: [", "gate.yaml:"),
    ],
)
def test_a_faulty_gate_says_where(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    with pytest.raises(SuiteError, match=says):
        load_gate(path)
    with pytest.raises(SuiteError, match="cannot be read"):
        load_gate(tmp_path / "none.yaml")
