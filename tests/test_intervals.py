"""Wilson's interval against numbers worked by hand."""

from __future__ import annotations

import pytest

from character.intervals import wilson

Z2 = 1.959963984540054**2


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [
        (100, 100, 1 / (1 + Z2 / 100), 1.0),  # (1 + z2/2n - z2/2n) / (1 + z2/n)
        (0, 40, 0.0, (Z2 / 40) / (1 + Z2 / 40)),
        (2, 4, 0.1500, 0.8500),  # .5 -+ z sqrt(.25/4 + z2/64) / (1 + z2/4)
        # a tie among four: (.625 + z2/8 -+ z sqrt(.625 x .375/4 + z2/64)) / (1 + z2/4)
        (2.5, 4, 0.5638 - 0.3443, 0.5638 + 0.3443),
    ],
)
def test_wilson(hits: float, count: int, low: float, high: float) -> None:
    assert wilson(hits, count) == pytest.approx((low, high), abs=2e-4)
