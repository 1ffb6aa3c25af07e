"""From a model name to a model that answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from character.errors import ModelError
from character.models.base import ChatModel, Message, Scorable
from character.models.budget import Budget
from character.models.bundled import quiet_transformers
from character.models.cache import RequestCache
from character.models.config import RequestsConfig
from character.models.folders import (
    Report,
    check_weights,
    is_adapter,
    log,
    model_folder,
    model_identity,
)
from character.models.names import has_weights, path_of, split_name
from character.models.prices import EXAMPLE, OWN, price_of
from character.models.providers import check_served, open_endpoint, served_identity
from character.models.served import ServedModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from character.models.local import LocalModel

LONGEST_CONTEXT = 4096  # tokens, generously; a sliding window at least this long does not slide
PROBE = Scorable(
    (Message("user", "Which river runs through Paris?"),), "It is the Seine, which is 777 km long."
)


@dataclass(frozen=True, slots=True)
class Serving:
    """What all models behind APIs share in one run."""

    config: RequestsConfig = field(default_factory=RequestsConfig)
    budget: Budget = field(default_factory=Budget)
    cache: RequestCache | None = None


def check_name(name: str) -> None:
    """Raise ModelError unless `load_model` may hope to load this; reads a few small files."""
    if has_weights(name):
        check_weights(name)
    else:
        check_served(name)


def check_trainable(name: str) -> None:
    """Raise ModelError unless a policy can be trained from this: a whole model, not an adapter."""
    check_weights(name)
    kind, rest = split_name(name)
    if kind == "local" and is_adapter(path_of(rest)):
        raise ModelError(
            f"{name!r} is an adapter, and a build trains a whole model. Name the merged one, for"
            f" example 'local:{rest}/merged'."
        )


def load_model(name: str, report: Report = log, serving: Serving | None = None) -> ChatModel:
    """The model that answers to this name, wherever it runs."""
    if has_weights(name):
        return load_local(name, report)
    return load_served(name, serving or Serving())


def load_served(name: str, serving: Serving) -> ServedModel:
    """A model behind an API, ready to be asked; ModelError when a cost limit has no price."""
    price = quote.price if (quote := price_of(name)) else None
    if serving.budget.cap is not None and price is None:
        raise ModelError(
            f"Nobody knows what {name!r} costs, so a cost limit cannot be held. Write its price"
            f" into {OWN}, for example\n{EXAMPLE}"
        )
    endpoint = open_endpoint(name, serving.config.concurrency)
    return ServedModel(endpoint, serving.config, serving.cache, serving.budget, price)


def load_local(name: str, report: Report = log) -> LocalModel:
    """A model with its weights here, fetched and converted first where that is needed.

    Its own `name` says what the model is, not where it lies: a digest of every byte that decides
    its answers. It leaves out the arithmetic (see `hardware`), which changes only rounding.
    """
    from character.models.checkpoint import open_checkpoint
    from character.models.local import LocalModel

    folder = model_folder(name, report)
    model, tokenizer = open_checkpoint(folder, report)
    _check_architecture(model, name)
    with quiet_transformers():
        chat = LocalModel(model, tokenizer, model_identity(name, report))
        _check_answers(chat, name)
    return chat


def identity_of(name: str, report: Report = log) -> str:
    """What decides the answers of the model with this name, for ids and reports."""
    if has_weights(name):
        return model_identity(name, report)
    return served_identity(name)


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
