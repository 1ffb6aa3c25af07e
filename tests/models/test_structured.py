"""Answers of a stated form: valid, mended, asked again, or recorded as what they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

import pytest
from faulty_server import Server, serving
from pydantic import BaseModel, Field

from character.models.base import GREEDY, Message, Request
from character.models.config import RequestsConfig
from character.models.fake import ScriptedModel
from character.models.openai_api import OpenAIEndpoint
from character.models.served import ServedModel
from character.models.structured import Formless, ask_formed, strict_schema


class Verdict(BaseModel):
    winner: Literal["A", "B", "tie"]
    sure: float = Field(ge=0, le=1, description="How sure.")
    why: list[str] = []


GOOD = '{"winner": "A", "sure": 0.75, "why": ["shorter"]}'
ASK = [Request((Message("user", "Which is better?"),))]
WIDE = GREEDY.model_copy(update={"max_tokens": 50})


def outcome(replies: Sequence[str], structure: bool = False) -> tuple[object, ScriptedModel]:
    model = ScriptedModel(replies, can_structure=structure)
    (found,) = ask_formed(model, ASK, WIDE, Verdict)
    return found.value or found.failure, model


@pytest.mark.parametrize(
    "reply",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"Sure! Here it is: {GOOD} I hope that helps.",
        "{'winner': 'A', 'sure': 0.75, 'why': ['shorter'],}",
    ],
)
def test_what_can_be_read_is_read_without_asking_again(reply: str) -> None:
    value, model = outcome([reply])
    assert value == Verdict(winner="A", sure=0.75, why=["shorter"])
    assert len(model.requests) == 1


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("I think A is better.", "no JSON object"),
        ('{"winner": "C", "sure": 0.5}', "winner: input should be 'A', 'B' or 'tie'"),
        ('{"winner": "A", "sure": 1.5}', "sure: input should be less than or equal to 1"),
        ('{"winner": "A"}', "sure: field required"),
        ("[1, 2]", "no JSON object"),
    ],
)
def test_what_is_wrong_is_asked_again_once_with_the_reason(reply: str, reason: str) -> None:
    value, model = outcome([reply, GOOD])
    assert isinstance(value, Verdict)
    again = model.requests[1].conversation
    assert [turn.role for turn in again] == ["user", "assistant", "user"]
    assert again[1].content == reply and reason in again[2].content
    value, model = outcome([reply, reply])
    assert isinstance(value, Formless) and value.raw == reply and reason in value.reason
    assert len(model.requests) == 2


def test_nothing_is_made_up_for_an_empty_or_a_cut_off_answer() -> None:
    value, model = outcome([""])
    assert value == Formless("empty", "")
    assert len(model.requests) == 1
    cut = '{"winner": "A", "sure": 0.7, "why": ["' + "word " * 60
    value, _ = outcome([cut, cut])
    assert isinstance(value, Formless) and value.reason == "cut off"


def test_a_model_that_holds_to_schemas_is_given_one_and_others_are_told() -> None:
    _, told = outcome([GOOD])
    assert told.requests[0].schema is None
    assert '"enum": ["A", "B", "tie"]' in told.requests[0].conversation[0].content
    _, given = outcome([GOOD], structure=True)
    assert given.requests[0].conversation == ASK[0].conversation
    assert given.requests[0].schema == strict_schema(Verdict)


def test_a_strict_schema_leaves_limits_to_words() -> None:
    schema = strict_schema(Verdict)
    assert schema["required"] == ["winner", "sure", "why"]
    assert schema["additionalProperties"] is False
    sure = schema["properties"]["sure"]
    assert sure["description"] == "How sure. (minimum: 0, maximum: 1)"
    assert not {"minimum", "maximum"} & set(sure)
    assert "default" not in schema["properties"]["why"]


def test_each_request_has_its_own_outcome() -> None:
    replies = {"one": [GOOD], "two": ["no", GOOD], "three": ["no", "no"]}

    def answer(request: Request) -> str:
        said = request.conversation[0].content.split()[0]
        return replies[said][len(request.conversation) // 2]

    requests = [Request((Message("user", word),)) for word in replies]
    found = ask_formed(ScriptedModel(answer), requests, WIDE, Verdict)
    assert [each.value is not None for each in found] == [True, True, False]
    assert [len(each.generations) for each in found] == [1, 2, 2]


def test_over_the_wire() -> None:
    with serving(Server(reply=GOOD)) as server:
        endpoint = OpenAIEndpoint("http://x#m", "m", base_url=server.url, own=True)
        model = ServedModel(endpoint)
        (found,) = ask_formed(model, ASK, WIDE, Verdict)
        model.close()
        form = server.bodies[0]["response_format"]["json_schema"]
    assert found.value == Verdict(winner="A", sure=0.75, why=["shorter"])
    assert form["schema"] == json.loads(json.dumps(strict_schema(Verdict))) and form["strict"]


def test_a_refusal_and_a_failed_request_are_not_asked_again() -> None:
    for fault, reason in (("refusal", "refusal"), ("400", "request refused: HTTP 400")):
        with serving(Server({fault: 1.0})) as server:
            endpoint = OpenAIEndpoint("http://x#m", "m", base_url=server.url)
            model = ServedModel(endpoint, RequestsConfig(failures=1.0))
            (found,) = ask_formed(model, ASK, WIDE, Verdict)
            model.close()
            assert sum(server.asked.values()) == 1
        assert found.failure and found.failure.reason.startswith(reason)
