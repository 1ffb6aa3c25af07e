"""A vLLM server that also scores given replies: http://HOST/v1#NAME?score=vllm.

OpenAI's protocol has no way to ask how likely a given reply is. vLLM adds two that make one: its
/tokenize applies the chat template, and its completions tell the log-probabilities of a prompt
given as tokens. So vLLM reads the prompt as it would in a chat, and no text is joined here.
"""

from __future__ import annotations

import re
from typing import Any

import httpx2

from character.models.endpoint import Answer, Call, CallError, Fault, Room
from character.models.http import read_json
from character.models.openai_api import OpenAIEndpoint, messages_of, our_errors, room_of, usage_of

# what a chat template puts behind this reply ends it
PROBE = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
SPECIAL = re.compile(r"<.+>|\[.+\]", re.DOTALL)  # </s>, <|im_end|>, <end_of_turn>
NO_VLLM = (
    "Is the model's name right, and is it vLLM that serves it? For other servers leave out"
    " ?score=vllm."
)


class VLLMEndpoint(OpenAIEndpoint):
    can_score = True

    def __init__(
        self,
        name: str,
        model: str,
        base_url: str,
        *,
        key: str | None = None,
        connections: int = 64,
    ) -> None:
        super().__init__(name, model, base_url=base_url, key=key, own=True, connections=connections)
        self._tokenize = base_url.removesuffix("/v1") + "/tokenize"  # it lies beside the API
        self._end: int | None = None

    async def ask(self, call: Call) -> Answer:
        if call.reply is None:
            return await super().ask(call)
        prompt = await self._tokens(messages=messages_of(call), add_generation_prompt=True)
        reply = await self._words(call.reply)
        if call.ended:
            reply.append(await self._ending())
        with our_errors():
            response = await self._client.completions.with_raw_response.create(
                model=self.model,
                prompt=[*prompt, *reply],
                max_tokens=1,  # it insists on one
                temperature=0.0,
                extra_body={"prompt_logprobs": 1},
            )
        return self._scored(read_json(response.content), reply, room_of(response.headers))

    async def _words(self, text: str) -> list[int]:
        """The tokens of a text by itself, which stands behind others."""
        return await self._tokens(prompt=text, add_special_tokens=False) if text else []

    async def _tokens(self, **asked: Any) -> list[int]:
        tokens: list[int] = (await self._tokenized(**asked))["tokens"]
        return tokens

    async def _tokenized(self, **asked: Any) -> dict[str, Any]:
        try:
            with our_errors():
                response = await self._client.post(
                    self._tokenize, cast_to=httpx2.Response, body={"model": self.model, **asked}
                )
        except CallError as error:
            if error.message.startswith("HTTP 404"):
                told = f"{self._tokenize} says {error.message} {NO_VLLM}"
                raise CallError(Fault.UNUSABLE, told) from None
            raise
        found = read_json(response.content)
        if not isinstance(found, dict) or not isinstance(found.get("tokens"), list):
            raise CallError(Fault.GARBLED, f"{self._tokenize} gives no tokens")
        return found

    async def _ending(self) -> int:
        """The token that the chat template puts behind an assistant's turn."""
        if self._end is None:
            said = await self._words(PROBE[-1]["content"])
            whole = await self._tokenized(
                messages=PROBE, add_generation_prompt=False, return_token_strs=True
            )
            ids, texts = whole["tokens"], whole.get("token_strs") or []
            starts = range(len(ids) - len(said), -1, -1)
            start = next((i for i in starts if ids[i : i + len(said)] == said), len(ids))
            behind = list(zip(ids, texts, strict=False))[start + len(said) :]
            self._end = next((i for i, text in behind if SPECIAL.fullmatch(text)), None)
        if self._end is None:
            told = "its chat template does not say which token ends a turn"
            raise CallError(Fault.UNUSABLE, told)
        return self._end

    def _scored(self, body: Any, reply: list[int], room: Room) -> Answer:
        try:
            told = body["choices"][0].get("prompt_logprobs")
            if told is None:
                raise CallError(Fault.UNUSABLE, f"it scores no prompt. {NO_VLLM}")
            places = told[len(told) - len(reply) :]
            found = [
                place[str(token)] for place, token in zip(places, reply, strict=True)
            ]  # the reply's own token is in every place, beside the likeliest one
            logprobs = tuple(
                (str(each.get("decoded_token") or ""), float(each["logprob"])) for each in found
            )
            model = str(body.get("model") or self.model)
            return Answer("", "stop", usage_of(body), model, room, logprobs)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise CallError(Fault.GARBLED, f"{type(error).__name__}: {error}") from None
