"""How fast the engine is, as ratios to what a user would pick instead, in one run.

    python tests/benchmarks/speed.py [generate] [rank] [dpo] [start] [check]

Everything runs on the bundled model and the shipped `curious` trait; ours and the other take turns,
and the table shows the median of the rounds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from character.models.base import Message, Request, Sampling, Scorable
from character.models.checkpoint import open_checkpoint
from character.models.folders import model_folder
from character.models.loading import load_local
from character.models.local import LocalModel
from character.shipped import shipped
from character.spec.demonstrations import demonstrations
from character.spec.loading import load_trait

NAME = "bundled:smollm2-135m"
ROUNDS = 3


def main(wanted: list[str]) -> None:
    table = Table("what", "ours", "the other", "ratio", "bar")
    for name, benchmark in BENCHMARKS.items():
        if not wanted or name in wanted:
            for row in benchmark():
                table.add_row(*row)
    Console().print(table)


def generation() -> list[tuple[str, ...]]:
    """Tokens a second: ours on 128 queries, one-at-a-time and padded generate on some of them."""
    ours = model()
    trait = load_trait("curious")
    queries = (trait.queries.seeds * 8)[:128]
    sampling = Sampling()
    reference, tokenizer = open_checkpoint(model_folder(NAME))
    tokenizer.padding_side = "left"
    options = {
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "max_new_tokens": sampling.max_tokens,
    }

    def shared() -> float:
        found = ours.generate(
            [Request((Message("user", q),), seed=i) for i, q in enumerate(queries)], sampling
        )
        return sum(generation.tokens for generation in found)

    def stock(texts: list[str]) -> float:
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": q}], tokenize=False, add_generation_prompt=True
            )
            for q in texts
        ]
        batch = tokenizer(prompts, return_tensors="pt", padding=True)
        with torch.no_grad():
            out = reference.generate(**batch, **options)[:, batch.input_ids.shape[1] :]
        return float((out != tokenizer.pad_token_id).sum())

    def one_at_a_time() -> float:
        return sum(stock([query]) for query in queries[:8])

    def padded() -> float:
        return sum(stock(list(queries[start : start + 32])) for start in (0, 32, 64, 96))

    fast, slow, batch = rates(shared, one_at_a_time, padded)
    return [
        (
            "tokens/s, one-at-a-time generate",
            f"{fast:.0f}",
            f"{slow:.0f}",
            f"{fast / slow:.1f}",
            "8",
        ),
        (
            "tokens/s, padded generate of 32",
            f"{fast:.0f}",
            f"{batch:.0f}",
            f"{fast / batch:.2f}",
            "1.3",
        ),
    ]


def ranking() -> list[tuple[str, ...]]:
    """Replies a second under two demonstration contexts: shared prefix against from scratch."""
    ours = model()
    trait = load_trait("curious")
    replies = [(e.user, e.good) for e in trait.examples] + [(e.user, e.bad) for e in trait.examples]
    replies *= 2
    items = [
        Scorable((*demonstrations(trait, pole), Message("user", query)), reply)
        for pole in ("good", "bad")
        for query, reply in replies
    ]
    reference, _ = open_checkpoint(model_folder(NAME))

    def shared() -> float:
        ours.score(items * 4)
        return len(items) * 4

    def scratch() -> float:
        """Every (reply, context) as a whole sequence, in padded batches of 8."""
        for start in range(0, len(items), 8):
            part = items[start : start + 8]
            prompts = [ours.conversation_ids(item.conversation) for item in part]
            bodies = [ours.reply_ids(item) for item in part]
            longest = max(len(p) + len(b) for p, b in zip(prompts, bodies, strict=True))
            ids = torch.zeros(len(part), longest, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, (prompt, body) in enumerate(zip(prompts, bodies, strict=True)):
                ids[row, : len(prompt + body)] = torch.tensor(prompt + body)
                mask[row, : len(prompt + body)] = 1
            with torch.no_grad():
                states = reference.model(input_ids=ids, attention_mask=mask).last_hidden_state
                for row, (prompt, body) in enumerate(zip(prompts, bodies, strict=True)):
                    own = states[row, len(prompt) - 1 : len(prompt) + len(body) - 1]
                    logits = reference.lm_head(own).float().log_softmax(-1)
                    logits.gather(1, torch.tensor(body).unsqueeze(1)).sum().item()
        return len(items)

    fast, slow = rates(shared, scratch)
    return [
        ("replies ranked/s, from scratch", f"{fast:.1f}", f"{slow:.1f}", f"{fast / slow:.1f}", "2")
    ]


def dpo() -> list[tuple[str, ...]]:
    """Seconds and peak memory of DPO on the same 32 rows, each in a process of its own."""
    found = {}
    for kind in ("ours", "stock"):
        runs = [
            subprocess.run(
                [sys.executable, str(Path(__file__).with_name("dpo_step.py")), kind],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()[-2:]
            for _ in range(2)
        ]
        found[kind] = [min(float(run[i]) for run in runs) for i in (0, 1)]
    (seconds, peak), (other_seconds, other_peak) = found["ours"], found["stock"]
    return [
        (
            "s a DPO step, stock TRL",
            f"{seconds:.2f}",
            f"{other_seconds:.2f}",
            f"{seconds / other_seconds:.2f}",
            "<= 1",
        ),
        (
            "peak GB of DPO, stock TRL",
            f"{peak:.2f}",
            f"{other_peak:.2f}",
            f"{peak / other_peak:.2f}",
            "<= 1",
        ),
    ]


def start() -> list[tuple[str, ...]]:
    """Seconds until `python -m character --help` has answered."""
    return [("s, python -m character --help", _answered("--help"), "", "", "<= 0.3")]


def check() -> list[tuple[str, ...]]:
    """Seconds until ten trait files have been checked, without a model."""
    files = sorted(str(path) for path in shipped("traits").glob("*.yaml"))[:10]
    return [("s, check of ten files", _answered("check", *files), "", "", "<= 0.5")]


def _answered(*arguments: str) -> str:
    """Median of seven processes, in seconds."""
    times = []
    for _ in range(7):
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [sys.executable, "-m", "character", *arguments],
                capture_output=True,
                check=True,
                cwd=folder,
            )
        times.append(time.perf_counter() - begun)
    return f"{statistics.median(times):.2f}"


def rates(*sides: Callable[[], float]) -> list[float]:
    """Median rate (items a second) of each side, the sides taking turns."""
    found: list[list[float]] = [[] for _ in sides]
    for side in sides:
        side()  # warm-up
    for _ in range(ROUNDS):
        for i, side in enumerate(sides):
            begun = time.perf_counter()
            items = side()
            found[i].append(items / (time.perf_counter() - begun))
    return [statistics.median(rounds) for rounds in found]


def model() -> LocalModel:
    return load_local(NAME)


BENCHMARKS = {"generate": generation, "rank": ranking, "dpo": dpo, "start": start, "check": check}

if __name__ == "__main__":
    main(sys.argv[1:])
