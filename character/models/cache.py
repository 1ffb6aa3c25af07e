"""Answers already paid for: one store for all runs and processes, keyed by what decides an answer.

An LMDB file in the user's cache folder (set CHARACTER_CACHE to keep it elsewhere). Writes are
transactions on disk: after `put` returns, an answer survives a killed process or machine. Every
entry carries a checksum and says what was asked; one that fails it counts as absent.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Self

import lmdb

from character.errors import ResourceError
from character.models.base import Message, Sampling, Usage
from character.models.bundled import cache_folder
from character.models.endpoint import Answer, Call

FORMAT = 1
FOLDER = "requests"
CORRUPT = "corrupt"
CHECKSUM = 8  # bytes, in front of every entry
SMALLEST = 1 << 28  # bytes of address space; the file itself grows as it is filled


@dataclass(frozen=True, slots=True)
class Entry:
    """What was asked, what was answered, when, and what that cost (None: price unknown)."""

    model: str
    call: Call
    answer: Answer
    seconds: float
    dollars: float | None
    at: str

    @property
    def finished(self) -> bool:
        """It came to its end, and how long it is was told: else it serves its own limit only."""
        told = self.answer.usage.output > 0 or not self.answer.text
        return self.answer.finish != "length" and told

    @property
    def asked(self) -> str:
        """The last message, or the document that was continued."""
        return self.call.text or self.call.conversation[-1].content


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry with its key; entry None is a corrupt one."""

    key: str
    bytes: int
    entry: Entry | None


class RequestCache:
    """One folder's cache, which a process may open only once; processes share it freely."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        try:
            self._env = lmdb.open(str(folder), map_size=SMALLEST, max_readers=512)
        except lmdb.Error as error:
            raise ResourceError(
                f"The request cache in {folder} cannot be opened: {error}. Move that folder away,"
                " or keep another: CHARACTER_CACHE=/path/to/folder"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._env.close()

    def get(self, model: str, call: Call, key: str = "") -> Entry | None:
        """The answer this call would get, whatever limit it was once asked under.

        `key` saves working it out again.

        An answer that came to its end within the call's max_tokens serves; one that was cut off
        serves only a call with the same max_tokens.
        """
        finished = self._read(key or key_of(model, call))
        if finished and finished.answer.usage.output <= call.sampling.max_tokens:
            return finished
        return self._read(key_of(model, call, cut=True))

    def put(self, entries: Mapping[str, Entry]) -> None:
        """Keep answers by the key of their calls, all or none, on disk when this returns."""
        rows = [
            ((key if e.finished else key_of(e.model, e.call, cut=True)).encode(), _packed(e))
            for key, e in entries.items()
        ]

        def write(transaction: lmdb.Transaction) -> None:
            for key, value in rows:
                transaction.put(key, value)

        self._write(write)

    def listed(self) -> Iterator[Listed]:
        """All entries, corrupt ones too, in no telling order."""
        with self._reading() as transaction, transaction.cursor() as cursor:
            for key, value in cursor:
                yield Listed(bytes(key).decode(), len(value), _unpacked(bytes(value)))

    def remove(self, keys: Iterable[str]) -> None:
        found = list(keys)

        def write(transaction: lmdb.Transaction) -> None:
            for key in found:
                transaction.delete(key.encode())

        self._write(write)

    def _read(self, key: str) -> Entry | None:
        with self._reading() as transaction:
            value = transaction.get(key.encode())
        return None if value is None else _unpacked(bytes(value))

    def _reading(self) -> lmdb.Transaction:
        try:
            return self._env.begin()
        except lmdb.MapResizedError:  # another process made the file larger
            self._env.set_mapsize(0)
            return self._env.begin()

    def _write(self, write: Callable[[lmdb.Transaction], None]) -> None:
        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    write(transaction)
                return
            except lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()["map_size"])
            except lmdb.MapResizedError:
                self._env.set_mapsize(0)
            except lmdb.DiskError as error:
                raise ResourceError(
                    f"The request cache in {self.folder} cannot be written: {error}. Make room on"
                    " that disk, or keep another: CHARACTER_CACHE=/path/to/folder"
                ) from error


@dataclass(slots=True)
class Summary:
    """A model's entries together; dollars are those whose price was known."""

    entries: int = 0
    bytes: int = 0
    dollars: float = 0.0
    first: str = ""
    last: str = ""


