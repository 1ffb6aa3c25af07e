"""The request cache: what decides a key, what serves a call, and what survives."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from character.errors import ResourceError
from character.models.base import FinishReason, Message, Sampling, Usage
from character.models.cache import CHECKSUM, Entry, RequestCache, key_of
from character.models.endpoint import Answer, Call

CALL = Call((Message("user", "Why does bread rise?"),), Sampling(max_tokens=10))


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[RequestCache]:
    with RequestCache(tmp_path / "cache") as opened:
        yield opened


def entry(
    text: str = "Yeast.", tokens: int = 2, finish: FinishReason = "stop", call: Call = CALL
) -> Entry:
    answer = Answer(text, finish, Usage(7, tokens, 3, 1), "m-2026-01-01")
    return Entry("m", call, answer, 0.5, 0.001, "2026-11-20T10:00:00+00:00")


def keep(cache: RequestCache, *entries: Entry) -> None:
    cache.put({key_of(e.model, e.call): e for e in entries})


def limited(max_tokens: int) -> Call:
    return replace(CALL, sampling=Sampling(max_tokens=max_tokens))


def test_an_answer_comes_back_whole(cache: RequestCache) -> None:
    keep(cache, entry())
    assert cache.get("m", CALL) == entry()
    assert cache.get("another", CALL) is None


@pytest.mark.parametrize(
    "change",
    [
        {"conversation": (Message("user", "Why?"),)},
        {"conversation": (Message("system", "Why does bread rise?"),)},
        {"seed": 1},
        {"text": "Once upon a time"},
        {"schema": {"type": "object"}},
        {"top": 20},
        {"reply": ""},
        {"sampling": Sampling(max_tokens=10, temperature=0.1)},
        {"sampling": Sampling(max_tokens=10, stop=("\n",))},
    ],
)
def test_everything_that_decides_an_answer_is_in_its_key(change: dict[str, Any]) -> None:
    assert key_of("m", replace(CALL, **change)) != key_of("m", CALL)


def test_the_key_joins_nothing_up() -> None:
    one = replace(CALL, conversation=(Message("user", "a"), Message("user", "b")))
    other = replace(CALL, conversation=(Message("user", 'a","b'),))
    assert key_of("m", one) != key_of("m", other)


def test_a_key_stays_what_it_was() -> None:
    """Answers that were paid for are found by these; from the first release on."""
    assert key_of("m", CALL) == "8abb89fd9680541a9b0681399b0aa3b862fb590e"
    assert key_of("m", CALL, cut=True) == "d35131406f06b0bd817934b303fa3b93ff80f7a2"


def test_log_probabilities_come_back_exactly(cache: RequestCache) -> None:
    asked = replace(CALL, top=20)
    logprobs = (("A", -0.1), (" \ud83d", -1e-17), ("B", float("-inf")))
    told = entry("A", 1, call=asked)
    told = replace(told, answer=replace(told.answer, logprobs=logprobs))
    keep(cache, told)
    assert cache.get("m", asked) == told
    assert cache.get("m", CALL) is None


def test_a_score_of_a_reply_comes_back_exactly(cache: RequestCache) -> None:
    for ended in (True, False):
        asked = replace(CALL, reply="Yeast.", ended=ended)
        told = entry("", 1, call=asked)
        told = replace(told, answer=replace(told.answer, logprobs=(("Ye", -0.25), ("", -1.5))))
        keep(cache, told)
        assert cache.get("m", asked) == told
    assert cache.get("m", replace(CALL, reply="Yeast")) is None


def test_an_entry_from_before_log_probabilities_is_read(cache: RequestCache) -> None:
    body = (
        b'{"conversation":[["user","Why does bread rise?"]],"text":"","seed":0,"schema":null,'
        b'"model":"m","sampling":{"max_tokens":10,"temperature":0.8,"top_k":50,"top_p":0.95,'
        b'"stop":[]},"answer":{"text":"Yeast.","finish":"stop","model":"m-2026-01-01"},'
        b'"usage":{"input":7,"output":2,"cached":3,"written":1},"seconds":0.5,"dollars":0.001,'
        b'"at":"2026-11-20T10:00:00+00:00"}'
    )
    checksum = hashlib.blake2b(body, digest_size=CHECKSUM).digest()
    with cache._env.begin(write=True) as transaction:
        transaction.put(key_of("m", CALL).encode(), checksum + body)
    assert cache.get("m", CALL) == entry()
    keep(cache, entry())  # and it is written as it was
    with cache._env.begin() as transaction:
        assert transaction.get(key_of("m", CALL).encode()) == checksum + body


def test_a_higher_limit_reuses_what_had_finished(cache: RequestCache) -> None:
    keep(cache, entry(tokens=4))
    assert cache.get("m", limited(500)) == entry(tokens=4)
    assert cache.get("m", limited(4)) == entry(tokens=4)
    assert cache.get("m", limited(3)) is None  # it would have been cut off


def test_what_was_cut_off_serves_its_own_limit_only(cache: RequestCache) -> None:
    cut = entry("Yea", 10, "length")
    keep(cache, cut)
    assert cache.get("m", CALL) == cut
    assert cache.get("m", limited(20)) is None
    assert cache.get("m", limited(5)) is None
    longer = entry("Yeast makes gas.", 15, call=limited(20))
    keep(cache, longer)
    assert cache.get("m", CALL) == cut  # the run with the lower limit still finds its own
    assert cache.get("m", limited(20)) == longer


def test_an_answer_of_unknown_length_serves_its_own_limit_only(cache: RequestCache) -> None:
    untold = entry("Yeast makes gas.", tokens=0)
    keep(cache, untold)
    assert cache.get("m", CALL) == untold
    assert cache.get("m", limited(2)) is None
    empty = entry("", tokens=0, call=replace(CALL, seed=1))
    keep(cache, empty)
    assert cache.get("m", replace(limited(2), seed=1)) == empty


def test_a_corrupt_entry_is_absent_listed_and_replaced(cache: RequestCache) -> None:
    keep(cache, entry())
    key = key_of("m", CALL)
    with cache._env.begin(write=True) as transaction:
        body = bytes(transaction.get(key.encode()) or b"")
        transaction.put(key.encode(), body[:-5] + b"XXXXX")
    assert cache.get("m", CALL) is None
    (listed,) = cache.listed()
    assert (listed.key, listed.entry) == (key, None)
    keep(cache, entry())
    assert cache.get("m", CALL) == entry()


@pytest.mark.parametrize("value", [b"", b"\0" * (CHECKSUM - 1), b"\0" * 100])
def test_any_bytes_are_a_corrupt_entry(cache: RequestCache, value: bytes) -> None:
    with cache._env.begin(write=True) as transaction:
        transaction.put(key_of("m", CALL).encode(), value)
    assert cache.get("m", CALL) is None


def test_entries_are_removed_by_key(cache: RequestCache) -> None:
    other = replace(CALL, seed=1)
    keep(cache, entry(), entry(call=other))
    cache.remove([key_of("m", CALL), "not there"])
    assert [listed.entry for listed in cache.listed()] == [entry(call=other)]


def test_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("character.models.cache.SMALLEST", 1 << 17)
    with RequestCache(tmp_path) as small, RequestCache(tmp_path / "x"):
        for seed in range(200):
            keep(small, entry("word " * 1000, call=replace(CALL, seed=seed)))
        assert sum(1 for _ in small.listed()) == 200


def test_two_processes_write_one_cache_and_see_it_grow(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from character.models import cache as c\n"
        "from character.models.base import *; from character.models.endpoint import *\n"
        "c.SMALLEST = 1 << 17\n"
        "with c.RequestCache(Path(sys.argv[1])) as cache:\n"
        "    for seed in range(int(sys.argv[2]), int(sys.argv[2]) + 150):\n"
        "        call = Call((Message('user', 'hi'),), Sampling(), seed)\n"
        "        answer = Answer('word ' * 500, 'stop', Usage(1, 2), 'm')\n"
        "        entry = c.Entry('m', call, answer, 0.1, None, c.now())\n"
        "        cache.put({c.key_of('m', call): entry})\n"
        "        assert cache.get('m', call) == entry\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(first)])
        for first in (0, 1000)
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    with RequestCache(tmp_path) as cache:
        assert sum(listed.entry is not None for listed in cache.listed()) == 300


def test_a_file_that_is_no_cache_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"this is not a database" * 1000)
    with pytest.raises(ResourceError, match="CHARACTER_CACHE="):
        RequestCache(tmp_path)


def test_a_full_disk_says_what_to_do(cache: RequestCache, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def begin(self, write: bool) -> None:
            raise lmdb.DiskError("No space left on device")

        def close(self) -> None: ...

    monkeypatch.setattr(cache, "_env", Full())
    with pytest.raises(ResourceError, match="No space left"):
        keep(cache, entry())


@given(st.text(), st.text(), st.integers(0, 2**40))
def test_any_text_comes_back(
    tmp_path_factory: pytest.TempPathFactory, asked: str, said: str, seed: int
) -> None:
    call = Call((Message("user", asked),), Sampling(), seed)
    with RequestCache(tmp_path_factory.getbasetemp() / "any") as cache:
        keep(cache, entry(said, call=call))
        assert cache.get("m", call) == entry(said, call=call)


def test_a_lone_surrogate_is_kept(cache: RequestCache) -> None:
    odd = replace(CALL, conversation=(Message("user", "\ud800"),))
    keep(cache, entry("\udfff", call=odd))
    found = cache.get("m", odd)
    assert found is not None and found.answer.text == "\udfff"
    assert json.dumps(found.answer.text) == '"\\udfff"'
