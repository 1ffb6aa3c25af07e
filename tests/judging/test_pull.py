"""What planting one trait does to another, by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from making import a_trait

from character.judging.judge import NoVerdict, Said
from character.judging.plants import Planted
from character.judging.pull import Pull, pull
from character.spec.schema import Trait


class Counts:
    """A reply's worth is how often it says x; none when it is silent."""

    name = "counts"

    def value(self, trait: Trait, said: Sequence[Said]) -> list[float | NoVerdict]:
        return [
            NoVerdict("silent") if one.reply == "silent" else float(one.reply.count("x"))
            for one in said
        ]


def planted(number: int, full: str | None, plain: str = "x") -> Planted:
    query = f"{number}?"
    said = {("plain", 0): Said(query, plain)}
    return Planted(query, "c", said | ({("full", 0): Said(query, full)} if full else {}))  # type: ignore[arg-type]


def test_the_pull_by_hand() -> None:
    plants = [planted(1, "xx"), planted(2, "xxx"), planted(3, "xxxx"), planted(4, None)]
    found = pull(Counts(), a_trait("steady"), "wild", [*plants, planted(5, "silent")])
    # gaps 1, 2, 3: Student's interval with two degrees of freedom
    assert (found.planted, found.judged, found.value) == ("wild", "steady", 2.0)
    assert (found.low, found.high) == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)
    assert (found.count, found.missing) == (3, 2)


def test_one_value_is_no_measurement() -> None:
    found = pull(Counts(), a_trait(), "wild", [planted(1, "xx"), planted(2, None)])
    assert (found.value, found.low, found.count, found.missing) == (None, None, 1, 1)
    assert not found.apart(0)


@pytest.mark.parametrize(
    ("value", "low", "high", "apart"),
    [
        (-0.2, -0.3, -0.1, True),
        (-0.2, -0.5, 0.1, False),  # may be nothing
        (-0.04, -0.05, -0.03, False),  # certain, and too small to count
        (0.2, 0.1, 0.3, False),
    ],
)
def test_traits_pull_apart_when_it_is_certain_and_counts(
    value: float, low: float, high: float, apart: bool
) -> None:
    assert Pull("a", "b", value, low, high, 20, 0).apart(0.05) is apart
