"""What HTTP endpoints share: connections that keep a key to themselves, statuses, waiting times."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2

from character.models.endpoint import CallError, Fault, Room

DURATION = re.compile(r"([\d.]+)(ms|s|m|h|d)")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST_MESSAGE = 300  # characters of an error message


def http_client(connections: int) -> httpx2.AsyncClient:
    """Follows no redirect: a key goes to the host it was given for, and to no other."""
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx2.AsyncClient(follow_redirects=False, timeout=None, limits=limits)


def fault_of(status: int) -> Fault:
    match status:
        case 429:
            return Fault.RATE_LIMITED
        case 503 | 529:
            return Fault.OVERLOADED
        case 408 | 409 | 425:
            return Fault.SERVER
        case 401 | 402 | 403 | 404:
            return Fault.UNUSABLE
        case _ if status >= 500:
            return Fault.SERVER
        case _ if 300 <= status < 400:
            return Fault.UNUSABLE
        case _:
            return Fault.REFUSED


@contextmanager
def explained(sdk: Any, used_up: Callable[[Any, str], bool]) -> Iterator[None]:
    """Turn an SDK's errors into ours. openai and anthropic name them alike; `used_up` tells from an
    error and its words that no further request will be answered.
    """
    try:
        yield
    except sdk.APIStatusError as error:
        message = error_message(error.status_code, error.body, error.response)
        if used_up(error, message):
            raise CallError(Fault.UNUSABLE, message) from None
        wait = retry_after(error.response.headers)
        raise CallError(fault_of(error.status_code), message, wait) from None
    except sdk.APIConnectionError as error:
        raise CallError(Fault.CONNECTION, str(error.__cause__ or error)) from None


def read_json(content: bytes | str) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise CallError(Fault.GARBLED, f"{type(error).__name__}: {error}") from None


def room_left(headers: Mapping[str, str], remaining: str, reset: str) -> Room:
    """What the rate-limit headers say is left, by the names they have for requests and tokens; of
    two resets the later one.
    """
    left = [whole(headers.get(remaining.format(what))) for what in ("requests", "tokens")]
    if left == [None, None]:
        return Room()
    resets = (headers.get(reset.format(what), "") for what in ("requests", "tokens"))
    return Room(left[0], left[1], max(map(seconds_left, resets)))


def error_message(status: int, body: object, response: httpx2.Response | None = None) -> str:
    """The server's own words, shortened; for a redirect, where to."""
    if response is not None and 300 <= status < 400:
        to = urlsplit(response.headers.get("location", ""))
        return (
            f"HTTP {status}: the server sends elsewhere, to {to.scheme}://{to.netloc}{to.path}."
            " Redirects are not followed, so that a key stays with its host: name that address."
        )
    said: Any = body
    while isinstance(said, Mapping):
        said = said.get("error") or said.get("message")
    words = " ".join(str(said or (response.text if response else "")).split())
    return f"HTTP {status}: {words[:LONGEST_MESSAGE]}"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: Retry-After-Ms, or Retry-After (RFC 9110, 10.2.3)."""
    with suppress(ValueError):
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
    value = headers.get("retry-after")
    if not value:
        return None
    with suppress(ValueError):
        return max(0.0, float(value))
    with suppress(ValueError):
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    return None


def seconds_left(reset: str) -> float:
    """Until a reset given as a duration (6m0s, 20ms) or as a time (RFC 3339); 0 when unreadable."""
    parts = DURATION.findall(reset)
    if parts and "".join(number + unit for number, unit in parts) == reset:
        with suppress(ValueError):
            return sum(float(number) * SECONDS[unit] for number, unit in parts)
    with suppress(ValueError, TypeError):
        return max(0.0, (datetime.fromisoformat(reset) - datetime.now(UTC)).total_seconds())
    return 0.0


def whole(number: str | None) -> int | None:
    """A count from a header; None when there is none, or something else."""
    return int(number) if number and number.isdigit() else None
