"""What one example teaches another, by hand."""

from __future__ import annotations

import pytest
from making import EXAMPLES, a_trait

from character.judging.nearness import Nearness, confusion, t_interval
from character.models.base import Scorable
from character.models.fake import ScriptedModel
from character.spec.schema import Trait

REPLIES = {e[pole]: (n, pole) for n, e in enumerate(EXAMPLES) for pole in ("good", "bad")}
# what the good reply of a teacher (row) adds to the good reply of a learner (column), a token
TAUGHT = {(0, 1): 0.1, (0, 2): 0.4, (1, 0): 0.3, (1, 2): 0.2, (2, 0): 0.2, (2, 1): 0.5}


def teacher() -> ScriptedModel:
    """Every reply has -1 a token; only behind a good reply do good ones have what is taught."""

    def score(item: Scorable) -> float:
        shown, said = REPLIES[item.conversation[1].content], REPLIES[item.reply]
        taught = TAUGHT[shown[0], said[0]] if (shown[1], said[1]) == ("good", "good") else 0.0
        return (taught - 1.0) * (len(item.reply.split()) + 1)

    return ScriptedModel(score=score)


def test_the_matrix_by_hand() -> None:
    # first-word has the examples 0 and 2, no-coda has 1
    found = confusion(teacher(), a_trait())
    assert found.clauses == ("first-word", "no-coda")
    assert found.values[0] == pytest.approx((0.3, 0.25))  # (.2 + .4) / 2, (.3 + .2) / 2
    assert found.values[1][0] == pytest.approx(0.3)  # (.1 + .5) / 2
    assert found.values[1][1] is None  # its only example teaches itself nothing
    one, other = found.beside
    # its own less the other's: .2 - .3 and .4 - .2
    assert (one.clause, one.other, one.count) == ("first-word", "no-coda", 2)
    assert one.value == pytest.approx(0.05)
    assert (one.low, one.high) == pytest.approx((0.05 - 12.706 * 0.15, 0.05 + 12.706 * 0.15), 1e-3)
    assert not one.nearer
    assert other == Nearness("no-coda", "first-word", None, None, None, 0) and not other.nearer


def test_a_lesson_is_beyond_what_the_bad_reply_teaches_and_the_bad_reply_learns() -> None:
    """A teacher that lifts every reply, or both poles alike, teaches nothing."""

    def score(item: Scorable) -> float:
        shown = REPLIES[item.conversation[1].content]
        return (-1.0 + (shown[0] + 1) * (shown[1] == "good")) * (len(item.reply.split()) + 1)

    found = confusion(ScriptedModel(score=score), a_trait())
    assert [value for row in found.values for value in row if value is not None] == pytest.approx(
        [0.0, 0.0, 0.0]
    )


def test_no_example_is_shown_to_itself() -> None:
    model = teacher()
    confusion(model, a_trait())
    assert len(model.scored) == 3 * 2 * 4
    assert all(
        REPLIES[item.conversation[1].content][0] != REPLIES[item.reply][0] for item in model.scored
    )


def test_examples_that_show_another_clause_are_seen() -> None:
    """Each example of one clause does what one of the other does, and none of its own."""
    sorted_out = _filed({"first-word": ("ask", "ask", "ask"), "no-coda": ("list", "list", "list")})
    found = confusion(_by_verb(), sorted_out)
    assert found.values == (pytest.approx((0.5, 0.0)), pytest.approx((0.0, 0.5)))
    assert not any(each.nearer for each in found.beside)
    strays = _filed({"first-word": ("ask", "list", "joke"), "no-coda": ("joke", "ask", "list")})
    found = confusion(_by_verb(), strays)
    assert found.values[0] == pytest.approx((0.0, 0.5 / 3))
    assert found.beside[0].nearer and found.beside[0].value == pytest.approx(-0.5 / 3)


def test_what_is_nearer_another_clause_has_an_interval_below_nothing() -> None:
    assert Nearness("a", "b", -0.2, -0.3, -0.1, 4).nearer
    assert not Nearness("a", "b", -0.2, -0.5, 0.1, 4).nearer
    assert not Nearness("a", "b", -0.2, None, None, 1).nearer


def test_students_interval_by_hand() -> None:
    # mean 2, standard deviation 1, t of 2 degrees of freedom 4.303
    assert t_interval([1.0, 2.0, 3.0]) == pytest.approx(
        (2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), 1e-3
    )
    assert t_interval([1.0]) is None


def _filed(verbs: dict[str, tuple[str, ...]]) -> Trait:
    said = [(clause, verb) for clause, found in verbs.items() for verb in found]
    examples = [
        {"clause": clause, "user": f"{n}?", "good": f"{verb} {n}", "bad": f"no {n}", "why": "So."}
        for n, (clause, verb) in enumerate(said)
    ]
    return a_trait(examples=examples)


def _by_verb() -> ScriptedModel:
    """A good reply lifts good replies with its own verb by .5 a token."""

    def score(item: Scorable) -> float:
        shown, said = item.conversation[1].content.split()[0], item.reply.split()[0]
        return (-1 + 0.5 * (shown == said != "no")) * (len(item.reply.split()) + 1)

    return ScriptedModel(score=score)
