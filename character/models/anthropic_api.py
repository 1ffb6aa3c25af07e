"""Anthropic's Messages API: anthropic:NAME.

No sampling parameters are sent, because the API refuses them; replies to one conversation differ
by chance alone. The shared start of conversations is marked for the provider's prompt cache.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import anthropic

from character.models.base import FinishReason, Usage
from character.models.endpoint import Answer, Call, CallError, Fault, Room, stopped
from character.models.http import explained, http_client, read_json, room_left

FINISH: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}
USED_UP = "credit balance"  # in the message of a 400
BATCH_FAULTS = {
    "invalid_request_error": Fault.REFUSED,
    "authentication_error": Fault.UNUSABLE,
    "permission_error": Fault.UNUSABLE,
    "not_found_error": Fault.UNUSABLE,
    "rate_limit_error": Fault.RATE_LIMITED,
    "overloaded_error": Fault.OVERLOADED,
}
CACHED = {"type": "ephemeral"}


class AnthropicEndpoint:
    can_score = False
    can_continue = False
    can_structure = True
    can_choose = False
    least_tokens = 1
    can_batch = True
    batch_size = 100_000
    thinking = 0

    def __init__(
        self,
        name: str,
        model: str,
        *,
        base_url: str | None = None,
        key: str | None = None,
        connections: int = 64,
    ) -> None:
        self.name, self.model = name, model
        self._client = anthropic.AsyncAnthropic(
            api_key=key,
            base_url=base_url,
            max_retries=0,  # ours are around this
            timeout=None,  # so is the time limit
            http_client=http_client(connections),
        )

    async def close(self) -> None:
        await self._client.close()

    async def ask(self, call: Call) -> Answer:
        with _explained():
            response = await self._client.messages.with_raw_response.create(**self._arguments(call))
        body = read_json(response.http_response.content)
        return self._answer(body, call, _room(response.headers))

    # --- batches ---

    async def submit(self, calls: Mapping[str, Call]) -> str:
        requests: list[Any] = [
            {"custom_id": key, "params": self._arguments(call)} for key, call in calls.items()
        ]
        with _explained():
            batch = await self._client.messages.batches.create(requests=requests)
        return batch.id

    async def ended(self, batch: str) -> bool:
        with _explained():
            found = await self._client.messages.batches.retrieve(batch)
        return found.processing_status == "ended"

    async def results(
        self, batch: str, calls: Mapping[str, Call]
    ) -> AsyncIterator[tuple[str, Answer | CallError]]:
        with _explained():
            async for row in await self._client.messages.batches.results(batch):
                if (call := calls.get(row.custom_id)) is not None:
                    yield row.custom_id, self._result(row.result.to_dict(), call)

    def _result(self, result: Mapping[str, Any], call: Call) -> Answer | CallError:
        match result["type"]:
            case "succeeded":
                try:
                    return self._answer(result["message"], call, Room())
                except CallError as error:
                    return error
            case "errored":
                told = result["error"]["error"]
                fault = BATCH_FAULTS.get(told["type"], Fault.SERVER)
                return CallError(fault, f"{told['type']}: {told['message']}")
            case other:
                return CallError(Fault.OVERLOADED, f"the batch {other} before its turn came")

    def _answer(self, body: Any, call: Call, room: Room) -> Answer:
        try:
            text = "".join(part["text"] for part in body["content"] if part["type"] == "text")
            finish = FINISH[body["stop_reason"]]
            usage = _usage(body["usage"])
        except (LookupError, TypeError, AttributeError) as error:
            raise CallError(Fault.GARBLED, f"{type(error).__name__}: {error}") from None
        text, finish = stopped(text, finish, call.sampling.stop)
        return Answer(text, finish, usage, str(body.get("model") or self.model), room)

    def _arguments(self, call: Call) -> dict[str, Any]:
        """The system prompt and all turns but the last are marked as a prefix worth caching."""
        system = [m.content for m in call.conversation if m.role == "system"]
        turns = [m for m in call.conversation if m.role != "system"]
        messages: list[dict[str, Any]] = [{"role": m.role, "content": m.content} for m in turns]
        if len(messages) > 1:
            shared = messages[-2]
            shared["content"] = [_cached(shared["content"])]
        arguments: dict[str, Any] = {
            "model": self.model,
            "max_tokens": call.sampling.max_tokens,
            "messages": messages,
        }
        if system:
            block = "\n\n".join(system)
            arguments["system"] = [_cached(block)] if len(messages) == 1 else block
        # the API refuses stop sequences of white space alone
        if visible := [stop for stop in call.sampling.stop if stop.strip()]:
            arguments["stop_sequences"] = visible
        if call.schema is not None:
            arguments["output_config"] = {"format": {"type": "json_schema", "schema": call.schema}}
        return arguments


def _cached(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "cache_control": CACHED}


def _usage(used: Mapping[str, Any]) -> Usage:
    """Anthropic counts cached tokens beside the input, we count them in it."""
    read = used.get("cache_read_input_tokens") or 0
    written = used.get("cache_creation_input_tokens") or 0
    return Usage(
        input=used["input_tokens"] + read + written,
        output=used["output_tokens"],
        cached=read,
        written=written,
    )


def _explained() -> AbstractContextManager[None]:
    return explained(anthropic, lambda error, told: error.status_code == 400 and USED_UP in told)


def _room(headers: Mapping[str, str]) -> Room:
    limits = "anthropic-ratelimit-{}-remaining", "anthropic-ratelimit-{}-reset"
    return room_left(headers, *limits)
