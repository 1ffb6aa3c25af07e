"""One DPO run on the same rows, ours or stock TRL; prints seconds a step and peak GB.

python tests/benchmarks/dpo_step.py ours|stock
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from character.models.checkpoint import open_checkpoint
from character.models.folders import model_folder
from character.run import peak_bytes
from character.spec.loading import load_trait
from character.training.config import DpoConfig, LoraConfig
from character.training.dpo import train_dpo
from character.training.runner import add_adapter, arguments

STEPS = 6


def main(kind: str) -> None:
    config = DpoConfig(batch=16, micro_batch=8)
    rows = [
        {
            "prompt": [{"role": "user", "content": example.user}],
            "chosen": [{"role": "assistant", "content": example.good}],
            "rejected": [{"role": "assistant", "content": example.bad}],
        }
        for example in load_trait("curious").examples
    ]
    data = Dataset.from_list((rows * 20)[: STEPS * config.batch])
    model, tokenizer = open_checkpoint(model_folder("bundled:smollm2-135m"))
    policy = add_adapter(model, LoraConfig(), "CAUSAL_LM")
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        if kind == "ours":
            train_dpo(policy, tokenizer, data, (), config, 0, Path(folder), lambda done, of: None)
        else:
            DPOTrainer(
                model=policy,
                args=DPOConfig(**arguments(config, Path(folder), 0), beta=config.beta),
                train_dataset=data,
                processing_class=tokenizer,
            ).train()
        seconds = time.perf_counter() - begun
    print(f"{seconds / STEPS:.3f} {peak_bytes() / 1e9:.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
