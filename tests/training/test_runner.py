"""What the trainers are told, and what is kept of what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import TrainerState, TrainingArguments
from trl import DPOConfig, RewardConfig

from character.rows import content_id
from character.training.config import DistillConfig
from character.training.runner import arguments, steps_of


def test_a_batch_that_micro_batches_cannot_fill_is_refused() -> None:
    with pytest.raises(ValueError, match="batch 10 is no multiple of micro_batch 4"):
        DistillConfig(batch=10, micro_batch=4)


@pytest.mark.parametrize(
    ("batch", "micro_batch", "at_once", "times"),
    [(32, 8, 8, 4), (8, 8, 8, 1), (4, 8, 4, 1), (1, 1, 1, 1)],
)
def test_a_batch_is_cut_into_micro_batches(
    tmp_path: Path, batch: int, micro_batch: int, at_once: int, times: int
) -> None:
    found = arguments(DistillConfig(batch=batch, micro_batch=micro_batch), tmp_path, 0)
    assert found["per_device_train_batch_size"] == at_once
    assert found["gradient_accumulation_steps"] == times


@pytest.mark.parametrize("kind", [TrainingArguments, DPOConfig, RewardConfig])
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing:FutureWarning")
def test_every_trainer_takes_the_arguments(tmp_path: Path, kind: type) -> None:
    config = DistillConfig(epochs=3, learning_rate=0.01)
    found = kind(**arguments(config, tmp_path, 7))
    assert (found.num_train_epochs, found.learning_rate, found.seed) == (3, 0.01, 7)
    assert found.report_to == []
    assert found.max_grad_norm == 1.0


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_is_used_where_the_chip_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    assert arguments(DistillConfig(), tmp_path, 0)["bf16"] is native


def test_the_numbers_of_every_step_are_kept_and_the_closing_summary_is_not() -> None:
    state = TrainerState(
        log_history=[
            {"loss": 1.5, "note": "text", "epoch": 0.5, "step": 1, "num_tokens": 9.0},
            {"rewards/chosen": -1, "loss": 1.0, "epoch": 1.0, "step": 2},
            {"train_runtime": 3.0, "train_loss": 0.0, "epoch": 1.0, "step": 2},
        ]
    )
    steps = steps_of("dpo", state)
    assert [(step.stage, step.step, step.metric, step.value) for step in steps] == [
        ("dpo", 1, "loss", 1.5),
        ("dpo", 2, "loss", 1.0),
        ("dpo", 2, "rewards/chosen", -1),
    ]
    assert steps[0].id == content_id("step", "dpo", 1, "loss")
    assert len({step.id for step in steps}) == 3
