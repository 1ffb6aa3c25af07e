"""Money: reserved before, settled after, and remembered by the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from character.errors import ResourceError
from character.models.budget import Budget, CapReachedError


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_a_reservation_is_replaced_by_its_cost() -> None:
    async def main() -> None:
        budget = Budget(cap=1.0)
        one, two, three = [await budget.reserve(0.3) for _ in range(3)]
        assert budget.reserved == pytest.approx(0.9)
        one.settle(0.1)
        two.release()
        three.lose()  # may have been charged, so it counts in full
        assert (budget.spent, budget.reserved) == (pytest.approx(0.4), 0.0)

    run(main())


def test_it_waits_for_what_is_under_way_and_goes_on() -> None:
    async def main() -> None:
        budget = Budget(cap=1.0)
        first = await budget.reserve(0.8)
        second = asyncio.ensure_future(budget.reserve(0.5))
        await asyncio.sleep(0)
        assert not second.done()
        first.settle(0.2)
        assert (await second).most == 0.5

    run(main())


def test_it_stops_before_the_cap_and_says_how_to_go_on() -> None:
    async def main() -> None:
        budget = Budget(cap=1.0)
        (await budget.reserve(0.8)).settle(0.8)
        with pytest.raises(CapReachedError, match=r"\$0\.8000 is spent.*--max-cost 2"):
            await budget.reserve(0.3)
        waiting = await budget.reserve(0.2)  # a smaller one still fits
        waiting.settle(0.2)

    run(main())


def test_those_who_wait_are_told_too_when_nothing_is_left() -> None:
    async def main() -> None:
        budget = Budget(cap=1.0)
        first = await budget.reserve(0.8)
        others = [asyncio.ensure_future(budget.reserve(0.5)) for _ in range(3)]
        await asyncio.sleep(0)
        first.settle(0.8)
        found = await asyncio.gather(*others, return_exceptions=True)
        assert [type(each) for each in found] == [CapReachedError] * 3

    run(main())


def test_an_unknown_price_is_counted_and_with_a_cap_refused() -> None:
    async def main() -> None:
        budget = Budget()
        (await budget.reserve(None)).settle(None)
        assert (budget.spent, budget.unknown) == (0.0, 1)
        with pytest.raises(ResourceError, match="unknown"):
            await Budget(cap=5.0).reserve(None)

    run(main())


def test_a_journal_remembers_and_counts_what_was_under_way_in_full(tmp_path: Path) -> None:
    path = tmp_path / "spending.jsonl"

    async def main() -> None:
        budget = Budget(cap=10.0, journal=path)
        (await budget.reserve(0.5)).settle(0.25)
        (await budget.reserve(0.5)).release()
        (await budget.reserve(2.0)).lose()
        await budget.reserve(0.125)  # and here the process is killed
        (await budget.reserve(None if budget.cap is None else 1.0)).settle(1.0)

    run(main())
    again = Budget(cap=10.0, journal=path)
    assert again.spent == pytest.approx(0.25 + 2.0 + 0.125 + 1.0)
    assert again.reserved == 0.0


def test_ids_go_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "spending.jsonl"

    async def one(cost: float) -> None:
        budget = Budget(journal=path)
        (await budget.reserve(1.0)).settle(cost)
        budget.close()

    for cost in (0.1, 0.2, 0.3):
        run(one(cost))
    assert Budget(journal=path).spent == pytest.approx(0.6)


@pytest.mark.parametrize("cut", ['{"id": 2, "mo', '{"id": 2, "most": 0.5}', '{"id": 1, "co', "{"])
def test_a_journal_may_be_cut_off_anywhere(tmp_path: Path, cut: str) -> None:
    path = tmp_path / "spending.jsonl"
    path.write_text('{"id": 1, "most": 0.25}\n' + cut, encoding="utf-8")
    before = 0.25 + (0.5 if cut.endswith("0.5}") else 0.0)
    assert Budget(journal=path).spent == pytest.approx(before)

    async def main() -> None:
        (await Budget(journal=path).reserve(1.0)).settle(1.0)

    run(main())
    assert Budget(journal=path).spent == pytest.approx(before + 1.0)


def test_a_reservation_left_open_can_be_settled_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "spending.jsonl"

    async def left() -> None:
        await Budget(10.0, path).reserve(4.0)

    run(left())
    budget = Budget(10.0, path)
    assert (budget.spent, budget.reserved) == (4.0, 0.0)
    adopted = budget.adopt(1)
    assert adopted and (budget.spent, budget.reserved) == (0.0, 4.0)
    assert budget.adopt(1) is None
    adopted.settle(0.5)
    assert budget.spent == 0.5
    assert Budget(10.0, path).spent == 0.5


def test_what_does_not_fit_just_now_is_not_reserved() -> None:
    budget = Budget(cap=1.0)
    assert budget.try_reserve(0.7)
    assert budget.try_reserve(0.7) is None
    assert budget.try_reserve(None) is None
    assert Budget().try_reserve(None)
