"""Endpoints that speak OpenAI's protocols: OpenAI itself, and every server that imitates it.

openai:NAME              chat completions at OpenAI, or where OPENAI_BASE_URL says
openai:NAME?api=responses    the same over the Responses API
http://HOST/v1#NAME      any compatible server: vLLM, llama.cpp, Ollama, SGLang
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal

import openai

from character.models.base import FinishReason, Usage
from character.models.endpoint import Answer, Call, CallError, Fault, Room, stopped
from character.models.http import (
    error_message,
    explained,
    fault_of,
    http_client,
    read_json,
    room_left,
)

FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content filter",
}
USED_UP = {"insufficient_quota", "billing_hard_limit_reached", "account_deactivated"}
# Models that think before they answer, the least effort each can be told to make, and the tokens
# that may still go into it. With no effort they take temperature and top_p, else they refuse them.
EFFORTS = (
    (re.compile(r"gpt-(6|5\.)"), "none", 0),
    (re.compile(r"gpt-5"), "minimal", 1024),
    (re.compile(r"o\d"), "low", 4096),
)
ENDED = {"completed", "expired", "cancelled"}
EXPIRED = "batch_expired"
Path = Literal["/v1/responses", "/v1/chat/completions"]
NO_KEY = "none"  # the SDK insists on one, and local servers want none


class OpenAIEndpoint:
    """One model. `base_url` None is OpenAI's; `own` is a server of the user's."""

    can_structure = True
    batch_size = 50_000

    def __init__(
        self,
        name: str,
        model: str,
        *,
        base_url: str | None = None,
        key: str | None = None,
        own: bool = False,
        responses: bool = False,
        connections: int = 64,
    ) -> None:
        self.name, self.model, self.responses = name, model, responses
        self.own = self.can_continue = own
        self.can_batch = not own
        self.effort, self.thinking = ("", 0) if self.own else _effort(model)
        self._client = openai.AsyncOpenAI(
            api_key=key or NO_KEY,
            base_url=base_url,
            max_retries=0,  # ours are around this
            timeout=None,  # so is the time limit
            http_client=http_client(connections),
        )

    async def close(self) -> None:
        await self._client.close()

    async def ask(self, call: Call) -> Answer:
        with _explained():
            if call.text:
                create = self._client.completions.with_raw_response.create
                response = await create(**self._text(call))
            elif self.responses:
                response = await self._client.responses.with_raw_response.create(
                    **self._input(call)
                )
            else:
                response = await self._client.chat.completions.with_raw_response.create(
                    **self._chat(call)
                )
        return self._answer(read_json(response.content), call, _room(response.headers))

    # --- batches ---

    async def submit(self, calls: Mapping[str, Call]) -> str:
        path: Path = "/v1/responses" if self.responses else "/v1/chat/completions"
        lines = (
            {
                "custom_id": key,
                "method": "POST",
                "url": path,
                "body": self._input(call) if self.responses else self._chat(call),
            }
            for key, call in calls.items()
        )
        content = "\n".join(map(json.dumps, lines)).encode()
        with _explained():
            file = await self._client.files.create(
                file=("requests.jsonl", content), purpose="batch"
            )
            batch = await self._client.batches.create(
                input_file_id=file.id,
                endpoint=path,
                completion_window="24h",
            )
        return batch.id

    async def ended(self, batch: str) -> bool:
        with _explained():
            found = await self._client.batches.retrieve(batch)
        if found.status == "failed":  # as a whole, before anything was answered
            told = [error.message for error in (found.errors and found.errors.data) or ()]
            raise CallError(Fault.UNUSABLE, f"the batch was refused: {told[0] if told else '?'}")
        return found.status in ENDED

    async def results(
        self, batch: str, calls: Mapping[str, Call]
    ) -> AsyncIterator[tuple[str, Answer | CallError]]:
        with _explained():
            found = await self._client.batches.retrieve(batch)
        for file in (found.output_file_id, found.error_file_id):
            if not file:
                continue
            with _explained():
                content = await self._client.files.content(file)
            for line in content.text.splitlines():
                row = read_json(line)
                if (key := row.get("custom_id")) in calls:
                    yield key, self._result(row, calls[key])

    def _result(self, row: dict[str, Any], call: Call) -> Answer | CallError:
        if not (response := row.get("response")):
            error = row.get("error") or {}
            fault = Fault.OVERLOADED if error.get("code") == EXPIRED else Fault.SERVER
            return CallError(fault, str(error.get("message") or error))
        if response["status_code"] != 200:
            message = error_message(response["status_code"], response["body"])
            return CallError(fault_of(response["status_code"]), message)
        try:
            return self._answer(response["body"], call, Room())
        except CallError as error:
            return error

    def _answer(self, body: Any, call: Call, room: Room) -> Answer:
        try:
            read = _of_responses if self.responses and not call.text else _of_completions
            text, finish, usage = read(body)
            text, finish = stopped(text, finish, call.sampling.stop)
            return Answer(text, finish, usage, str(body.get("model") or self.model), room)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise CallError(Fault.GARBLED, f"{type(error).__name__}: {error}") from None

    def _chat(self, call: Call) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": self.model,
            "messages": _messages(call),
            "seed": call.seed,
        }
        if self.own:  # servers know the old word for it, OpenAI's newer models only the new one
            arguments["max_tokens"] = call.sampling.max_tokens
        else:
            arguments["max_completion_tokens"] = call.sampling.max_tokens + self.thinking
        if self.effort:
            arguments["reasoning_effort"] = self.effort
        if call.schema is not None:
            arguments["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": call.schema},
            }
        if call.sampling.stop:
            arguments["stop"] = list(call.sampling.stop)
        return arguments | self._sampling(call)

    def _text(self, call: Call) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": self.model,
            "prompt": call.text,
            "seed": call.seed,
            "max_tokens": call.sampling.max_tokens,
        }
        if call.sampling.stop:
            arguments["stop"] = list(call.sampling.stop)
        return arguments | self._sampling(call)

    def _input(self, call: Call) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": self.model,
            "input": _messages(call),
            "max_output_tokens": call.sampling.max_tokens + self.thinking,
            "store": False,
        }
        if self.effort:
            arguments["reasoning"] = {"effort": self.effort}
        if call.schema is not None:
            form = {"type": "json_schema", "name": "answer", "strict": True, "schema": call.schema}
            arguments["text"] = {"format": form}
        return arguments | self._sampling(call)

    def _sampling(self, call: Call) -> dict[str, Any]:
        if self.effort not in ("", "none"):
            return {}
        sampling = call.sampling
        arguments: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
        if self.own:
            arguments["extra_body"] = {"top_k": sampling.top_k}
        return arguments


def _effort(model: str) -> tuple[str, int]:
    for pattern, effort, thinking in EFFORTS:
        if pattern.match(model) and "chat" not in model:
            return effort, thinking
    return "", 0


def _messages(call: Call) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in call.conversation]


def _of_completions(body: dict[str, Any]) -> tuple[str, FinishReason, Usage]:
    """Of chat completions, and of the older completions, whose choices hold a text."""
    choice = body["choices"][0]
    message = choice.get("message") or {"content": choice.get("text")}
    text = message.get("content") or ""
    finish = FINISH[choice["finish_reason"]]
    if refusal := message.get("refusal"):
        text, finish = refusal, "refusal"
    used = body.get("usage") or {}
    details = used.get("prompt_tokens_details") or {}
    usage = Usage(
        input=used.get("prompt_tokens", 0),
        output=used.get("completion_tokens", 0),
        cached=details.get("cached_tokens") or 0,
    )
    return text, finish, usage


def _of_responses(body: dict[str, Any]) -> tuple[str, FinishReason, Usage]:
    parts = [
        part for item in body["output"] if item["type"] == "message" for part in item["content"]
    ]
    text = "".join(part["text"] for part in parts if part["type"] == "output_text")
    finish: FinishReason = "stop"
    if refusals := [part["refusal"] for part in parts if part["type"] == "refusal"]:
        text, finish = "".join(refusals), "refusal"
    elif body["status"] == "incomplete":
        reason = body["incomplete_details"]["reason"]
        finish = "length" if reason == "max_output_tokens" else FINISH[reason]
    elif body["status"] != "completed":
        raise ValueError(f"status {body['status']}")
    used = body["usage"]
    details = used.get("input_tokens_details") or {}
    usage = Usage(used["input_tokens"], used["output_tokens"], details.get("cached_tokens") or 0)
    return text, finish, usage


def _explained() -> AbstractContextManager[None]:
    return explained(openai, lambda error, _: error.code in USED_UP)


def _room(headers: Mapping[str, str]) -> Room:
    return room_left(headers, "x-ratelimit-remaining-{}", "x-ratelimit-reset-{}")
