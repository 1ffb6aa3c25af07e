"""Values from hand-made vectors of two numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from making import EXAMPLES, a_trait
from numpy.typing import NDArray

from character.judging.embedding import EmbeddingJudge
from character.judging.judge import ByValue, Contest, Said, Verdict

GOOD = [example["good"] for example in EXAMPLES]
BAD = [example["bad"] for example in EXAMPLES]
POLES = dict(zip(GOOD, [(1.0, 0.0), (0.6, 0.8), (0.0, 1.0)], strict=True)) | dict(
    zip(BAD, [(-1.0, 0.0), (0.0, -1.0), (0.8, 0.6)], strict=True)
)


@dataclass
class Map:
    """Vectors by text, and every text that was asked for."""

    vectors: Mapping[str, tuple[float, float]]
    asked: list[str] = field(default_factory=list)
    name: str = "map"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += texts
        return np.array([self.vectors[text] for text in texts], dtype=np.float32)


def values(**replies: tuple[float, float]) -> list[float]:
    judge = EmbeddingJudge(Map(POLES | replies))
    found = judge.value(a_trait(), [Said("Is it wet?", reply) for reply in replies])
    return [value for value in found if isinstance(value, float)]


def test_the_two_nearest_examples_of_each_pole_by_hand() -> None:
    # (1, 0): good 1, .6, 0, bad .8, 0, -1;     .8 - .4
    # (0, 1): good 1, .8, 0, bad .6, 0, -1;     .9 - .3
    # (-1, 0): good 0, -.6, -1, bad 1, 0, -.8;  -.3 - .5
    found = values(east=(1.0, 0.0), north=(0.0, 1.0), west=(-1.0, 0.0))
    assert found == pytest.approx([0.4, 0.6, -0.8], abs=1e-6)


def test_the_ends_of_the_scale() -> None:
    one_way = dict.fromkeys(GOOD, (1.0, 0.0)) | dict.fromkeys(BAD, (-1.0, 0.0))
    judge = EmbeddingJudge(Map(one_way | {"good": (1.0, 0.0), "bad": (-1.0, 0.0)}))
    found = judge.value(a_trait(), [Said("q", "good"), Said("q", "bad")])
    assert found == pytest.approx([2.0, -2.0])


def test_without_replies_nothing_is_embedded() -> None:
    model = Map(POLES)
    assert EmbeddingJudge(model).value(a_trait(), []) == []
    assert model.asked == []


def test_the_query_counts_for_nothing_and_each_reply_is_embedded_once() -> None:
    model = Map(POLES | {"east": (1.0, 0.0), "north": (0.0, 1.0)})
    judge = ByValue(EmbeddingJudge(model), 0.0)
    pairs = [Contest(Said(q, "east"), Said(q, "north")) for q in ("Is it wet?",) * 2]
    assert judge.compare(a_trait(), [*pairs, pairs[0].swapped()]) == [
        Verdict(0.0, 1.0), Verdict(0.0, 1.0), Verdict(1.0, 0.0),
    ]  # fmt: skip
    assert sorted(model.asked) == sorted([*GOOD, *BAD, "east", "north"])
    assert judge.name == "embedding by map"
