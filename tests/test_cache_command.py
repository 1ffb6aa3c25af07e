"""`python -m character.cache`: look, find, prune."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from character.cache import main
from character.models.base import Message, Sampling, Usage
from character.models.cache import Entry, RequestCache, key_of, shared_cache
from character.models.endpoint import Answer, Call


def entry(model: str, asked: str, days: float = 0.0) -> Entry:
    call = Call((Message("user", asked),), Sampling())
    at = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
    return Entry(model, call, Answer("Yes.", "stop", Usage(5, 1), model), 0.1, 0.25, at)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RequestCache]:
    monkeypatch.setenv("CHARACTER_CACHE", str(tmp_path))
    shared_cache.cache_clear()
    opened = shared_cache()
    yield opened
    opened.close()
    shared_cache.cache_clear()


@pytest.fixture
def filled(cache: RequestCache) -> RequestCache:
    kept = [entry("openai:m", "new"), entry("openai:m", "old", 40), entry("anthropic:m", "other")]
    cache.put({key_of(e.model, e.call): e for e in kept})
    with cache._env.begin(write=True) as transaction:
        transaction.put(b"0" * 40, b"nonsense")
    return cache


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments, terminal_width=200)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_an_empty_cache_says_so(cache: RequestCache) -> None:
    result = call()
    assert result.exit_code == 0 and "None yet." in result.output


def test_a_summary_by_model(filled: RequestCache) -> None:
    lines = {line.split()[0]: line.split() for line in call().output.splitlines() if line.strip()}
    assert lines["openai:m"][1:4] == ["2", "0.0", "$0.50"]
    assert lines["anthropic:m"][1] == "1"
    assert lines["corrupt"][1] == "1"


def test_a_list_and_one_entry(filled: RequestCache) -> None:
    lines = call("list", "--model", "openai:m").output.splitlines()
    assert [line.split()[-1] for line in lines if "openai:m" in line] in (
        ["new", "old"], ["old", "new"],
    )  # fmt: skip
    assert sum("corrupt" in line for line in lines) == 1
    key = key_of("anthropic:m", entry("anthropic:m", "other").call)
    shown = json.loads(call("show", key[:12]).output)
    assert shown["conversation"] == [["user", "other"]]
    assert shown["answer"]["text"] == "Yes."


def test_an_unknown_key_is_told(filled: RequestCache) -> None:
    result = call("show", "nokey")
    assert result.exit_code == 2 and "0 keys start with 'nokey'" in result.output


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--days", "30"], {"new", "other", "corrupt"}),
        (["--model", "openai:m"], {"other", "corrupt"}),
        (["--model", "openai:m", "--days", "30"], {"new", "other", "corrupt"}),
        (["--corrupt"], {"new", "old", "other"}),
        (["--all"], set()),
    ],
)
def test_pruning(filled: RequestCache, arguments: list[str], left: set[str]) -> None:
    assert call("prune", *arguments).exit_code == 0
    found = {each.entry.asked if each.entry else "corrupt" for each in filled.listed()}
    assert found == left


def test_pruning_wants_to_be_told_what(filled: RequestCache) -> None:
    assert call("prune").exit_code == 2
    assert sum(1 for _ in filled.listed()) == 4
