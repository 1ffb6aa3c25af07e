"""The command: weights, refusals, and what each part did to the whole, on tiny runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from making import a_measurement, a_query
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from character.compose import main
from character.diffing.config import MeasureConfig
from character.diffing.left_out import left_out, left_out_in
from character.diffing.outcome import contrast_metric
from character.errors import SpecError
from character.spec.constitution import Constitution, Member
from character.spec.schema import Trait

pytestmark = pytest.mark.filterwarnings("ignore:.(is_)?gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def other(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, with an adapter that does the opposite."""
    folder = tmp_path_factory.mktemp("runs") / "asking-2"
    shutil.copytree(tiny_run, folder)
    weights = folder / "policy" / "adapter_model.safetensors"
    turned = {n: -w if "lora_B" in n else w for n, w in load_file(weights).items()}
    save_file(turned, weights, metadata={"format": "pt"})
    return folder


def test_two_runs_become_one_and_each_is_left_out(
    tiny_run: Path, other: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(
        main, [f"{tiny_run}:2", f"{other}:1.5", "--out", str(out), "--leave-one-out"]
    )
    assert done.exit_code == 0, done.output
    record = json.loads((out / "compose.json").read_text(encoding="utf-8"))
    assert record["of"] == [
        {"part": "asking-1", "weight": 2.0}, {"part": "asking-2", "weight": 1.5},
    ]  # fmt: skip
    found = left_out_in(record["left_out"])
    assert [each.subject for each in found] == [
        "base", "whole", "without asking-1", "without asking-2",
    ]  # fmt: skip
    assert all(effect.contrast is not None for each in found for effect in each.traits)
    assert found[1].traits[0].did is None and found[2].traits[0].did is not None
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "| `asking-2` | 1.5 |" in card and "| without asking-1 |" in card
    # 2 - 1.5 = half of the first run's adapter
    base = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).state_dict()
    whole = AutoModelForCausalLM.from_pretrained(out / "merged", dtype=torch.float32).state_dict()
    first = AutoModelForCausalLM.from_pretrained(
        tiny_run / "policy/merged", dtype=torch.float32
    ).state_dict()
    name = "model.layers.0.mlp.up_proj.weight"
    assert (whole[name] - base[name]).norm() > 0
    gap = (whole[name] - base[name]) - 0.5 * (first[name] - base[name])
    assert gap.abs().max() < 0.01  # both merged copies are rounded


@pytest.mark.parametrize(
    ("references", "told"),
    [
        (["{run}"], "no composition"),
        (["{run}", "{run}"], "named 2 times"),
        (["{run}", "{other}:much"], "no number, or 0"),
        (["{run}", "{other}:0"], "no number, or 0"),
        (["{run}", "nowhere"], "neither a run folder"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    references: list[str], told: str, tiny_run: Path, other: Path, tmp_path: Path
) -> None:
    named = [reference.format(run=tiny_run, other=other) for reference in references]
    done = CliRunner().invoke(main, [*named, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2 and told in done.output
    assert not (tmp_path / "out").exists()


def test_adapters_of_other_bases_are_refused(
    tiny_run: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    shutil.copytree(tiny_folder, base)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    (base / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    shutil.copytree(tiny_run / "policy", adapter, ignore=shutil.ignore_patterns("merged"))
    told = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    (adapter / "adapter_config.json").write_text(
        json.dumps(told | {"base_model_name_or_path": str(base)})
    )
    done = CliRunner().invoke(main, [str(tiny_run), str(adapter), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2 and "different base models" in done.output


def test_only_runs_can_be_left_out(tiny_run: Path, other: Path, tmp_path: Path) -> None:
    named = [str(tiny_run), str(other / "policy"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, [*named, "--leave-one-out"])
    assert done.exit_code == 2 and "without its run" in done.output
    assert CliRunner().invoke(main, named).exit_code == 0


def test_what_a_part_did_is_the_whole_minus_the_rest() -> None:
    """Whole .5, without the part .2 on every query: it did +.3."""
    held = [a_query(f"h{n}", split="held_out") for n in range(4)]
    metric = contrast_metric("brisk")
    levels = {"whole": 0.5, "without a": 0.2}
    rows = [a_measurement(s, q.id, metric, v) for s, v in levels.items() for q in held]
    rows += [
        a_measurement(subject, f"short/{n}", "short_right", float(n < right))
        for subject, right in (("whole", 1), ("without a", 3))
        for n in range(4)
    ]
    whole, without = left_out(list(levels), ["brisk"], held, rows, MeasureConfig(resamples=200), 0)
    (effect,) = without.traits
    assert effect.did is not None and round(effect.did.value, 6) == 0.3
    assert without.short_did is not None and without.short_did.value == -0.5
    assert (whole.traits[0].did, whole.short_did) == (None, None)


def test_a_build_can_leave_a_trait_out(small_trait: Trait) -> None:
    second = small_trait.model_copy(update={"id": "other"})
    both = Constitution((Member(small_trait), Member(second, 0.5)))
    assert both.without("asking").members == (Member(second, 0.5),)
    for missing, alone in ((both, "nobody"), (both.without("asking"), "other")):
        with pytest.raises(SpecError, match="cannot be left out"):
            missing.without(alone)
