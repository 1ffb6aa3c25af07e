"""Scores from a vLLM server, imitated on loopback: its shapes as vLLM 0.32 gives them.

The imitation's tokens are letters and marks of its chat format. How likely a token is depends on
the one before it, by a rule that is easily worked by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from faulty_server import Server, running, serving
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from character.errors import ModelError
from character.models.base import GREEDY, Message, Scorable
from character.models.base import Request as Asked
from character.models.budget import Budget
from character.models.cache import RequestCache
from character.models.config import RequestsConfig
from character.models.providers import open_endpoint
from character.models.served import ServedModel

PATIENT = RequestsConfig(backoff=0.01, longest_backoff=0.05, timeout=5.0)
PIECE = re.compile(r"<\w+>|.", re.DOTALL)
HELLO = (Message("system", "be"), Message("user", "hi"))


@dataclass
class Vllm:
    """/tokenize and /v1/completions; `end` is what its chat template puts behind a turn."""

    end: str = "<end>\n"
    window: int = 1000
    scores: bool = True
    failing: int = 0
    """How many completions fail before one does not."""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def ids(self, text: str) -> list[int]:
        pieces = PIECE.findall(text)
        self.texts += [piece for piece in pieces if piece not in self.texts]
        return [self.texts.index(piece) for piece in pieces]

    def chat(self, body: dict[str, Any]) -> str:
        turns = [f"<{m['role']}>{m['content'].strip()}{self.end}" for m in body["messages"]]
        return "<bos>" + "".join(turns) + "<assistant>" * body["add_generation_prompt"]

    async def tokenize(self, request: Request) -> JSONResponse:
        body = await request.json()
        self.asked.append(("tokenize", body))
        if "messages" in body:
            assert "add_special_tokens" not in body  # the template has them
            ids = self.ids(self.chat(body))
        else:
            ids = self.ids("<bos>" * body.get("add_special_tokens", True) + body["prompt"])
        strings = [self.texts[i] for i in ids] if body.get("return_token_strs") else None
        return JSONResponse(
            {"count": len(ids), "max_model_len": self.window, "tokens": ids, "token_strs": strings}
        )

    async def complete(self, request: Request) -> JSONResponse:
        body = await request.json()
        self.asked.append(("completions", body))
        prompt = body["prompt"]
        if self.failing:
            self.failing -= 1
            return JSONResponse({"error": {"message": "oh dear"}}, 500)
        if len(prompt) >= self.window:
            told = f"This model's maximum context length is {self.window} tokens."
            return JSONResponse({"error": {"message": told, "code": 400}}, 400)
        assert body["max_tokens"] >= 1 and body["prompt_logprobs"] == 1
        told = [self.place(one, other) for one, other in pairwise(prompt)]
        choice = {
            "index": 0, "text": "x", "logprobs": None, "finish_reason": "length",
            "stop_reason": None, "prompt_logprobs": [None, *told] if self.scores else None,
        }  # fmt: skip
        used = {"prompt_tokens": len(prompt), "completion_tokens": 1, "total_tokens": len(prompt)}
        return JSONResponse(
            {
                "id": "c",
                "object": "text_completion",
                "model": "m",
                "choices": [choice],
                "usage": used,
            }
        )

    def place(self, before: int, token: int) -> dict[str, Any]:
        """The token itself, and beside it the likeliest one when that is another."""
        own = {"logprob": logprob(self.texts[before], self.texts[token]), "rank": 2}
        found = {str(token): own | {"decoded_token": self.texts[token]}}
        return found | {"9999": {"logprob": -0.01, "rank": 1, "decoded_token": "?"}}


def logprob(before: str, piece: str) -> float:
    """-1 for the same again, -3 for a mark after anything, -2 for all else."""
    return -1.0 if before == piece else -3.0 if piece.startswith("<") else -2.0


Start = Callable[..., ServedModel]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:

        def begin(
            vllm: Vllm, cache: RequestCache | None = None, config: RequestsConfig = PATIENT
        ) -> ServedModel:
            routes = [
                Route("/tokenize", vllm.tokenize, methods=["POST"]),
                Route("/v1/completions", vllm.complete, methods=["POST"]),
            ]
            url = stack.enter_context(running(Starlette(routes=routes)))
            endpoint = open_endpoint(f"{url}/v1#m?score=vllm", 8)
            endpoint.name = "http://host/v1#m?score=vllm"  # type: ignore[misc]
            model = ServedModel(endpoint, config, cache, Budget())
            stack.callback(model.close)
            return model

        yield begin


def test_a_reply_is_scored_behind_the_prompt_that_a_chat_has(start: Start) -> None:
    vllm = Vllm()
    model = start(vllm)
    assert model.can_score
    items = [Scorable(HELLO, "aab"), Scorable(HELLO, "aab", ended=False)]
    whole, part = model.score(items)
    # a after the template -2, a again -1, b -2, and the end -3
    assert (whole.logprob, whole.tokens) == (-8.0, 4)
    assert (part.logprob, part.tokens) == (-5.0, 3)
    prompts = [body["prompt"] for path, body in vllm.asked if path == "completions"]
    texts = {"".join(vllm.texts[i] for i in prompt) for prompt in prompts}
    chat = "<bos><system>be<end>\n<user>hi<end>\n<assistant>"
    assert texts == {chat + "aab<end>", chat + "aab"}


def test_a_reply_is_taken_as_it_is(start: Start) -> None:
    empty, spaces = start(Vllm()).score([Scorable(HELLO, ""), Scorable(HELLO, " a ")])
    assert (empty.logprob, empty.tokens) == (-3.0, 1)  # its end alone
    assert (spaces.logprob, spaces.tokens) == (-9.0, 4)
    assert start(Vllm()).score([Scorable(HELLO, "", ended=False)])[0].tokens == 0


def test_many_come_in_order(start: Start) -> None:
    replies = ["a" * n for n in range(1, 60)]
    found = start(Vllm()).score([Scorable(HELLO, reply, ended=False) for reply in replies])
    assert [score.logprob for score in found] == [-2.0 - (n - 1) for n in range(1, 60)]
    assert start(Vllm()).score([]) == []


@pytest.mark.parametrize("end", ["<end>", "<end>\n", " <end>", "<end>\n<bos>"])
def test_the_end_is_the_first_mark_behind_a_turn(start: Start, end: str) -> None:
    vllm = Vllm(end=end)
    start(vllm).score([Scorable(HELLO, "a"), Scorable(HELLO, "b")])
    for path, body in vllm.asked:
        if path == "completions":
            assert vllm.texts[body["prompt"][-1]] == "<end>"


def test_a_template_without_an_end_is_said_not_guessed(start: Start) -> None:
    with pytest.raises(ModelError, match="does not say which token ends a turn"):
        start(Vllm(end="\n")).score([Scorable(HELLO, "a")])
    (found,) = start(Vllm(end="\n")).score([Scorable(HELLO, "a", ended=False)])
    assert found.logprob == -2.0


def test_nothing_is_scored_twice(start: Start, tmp_path: Path) -> None:
    vllm = Vllm()
    items = [Scorable(HELLO, "ab"), Scorable(HELLO, "ab", ended=False), Scorable(HELLO, "")]
    with RequestCache(tmp_path / "cache") as cache:
        first = start(vllm, cache).score(items)
        asked = len(vllm.asked)
        again = start(vllm, cache)
        assert again.score(items) == first
        assert len(vllm.asked) == asked
        assert again.outcomes == {"cached": 3}
        # another conversation and another reply are asked
        other = (*HELLO[:-1], replace(HELLO[-1], content="ho"))
        again.score([Scorable(other, "ab"), Scorable(HELLO, "ba")])
        assert again.outcomes["stop"] == 2


def test_a_fault_that_passes_is_asked_again(start: Start) -> None:
    model = start(Vllm(failing=3))
    assert model.score([Scorable(HELLO, "aab")])[0].logprob == -8.0
    assert model.faults.total() == 3


def test_one_reply_that_cannot_be_scored_is_an_error_and_never_a_number(start: Start) -> None:
    items = [Scorable(HELLO, "a" * n) for n in (1, 2, 200, 3)]
    config = PATIENT.model_copy(update={"failures": 1.0})
    with pytest.raises(ModelError, match="1 of 4 replies could not be scored") as error:
        start(Vllm(window=100), config=config).score(items)
    assert "maximum context length is 100" in str(error.value)


def test_a_server_that_scores_no_prompt_says_so(start: Start) -> None:
    with pytest.raises(ModelError, match=r"scores no prompt.*leave out \?score=vllm"):
        start(Vllm(scores=False)).score([Scorable(HELLO, "a")])


def test_a_server_that_is_no_vllm_says_so() -> None:
    with serving(Server()) as server:
        model = ServedModel(open_endpoint(f"{server.url}#m?score=vllm", 8), PATIENT)
        with pytest.raises(ModelError, match=r"/tokenize says HTTP 404.*leave out \?score=vllm"):
            model.score([Scorable(HELLO, "a")])
        # and all else goes as ever
        (answer,) = model.generate([Asked(HELLO)], GREEDY)
        assert answer.text == "echo: hi"
        model.close()


def test_without_the_option_it_scores_nothing() -> None:
    endpoint = open_endpoint("http://localhost:1/v1#m", 8)
    model = ServedModel(endpoint, PATIENT)
    assert not model.can_score
    with pytest.raises(ModelError, match="how likely a given reply is"):
        model.score([Scorable(HELLO, "a")])
    model.close()
