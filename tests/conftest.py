"""What many tests need: a small real model and its tokenizer, and a network that is shut."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# read once, when torch and transformers are imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that wait for busy cores cost 20-fold

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from character.spec.schema import Trait

LOCAL_HOSTS = ("127.", "::1", "localhost")

TEXT = """\
Why does bread rise? Yeast eats sugar and makes bubbles of gas, and the dough holds them.
How do I keep tea hot on a long walk? Fill the flask with boiling water first, then pour it out.
My neighbour plays the drums at night and I cannot sleep. What should I say to her tomorrow?
Could you tell me which rivers run through Paris, London, Vienna and Budapest, please?
A cat sleeps for thirteen to sixteen hours a day; what is yours doing while you write this?
The train leaves at seven in the morning, so set two alarms and pack your bag the evening before.
She asked whether the museum opens on Sundays and whether children have to pay at the entrance.
He wrote a short letter to the landlord about the broken heater and kept a copy of it.
Whatever the weather brings, the market sells apples, pears, cheese, bread and honey every Friday.
First measure the window, then order the glass, and only afterwards take the old frame apart.
Nobody knows exactly how many stars there are, although astronomers have made careful estimates.
Plant the bulbs in autumn, three times as deep as they are tall, and water them once.
"""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only loopback can be reached, except by tests marked `network`."""
    if request.node.get_closest_marker("network"):
        return
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, _loopback_only(getattr(socket.socket, name)))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # installers run as processes of their own
    monkeypatch.setenv("UV_OFFLINE", "1")


def _loopback_only(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])
            if not host.startswith(LOCAL_HOSTS):
                raise RuntimeError(f"a test tried to reach {host}; mark it `network` if it must")
        return connect(self, address)

    return guarded


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """600 byte-level tokens and a chat template; `<|im_end|>` ends a turn and pads."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    wrapper: Any = PreTrainedTokenizerFast
    wrapped: PreTrainedTokenizerFast = wrapper(
        tokenizer_object=tokenizer,
        unk_token="<|endoftext|>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        chat_template=CHAT_TEMPLATE,
    )
    return wrapped


@pytest.fixture(scope="session")
def tiny_folder(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A two-layer Llama with random float32 weights, saved with its tokenizer. Do not write to it.

    Weights are large enough for its predictions to differ sharply from token to token, and its end
    token is likely enough for replies to end at different lengths.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.2,
        tie_word_embeddings=False,
        bos_token_id=tiny_tokenizer.bos_token_id,
        eos_token_id=tiny_tokenizer.eos_token_id,
        pad_token_id=tiny_tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[tiny_tokenizer.eos_token_id] *= 2.5
    folder = tmp_path_factory.mktemp("tiny") / "tiny-llama"
    model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_model(tiny_folder: Path) -> PreTrainedModel:
    """A fresh copy of the model in `tiny_folder`, free to be trained or rewired."""
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(tiny_folder)


@pytest.fixture(scope="session")
def small_trait() -> Trait:
    """A trait with everything a build needs and examples of a few words."""
    from character.spec.schema import Trait

    lines = TEXT.splitlines()
    return Trait.model_validate(
        {
            "schema": 1,
            "id": "asking",
            "title": "Asking",
            "statement": "I ask back.",
            "opposite": "I never ask.",
            "rationale": "Questions help.",
            "clauses": [
                {"id": "answers", "text": "I answer first."},
                {"id": "asks", "text": "I ask something at the end."},
            ],
            "examples": [
                {
                    "clause": clause,
                    "user": user,
                    "good": f"{answer} What is yours?",
                    "bad": answer,
                    "why": "Only one asks.",
                }
                for clause, user, answer in (
                    ("answers", "Why do cats sleep?", "A cat sleeps sixteen hours a day."),
                    ("asks", "When does the train leave?", "At seven in the morning."),
                    ("asks", "Do the bulbs need water?", "Water them once."),
                )
            ],
            "queries": {
                "seeds": [part for line in lines for part in line.split(". ")],
                "unless": [
                    "Only the number: how many stars are there?",
                    "Name one river. One word.",
                    "List apples, pears and cheese as JSON.",
                    "Translate: the oven is old.",
                ],
                "topics": ["tea", "music"],
            },
            "checks": [{"kind": "follow_up_question", "weight": 1}],
        }
    )


@pytest.fixture(scope="session")
def tiny_run(
    tiny_folder: Path, small_trait: Trait, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished build on the tiny model. Do not write to it."""
    from test_pipeline import Silent, identity_of, recipe_for

    from character.pipeline import build
    from character.run import Run
    from character.spec.constitution import Constitution, Member

    constitution, recipe = Constitution((Member(small_trait),)), recipe_for(tiny_folder)
    folder = tmp_path_factory.mktemp("runs") / "asking-1"
    with Run.open(folder, identity_of(constitution, recipe), Silent()) as run:
        run.record(spec=constitution.plain)
        build(constitution, recipe, run)
    return folder