def summary(listed: Iterable[Listed]) -> dict[str, Summary]:
    """By model, in alphabetical order; corrupt entries last, under `corrupt`."""
    models: dict[str, Summary] = defaultdict(Summary)
    for each in listed:
        found = models[each.entry.model if each.entry else CORRUPT]
        found.entries += 1
        found.bytes += each.bytes
        if each.entry:
            found.dollars += each.entry.dollars or 0.0
            found.first = min(found.first or each.entry.at, each.entry.at)
            found.last = max(found.last, each.entry.at)
    return dict(sorted(models.items(), key=lambda item: (item[0] == CORRUPT, item[0])))


def chosen(
    listed: Iterable[Listed], days: float | None, model: str, corrupt: bool
) -> Iterator[Listed]:
    """Entries older than so many days, of this model, or corrupt; each limit narrows the choice."""
    for each in listed:
        entry = each.entry
        if corrupt:
            wanted = entry is None
        elif entry is None:
            wanted = days is None and not model
        else:
            age = datetime.now(UTC) - datetime.fromisoformat(entry.at)
            wanted = (not model or entry.model == model) and (
                days is None or age > timedelta(days=days)
            )
        if wanted:
            yield each


def as_json(entry: Entry) -> str:
    return json.dumps(_content(entry), indent=2)


@cache
def shared_cache() -> RequestCache:
    """The cache of this user, open until the process ends: LMDB allows one opening a process."""
    return RequestCache(cache_folder() / FOLDER)


def key_of(model: str, call: Call, cut: bool = False) -> str:
    """40 hex digits over everything that decides the answer. A finished one is the same under any
    higher max_tokens, so that counts only for an answer that was cut off.
    """
    sampling = call.sampling.model_dump(exclude=set() if cut else {"max_tokens"})
    what = (FORMAT, model, _asked(call), sampling)
    text = json.dumps(what, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _asked(call: Call) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "conversation": [(message.role, message.content) for message in call.conversation],
        "text": call.text,
        "seed": call.seed,
        "schema": call.schema,
    }
    # left out where it is not asked for, so that older entries keep their keys
    if call.top:
        asked["top"] = call.top
    if call.reply is not None:
        asked |= {"reply": call.reply, "ended": call.ended}
    return asked


def _content(entry: Entry) -> dict[str, Any]:
    answer = entry.answer
    told: dict[str, Any] = {"text": answer.text, "finish": answer.finish, "model": answer.model}
    if answer.logprobs is not None:
        told["logprobs"] = answer.logprobs
    return _asked(entry.call) | {
        "model": entry.model,
        "sampling": entry.call.sampling.model_dump(),
        "answer": told,
        "usage": asdict(answer.usage),
        "seconds": entry.seconds,
        "dollars": entry.dollars,
        "at": entry.at,
    }


def _packed(entry: Entry) -> bytes:
    # JSON escapes what is no Unicode text (lone surrogates), so that it can be read back
    body = json.dumps(_content(entry), separators=(",", ":")).encode()
    return _checksum(body) + body


def _unpacked(value: bytes) -> Entry | None:
    body = value[CHECKSUM:]
    if value[:CHECKSUM] != _checksum(body):
        return None
    found = json.loads(body)
    call = Call(
        tuple(Message(role, content) for role, content in found["conversation"]),
        Sampling.model_validate(found["sampling"]),
        found["seed"],
        found["text"],
        found["schema"],
        found.get("top", 0),
        found.get("reply"),
        found.get("ended", True),
    )
    told = found["answer"]
    if (logprobs := told.pop("logprobs", None)) is not None:
        logprobs = tuple((token, logprob) for token, logprob in logprobs)
    answer = Answer(usage=Usage(**found["usage"]), logprobs=logprobs, **told)
    return Entry(found["model"], call, answer, found["seconds"], found["dollars"], found["at"])


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=CHECKSUM).digest()
