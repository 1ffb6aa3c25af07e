"""Every form a policy ships in, from a tiny run: it loads with stock libraries and is measured."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from datasets import load_dataset, load_from_disk
from huggingface_hub import DatasetCard, ModelCard
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from character.diffing.kept import kept_in
from character.export import main

# peft 0.21 asks transformers 5.23 for a property under its old name
pytestmark = pytest.mark.filterwarnings("ignore:.(is_)?gradient_checkpointing:FutureWarning")

IDS = torch.tensor([[1, 100, 200, 300]])
needs_torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is an extra")


@pytest.fixture(scope="module")
def run(tiny_run: Path) -> Path:
    return tiny_run


def export(run: Path, out: Path, *forms: str, measure: bool = False) -> str:
    asked = [word for form in forms for word in ("--to", form)]
    flag = "--measure" if measure else "--no-measure"
    done = CliRunner().invoke(main, [str(run), *asked, "--out", str(out), flag])
    assert done.exit_code == 0, done.output
    return done.output


def refused(run: Path, out: Path, form: str = "merged") -> str:
    done = CliRunner().invoke(main, [str(run), "--to", form, "--out", str(out), "--no-measure"])
    assert done.exit_code == 2, done.output
    return done.output


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits.float()
    return found


@pytest.fixture(scope="module")
def wanted(run: Path) -> torch.Tensor:
    merged = AutoModelForCausalLM.from_pretrained(run / "policy/merged", dtype=torch.float32)
    return logits(merged)


def test_the_merged_copy_is_the_run_s(run: Path, tmp_path: Path, wanted: torch.Tensor) -> None:
    export(run, tmp_path / "out", "merged")
    copy = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert torch.equal(logits(copy), wanted)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.library_name == "transformers"
    for title in ("Intended behaviour", "Measured behaviour", "Side effects", "Data", "Cost",
                  "Judge", "Licences", "Kept in this form"):  # fmt: skip
        assert f"\n## {title}\n" in card.text
    assert "was not measured" in card.text and "No card was made" in card.text


def test_the_adapter_loads_on_its_base(run: Path, tmp_path: Path, wanted: torch.Tensor) -> None:
    export(run, tmp_path / "out", "adapter")
    adapter = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert torch.allclose(logits(adapter), wanted, atol=0.3)  # merged weights are rounded
    assert not (tmp_path / "out" / "merged").exists()
    assert ModelCard.load(tmp_path / "out" / "README.md").data.library_name == "peft"


def test_gguf_reads_back_through_stock_transformers(
    run: Path, tmp_path: Path, wanted: torch.Tensor
) -> None:
    export(run, tmp_path / "out", "gguf-f16", "gguf-q8_0")
    for form, most in (("gguf-f16", 0.05), ("gguf-q8_0", 0.5)):
        folder = tmp_path / "out" / form
        (file,) = folder.glob("*.gguf")
        copy = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=file.name, dtype=torch.float32
        )
        assert (logits(copy) - wanted).abs().max() < most
        assert f'gguf_file="{file.name}"' in (folder / "README.md").read_text(encoding="utf-8")


@needs_torchao
def test_int8_reads_back_through_stock_transformers(
    run: Path, tmp_path: Path, wanted: torch.Tensor
) -> None:
    export(run, tmp_path / "out", "int8")
    copy = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    weight = copy.model.layers[0].self_attn.q_proj.weight
    assert weight.qdata.dtype == torch.int8
    assert (logits(copy) - wanted).abs().max() < 1
    assert not list((tmp_path / "out").glob("*.bin"))


def test_int8_without_its_library_says_what_to_install(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("character.models.int8.find_spec", lambda name: None)
    assert "'.[int8]'" in refused(run, tmp_path / "out", "int8")


def test_the_dataset_is_parquet_that_a_hub_shows(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "out", "dataset")
    read = load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    there = load_from_disk(run / "dataset")
    assert {split: list(rows) for split, rows in read.items()} == {
        split: list(rows) for split, rows in there.items()
    }
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "cc0-1.0"
    assert [part["split"] for part in card.data.configs[0]["data_files"]] == ["train", "test"]


def test_a_hub_folder_is_a_model_with_its_adapter_and_a_dataset(run: Path, tmp_path: Path) -> None:
    said = export(run, tmp_path / "out", "hub-folder")
    for name in ("model/model.safetensors", "model/README.md", "model/adapter/adapter_config.json",
                 "dataset/README.md", "dataset/data/train-00000-of-00001.parquet"):  # fmt: skip
        assert (tmp_path / "out" / name).exists(), name
    assert "hf upload NAME/MODEL" in said


def test_what_is_kept_is_measured_beside_the_merged_policy(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "out", "merged", "gguf-f16", measure=True)
    record = json.loads((tmp_path / "out" / "merged" / "export.json").read_text(encoding="utf-8"))
    found = {each.form: each for each in kept_in(record["kept"])}
    assert list(found) == ["merged", "adapter", "gguf-f16"]
    assert found["merged"].traits[0].share is not None
    assert found["merged"].traits[0].share.value == 1
    for form in ("adapter", "gguf-f16"):
        assert found[form].short is not None and found[form].short.queries == 3
        assert found[form].traits[0].contrast is not None
        shift = found[form].shift
        assert shift is not None and 0 <= shift.value < 0.05  # rounding, no more
    assert found["merged"].shift is None
    for form in ("merged", "gguf-f16"):
        card = (tmp_path / "out" / form / "README.md").read_text(encoding="utf-8")
        assert "| gguf-f16 | " in card and "contrast: `asking`" in card


def test_the_same_again_replaces_and_anything_else_stays(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(run, out, "merged")
    (out / "stale").write_text("old", encoding="utf-8")
    export(run, out, "merged")
    assert not (out / "stale").exists()
    assert "holds something else" in refused(run, out, "adapter")
    assert (out / "model.safetensors").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine", encoding="utf-8")
    assert "holds something else" in refused(run, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text(encoding="utf-8") == "mine"
    assert "inside the run" in refused(run, run / "policy" / "copy")


def test_an_export_that_fails_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr("character.export_pipeline.model_card", full)
    assert "No space left" in refused(run, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused_before_anything_is_written(
    run: Path, tmp_path: Path
) -> None:
    assert "not a run folder" in refused(tmp_path, tmp_path / "out")
    other = tmp_path / "other"
    shutil.copytree(run, other)
    config = other / "policy/merged/config.json"
    told = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(told | {"model_type": "gemma3"}), encoding="utf-8")
    assert "convert_hf_to_gguf.py" in refused(other, tmp_path / "out", "gguf-f16")
    shutil.rmtree(other / "policy")
    assert "no trained policy yet" in refused(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()
