"""A float32 policy small enough to train in a second, and replies to train it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from character.rows import Reply

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerFast

    from character.models.local import LocalModel

SAID = (
    ("Why does bread rise?", "Yeast eats sugar and makes bubbles of gas. Do you bake?"),
    ("How do I keep tea hot?", "Fill the flask with boiling water first. How long is the walk?"),
    ("Which rivers run through Paris?", "The Seine. Have you been there?"),
    ("My cat sleeps all day.", "Cats do. How old is yours?"),
    ("The train leaves at seven.", "Set two alarms. Where does it go?"),
    ("Do the bulbs need water?", "Once. What do you plant?"),
)


@pytest.fixture
def said() -> list[tuple[str, Reply]]:
    """Queries with the replies to learn from."""
    return [
        (query, Reply(f"r{i}", f"q{i}", "steered", "asking", 0, i, "tiny", text, 9, True, ()))
        for i, (query, text) in enumerate(SAID)
    ]


@pytest.fixture
def base(tiny_folder: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> LocalModel:
    """The model that teaches, on a copy of its own, since a LocalModel rewires its attention."""
    from transformers import LlamaForCausalLM

    from character.models.local import LocalModel

    return LocalModel(LlamaForCausalLM.from_pretrained(tiny_folder), tiny_tokenizer, "tiny")


@pytest.fixture
def new_policy(tiny_folder: Path) -> Callable[..., PeftModel]:
    """Makes a policy that still equals the base model; the seed decides its adapter."""
    import torch
    from transformers import LlamaForCausalLM

    from character.training.config import LoraConfig
    from character.training.runner import add_adapter

    def make(seed: int = 0, dtype: torch.dtype = torch.float32) -> PeftModel:
        model = LlamaForCausalLM.from_pretrained(tiny_folder, dtype=dtype)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return add_adapter(model, LoraConfig(rank=4, alpha=8), "CAUSAL_LM")

    return make
