"""A server on loopback that speaks OpenAI's and Anthropic's protocols, and misbehaves on demand.

It answers every request with the words it was asked (`echo: ...`), counts what it answered in
full as paid, and remembers every header it was sent. Faults are drawn by a seeded generator.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

STATUSES = {"500": 500, "502": 502, "503": 503, "529": 529, "408": 408}


@dataclass
class Server:
    """`faults` maps a fault to its share of requests:

    429 (no Retry-After), 429-after (Retry-After), 500, 502, 503, 529, 408, reset (connection closed
    in the middle of the body), loris (a byte now and then), half (half of the JSON), twice (the
    body delivered twice), long (a content length longer than the body), html (not JSON), null
    (JSON of another shape), 400, 401, redirect, filter, refusal, empty, silent (no usage).
    """

    faults: Mapping[str, float] = field(default_factory=dict)
    latency: float = 0.0
    capacity: int = 10**9
    """Requests at once; more are told 429."""
    seed: int = 0
    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    """How often each request arrived, by its last message and seed."""
    paid: Counter[str] = field(default_factory=Counter)
    """How often each was answered in full."""
    served: Counter[str] = field(default_factory=Counter)
    """How often each fault was served."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    say: Callable[[str], str] = "echo: {}".format
    """What to say to a message."""
    reply: str = ""
    """What to say to everything instead."""
    tokens: Mapping[str, float] = field(default_factory=dict)
    """Probabilities of first tokens, told to who asks; while empty, none are told."""
    polls: int = 2
    """How often a batch is looked at before it has ended."""
    item_faults: Mapping[str, float] = field(default_factory=dict)
    """Of requests in a batch: expired, absent, errored, invalid."""
    silent: bool = False
    """Answers in batches do not say what they used (chat completions)."""
    batches: list[list[str]] = field(default_factory=list)
    """The messages of every batch that was handed in."""
    most_at_once: int = 0
    remember: bool = True

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._now = 0
        self._files: dict[str, str] = {}
        self._out: dict[str, list[dict[str, Any]]] = {}
        self._looks: Counter[str] = Counter()

    async def handle(self, request: Request) -> Response:
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            return await self._answer(request)
        finally:
            self._now -= 1

    async def _answer(self, request: Request) -> Response:
        body = await request.json()
        if self.remember:
            self.bodies.append(body)
            self.headers.append(dict(request.headers))
        asked = _last_words(body)
        name = f"{asked}#{body.get('seed', '')}"
        self.asked[name] += 1
        fault = "429" if self._now > self.capacity else self._draw()
        if self.latency:
            await asyncio.sleep(self.latency)
        self.served[fault or "none"] += 1
        if fault in ("429", "429-after"):
            wait = {"retry-after": "0.05"} if fault == "429-after" else {}
            return JSONResponse({"error": {"message": "slow down"}}, 429, wait)
        if fault in STATUSES:
            return JSONResponse({"error": {"message": "oh dear"}}, STATUSES[fault])
        if fault == "400":
            return JSONResponse({"error": {"message": "this prompt is too long"}}, 400)
        if fault == "401":
            return JSONResponse({"error": {"message": "wrong key"}}, 401)
        if fault == "redirect":
            return Response(status_code=307, headers={"location": "http://elsewhere.invalid/v1"})
        if fault == "html":
            return Response("<html>gateway</html>", media_type="text/html")
        if fault == "null":
            return JSONResponse({"choices": [], "content": None, "output": None})
        content = json.dumps(self._content(request.url.path, body, asked, fault)).encode()
        if fault == "half":
            return Response(content[: len(content) // 2], media_type="application/json")
        if fault == "twice":
            return Response(content * 2, media_type="application/json")
        if fault in ("reset", "loris", "long"):
            return StreamingResponse(
                _badly(content, fault),
                media_type="application/json",
                headers={"content-length": str(len(content) + 10 * (fault == "long"))},
            )
        self.paid[name] += 1
        return Response(content, media_type="application/json")

    # --- batches ---

    async def upload(self, request: Request) -> Response:
        """OpenAI's: a multipart form, whose lines of JSON are all that matters here."""
        content = (await request.body()).decode()
        lines = [line for line in content.splitlines() if line.startswith('{"custom_id"')]
        name = f"file-{len(self._files)}"
        self._files[name] = "\n".join(lines)
        return JSONResponse({"id": name, "object": "file"})

    async def hand_in(self, request: Request) -> Response:
        if fault := self._draw():
            status = 401 if fault == "401" else 500
            return JSONResponse({"error": {"message": "oh dear"}}, status)
        body = await request.json()
        if "requests" in body:
            items = [
                {"custom_id": row["custom_id"], "url": "/v1/messages", "body": row["params"]}
                for row in body["requests"]
            ]
        else:
            items = [json.loads(line) for line in self._files[body["input_file_id"]].splitlines()]
        name = f"batch-{len(self._out)}"
        self._out[name] = items
        self.batches.append([_last_words(item["body"]) for item in items])
        return JSONResponse(self._batch(name))

    async def look(self, request: Request) -> Response:
        if self._draw():
            return JSONResponse({"error": {"message": "oh dear"}}, 500)
        self._looks[request.path_params["name"]] += 1
        return JSONResponse(self._batch(request.path_params["name"]))

    async def results(self, request: Request) -> Response:
        name = request.path_params["name"]
        rows = [self._item(item) for item in self._out[name]]
        self._random.shuffle(rows)
        return Response("\n".join(json.dumps(row) for row in rows if row))

    def _batch(self, name: str) -> dict[str, Any]:
        ended = self._looks[name] >= self.polls
        return {
            "id": name, "object": "batch", "type": "message_batch",
            "status": "completed" if ended else "in_progress",
            "processing_status": "ended" if ended else "in_progress",
            "output_file_id": name if ended else None,
            "results_url": f"{self.url}/messages/batches/{name}/results" if ended else None,
        }  # fmt: skip

    def _item(self, item: dict[str, Any]) -> dict[str, Any] | None:
        fault = self._draw(self.item_faults)
        identity, body = item["custom_id"], item["body"]
        asked = _last_words(body)
        if fault == "absent":
            return None
        if item["url"].endswith("/messages"):
            kinds = {"errored": "api_error", "invalid": "invalid_request_error"}
            if fault == "expired":
                return {"custom_id": identity, "result": {"type": "expired"}}
            if fault:
                error = {"type": kinds[fault], "message": "this prompt is too long"}
                result = {"type": "errored", "error": {"type": "error", "error": error}}
                return {"custom_id": identity, "result": result}
            self.paid[f"{asked}#"] += 1
            message = self._content(item["url"], body, asked, "")
            return {"custom_id": identity, "result": {"type": "succeeded", "message": message}}
        if fault == "expired":
            error = {"code": "batch_expired", "message": "too late"}
            return {"custom_id": identity, "response": None, "error": error}
        status = {"errored": 500, "invalid": 400, "": 200}[fault]
        said: dict[str, Any] = {"error": {"message": "this prompt is too long"}}
        if not fault:
            self.paid[f"{asked}#{body.get('seed', '')}"] += 1
            said = self._content(item["url"], body, asked, "silent" if self.silent else "")
        return {"custom_id": identity, "response": {"status_code": status, "body": said}}

    def _draw(self, faults: Mapping[str, float] | None = None) -> str:
        drawn = self._random.random()
        for fault, share in (self.faults if faults is None else faults).items():
            drawn -= share
            if drawn < 0:
                return fault
        return ""

    def _content(self, path: str, body: dict[str, Any], asked: str, fault: str) -> dict[str, Any]:
        text = "" if fault == "empty" else self.reply or self.say(asked)
        words, limit = len(text.split()), _limit(body)
        cut = words > limit
        if cut:
            text, words = " ".join(text.split()[:limit]), limit
        used = 10 + len(asked.split())
        if path.endswith("/messages"):
            stop = "refusal" if fault == "refusal" else "max_tokens" if cut else "end_turn"
            usage = {"input_tokens": used, "output_tokens": words, "cache_read_input_tokens": 4}
            return {
                "id": "m", "type": "message", "role": "assistant", "model": "claude-test-1",
                "content": [{"type": "text", "text": text}], "stop_reason": stop,
                "stop_sequence": None, "usage": usage,
            }  # fmt: skip
        if path.endswith("/responses"):
            part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": []}
            if "top_logprobs" in body:
                part["logprobs"] = self._logprobs(body)
            if fault == "refusal":
                part = {"type": "refusal", "refusal": "I would rather not."}
            return {
                "id": "r", "object": "response", "model": "gpt-test-1",
                "status": "incomplete" if cut else "completed",
                "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
                "output": [{"type": "message", "role": "assistant", "content": [part]}],
                "usage": {"input_tokens": used, "output_tokens": words},
            }  # fmt: skip
        usage = {
            "prompt_tokens": used, "completion_tokens": words, "total_tokens": used + words,
            "prompt_tokens_details": {"cached_tokens": 4},
        }  # fmt: skip
        message = {"role": "assistant", "content": text}
        if fault == "refusal":
            message = {"role": "assistant", "content": None, "refusal": "I would rather not."}
        finish = "content_filter" if fault == "filter" else "length" if cut else "stop"
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "message": message}
        if body.get("logprobs"):
            told = [] if fault in ("empty", "refusal", "filter") else self._logprobs(body)
            choice["logprobs"] = {"content": told, "refusal": None} if told else None
        if "prompt" in body:
            choice = {"index": 0, "finish_reason": finish, "text": text}
        answer = {"id": "c", "object": "chat.completion", "model": "gpt-test-1"}
        return answer | {"choices": [choice]} | ({} if fault == "silent" else {"usage": usage})

    def _logprobs(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Of the first token alone, the likeliest ones first, as many as were asked for."""
        if not self.tokens:
            return []
        likeliest = sorted(self.tokens.items(), key=lambda pair: -pair[1])
        top = [
            {"token": token, "logprob": math.log(p), "bytes": list(token.encode())}
            for token, p in likeliest[: body["top_logprobs"]]
        ]
        return [top[0] | {"top_logprobs": top}]


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Serve with these faults, at `server.url`."""
    paths = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
    routes = [Route(path, server.handle, methods=["POST"]) for path in paths]
    routes.append(Route("/v1/files", server.upload, methods=["POST"]))
    routes.append(Route("/v1/files/{name}/content", server.results))
    for batches in ("/v1/batches", "/v1/messages/batches"):
        routes.append(Route(batches, server.hand_in, methods=["POST"]))
        routes.append(Route(batches + "/{name}", server.look))
        routes.append(Route(batches + "/{name}/results", server.results))
    with running(Starlette(routes=routes)) as url:
        server.url = f"{url}/v1"
        yield server


@contextmanager
def running(app: Starlette) -> Iterator[str]:
    """Serve an application on a free port of loopback, from a thread of its own; its address."""
    config = uvicorn.Config(app, port=0, log_level="critical", access_log=False, lifespan="off")
    served = uvicorn.Server(config)
    thread = threading.Thread(target=served.run, daemon=True)
    thread.start()
    while not served.started:
        threading.Event().wait(0.01)
    port = served.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        served.should_exit = True
        served.force_exit = True
        thread.join(timeout=10)


async def _badly(content: bytes, fault: str) -> AsyncIterator[bytes]:
    if fault == "loris":
        for at in range(len(content)):
            yield content[at : at + 1]
            await asyncio.sleep(0.05)
        return
    if fault == "reset":
        yield content[: len(content) // 2]
        raise ConnectionResetError("on purpose")
    yield content


def _last_words(body: dict[str, Any]) -> str:
    if "prompt" in body:
        return str(body["prompt"])
    content = (body.get("messages") or body["input"])[-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _limit(body: dict[str, Any]) -> int:
    for key in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        if key in body:
            return int(body[key])
    return 10**9
