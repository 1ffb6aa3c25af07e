"""The distance of each dose, and a policy that is only as strong as it has to be, on a tiny run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_pipeline import Silent, identity_of, recipe_for

from character.building.context import Build
from character.building.settling import distances, settle
from character.folder import policy_of
from character.models.config import RequestsConfig
from character.models.loading import load_local
from character.opened import Models
from character.rows import Answer, Judgement, Measurement, Query, Reply
from character.run import Run
from character.spec.constitution import Constitution, Member
from character.spec.schema import Trait
from character.store.store import Store
from character.training.config import SettleConfig

pytestmark = pytest.mark.filterwarnings("ignore:.(is_)?gradient_checkpointing:FutureWarning")


def test_each_dose_has_its_distance_on_its_own_replies(tiny_run: Path, tiny_folder: Path) -> None:
    with Store(tiny_run / "character.duckdb", read_only=True) as store:
        rows = [row for row in store.all(Measurement) if row.subject.startswith("dose ")]
        own = {reply.id: reply for reply in store.all(Reply) if reply.style == "own"}
        asked = {query.id: query.text for query in store.all(Query)}
    assert {row.metric for row in rows} == {"kl"}
    assert {row.answer_id for row in rows} == own.keys()
    assert {(row.subject, own[row.answer_id].sample) for row in rows} == {
        ("dose 0.5", 0), ("dose 1", 1),
    }  # fmt: skip
    assert any(row.value for row in rows)
    base = load_local(f"local:{tiny_folder}")
    reply = next(reply for reply in own.values() if reply.text)
    said = Answer(
        reply.id, "x", reply.query_id, asked[reply.query_id], reply.text, reply.tokens, reply.ended
    )
    assert [row.value for row in distances(base, base, [said])] == [0.0]


@pytest.mark.parametrize("target", [0.0001, 1000.0])
def test_the_policy_is_scaled_to_the_least_that_is_enough(
    target: float, tiny_run: Path, tiny_folder: Path, small_trait: Trait, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    constitution, recipe = Constitution((Member(small_trait),)), recipe_for(tiny_folder)
    training = recipe.training.model_copy(
        update={"settle": SettleConfig(target=target, tried=(0.5, 1.0), queries=4)}
    )
    asked = recipe.model_copy(update={"training": training})
    with Run.open(folder, identity_of(constitution, recipe), Silent()) as run:
        this = Build(constitution, asked, run, Models(run, RequestsConfig(), None))
        rows = run.store.all(Query), run.store.all(Reply), run.store.all(Judgement)
        place = settle(this, folder / "policy", *rows)
        told = run.recorded("settled")
        before = run.store.all(Measurement)
        assert settle(this, folder / "policy", *rows) == place  # nothing is asked twice
        assert run.store.all(Measurement) == before
    assert policy_of(folder) == folder / "settled" / "merged"
    strength = told["strength"]
    assert f"{strength:.0%} of the training" in told["told"] or strength == 1.0
    if target == 1000:
        assert strength == 1.0
    old = load_file(folder / "policy" / "adapter_model.safetensors")
    new = load_file(place / "adapter_model.safetensors")
    for name, weight in old.items():
        scale = strength if "lora_B" in name else 1.0
        assert torch.allclose(new[name], weight * scale, atol=1e-7), name


def test_without_a_target_nothing_is_done(
    tiny_run: Path, tiny_folder: Path, small_trait: Trait
) -> None:
    assert not (tiny_run / "settled").exists()
    recipe = recipe_for(tiny_folder)
    assert recipe.training.settle.target is None
