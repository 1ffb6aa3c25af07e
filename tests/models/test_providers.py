"""Models behind APIs: their names, addresses and keys."""

from __future__ import annotations

import subprocess
import sys

import pytest

from character.errors import ModelError
from character.models.loading import check_name
from character.models.providers import Address, address_of, open_endpoint, served_identity


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in ("OPENAI", "ANTHROPIC"):
        for what in ("API_KEY", "BASE_URL"):
            monkeypatch.delenv(f"{provider}_{what}", raising=False)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("openai:gpt-5-mini", Address("openai", "", "gpt-5-mini")),
        ("openai:gpt-5?api=responses", Address("openai", "", "gpt-5", responses=True)),
        ("openai:ft:gpt-5:acme::a1", Address("openai", "", "ft:gpt-5:acme::a1")),
        ("anthropic:claude-haiku-4-5", Address("anthropic", "", "claude-haiku-4-5")),
        (
            "http://localhost:8000/v1#meta/llama",
            Address("http", "http://localhost:8000/v1", "meta/llama"),
        ),
        ("https://h/v1/#llama3.2:1b", Address("http", "https://h/v1", "llama3.2:1b")),
        ("http://h/v1#a/b?score=vllm", Address("http", "http://h/v1", "a/b", scored=True)),
    ],
)
def test_a_name_is_taken_apart(name: str, address: Address) -> None:
    assert address_of(name) == address


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("openai:gpt 5", "is not a model name"),
        ("openai:gpt-5?api=assistants", "is not a model name"),
        ("anthropic:x?api=responses", "is not a model name"),
        ("http://localhost:8000/v1", "Add it after a #"),
        ("http://localhost:8000/v1#", "Add it after a #"),
        ("http://h/v1#x?score=llama", "The only one is \\?score=vllm"),
        ("http://h/v1#x?", "The only one is"),
        ("http://h/v1#?score=vllm", "Add it after a #"),
        ("http://#x", "no http:// or https:// address"),
        ("http://[::1#x", "no http:// or https:// address"),
    ],
)
def test_what_is_no_name_says_how_one_looks(name: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        address_of(name)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ModelError) as error:
        check_name("http://me:hunter2@host:8000/v1#x")
    assert "http://host:8000/v1" in str(error.value).replace("'", "")
    assert "export CHARACTER_SERVER_KEY" in str(error.value)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_missing_key_says_where_it_goes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = f"{kind.upper()}_API_KEY"
    with pytest.raises(ModelError, match=f"export {variable}="):
        check_name(f"{kind}:some-model")
    monkeypatch.setenv(variable, "  ")
    with pytest.raises(ModelError, match="needs a key"):
        check_name(f"{kind}:some-model")
    monkeypatch.setenv(variable, "canary")
    check_name(f"{kind}:some-model")


def test_a_server_needs_no_key() -> None:
    check_name("http://localhost:8000/v1#x")
    assert open_endpoint("http://localhost:8000/v1#x", 1).name == "http://localhost:8000/v1#x"


def test_a_provider_at_another_address_is_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert served_identity("openai:m") == "openai:m"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://proxy:1/v1/")
    assert served_identity("openai:m") == "openai:m at http://proxy:1/v1"
    assert served_identity("anthropic:m") == "anthropic:m"
    monkeypatch.setenv("OPENAI_BASE_URL", "ftp://proxy")
    with pytest.raises(ModelError, match="OPENAI_BASE_URL holds 'ftp://proxy'"):
        served_identity("openai:m")


@pytest.mark.parametrize("name", ["openai:m", "anthropic:m", "http://localhost:1/v1#m"])
def test_an_endpoint_opens_without_asking_anything(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    endpoint = open_endpoint(name, 4)
    assert endpoint.name == name
    assert endpoint.can_continue == name.startswith("http")
    assert endpoint.can_choose == (not name.startswith("anthropic"))


def test_names_are_checked_without_loading_an_sdk() -> None:
    code = (
        "import sys; from character.models.loading import check_name\n"
        "check_name('http://localhost:1/v1#m')\n"
        "print({'openai', 'anthropic', 'torch', 'httpx2'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
