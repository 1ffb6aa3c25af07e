from __future__ import annotations

from dataclasses import replace
from typing import Any

from making import a_constitution, a_reply

from character.building.context import Build
from character.recipe import Recipe
from character.rows import Reward, Step, taught


def test_a_later_round_has_stages_seeds_and_rows_of_its_own() -> None:
    nothing: Any = None
    first = Build(a_constitution(), Recipe(title="x", seed=5), nothing, nothing)
    later = replace(first, round=2)
    assert (first.stage("policy"), first.title("DPO"), first.seed) == ("policy", "DPO", 5)
    assert (later.stage("policy"), later.title("DPO")) == ("policy-2", "DPO, round 2")
    assert len({first.seed, later.seed, replace(first, round=1).seed}) == 3
    assert 0 <= replace(first, recipe=Recipe(title="x", seed=2**31 - 1), round=9).seed < 2**31

    reply = a_reply("r")
    rows = [Step("s", "dpo", 1, "loss", 0.5), taught("policy", "p"), Reward("w", "p", 1.0, 0.0)]
    assert first.own([*rows, reply]) == [*rows, reply]
    step, learned, reward, same = later.own([*rows, reply])
    assert isinstance(step, Step) and (step.stage, step.value) == ("dpo-2", 0.5)
    assert learned.stage == "policy-2" and same == reply  # type: ignore[union-attr]
    ids = {row.id for number in (0, 1, 2) for row in replace(first, round=number).own(rows)}
    assert len(ids) == 9 and reward.id != "w"
