"""A model folder as one GGUF file, as llama.cpp, Ollama and LM Studio read it.

Names and layout are those of llama.cpp's convert_hf_to_gguf.py: matrices in half precision or in
blocks of 32 eight-bit numbers with a scale (Q8_0), vectors in float32, and the rows of Llama's
queries and keys in the order of its rotary embedding. Only what was checked is written: Llama and
Qwen2 weights with a byte-level BPE tokenizer. torch is loaded only to read and write weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from character.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    Array = NDArray[np.float32]

Precision = Literal["f16", "q8_0"]

ARCHITECTURES = ("llama", "qwen2")
PERMUTED = ("q_proj", "k_proj")  # of llama
INSTEAD = "llama.cpp's convert_hf_to_gguf.py may know it: give it the merged model"

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# how a tokenizer cuts text into words, and llama.cpp's name for it
SPLITS = {
    ("ByteLevel",): "gpt-2",
    ("Digits", "ByteLevel"): "smollm",
    (_WORDS.format(numbers=r"\p{N}"), "ByteLevel"): "qwen2",
    (_WORDS.format(numbers=r"\p{N}{1,3}"), "ByteLevel"): "llama-bpe",
}


def write_gguf(folder: Path, file: Path, precision: Precision, name: str) -> None:
    """Write the model in `folder` to `file`. ModelError when it is of a kind that is not known."""
    from gguf import GGML_QUANT_VERSION, GGUFWriter, LlamaFileType

    config = _config_of(folder)
    kind = config["model_type"]
    tokens = _tokenizer_of(folder)  # refused before any weight is read
    writer = GGUFWriter(file, kind)
    writer.add_name(name)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_file_type(
        LlamaFileType.MOSTLY_F16 if precision == "f16" else LlamaFileType.MOSTLY_Q8_0
    )
    _describe(writer, config)
    _add_tokenizer(writer, tokens, folder, config)
    for tensor, values in _tensors(folder, config):
        packed, stored_as = _packed(values, precision)
        writer.add_tensor(tensor, packed, raw_dtype=stored_as)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check_gguf(folder: Path) -> None:
    """Raise ModelError unless `write_gguf` can write the model in this folder."""
    _config_of(folder)
    _tokenizer_of(folder)


def read_gguf(file: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The model in a GGUF file, unpacked, as stock transformers reads it."""
    import io
    from contextlib import redirect_stderr

    from transformers import AutoModelForCausalLM, GgufConfig

    from character.models.bundled import quiet_transformers

    loader: Any = AutoModelForCausalLM
    # one progress bar of the GGUF reader cannot be turned off
    with quiet_transformers(), redirect_stderr(io.StringIO()):
        model: PreTrainedModel = loader.from_pretrained(
            file.parent,
            gguf_file=file.name,
            local_files_only=True,
            dtype=dtype,
            quantization_config=GgufConfig(dequantize=True),
        )
    return model


def _config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = config.get("model_type")
    scaled = (config.get("rope_parameters") or {}).get("rope_type", "default")
    if kind not in ARCHITECTURES:
        raise ModelError(
            f"{folder} is a {kind} model, and GGUF is written of {' and '.join(ARCHITECTURES)}"
            f" models. {INSTEAD}."
        )
    if scaled != "default" or config.get("use_sliding_window"):
        raise ModelError(
            f"{folder} scales its rotary embedding or slides its attention, which is not written to"
            f" GGUF here. {INSTEAD}."
        )
    return config


def _describe(writer: Any, config: Mapping[str, Any]) -> None:
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float(config["rope_parameters"]["rope_theta"]))
    writer.add_vocab_size(config["vocab_size"])


# --- weights ---


