"""What is said to stay is what a rebuild then takes over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from test_reuse import built, facts, five, recipe, reworded, with_example  # noqa: F401

from character.earlier import TAKEN
from character.recipe import Recipe
from character.report.changes import changes_text
from character.spec.comparing import compare
from character.spec.constitution import Constitution, Member
from character.spec.schema import Trait
from character.validity import JUDGEMENTS, PLAIN, QUERIES, STEERED, UNLESS, Valid, what_holds


def one_less(trait: Trait) -> Trait:
    return trait.model_copy(
        update={
            "clauses": [c for c in trait.clauses if c.id != "asks"],
            "examples": [e for e in trait.examples if e.clause != "asks"],
        }
    )


def other_message(trait: Trait) -> Trait:
    return with_example(trait, "asks", user="Whose ladder stands behind the old chimney?")


def other_bad(trait: Trait) -> Trait:
    return with_example(trait, "asks", bad="The flask is out of sight.")


def alone(trait: Trait) -> Constitution:
    return Constitution((Member(trait),))


def kept(valid: Valid, *stages: str) -> int:
    return sum(one.kept or 0 for one in valid.holds if one.stage in stages)


@pytest.mark.parametrize("edit", [reworded, other_message, other_bad, one_less])
def test_what_is_said_to_stay_is_what_a_rebuild_takes_over(
    edit: Callable[[Trait], Trait],
    five: Trait,  # noqa: F811
    recipe: Recipe,  # noqa: F811
    tmp_path: Path,
) -> None:
    first = built(tmp_path / "first", five, recipe)
    valid = what_holds(alone(five), alone(edit(five)), folder=tmp_path)
    assert valid.run == first
    taken = facts(built(tmp_path / "second", edit(five), recipe)).get(TAKEN, {})
    assert kept(valid, QUERIES, UNLESS) == taken.get("drafts", 0)
    assert kept(valid, PLAIN, STEERED) == taken.get("replies", 0)
    assert kept(valid, JUDGEMENTS) == taken.get("judgements", 0)
    for one in valid.holds:
        assert one.kept is None or one.stored is None or one.kept <= one.stored or one.clause
        assert one.holds or not one.kept, one  # nothing that is said to be lost was kept


def test_a_clause_that_is_gone_or_new_is_named(
    five: Trait,  # noqa: F811
    tmp_path: Path,
) -> None:
    four = one_less(five)
    for old, new, why in ((five, four, "the clause is gone"), (four, five, "the clause is new")):
        valid = what_holds(alone(old), alone(new), folder=tmp_path)
        assert valid.run is None
        (found,) = [one for one in valid.holds if one.clause == "asks"]
        assert (found.holds, found.why) == (False, why)
        text = changes_text("old", "new", compare(alone(old), alone(new)), valid)
        assert f"anew   asking/asks {QUERIES}" in text
