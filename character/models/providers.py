"""From the name of a model behind an API to its endpoint: addresses and keys. No SDK is loaded yet.

Keys come from the environment, or from the system's keyring where `keyring` is installed, and go to
the SDK's client and nowhere else.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import urlsplit, urlunsplit

from character.errors import ModelError
from character.models.endpoint import Endpoint
from character.models.names import KINDS, split_name

MODEL = re.compile(r"[\w./:@+-]+")


@dataclass(frozen=True, slots=True)
class Provider:
    """Where the key and, if it is not the provider's own, the address come from."""

    key: str
    address: str


PROVIDERS = {
    "openai": Provider("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "anthropic": Provider("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
    "http": Provider("CHARACTER_SERVER_KEY", ""),
}


@dataclass(frozen=True, slots=True)
class Address:
    """A served model's name taken apart; `base` is empty for the provider's own address."""

    kind: str
    base: str
    model: str
    responses: bool = False
    scored: bool = False


def check_served(name: str) -> None:
    """Raise ModelError unless the name is whole and the key it needs is there."""
    address = address_of(name)
    if address.kind != "http" and not _key(address.kind):
        variable = PROVIDERS[address.kind].key
        raise ModelError(
            f"{name!r} needs a key. Put it into the environment:\n  export {variable}=...\nor into"
            f" the system's keyring (pip install keyring):\n  keyring set character {address.kind}"
        )


def address_of(name: str) -> Address:
    """Raises ModelError for what is no address."""
    kind, rest = split_name(name)
    if kind != "http":
        model, question, option = rest.partition("?")
        responses = kind == "openai" and option == "api=responses"
        if not MODEL.fullmatch(model) or (question and not responses):
            raise ModelError(f"{name!r} is not a model name. One is {KINDS[kind]!r}.")
        base = os.environ.get(PROVIDERS[kind].address, "").rstrip("/")
        if base:
            _check_url(base, PROVIDERS[kind].address)
        return Address(kind, base, model, responses)
    url, _, named = name.partition("#")
    _check_url(url, "the name")
    model, question, option = named.partition("?")
    if question and option != "score=vllm":
        raise ModelError(
            f"{name!r} ends in an option that there is not. The only one is ?score=vllm, for a vLLM"
            f" server that is to score replies: '{url}#{model}?score=vllm'."
        )
    if not MODEL.fullmatch(model):
        raise ModelError(
            f"{name!r} does not say which of the server's models it means. Add it after a #, for"
            f" example {KINDS['http']!r}."
        )
    return Address(kind, url.rstrip("/"), model, scored=bool(question))


def served_identity(name: str) -> str:
    """The name, and where it is served when that is not the provider's own address."""
    address = address_of(name)
    return f"{name} at {address.base}" if address.base and address.kind != "http" else name


def open_endpoint(name: str, connections: int) -> Endpoint:
    """An endpoint that is ready to be asked; the SDK is loaded here."""
    check_served(name)
    address = address_of(name)
    called, base = served_identity(name), address.base or None
    if address.kind == "anthropic":
        from character.models.anthropic_api import AnthropicEndpoint

        return AnthropicEndpoint(
            called, address.model, base_url=base, key=_key("anthropic"), connections=connections
        )
    if address.scored:
        from character.models.vllm_api import VLLMEndpoint

        return VLLMEndpoint(
            called, address.model, address.base, key=_key("http"), connections=connections
        )
    from character.models.openai_api import OpenAIEndpoint

    return OpenAIEndpoint(
        called,
        address.model,
        base_url=base,
        key=_key(address.kind),
        own=address.kind == "http",
        responses=address.responses,
        connections=connections,
    )


def _key(kind: str) -> str | None:
    if key := os.environ.get(PROVIDERS[kind].key, "").strip():
        return key
    if find_spec("keyring") is None:
        return None
    import keyring

    found: str | None = keyring.get_password("character", kind)
    return found


def _check_url(url: str, source: str) -> None:
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole:
        raise ModelError(
            f"{source} holds {url!r}, which is no http:// or https:// address. One is"
            " 'http://localhost:8000/v1'."
        )
    if parts.username or parts.password:
        bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        raise ModelError(
            f"{source} holds a password, which would be written into reports. Name {bare!r}, and"
            f" put the key into the environment: export {PROVIDERS['http'].key}=..."
        )