def _tensors(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    """Every tensor by its GGUF name, in float32."""
    import torch
    from gguf import MODEL_ARCH, get_tensor_name_map
    from safetensors import safe_open

    names = get_tensor_name_map(
        MODEL_ARCH[config["model_type"].upper()], config["num_hidden_layers"]
    )
    heads = config["num_attention_heads"]
    groups = {"q_proj": heads, "k_proj": config.get("num_key_value_heads") or heads}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for key in list(weights.keys()):
                if key == "lm_head.weight" and config.get("tie_word_embeddings"):
                    continue
                name = names.get_name(key, try_suffixes=(".weight", ".bias"))
                if name is None:
                    raise ModelError(f"{file}: GGUF has no place for the weight {key}. {INSTEAD}.")
                values: Array = weights.get_tensor(key).to(torch.float32).numpy()
                part = key.split(".")[-2]
                if config["model_type"] == "llama" and part in PERMUTED:
                    values = _permuted(values, groups[part])
                yield name, values


def _permuted(rows: Array, heads: int) -> Array:
    """Rows of each head from halves (0..d/2, d/2..d) to neighbours, as ggml's rotary wants them."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def _packed(values: Array, precision: Precision) -> tuple[NDArray[Any], Any]:
    """As llama.cpp stores it: vectors stay float32, and rows that no block divides half."""
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quantize

    if values.ndim == 1:
        return values, GGMLQuantizationType.F32
    packed = GGMLQuantizationType.Q8_0
    if precision == "q8_0" and values.shape[-1] % GGML_QUANT_SIZES[packed][0] == 0:
        return quantize(values, packed), packed
    return values.astype(np.float16), GGMLQuantizationType.F16


# --- the tokenizer ---


def _tokenizer_of(folder: Path) -> dict[str, Any]:
    """tokenizer.json; ModelError unless llama.cpp has a tokenizer that does the same."""
    tokenizer: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    split = _split_of(tokenizer.get("pre_tokenizer") or {})
    if tokenizer["model"].get("type") != "BPE" or split not in SPLITS:
        raise ModelError(
            f"The tokenizer of {folder} cuts text in a way that is not written to GGUF here, and"
            f" a copy with another would answer differently. {INSTEAD}."
        )
    return tokenizer


def _split_of(step: Mapping[str, Any]) -> tuple[str, ...]:
    """The steps of a pre-tokenizer by name, a split by its pattern."""
    if step.get("type") == "Sequence":
        return tuple(name for part in step["pretokenizers"] for name in _split_of(part))
    if step.get("type") == "Split":
        return (str(step["pattern"].get("Regex")),)
    whole = step.get("type") == "Digits" and not step.get("individual_digits")
    return ("" if whole or step.get("add_prefix_space") else str(step.get("type")),)


def _add_tokenizer(
    writer: Any, tokenizer: Mapping[str, Any], folder: Path, config: Mapping[str, Any]
) -> None:
    from gguf import TokenType

    model = tokenizer["model"]
    special = {token["id"]: token for token in tokenizer["added_tokens"]}
    by_id = {number: text for text, number in model["vocab"].items()}
    by_id |= {number: token["content"] for number, token in special.items()}
    texts, kinds = [], []
    for number in range(config["vocab_size"]):
        texts.append(by_id.get(number, f"[PAD{number}]"))
        if number not in by_id:
            kinds.append(TokenType.UNUSED)
        elif number in special:
            own = special[number]["special"]
            kinds.append(TokenType.CONTROL if own else TokenType.USER_DEFINED)
        else:
            kinds.append(TokenType.NORMAL)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(SPLITS[_split_of(tokenizer["pre_tokenizer"])])
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    _add_special(writer, folder, {text: number for number, text in by_id.items()})


def _add_special(writer: Any, folder: Path, ids: Mapping[str, int]) -> None:
    """The tokens that begin, end and pad, and the chat template."""
    named = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    for key, add in (
        ("bos_token", writer.add_bos_token_id),
        ("eos_token", writer.add_eos_token_id),
        ("pad_token", writer.add_pad_token_id),
        ("unk_token", writer.add_unk_token_id),
    ):
        token = named.get(key)
        text = token["content"] if isinstance(token, dict) else token
        if text in ids:
            add(ids[text])
    writer.add_add_bos_token(bool(named.get("add_bos_token", False)))
    template = folder / "chat_template.jinja"
    if template.exists():
        writer.add_chat_template(template.read_text(encoding="utf-8"))
    elif named.get("chat_template"):
        writer.add_chat_template(named["chat_template"])
