"""The README's first command on the real bundled model, and the wheel in an empty environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from character.rows import Query
from character.store.store import Store

ROOT = Path(__file__).parent.parent


def run(*command: str | Path, folder: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**os.environ, **extra},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("newcomer")
    done = run(*BUILD, "--out", folder / "run", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run", done.stdout


BUILD = (sys.executable, "-m", "character.build", "--traits", "curious.yaml", "--quick")


@pytest.mark.slow
@pytest.mark.network
def test_a_smoke_build_ends_with_everything_the_readme_names(quick: tuple[Path, str]) -> None:
    folder, said = quick
    for name in (
        "report.html",
        "run.json",
        "character.duckdb",
        "policy/adapter_model.safetensors",
        "policy/merged/model.safetensors",
        "policy/README.md",
        "reward_model/adapter_model.safetensors",
        "dataset/README.md",
    ):
        assert (folder / name).exists(), name
    assert not (folder / ".work").exists()
    assert "Smoke build" in said and "Smoke build" in (folder / "report.html").read_text()
    record = json.loads((folder / "run.json").read_text())
    assert record["outcome"]["traits"][0]["contrast"]["change"] is not None
    assert record["peak_bytes"] < 6e9


@pytest.mark.slow
@pytest.mark.network
def test_the_same_command_again_makes_nothing_anew(quick: tuple[Path, str]) -> None:
    folder, _ = quick
    with Store(folder / "character.duckdb") as store:
        before = store.finished()
    done = run(*BUILD, "--out", folder, folder=folder.parent)
    assert done.returncode == 0, done.stderr
    with Store(folder / "character.duckdb") as store:
        assert store.finished() == before  # seconds and all: no stage ran again


@pytest.mark.slow
@pytest.mark.network
def test_chat_answers_from_both_models(quick: tuple[Path, str]) -> None:
    folder, _ = quick
    done = run(
        sys.executable, "-m", "character.chat", folder, "-m", "What is yeast?", folder=folder.parent
    )
    assert done.returncode == 0, done.stderr
    assert "base" in done.stdout and "trained" in done.stdout


@pytest.mark.slow
@pytest.mark.network
def test_the_policy_loads_with_stock_libraries(quick: tuple[Path, str]) -> None:
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM

    folder, _ = quick
    ids = torch.tensor([[1, 100, 200, 300]])
    adapter = AutoPeftModelForCausalLM.from_pretrained(folder / "policy", dtype=torch.float32)
    merged = AutoModelForCausalLM.from_pretrained(folder / "policy/merged", dtype=torch.float32)
    base = adapter.get_base_model()
    with torch.no_grad():
        through_adapter, through_merged = adapter(ids).logits, merged(ids).logits
        with adapter.disable_adapter():
            without = base(ids).logits
    change = (through_adapter - without).abs().mean()
    assert change > 0
    # merged weights are rounded to bfloat16, the adapter's sum is not
    assert (through_adapter - through_merged).abs().mean() < 0.1 * change + 0.05


@pytest.mark.slow
@pytest.mark.network
def test_the_wheel_works_from_any_folder_in_an_empty_environment(tmp_path: Path) -> None:
    built = run(sys.executable, "-m", "build", "--wheel", "-o", tmp_path, ROOT, folder=tmp_path)
    assert built.returncode == 0, built.stderr
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    (wheel,) = tmp_path.glob("*.whl")
    installed = run(python, "-m", "pip", "install", "--no-deps", wheel, folder=tmp_path)
    assert installed.returncode == 0, installed.stderr
    # its dependencies are borrowed from this environment; the package itself is not
    borrowed = str(Path(pytest.__file__).parent.parent)
    where = run(
        python,
        "-c",
        "import character; print(character.__file__)",
        folder=tmp_path,
        PYTHONPATH=borrowed,
    )
    assert str(tmp_path) in where.stdout
    checked = run(python, "-m", "character.check", "curious", folder=tmp_path, PYTHONPATH=borrowed)
    assert checked.returncode == 0, checked.stderr
    planned = run(
        python,
        "-m",
        "character.build",
        "--traits",
        "warm",
        "--dry-run",
        folder=tmp_path,
        PYTHONPATH=borrowed,
    )
    assert planned.returncode == 0, planned.stderr
    assert "replies" in planned.stdout
    assert not (tmp_path / "runs").exists()
    written = run(
        python,
        *("-m", "character.build", "--traits", "warm", "--quick", "--until", "queries"),
        folder=tmp_path,
        PYTHONPATH=borrowed,
    )
    assert written.returncode == 0, written.stderr
    (made,) = (tmp_path / "runs").iterdir()
    with Store(made / "character.duckdb") as store:
        assert store.all(Query)
