"""Every kind of judge can be made by its name, and says what it lacks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from making import a_trait
from numpy.typing import NDArray

from character.errors import RecipeError
from character.judging.config import KINDS, Kind
from character.judging.judge import ByValue, Contest, Said, Verdict
from character.judging.kinds import (
    NEED_NO_MODEL,
    TEMPLATES,
    UNITS,
    all_at_once,
    judge_of,
)
from character.models.fake import ScriptedModel
from character.prompts import digest

NAMES: dict[Kind, str] = {
    "likelihood": "likelihood by judge",
    "likelihood-plain": "likelihood against plain by judge",
    "verdict": "verdict (letter probabilities) by judge",
    "verdict-reasons": "verdict with reasons (letter probabilities) by judge",
    "listwise": "listwise by judge",
    "rubric": "rubric (digit probabilities) by judge",
    "checks": "checks",
    "embedding": "embedding by flat",
}
EVEN = Contest(Said("Is it wet?", "Yes."), Said("Is it wet?", "Well."))


class Flat:
    """Finds the same in every text."""

    name = "flat"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.ones((len(texts), 1), dtype=np.float32)


def able() -> ScriptedModel:
    """Answers everything, and finds all replies alike: the same in whatever place."""
    return ScriptedModel(
        lambda request: '{"order": [1, 2]}',
        score=lambda item: -1.0,
        choose=lambda turns, options: dict.fromkeys(options, 1 / len(options)),
        name="judge",
    )


@pytest.mark.parametrize("kind", NAMES)
def test_every_kind_makes_a_judge_without_a_favourite(kind: Kind) -> None:
    judge = judge_of(kind, None if kind in NEED_NO_MODEL else able(), Flat())
    assert judge.name == NAMES[kind]
    trait = a_trait(checks=[{"kind": "max_words", "words": 3}])
    (found,) = judge.compare(trait, [EVEN])
    assert isinstance(found, Verdict) and found.preference == pytest.approx(0.5)


def test_the_kinds_are_all_there_are() -> None:
    assert set(KINDS) == set(NAMES)
    assert {name for name, unit in UNITS.items() if unit >= 0} <= set(KINDS)
    assert set(TEMPLATES) <= set(KINDS) - set(NEED_NO_MODEL)
    assert all(digest(name) for names in TEMPLATES.values() for name in names)


@pytest.mark.parametrize("kind", sorted(set(NAMES) - {*NEED_NO_MODEL}))
def test_without_a_model_the_message_names_one(kind: Kind) -> None:
    with pytest.raises(RecipeError, match=rf"{kind} judge needs a model.*--model bundled:"):
        judge_of(kind)


def test_without_an_embedder_there_is_no_embedding_judge() -> None:
    with pytest.raises(RecipeError, match="needs an embedder"):
        judge_of("embedding", able())


@pytest.mark.parametrize("kind", ["likelihood", "likelihood-plain"])
def test_a_model_that_cannot_score_is_refused_with_what_to_type(kind: Kind) -> None:
    with pytest.raises(RecipeError, match=r"'judge' does not tell how likely.*--judge verdict"):
        judge_of(kind, ScriptedModel(name="judge"))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("verdict", "verdict (2 samples) by judge"),
        ("verdict-reasons", "verdict with reasons (2 samples) by judge"),
        ("rubric", "rubric (2 samples) by judge"),
        ("listwise", "listwise by judge"),
    ],
)
def test_a_model_that_tells_no_probabilities_is_asked_several_times(kind: Kind, name: str) -> None:
    assert judge_of(kind, ScriptedModel(name="judge")).name == name


def test_when_comparisons_are_free_all_are_asked_for() -> None:
    assert all_at_once(["likelihood", "embedding"]) and all_at_once(["listwise"])
    assert all_at_once(["verdict", "listwise"]) and not all_at_once(["likelihood", "verdict"])


def test_each_value_has_its_own_unit() -> None:
    for kind in NAMES:
        judge = judge_of(kind, able(), Flat())
        unit = UNITS.get(kind.removesuffix("-plain"))
        assert (judge.temperature if isinstance(judge, ByValue) else None) == unit
