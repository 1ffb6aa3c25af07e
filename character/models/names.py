"""What a model name says: its kind, and what follows it.

bundled:smollm2-135m      fetched once from the package index (bundled.py)
local:PATH_OR_HUB_ID      a folder of safetensors, a PEFT adapter folder, or a Hub id
openai:NAME               OpenAI's API, with the key in OPENAI_API_KEY
anthropic:NAME            Anthropic's API, with the key in ANTHROPIC_API_KEY
http://HOST/v1#NAME       a server that speaks OpenAI's protocol: vLLM, llama.cpp, Ollama, SGLang
http://HOST/v1#NAME?score=vllm    a vLLM server that also scores given replies
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from character.errors import ModelError
from character.models.bundled import BUNDLED

KINDS = {  # each with an example to follow
    "bundled": "bundled:smollm2-135m",
    "local": "local:./my-model or local:HuggingFaceTB/SmolLM2-360M-Instruct",
    "openai": "openai:gpt-5-mini",
    "anthropic": "anthropic:claude-haiku-4-5",
    "http": "http://localhost:8000/v1#my-model",
}
BUNDLED_DEFAULT = "bundled:smollm2-135m"  # what everything runs on until told otherwise
WITH_WEIGHTS = ("bundled", "local")

HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")


def split_name(name: str) -> tuple[str, str]:
    """The kind of a model name and what follows it; http names stay whole."""
    kind, colon, rest = name.partition(":")
    if kind in ("http", "https"):
        return "http", name
    if kind in KINDS and colon and rest:
        return kind, rest
    examples = "\n".join(f"  {example}" for example in KINDS.values())
    raise ModelError(
        f"{name!r} is not a model name.{_guess(name, kind)} A name is one of\n{examples}"
    )


def has_weights(name: str) -> bool:
    """Whether the model is opened here, and not asked over the network."""
    return split_name(name)[0] in WITH_WEIGHTS


def can_continue(name: str) -> bool:
    """Whether the model goes on with a document, or only answers in a conversation."""
    return split_name(name)[0] not in ("openai", "anthropic")


def _guess(name: str, kind: str) -> str:
    """What the user may have meant, from the most telling sign to the least."""
    if name in BUNDLED:
        meant = f"bundled:{name}"
    elif name and (path_of(name).is_dir() or HUB_ID.fullmatch(name)):
        meant = f"local:{name}"
    elif close := get_close_matches(kind.lower(), KINDS, n=1):
        meant = f"{close[0]}{name[len(kind) :]}"
    else:
        close = get_close_matches(name, BUNDLED, n=1)
        meant = f"bundled:{close[0]}" if close else ""
    return f" Did you mean {meant!r}?" if meant and meant != name else ""


def path_of(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~nobody
        return Path(text)


def is_hub_id(text: str) -> bool:
    """`owner/model`, where nothing suggests a path: no such folder, and no folder `owner`."""
    path = path_of(text)
    return bool(HUB_ID.fullmatch(text)) and not path.exists() and not path.parent.is_dir()
