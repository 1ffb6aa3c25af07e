"""PPO on the bundled model: 16 replies of 64 tokens, 2 epochs; prints seconds an update, peak GB.

python tests/benchmarks/ppo_step.py [updates]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from character.models.checkpoint import open_checkpoint
from character.models.folders import model_folder
from character.run import peak_bytes
from character.spec.loading import load_trait
from character.training.config import LoraConfig, PpoConfig
from character.training.ppo import train_ppo
from character.training.rollouts import Rollout
from character.training.runner import add_adapter


def main(updates: int) -> None:
    # as they stand, so that replies of all 64 tokens are learned from
    config = PpoConfig(updates=updates, truncated="score", truncated_penalty=0)
    queries = [example.user for example in load_trait("curious").examples]
    model, tokenizer = open_checkpoint(model_folder("bundled:smollm2-135m"))
    policy = add_adapter(model, LoraConfig(), "CAUSAL_LM")
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        steps = train_ppo(
            policy, tokenizer, queries, asks, config, 0, Path(folder), lambda done, of: None
        )
        seconds = time.perf_counter() - begun
    length = sum(step.value for step in steps if step.metric == "length") / updates
    print(f"{seconds / updates:.3f} {peak_bytes() / 1e9:.3f} ({length:.1f} tokens a reply)")


def asks(rollouts: Sequence[Rollout]) -> list[float | None]:
    return [float("?" in rollout.text) for rollout in rollouts]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
