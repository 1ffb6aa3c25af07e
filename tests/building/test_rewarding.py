from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from making import a_constitution, a_query, a_trait

from character.building.context import Build
from character.building.rewarding import _watch
from character.models.base import Scorable
from character.models.fake import ScriptedModel
from character.recipe import Recipe
from character.training.rollouts import Rollout


def test_each_trait_is_watched_where_another_is_asked_for() -> None:
    def score(item: Scorable) -> float:
        # a reply that says "brisk" is likelier behind the good examples of brisk alone
        good = any("high clouds" in turn.content for turn in item.conversation)
        return 9.0 if good and "brisk" in item.reply else 0.0

    dry = a_trait("dry", examples=[
        e | {"good": "Sand.", "bad": "Sea."} for e in a_trait().model_dump()["examples"]
    ])  # fmt: skip
    recipe = Recipe(title="x")
    scorer = ScriptedModel(score=score)
    run = SimpleNamespace(reporter=SimpleNamespace(say=print))
    this: Any = Build(a_constitution(a_trait(), dry), recipe, run, {recipe.roles.judge: scorer})  # type: ignore[arg-type]
    queries = [a_query("a"), a_query("b", trait="dry"), a_query("c", trait="dry")]
    watch = _watch(this, queries, SimpleNamespace(members=[1]))  # type: ignore[arg-type]
    rollouts = [
        Rollout(query.text, text, (), (), True)
        for query, text in zip(queries, ["one brisk two", "three brisk", "four five"], strict=True)
    ]
    own, others = watch.independent(rollouts), watch.others(rollouts)
    assert own == [pytest.approx(9 / 4), 0.0, 0.0]
    # brisk in the replies to queries of dry, and dry in the reply to that of brisk
    assert others == {"brisk": [pytest.approx(9 / 3), 0.0], "dry": [0.0]}
