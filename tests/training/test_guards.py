"""Each rule with numbers worked by hand, on both sides of its bar."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from pydantic import ValidationError

from character.training.config import GuardsConfig, PpoConfig
from character.training.guards import (
    Change,
    Guarded,
    Probe,
    change,
    guarded_in,
    rules,
    tripped,
    unwatched,
)

CONFIG = GuardsConfig()
FIRST = Probe(
    update=0,
    rewards=(1.0, 2.0, 3.0, 4.0),
    independent=(0.1, 0.2, 0.3, 0.4),
    traits=("warm", "warm", "dry", "dry"),
    words=20.0,
    entropy=2.0,
    repeated=0.01,
    ended=0.9,
    kl=0.0,
    short=0.5,
    disagreement=0.4,
)


def now(**changes: Any) -> Probe:
    return replace(FIRST, update=5, no_signal=0.0, **changes)


def broken(probe: Probe, last_good: Probe = FIRST, **config: Any) -> list[str]:
    return tripped(FIRST, last_good, probe, GuardsConfig.model_validate(config))


def test_a_policy_that_stands_still_breaks_no_rule() -> None:
    assert broken(now()) == []


def test_a_policy_that_improves_breaks_no_rule() -> None:
    better = now(rewards=(2.0, 3.1, 3.9, 5.0), independent=(0.2, 0.31, 0.39, 0.5))
    assert broken(replace(better, kl=6.0, words=22.0, short=0.55)) == []


def test_changes_are_paired() -> None:
    # differences 1, 2, 3: mean 2, standard deviation 1, error 1 / sqrt(3)
    found = change((5.0, 0.0, 9.0, None), (6.0, 2.0, 12.0, 1.0))
    assert found is not None
    assert (found.mean, found.error) == (2.0, pytest.approx(3**-0.5))
    assert found.rose(3.4) and not found.rose(3.5) and not found.fell(0)
    assert change((1.0, None), (2.0, 3.0)) is None  # one pair says nothing
    assert Change(1.0, 0.0).rose(2) and not Change(0.0, 0.0).rose(2) and not Change(0, 0).fell(2)


@pytest.mark.parametrize(
    ("bad", "fine", "says"),
    [
        ({"kl": 15.1}, {"kl": 15.0}, "KL: 15.1 nats a reply from the start, and the bar is 15."),
        ({"words": 25.1}, {"words": 25.0}, "Length: replies went from 20.0 to 25.1 words"),
        ({"words": 14.9}, {"words": 15.0}, "the bar is 25% of the first"),
        ({"entropy": 0.99}, {"entropy": 1.0}, "Entropy: from 2.00 to 0.99 nats a token"),
        ({"repeated": 0.07}, {"repeated": 0.05}, "Repetition: from 1.0% to 7.0%"),
        ({"refused": 0.06}, {"refused": 0.05}, "Refusals: 0.0% of the replies declined and now 6"),
        ({"ended": 0.64}, {"ended": 0.66}, "Ends: 90% of the replies ended and now 64%"),
        ({"short": 0.41}, {"short": 0.43}, "Short questions: 50.0% were right and now 41.0%"),
        ({"disagreement": 0.61}, {"disagreement": 0.6}, "differed by 0.40 and now by 0.61"),
        ({"no_signal": 0.6}, {"no_signal": 0.5}, "No signal: 60% of the updates"),
        ({"rewards": (None, 2.0, 3.0, 4.0)}, {"rewards": FIRST.rewards}, "Missing rewards: 25%"),
    ],
)
def test_a_bar_is_held_or_missed(bad: dict[str, Any], fine: dict[str, Any], says: str) -> None:
    held = replace(now(), **fine)
    assert broken(held) == []
    (told,) = broken(replace(now(), **bad))
    assert says in told and "the bar is" in told


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        ("kl", {"kl": 99.0}),
        ("length", {"words": 99.0}),
        ("entropy", {"entropy": 0.0}),
        ("repetition", {"repeated": 1.0}),
        ("refused", {"refused": 1.0}),
        ("ended", {"ended": 0.0}),
        ("short", {"short": 0.0}),
        ("disagreement", {"disagreement": 9.0}),
        ("no_signal", {"no_signal": 1.0}),
        ("missing", {"rewards": (None, None, 3.0, 4.0)}),
    ],
)
def test_a_guard_can_be_left_out(key: str, bad: dict[str, Any]) -> None:
    assert len(broken(replace(now(), **bad))) == 1
    assert broken(replace(now(), **bad), **{key: None}) == []
    assert len(rules(GuardsConfig.model_validate({key: None}))) == len(rules(CONFIG)) - 1


UP = (2.0, 3.1, 3.9, 5.0)  # by 1.0, error 0.04


@pytest.mark.parametrize(
    "independent",
    [
        (0.1, 0.2, 0.3, 0.4),
        (0.0, 0.3, 0.2, 0.39),
        (0.05, 0.1, 0.2, 0.3),
        (0.2, 0.1, 0.4, 0.35),  # .1, -.1, .1, -.05: mean 0.0125, error 0.05
    ],
    ids=["stood still", "fell within its noise", "fell", "rose within its noise"],
)
def test_a_reward_that_rises_alone_is_over_optimised(independent: tuple[float, ...]) -> None:
    found = broken(now(rewards=UP, independent=independent), trait=False)
    (told,) = found
    assert "Over-optimisation: since update 0 the reward changed by +1.000" in told
    assert broken(now(rewards=UP, independent=independent), trait=False, over_optimised=False) == []


def test_a_reward_that_rises_within_its_noise_is_not() -> None:
    noisy = now(rewards=(3.0, 1.0, 5.0, 3.0), independent=(0.0, 0.2, 0.3, 0.4))
    assert broken(noisy, trait=False) == []  # 2, -1, 2, -1: mean 0.5, error 0.87


def test_over_optimisation_is_looked_for_since_the_last_good_probe_too() -> None:
    good = replace(now(), rewards=UP, independent=(0.5, 0.6, 0.7, 0.8))
    later = replace(
        now(), update=10, rewards=(3.0, 4.1, 5.0, 6.1), independent=(0.4, 0.5, 0.6, 0.7)
    )
    (told,) = broken(later, good)  # still well above the start, where it would have been fine
    assert "since update 5 the reward" in told
    assert broken(later, FIRST) == []


def test_each_trait_is_looked_at_by_itself() -> None:
    one_lost = now(rewards=FIRST.rewards, independent=(1.0, 1.2, 0.1, 0.19))
    (told,) = broken(one_lost)
    assert told.startswith("Trait dry: its independent measure changed by -0.205")
    assert broken(one_lost, trait=False) == []


def test_a_trait_may_not_fall_where_the_others_are_asked_for() -> None:
    first = replace(FIRST, others={"warm": (0.3, 0.1), "dry": (0.2, 0.4)})
    fell = replace(first, update=5, others={"warm": (0.1, -0.09), "dry": (0.3, 0.3)})
    (told,) = tripped(first, first, fell, CONFIG)
    # -.2 and -.19: mean -.195, error .005; dry changed by .1 and -.1, which is noise
    assert told.startswith(
        "Other traits: in replies to queries of other traits the measure of warm"
    )
    assert "-0.195 (standard error 0.005)" in told
    assert tripped(first, first, fell, GuardsConfig(others=False)) == []
    assert len(rules(GuardsConfig(others=False))) == len(rules(CONFIG)) - 1
    assert first.numbers()["others/warm"] == pytest.approx(0.2)
    gone = replace(first, update=5, others={"warm": (None, None), "dry": (0.2, 0.4)})
    (told,) = tripped(first, first, gone, CONFIG)
    assert told == "Measures: others/warm could be measured at the start, and now cannot."
    assert unwatched(gone, CONFIG) == [
        "Not watched: warm in replies to queries of other traits, since the measure is missing."
    ]


def test_what_can_no_longer_be_measured_is_broken() -> None:
    (told,) = broken(now(short=None))
    assert told == "Measures: short could be measured at the start, and now cannot."
    lost = broken(now(rewards=(None,) * 4))
    assert "reward could be measured" in lost[0] and "100% of the replies" in lost[1]


def test_what_was_never_measured_is_told_and_not_passed() -> None:
    bare = replace(FIRST, short=None, disagreement=None, independent=(None,) * 4)
    told = unwatched(bare, CONFIG)
    assert [line.split(":")[1].split(",")[0].strip() for line in told] == [
        "short questions", "disagreement", "over-optimisation",
    ]  # fmt: skip
    assert unwatched(FIRST, CONFIG) == []
    off = GuardsConfig(short=None, disagreement=None, over_optimised=False, trait=False)
    assert unwatched(bare, off) == []
    assert tripped(bare, bare, replace(bare, update=5), CONFIG) == []


def test_the_rules_say_every_bar() -> None:
    told = "\n".join(rules(CONFIG))
    for bar in ("Every 5 updates", "48 held-out queries", "15 nats", "25 %", "50 %", "1.5 times"):
        assert bar in told


def test_how_it_ended_is_told_and_read_again() -> None:
    stopped = Guarded(30, 15, 10, ("a rule",), ("Length: too long.",), ("Not watched: x.",))
    assert stopped.told == (
        "PPO was stopped after update 15 of 30, and the policy was rolled back to that of update"
        " 10.",
        "Length: too long.",
        "Not watched: x.",
    )
    assert "is as it was before PPO" in replace(stopped, kept=0).told[0]
    assert "tripped no guard" in replace(stopped, tripped=()).told[0]
    recorded = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(stopped).items()}
    assert guarded_in(recorded) == stopped
    assert guarded_in(None) is None


def test_a_guard_below_what_ppo_aims_at_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"set guards\.kl higher"):
        PpoConfig(kl_target=20.0)
    assert PpoConfig(kl_target=None).updates == 0
