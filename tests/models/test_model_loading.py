from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from character.errors import ModelError
from character.models.base import GREEDY, Message, Request, Scorable
from character.models.checkpoint import hardware, open_checkpoint
from character.models.loading import check_name, check_trainable, load_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# peft 0.21 asks transformers 5.23 for a property under its old name
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

QUESTION = (Message("user", "Why does bread rise?"),)


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny model in a folder of its own, free to be damaged."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def save_adapter(model: PreTrainedModel, folder: Path, base: Path | str) -> Path:
    """A LoRA adapter whose effect is large, naming its base as given."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    adapted: Any = get_peft_model(model, config)
    torch.manual_seed(1)
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    adapted.save_pretrained(folder)
    edit(folder / "adapter_config.json", base_model_name_or_path=str(base))
    return folder


# --- names ---


def test_good_names_pass_without_loading_torch(tiny_folder: Path) -> None:
    names = ["bundled:smollm2-135m", f"local:{tiny_folder}", "local:HuggingFaceTB/SmolLM2-360M"]
    code = (
        "import sys; from character.models.loading import check_name\n"
        f"for name in {names}: check_name(name)\n"
        "print({'torch', 'transformers', 'peft', 'huggingface_hub'} & set(sys.modules))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("smollm2-135m", "bundled:smollm2-135m"),
        ("smollm-135m", "bundled:smollm2-135m"),
        ("bundle:smollm2-135m", "bundled:smollm2-135m"),
        ("Local:./model", "local:./model"),
        ("HuggingFaceTB/SmolLM2-360M", "local:HuggingFaceTB/SmolLM2-360M"),
        ("bundled:smollm2", "bundled:smollm2-135m"),
    ],
)
def test_a_near_miss_says_what_was_meant(name: str, meant: str) -> None:
    with pytest.raises(ModelError, match=f"Did you mean '{meant}'"):
        check_name(name)


def test_a_folder_without_its_kind_is_recognised(tiny_folder: Path) -> None:
    with pytest.raises(ModelError, match=f"Did you mean 'local:{tiny_folder}'"):
        check_name(str(tiny_folder))


@pytest.mark.parametrize("name", ["", ":", "local:", "bundled", "gguf:x", "zzz"])
def test_an_unknown_name_lists_the_kinds_with_examples(name: str) -> None:
    with pytest.raises(ModelError, match="is not a model name") as error:
        check_name(name)
    for example in (
        "bundled:smollm2-135m",
        "local:./my-model",
        "http://localhost:8000/v1#my-model",
    ):
        assert example in str(error.value)


@pytest.mark.parametrize("name", ["openai:x", "anthropic:x", "http://h:1/v1#x", "https://h/v1#x"])
def test_what_is_trained_has_its_weights_here(name: str) -> None:
    with pytest.raises(ModelError, match=r"its weights are needed here.*'bundled:smollm2-135m'"):
        check_trainable(name)


def test_a_missing_folder_is_not_taken_for_a_hub_id(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no folder"):
        check_name(f"local:{tmp_path}/nothing")
    with pytest.raises(ModelError, match="There is no folder tests/nothing"):
        check_name("local:tests/nothing")
    with pytest.raises(ModelError, match="There is no folder ~nobody-here/model"):
        check_name("local:~nobody-here/model")


def test_a_hub_id_without_a_network_says_how_to_go_on() -> None:
    with pytest.raises(ModelError, match="neither a folder here nor a model that could be fetched"):
        load_model("local:nobody/no-model")


# --- plain folders ---


def test_a_folder_loads_answers_and_is_named_by_its_content(tiny_folder: Path, copy: Path) -> None:
    model = load_model(f"local:{tiny_folder}")
    assert model.name.startswith("local:tiny-llama@") and len(model.name.split("@")[1]) == 12
    (answer,) = model.generate([Request(QUESTION)], GREEDY)
    assert answer.tokens > 0 and model.score([Scorable(QUESTION, "Yeast.")])[0].logprob < 0

    digest = model.name.split("@")[1]
    assert load_model(f"local:{copy}").name == f"local:copy@{digest}"
    (copy / "README.md").write_text("notes do not change what it answers")
    assert load_model(f"local:{copy}").name == f"local:copy@{digest}"
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 1  # one bit in the middle of a matrix
    (copy / "model.safetensors").write_bytes(weights)
    changed = load_model(f"local:{copy}").name
    assert not changed.endswith(digest)
    template = (copy / "chat_template.jinja").read_text()
    (copy / "chat_template.jinja").write_text("Be brief. " + template)
    assert load_model(f"local:{copy}").name != changed


def test_a_checkpoint_opens_for_training_where_the_hardware_is(tiny_folder: Path) -> None:
    model, tokenizer = open_checkpoint(tiny_folder)
    device, dtype = hardware()
    assert (model.device.type, model.dtype) == (device.type, dtype)
    assert model.config._attn_implementation != "shared_prefix"
    assert tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx512_f": True, "avx512_bf16": True}, "bfloat16"),
        ({"avx512_f": True, "avx512_bf16": False}, "float32"),  # it would be emulated
        ({}, "float32"),
    ],
)
def test_a_cpu_counts_in_bfloat16_where_it_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], dtype: str
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert hardware() == (torch.device("cpu"), getattr(torch, dtype))


def test_pickled_weights_are_refused(copy: Path, tiny_model: PreTrainedModel) -> None:
    import torch

    torch.save(tiny_model.state_dict(), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    for ask in (check_name, load_model):
        with pytest.raises(ModelError, match=r"pickle .* is refused: save them as safetensors"):
            ask(f"local:{copy}")


def test_code_that_comes_with_a_model_is_not_run(copy: Path, tmp_path: Path) -> None:
    (copy / "modeling_evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    auto_map = {"AutoConfig": "modeling_evil.C", "AutoModelForCausalLM": "modeling_evil.M"}
    edit(copy / "config.json", model_type="evil", auto_map=auto_map)
    with pytest.raises(ModelError, match="could not be loaded"):
        load_model(f"local:{copy}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_file_is_a_model_error(copy: Path, file: str) -> None:
    whole = (copy / file).read_bytes()
    (copy / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="could not be loaded"):
        load_model(f"local:{copy}")


def test_missing_weights_are_not_made_up(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"has no weights for model.layers.1.mlp.up_proj.weight"):
        load_model(f"local:{copy}")


def test_a_tokenizer_without_a_chat_template_is_refused(copy: Path) -> None:
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template"):
        load_model(f"local:{copy}")


def test_a_broken_chat_template_is_a_model_error(copy: Path) -> None:
    (copy / "chat_template.jinja").write_text("{% for message in %}")
    with pytest.raises(ModelError, match="could not be loaded"):
        load_model(f"local:{copy}")


def test_the_end_token_is_the_one_the_template_writes(copy: Path) -> None:
    edit(copy / "tokenizer_config.json", eos_token="<|endoftext|>")
    _, tokenizer = open_checkpoint(copy)
    assert tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize(
    "config",
    [
        {"layer_types": ["full_attention", "linear_attention"]},
        {"layer_types": ["sliding_attention"] * 2, "sliding_window": 512},
        {"sliding_window": 512, "model_type": "mistral", "architectures": ["MistralForCausalLM"]},
        {"attn_logit_softcapping": 50.0},
    ],
)
def test_attention_that_is_not_served_is_refused(copy: Path, config: dict[str, Any]) -> None:
    edit(copy / "config.json", **config)
    with pytest.raises(ModelError, match="local: does not serve"):
        load_model(f"local:{copy}")


def test_a_model_whose_answers_would_be_wrong_is_refused(tiny_folder: Path, copy: Path) -> None:
    """Bloom puts positions into its attention (ALiBi), which ours leaves out."""
    from transformers import BloomConfig, BloomForCausalLM

    tokens = json.loads((tiny_folder / "config.json").read_text())["vocab_size"]
    config = BloomConfig(vocab_size=tokens, hidden_size=32, n_layer=2, n_head=4)
    BloomForCausalLM(config).save_pretrained(copy)
    with pytest.raises(ModelError, match="a bloom model"):
        load_model(f"local:{copy}")


# --- adapters ---


@pytest.mark.parametrize("base", ["absolute", "beside", "local"])
def test_an_adapter_is_merged_into_the_base_it_names(
    tiny_folder: Path, tiny_model: PreTrainedModel, tmp_path: Path, base: str
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    relative = os.path.relpath(tiny_folder, tmp_path / "curious")
    named = {"absolute": str(tiny_folder), "beside": relative, "local": f"local:{tiny_folder}"}
    folder = save_adapter(tiny_model, tmp_path / "curious", named[base])
    check_name(f"local:{folder}")
    merged, tokenizer = open_checkpoint(folder)
    assert tokenizer.chat_template

    device, dtype = hardware()
    plain: Any = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=dtype)
    plain.to(device)
    ids = torch.tensor([tokenizer("Why does bread rise?").input_ids], device=device)
    with torch.no_grad():
        before = plain(ids).logits.float()
        expected = PeftModel.from_pretrained(plain, folder)(ids).logits.float()
        found = merged(ids).logits.float()
    moved = (expected - before).abs().mean()
    assert (expected - found).abs().mean() < 0.05 * moved  # rounding of the merged weights

    name = load_model(f"local:{folder}").name
    adapter, _, below = name.partition("+")
    assert adapter.startswith("local:curious@")
    assert below == load_model(f"local:{tiny_folder}").name


def test_an_adapter_on_a_bundled_model_names_it(
    tiny_model: PreTrainedModel, tmp_path: Path
) -> None:
    folder = save_adapter(tiny_model, tmp_path / "curious", "bundled:smollm2-135m")
    check_name(f"local:{folder}")
    edit(folder / "adapter_config.json", base_model_name_or_path="bundled:smollm2-13m")
    with pytest.raises(ModelError, match="Did you mean 'bundled:smollm2-135m'"):
        check_name(f"local:{folder}")


def test_an_adapter_without_its_base_says_where_to_write_it(
    tiny_model: PreTrainedModel, tmp_path: Path
) -> None:
    folder = save_adapter(tiny_model, tmp_path / "curious", "/models/gone")
    with pytest.raises(ModelError, match=r"trained on '/models/gone', which is not here"):
        check_name(f"local:{folder}")
    edit(folder / "adapter_config.json", base_model_name_or_path=None)
    with pytest.raises(ModelError, match="base_model_name_or_path is None"):
        check_name(f"local:{folder}")
    edit(folder / "adapter_config.json", base_model_name_or_path=str(folder))
    with pytest.raises(ModelError, match="names itself as its base"):
        check_name(f"local:{folder}")


def test_an_adapter_for_another_model_is_refused(
    tiny_model: PreTrainedModel, copy: Path, tmp_path: Path
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = save_adapter(tiny_model, tmp_path / "curious", copy)
    config = LlamaConfig.from_pretrained(copy)
    config.num_hidden_layers = 3
    LlamaForCausalLM(config).save_pretrained(copy)
    with pytest.raises(ModelError, match="does not fit its base model"):
        load_model(f"local:{folder}")


def test_a_pickled_adapter_is_refused(
    tiny_model: PreTrainedModel, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = save_adapter(tiny_model, tmp_path / "curious", tiny_folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ModelError, match="pickle"):
        load_model(f"local:{folder}")
