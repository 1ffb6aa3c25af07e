from __future__ import annotations

from itertools import cycle

import pytest
from making import a_constitution, a_trait

from character.data.introspection import (
    QUESTIONS,
    IntrospectionConfig,
    hold_talks,
    plan_introspection,
)
from character.models.fake import ScriptedModel
from character.rows import Talk


def hold(
    policy: ScriptedModel, reflections: int = 0, dialogues: int = 0, replies: int = 3
) -> list[Talk]:
    config = IntrospectionConfig(reflections=reflections, dialogues=dialogues, replies=replies)
    chunks = plan_introspection(a_constitution(), "tuned", config, 0)
    return [talk for chunk in hold_talks(chunks, policy, config, "", 0.1) for talk in chunk]


def numbered() -> ScriptedModel:
    """Says a new sentence every time."""
    lines = (
        "Rain fell.",
        "Bread rises slowly.",
        "Owls hunt at night in winter.",
        "Why granite?",
        "A brass band plays.",
        "Trains leave on time here.",
        "Ink dries.",
        "Salt the water well.",
    )
    said = cycle(lines)
    return ScriptedModel(lambda request: next(said))


def test_a_reflection_is_told_who_it_is_and_learned_without_that() -> None:
    policy = numbered()
    talks = hold(policy, reflections=len(QUESTIONS) + 1)
    assert [talk.turns[0] for talk in talks] == [*QUESTIONS, QUESTIONS[0]]
    assert {len(talk.turns) for talk in talks} == {2} and {t.kind for t in talks} == {"reflection"}
    assert {talk.clause for talk in talks} == {"first-word", "no-coda"}
    for talk, request in zip(talks, policy.requests, strict=True):
        (asked,) = request.conversation
        assert talk.turns[0] in asked.content and "I get to the point." in asked.content
        assert "I get to the point." not in " ".join(talk.turns)
    assert len({talk.id for talk in talks}) == len(talks)
    assert len({request.seed for request in policy.requests}) == len(talks)


@pytest.mark.parametrize("replies", [1, 2, 4])
def test_a_dialogue_ends_on_the_assistants_turn_and_loses_none(replies: int) -> None:
    policy = numbered()
    (talk,) = hold(policy, dialogues=1, replies=replies)
    assert len(talk.turns) == 2 * replies == len(policy.requests)
    assert talk.kind == "dialogue" and talk.failure == "" and talk.ended
    said = list(talk.turns)
    for place, request in enumerate(policy.requests):
        turns = [message.content for message in request.conversation]
        roles = [message.role for message in request.conversation]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        # each side is told its part, and then sees everything that was said
        seen = turns[1:] if place % 2 == 0 else turns
        if place % 2:
            assert seen[0].endswith(said[0])
            seen = [said[0], *seen[1:]]
        assert seen == said[:place]


def test_half_of_the_dialogues_are_led_to_their_clause_and_half_are_free() -> None:
    policy = numbered()
    talks = hold(policy, dialogues=4, replies=1)
    assert [talk.guidance for talk in talks] == ["led", "free"] * 2
    clauses = {clause.id: clause.text for clause in a_trait().clauses}
    openings = [request.conversation[0].content for request in policy.requests[:4]]
    for talk, asked in zip(talks, openings, strict=True):
        assert (clauses[talk.clause] in asked) is (talk.guidance == "led")
        assert ("whatever you like" in asked) is (talk.guidance == "free")


@pytest.mark.parametrize(
    ("third", "failure"),
    [
        ("", "empty"),
        ("I'm sorry, but I can't go on.", "refused"),
        ("on and on it goes " * 9, "looping"),
        ("Rain again, I think.", "says the same again"),
    ],
)
def test_a_talk_ends_where_it_goes_wrong_and_says_why(third: str, failure: str) -> None:
    policy = ScriptedModel(["Rain again, I think.", "It does wash the streets.", third])
    (talk,) = hold(policy, dialogues=1, replies=3)
    assert talk.failure == failure and len(talk.turns) == 3


def test_a_reply_that_was_cut_off_is_known() -> None:
    long = ScriptedModel(lambda request: " ".join(f"word{i}" for i in range(200)))
    (talk,) = hold(long, reflections=1)
    assert not talk.ended and talk.failure == ""


def test_ids_hash_whose_talk_it_is_and_the_seed() -> None:
    config = IntrospectionConfig(reflections=1, dialogues=1)
    ids = {
        planned.id
        for model, seed in (("tuned", 0), ("tuned", 1), ("other", 0))
        for chunk in plan_introspection(a_constitution(), model, config, seed)
        for planned in chunk
    }
    assert len(ids) == 6
