from __future__ import annotations

import pytest

from character.data.anchors import KINDS, anchor_queries
from character.diffing.measure import short_questions
from character.recipe import load_recipe
from character.shipped import names


def plain(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


@pytest.mark.parametrize("recipe", names("pipelines", ".yaml"))
def test_as_many_anchors_ship_as_a_recipe_asks_for(recipe: str) -> None:
    wanted = load_recipe(recipe).training.anchors
    for kind in KINDS:
        assert len(anchor_queries(kind)) >= getattr(wanted, kind) > 0


def test_no_anchor_ships_twice_and_none_is_asked_when_measuring() -> None:
    texts = [plain(text) for kind in KINDS for text in anchor_queries(kind)]
    assert all(texts) and len(set(texts)) == len(texts)
    asked = {plain(q.ask) for split in ("test", "dev") for q in short_questions(split)}
    assert not asked & set(texts)
