"""How much of the distillation to keep, and that a dose is what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from making import a_judgement, a_reply
from peft import PeftModel

from character.training.config import DoseConfig
from character.training.dose import (
    DoseTrial,
    Strength,
    choose_dose,
    try_dose,
    try_doses,
    weakest_strength,
)
from character.training.policy import adapter_name, at_dose

CONFIG = DoseConfig(answers=0.9, repetition=0.03)
PLAIN = DoseTrial(0.0, 10, 0.0, answers=0.8, repetition=0.01, tokens=60)
STEERED = DoseTrial(0.0, 10, 0.2, answers=0.8, repetition=0.01, tokens=60)


def trial(
    dose: float, answers: float = 0.8, repetition: float = 0.0, contrast: float | None = 0.1
) -> DoseTrial:
    return DoseTrial(dose, 10, contrast, answers, repetition, 50)


@pytest.mark.parametrize(
    ("trials", "dose"),
    [
        ([trial(0.5, 0.8), trial(0.75, 0.75), trial(1.0, 0.721)], 1.0),  # 90 % of 0.8 is 0.72
        ([trial(0.5, 0.8), trial(0.75, 0.75), trial(1.0, 0.69)], 0.85),  # 0.726; at 0.9 0.714
        ([trial(0.5, 0.5), trial(1.0, 0.6)], 0.5),  # none is able: as little as was tried
        ([trial(0.5), trial(0.75, 0.8, 0.05), trial(1.0, 0.8, 0.04)], 1.0),
        ([trial(0.5), trial(0.75, 0.8, 0.05), trial(1.0, 0.8, 0.06)], 0.7),
        ([trial(0.5), trial(1.0, contrast=0.2)], 1.0),
        ([trial(0.5), trial(1.0, contrast=0.3)], 0.75),  # there it is as much as the steered
        ([trial(0.5), trial(1.0, contrast=None)], 1.0),  # not known to be too much
        ([trial(0.6)], 0.6),
    ],
)
def test_the_largest_dose_that_answers_does_not_loop_and_does_not_overdo_it(
    trials: list[DoseTrial], dose: float
) -> None:
    assert choose_dose(trials, PLAIN, STEERED, CONFIG) == dose
    assert choose_dose(trials[::-1], PLAIN, STEERED, CONFIG) == dose


def test_a_trial_is_the_mean_of_its_replies() -> None:
    said = [
        (a_reply("a", text="a b c d e f g", tokens=8), a_judgement("a", 0.5, relevance=1.0)),
        # one 4-gram of five occurred before
        (a_reply("b", text="a b c d a b c d", tokens=9), a_judgement("b", 0.1, relevance=0.0)),
        (a_reply("c", text="", tokens=1), a_judgement("c", None, relevance=None)),
    ]
    found = try_dose(0.5, said, lambda r: None if r is None else r > 0.5)
    assert found == DoseTrial(
        0.5,
        3,
        contrast=pytest.approx(0.3),
        answers=pytest.approx(1 / 3),  # silence does not answer
        repetition=pytest.approx(0.2 / 3),
        tokens=6,
    )


def test_each_dose_is_tried_on_its_own_sample_for_the_trait_of_its_query() -> None:
    replies = [
        a_reply("p", style="plain"), a_reply("s", style="steered", trait="brisk"),
        a_reply("half", style="own", sample=0), a_reply("whole", style="own", sample=1),
    ]  # fmt: skip
    relevance = {"p": 1.0, "s": 0.0, "half": 1.0, "whole": 0.0}
    judgements = [
        a_judgement(name, contrast, trait=trait, relevance=value)
        for name, value in relevance.items()
        for trait, contrast in (("brisk", 0.5), ("warm", 9.0))
    ]
    config = DoseConfig(tried=(0.5, 1.0), answers=0.75)
    tried = try_doses(replies, judgements, lambda r: r == 1, config)
    assert tried is not None
    assert (tried.plain.answers, tried.plain.replies) == (1.0, 1)
    assert (tried.steered.answers, tried.steered.contrast) == (0.0, 0.5)
    assert [(t.dose, t.answers, t.contrast) for t in tried.trials] == [
        (0.5, 1.0, 0.5), (1.0, 0.0, 0.5),
    ]  # fmt: skip
    assert tried.chosen == 0.6  # at 0.65 only 70 % answer
    assert try_doses(replies[:2], judgements, lambda r: True, config) is None


def test_a_dose_scales_what_the_adapter_adds(
    new_policy: Callable[..., PeftModel], tiny_folder: Path, tmp_path: Path
) -> None:
    policy = new_policy()
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    policy.save_pretrained(tmp_path)

    def added(dose: float) -> torch.Tensor:
        scaled, _ = at_dose(tiny_folder, tmp_path, dose)
        assert any(weight.requires_grad for weight in scaled.parameters())
        layer = scaled.get_base_model().model.layers[0].self_attn.q_proj
        return layer.get_delta_weight("default").detach()

    whole = added(1.0)
    assert whole.abs().max() > 0
    torch.testing.assert_close(added(0.25), 0.25 * whole)
    assert not added(0.0).any()


def test_an_adapter_is_named_by_its_weights(
    new_policy: Callable[..., PeftModel], tmp_path: Path
) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        new_policy(seed).save_pretrained(tmp_path / folder / "distilled")
    config = tmp_path / "b" / "distilled" / "adapter_config.json"
    config.write_text(config.read_text().replace("q_proj", "r_proj"))
    one, same, other = (adapter_name(tmp_path / folder / "distilled") for folder in "abc")
    assert one == same != other
    assert one.startswith("distilled@")


@pytest.mark.parametrize(
    ("contrasts", "target", "strength"),
    [
        ((0.1, 0.2), 0.5, 0.5),  # from 0 through .1 at .5 to .2: half of .2 is .1
        ((0.1, 0.2), 0.75, 0.75),
        ((0.18, 0.2), 0.85, 0.5),  # .17 is reached at .472, and steps are .05
        ((0.3, 0.1), 0.85, 0.3),  # the first strength that is enough, not the nearest to 1
        ((0.05, 0.1), 0.85, 1.0),  # never enough: all of it
        ((0.05, None), 0.85, 1.0),
    ],
)
def test_the_least_strength_that_comes_far_enough(
    contrasts: tuple[float | None, float | None], target: float, strength: float
) -> None:
    tried = [Strength(0.5, contrasts[0]), Strength(1.0, contrasts[1])]
    found = weakest_strength(tried, 0.0, 0.2, target)
    assert found.strength == strength
    assert weakest_strength(tried[::-1], 0.0, 0.2, target) == found
    assert ("All of the training" in found.told) == (found.strength == 1.0)


def test_without_a_way_to_go_all_of_the_training_is_kept() -> None:
    tried = [Strength(1.0, 0.3)]
    for plain, steered in ((None, 0.2), (0.0, None), (0.2, 0.2), (0.3, 0.2)):
        found = weakest_strength(tried, plain, steered, 0.85)
        assert found.strength == 1.0 and "could not be measured" in found.told
