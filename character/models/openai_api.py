"""Endpoints that speak OpenAI's protocols: OpenAI itself, and every server that imitates it.

openai:NAME              chat completions at OpenAI, or where OPENAI_BASE_URL says
openai:NAME?api=responses    the same over the Responses API
http://HOST/v1#NAME      any compatible server: vLLM, llama.cpp, Ollama, SGLang (see vllm_api too)
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal

import openai

from character.models.base import FinishReason, TokenLogprobs, Usage
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
# these think whatever they are told, and what thinks tells no log-probabilities
STUBBORN = re.compile(r"gpt-[5-9].*-(chat|codex|pro)")
LEAST_TOKENS = 16  # OpenAI's own; some of its models put marks before the first word
ROUNDING = 0.01  # by which probabilities may add up to more than 1
ENDED = {"completed", "expired", "cancelled"}
EXPIRED = "batch_expired"
Path = Literal["/v1/responses", "/v1/chat/completions"]
NO_KEY = "none"  # the SDK insists on one, and local servers want none


class OpenAIEndpoint:
    """One model. `base_url` None is OpenAI's; `own` is a server of the user's."""

    can_score = False
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
        unthinking = self.effort in ("", "none") and not STUBBORN.match(model)
        self.can_choose = own or unthinking
        self.least_tokens = 1 if own else LEAST_TOKENS
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
        with our_errors():
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
        return self._answer(read_json(response.content), call, room_of(response.headers))

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
        with our_errors():
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
        with our_errors():
            found = await self._client.batches.retrieve(batch)
        if found.status == "failed":  # as a whole, before anything was answered
            told = [error.message for error in (found.errors and found.errors.data) or ()]
            raise CallError(Fault.UNUSABLE, f"the batch was refused: {told[0] if told else '?'}")
        return found.status in ENDED

    async def results(
        self, batch: str, calls: Mapping[str, Call]
    ) -> AsyncIterator[tuple[str, Answer | CallError]]:
        with our_errors():
            found = await self._client.batches.retrieve(batch)
        for file in (found.output_file_id, found.error_file_id):
            if not file:
                continue
            with our_errors():
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
            of_responses = self.responses and not call.text
            read = _of_responses if of_responses else _of_completions
            text, finish, usage = read(body)
            text, finish = stopped(text, finish, call.sampling.stop)
            logprobs = None
            if call.top:
                words = _words_of_responses(body) if of_responses else _words_of_completions(body)
                logprobs = _first_tokens(words)
            model = str(body.get("model") or self.model)
            return Answer(text, finish, usage, model, room, logprobs)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise CallError(Fault.GARBLED, f"{type(error).__name__}: {error}") from None

    def _chat(self, call: Call) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": self.model,
            "messages": messages_of(call),
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
        if call.top:
            arguments |= {"logprobs": True, "top_logprobs": call.top}
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
            "input": messages_of(call),
            "max_output_tokens": call.sampling.max_tokens + self.thinking,
            "store": False,
        }
        if self.effort:
            arguments["reasoning"] = {"effort": self.effort}
        if call.schema is not None:
            form = {"type": "json_schema", "name": "answer", "strict": True, "schema": call.schema}
            arguments["text"] = {"format": form}
        if call.top:
            told = {"include": ["message.output_text.logprobs"], "top_logprobs": call.top}
            arguments |= told
        return arguments | self._sampling(call)

    def _sampling(self, call: Call) -> dict[str, Any]:
        if self.effort not in ("", "none"):
            return {}
        sampling = call.sampling
        arguments: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
        if self.own and not call.top:  # which wants the probabilities of all tokens
            arguments["extra_body"] = {"top_k": sampling.top_k}
        return arguments


def _effort(model: str) -> tuple[str, int]:
    for pattern, effort, thinking in EFFORTS:
        if pattern.match(model) and "chat" not in model:
            return effort, thinking
    return "", 0


def messages_of(call: Call) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in call.conversation]


def _of_completions(body: dict[str, Any]) -> tuple[str, FinishReason, Usage]:
    """Of chat completions, and of the older completions, whose choices hold a text."""
    choice = body["choices"][0]
    message = choice.get("message") or {"content": choice.get("text")}
    text = message.get("content") or ""
    finish = FINISH[choice["finish_reason"]]
    if refusal := message.get("refusal"):
        text, finish = refusal, "refusal"
    return text, finish, usage_of(body)


def usage_of(body: dict[str, Any]) -> Usage:
    """Of completions; nothing where it is not told."""
    used = body.get("usage") or {}
    details = used.get("prompt_tokens_details") or {}
    return Usage(
        input=used.get("prompt_tokens", 0),
        output=used.get("completion_tokens", 0),
        cached=details.get("cached_tokens") or 0,
    )


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


def _words_of_completions(body: dict[str, Any]) -> list[dict[str, Any]]:
    """An answer's tokens with their log-probabilities; empty when it does not tell them."""
    return (body["choices"][0].get("logprobs") or {}).get("content") or []


def _words_of_responses(body: dict[str, Any]) -> list[dict[str, Any]]:
    for item in body["output"]:
        for part in item["content"] if item["type"] == "message" else ():
            if part["type"] == "output_text":
                return part.get("logprobs") or []
    return []


def _first_tokens(words: list[dict[str, Any]]) -> TokenLogprobs | None:
    """The likeliest tokens in the first place; ValueError when these are no probabilities."""
    top = words[0].get("top_logprobs") if words else None
    if not top:
        return None
    said, *others = top
    # vLLM lists what it said before the others, however unlikely: it is there by chance
    listed_first = bool(others) and said["token"] == words[0]["token"]
    if listed_first and said["logprob"] < min(each["logprob"] for each in others):
        top = others
    found = tuple((str(each["token"]), float(each["logprob"])) for each in top)
    if not all(logprob <= ROUNDING for _, logprob in found):  # nan neither
        raise ValueError("its log-probabilities are above 0")
    if sum(math.exp(logprob) for _, logprob in found) > 1 + ROUNDING:
        raise ValueError("its probabilities add up to more than 1")
    return found


def our_errors() -> AbstractContextManager[None]:
    return explained(openai, lambda error, _: error.code in USED_UP)


def room_of(headers: Mapping[str, str]) -> Room:
    return room_left(headers, "x-ratelimit-remaining-{}", "x-ratelimit-reset-{}")
