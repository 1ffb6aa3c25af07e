"""What a model costs, and that nobody's ignorance is free."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from character.errors import ModelError
from character.models.base import Usage
from character.models.prices import SHIPPED, Price, price_of

NOWHERE = Path("no-such-file.yaml")


def test_a_cost_worked_by_hand() -> None:
    price = Price(input=2.0, output=10.0, cached=0.5, written=2.5, batch=0.5)
    usage = Usage(input=1000, output=100, cached=600, written=200)
    # 200 plain at 2, 600 read at 0.5, 200 written at 2.5, 100 out at 10
    assert price.cost(usage) == pytest.approx((400 + 300 + 500 + 1000) / 1e6)
    assert price.cost(usage, batch=True) == pytest.approx(price.cost(usage) / 2)
    assert price.most(1000, 100) == pytest.approx((2500 + 1000) / 1e6)


def test_without_cache_prices_all_input_costs_the_same() -> None:
    price = Price(input=2.0, output=10.0)
    assert price.cost(Usage(1000, 0, cached=600, written=200)) == pytest.approx(2000 / 1e6)


def test_no_answer_costs_more_than_was_reserved() -> None:
    for price in (Price(input=2, output=9, cached=5), Price(input=1, output=1, written=4)):
        for cached, written in ((0, 0), (7, 0), (0, 7), (3, 4)):
            usage = Usage(7, 5, cached, written)
            assert price.cost(usage) <= price.most(7, 5) + 1e-15


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("openai:gpt-5", True),
        ("openai:gpt-5-2025-08-07", True),
        ("openai:gpt-5-mini?api=responses", True),
        ("anthropic:claude-haiku-4-5-20251001", True),
        ("openai:gpt-5-ultra", False),
        ("openai:gpt-5-2025", False),
        ("http://localhost:8000/v1#mine", False),
    ],
)
def test_which_models_have_a_price(name: str, known: bool) -> None:
    assert (price_of(name, NOWHERE) is not None) == known


def test_the_longest_name_counts() -> None:
    mini, whole = price_of("openai:gpt-5-mini", NOWHERE), price_of("openai:gpt-5", NOWHERE)
    assert mini and whole and mini.price.input < whole.price.input


def test_the_users_table_comes_first(tmp_path: Path) -> None:
    own = tmp_path / "prices.yaml"
    own.write_text(
        "as_of: 2026-11-01\nmodels:\n  openai:gpt-5: {input: 9, output: 90}\n"
        "  http://localhost:8000/v1#mine: {input: 0, output: 0}\n"
    )
    quote = price_of("openai:gpt-5", own)
    assert quote and (quote.price.output, quote.as_of) == (90, date(2026, 11, 1))
    free = price_of("http://localhost:8000/v1#mine", own)
    assert free and free.price.most(1000, 1000) == 0
    other = price_of("openai:gpt-5-mini", own)
    assert other and other.price.output == 2.0


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("as_of: 2026-11-01\nmodels:\n  a: {input: -1, output: 2}\n", "3:7: models.a.input"),
        ("as_of: soon\nmodels: {}\n", "1:1: as_of"),
        ("as_of: 2026-11-01\nmodels:\n  a: {input: 1, output: 2, inptu: 3}\n", "models.a.inptu"),
        ("as_of: [\n", ":"),
        ("- a\n", ":1:1"),
    ],
)
def test_a_wrong_table_says_where(tmp_path: Path, text: str, place: str) -> None:
    own = tmp_path / "prices.yaml"
    own.write_text(text)
    with pytest.raises(ModelError) as error:
        price_of("openai:gpt-5", own)
    assert str(own) in str(error.value) and place in str(error.value)


def test_the_shipped_table_is_dated_and_whole() -> None:
    quote = price_of("anthropic:claude-sonnet-4-6", NOWHERE)
    assert quote and date(2026, 1, 1) <= quote.as_of <= date(2026, 12, 31)
    assert SHIPPED.exists()
