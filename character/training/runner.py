"""What the three trainers have in common: arguments, progress, resuming from a checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import LoraConfig as PeftLora
from peft import PeftModel, get_peft_model
from peft.helpers import disable_input_dtype_casting
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from character.models.checkpoint import hardware
from character.rows import Step, content_id
from character.training.config import LoraConfig

ADAPTER = "default"
SUMMARY = "train_runtime"  # the trainer's closing entry has it
REENTRY = {"use_reentrant": False}  # the other kind needs inputs that require gradients
TOKENS_SEEN = "num_tokens"  # TRL counts from zero again after a resume


class Batches(Protocol):
    epochs: int
    learning_rate: float
    batch: int
    micro_batch: int
    gradient_checkpointing: bool


OnStep = Callable[[int, int], None]  # (steps done, steps in all)


def for_training(model: PreTrainedModel) -> PreTrainedModel:
    """The model with the attention that trains fastest where it is.

    On a CPU the fused kernel takes a fifth of the step for replies of a few dozen tokens, most of
    it in its backward pass; plain matrix products take a few percent.
    """
    if model.device.type == "cpu":
        model.set_attn_implementation("eager")
    return model


def add_adapter(model: PreTrainedModel, lora: LoraConfig, task: str) -> PeftModel:
    """A fresh LoRA on every linear layer; the base stays frozen, in its own precision."""
    config = PeftLora(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules="all-linear",
        lora_dropout=0.0,
        task_type=task,
    )
    return get_peft_model(for_training(model), config)


def arguments(batches: Batches, folder: Path, seed: int) -> dict[str, Any]:
    """Training arguments by name, for TrainingArguments and for every TRL config."""
    device, dtype = hardware()
    gpu = device.type != "cpu"
    micro_batch = min(batches.micro_batch, batches.batch)
    return {
        "output_dir": str(folder),
        "num_train_epochs": batches.epochs,
        "learning_rate": batches.learning_rate,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": batches.batch // micro_batch,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "seed": seed,
        "data_seed": seed,
        "use_cpu": not gpu,
        "bf16": dtype == torch.bfloat16,
        "gradient_checkpointing": batches.gradient_checkpointing,
        **({"gradient_checkpointing_kwargs": REENTRY} if batches.gradient_checkpointing else {}),
        "dataloader_pin_memory": gpu,
        "disable_tqdm": True,
        "report_to": [],
    }


def last_states(
    policy: PeftModel, input_ids: Tensor, attention_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """The last hidden states, (rows, tokens, width), and the output embedding they are read by."""
    model = policy.get_base_model()
    embedding: Tensor = model.get_output_embeddings().weight
    # the adapter is float32; beside a bfloat16 base it is cast, as in the trainers' own forward
    half = embedding.dtype == torch.bfloat16
    with torch.autocast(embedding.device.type, torch.bfloat16, enabled=half):
        states = model.get_decoder()(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False
        ).last_hidden_state
    return states.to(embedding.dtype), embedding


class Recorder(TrainerCallback):
    """Keeps what the trainer logs as rows, and tells how far it is."""

    def __init__(self, stage: str, on_step: OnStep) -> None:
        self.stage, self.on_step = stage, on_step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.on_step(state.global_step, state.max_steps)


def steps_of(stage: str, state: TrainerState) -> list[Step]:
    """Every number logged at a step; the log is restored with a checkpoint, so none is lost.

    What speaks of this session alone is left out: after a resume it would be wrong.
    """
    return [
        Step(content_id("step", stage, entry["step"], metric), stage, entry["step"], metric, value)
        for entry in state.log_history
        if SUMMARY not in entry
        for metric, value in sorted(entry.items())  # a checkpoint sorts them too
        if metric not in ("step", "epoch", TOKENS_SEEN) and isinstance(value, int | float)
    ]


def train(trainer: Trainer, folder: Path) -> None:
    """Run to the end, from the last whole checkpoint where there is one."""
    trainer.remove_callback(PrinterCallback)  # it prints every log line as a dictionary
    # PEFT would keep a float32 copy of the input of every adapted layer; autocast needs none
    with disable_input_dtype_casting(trainer.model):
        trainer.train(resume_from_checkpoint=_last_checkpoint(folder))


def _last_checkpoint(folder: Path) -> str | None:
    found = sorted(
        folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=lambda path: int(path.name.split("-")[1])
    )
    for checkpoint in reversed(found):
        if (checkpoint / "trainer_state.json").exists():  # written last
            return str(checkpoint)
        shutil.rmtree(checkpoint)
    return None
