"""How fast, and how exactly, the bundled model answers and scores here, beside other engines.

    python tests/benchmarks/local.py                          # ours and plain transformers
    python tests/benchmarks/local.py --llama-server LLAMA_SERVER --gguf F16.gguf --gguf Q4_1.gguf
    python tests/benchmarks/local.py --vllm ENVIRONMENT/bin/vllm      # its CPU build, or a GPU's
    python tests/benchmarks/local.py --only generate --rounds 3

Everyone answers the same queries with the same sampling, so many at once; a server is started for
each engine, with room for so many, and asked over its API. The median of the rounds counts.
"""

from __future__ import annotations

import argparse
import itertools
import os
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from scipy.stats import kendalltau
from transformers import PreTrainedModel

from character.models.base import ChatModel, Message, Request, Sampling, Scorable
from character.models.checkpoint import open_checkpoint
from character.models.config import RequestsConfig
from character.models.folders import model_folder
from character.models.loading import Serving, load_local, load_model
from character.models.local import LocalModel
from character.spec.loading import load_trait

NAME = "bundled:smollm2-135m"
AT_ONCE = (1, 8, 32, 64)
WINDOW = 512  # tokens of a query and its reply, for which a server keeps room
START = 300  # seconds that a server may take
WORDS = Sampling(max_tokens=64)

Side = Callable[[int], float]
"""Answer so many queries at once; how many tokens that gave."""


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--llama-server", type=Path)
    options.add_argument("--gguf", type=Path, action="append", default=[])
    options.add_argument("--vllm", type=Path)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--only", choices=("generate", "score", "agree"))
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{NAME}, {ours().model.dtype}, {given.threads} threads, load {os.getloadavg()[0]:.1f}\n")
    if given.only in (None, "generate"):
        generation(given)
    if given.only in (None, "score"):
        scoring(given)
    if given.only in (None, "agree"):
        agreement()


# --- tokens a second ---


def generation(given: argparse.Namespace) -> None:
    print("| tokens a second | " + " | ".join(f"{n} at once" for n in AT_ONCE) + " |")
    print("|---" * (1 + len(AT_ONCE)) + "|")
    for name, opened in engines(given).items():
        with opened as side:
            side(2)  # warm-up
            rates = [rate(lambda n=n: side(n), given.rounds) for n in AT_ONCE]
        print(f"| {name} | " + " | ".join(f"{each:.0f}" for each in rates) + " |", flush=True)
    print()


def engines(given: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"ours": here(written_by(ours())), "padded generate": here(padded)}
    for gguf in given.gguf if given.llama_server else ():
        found[f"llama.cpp, {gguf.stem}"] = served(llama(given, gguf), "")
    if given.vllm:
        found["vLLM"] = served(vllm(given), "")
    return found


@contextmanager
def here(side: Side) -> Iterator[Side]:
    yield side


@contextmanager
def served(command: Sequence[str | Path], option: str) -> Iterator[Side]:
    with serving(command) as url, ExitStack() as stack:

        def ask(count: int) -> float:
            model = asked(f"{url}#model{option}", count)
            stack.callback(model.close)
            return written_by(model)(count)

        yield ask


def written_by(model: ChatModel) -> Side:
    return lambda count: sum(g.tokens for g in model.generate(requests(count), WORDS))


def padded(count: int) -> float:
    """transformers' own generate, on a batch padded to its longest prompt."""
    model, tokenizer = plain()
    tokenizer.padding_side = "left"
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in request.conversation],
            tokenize=False,
            add_generation_prompt=True,
        )
        for request in requests(count)
    ]
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    with torch.no_grad():
        out = model.generate(
            **batch,
            do_sample=True,
            temperature=WORDS.temperature,
            top_k=WORDS.top_k,
            top_p=WORDS.top_p,
            max_new_tokens=WORDS.max_tokens,
        )
    return float((out[:, batch.input_ids.shape[1] :] != tokenizer.pad_token_id).sum())


def requests(count: int) -> list[Request]:
    """Others every time, so that no server finds a whole prompt in its cache."""
    seeds = load_trait("curious").queries.seeds
    numbers = (next(ASKED) for _ in range(count))
    return [Request((Message("user", seeds[n % len(seeds)]),), seed=n) for n in numbers]


ASKED = itertools.count()


def rate(side: Callable[[], float], rounds: int) -> float:
    """The median of what it gives a second."""
    found = []
    for _ in range(rounds):
        begun = time.perf_counter()
        given = side()
        found.append(given / (time.perf_counter() - begun))
    return statistics.median(found)


# --- replies scored a second ---


def scoring(given: argparse.Namespace) -> None:
    """The same replies for everyone: each query of the trait's examples with eight replies."""
    items = scored_items()
    print(f"| replies scored a second ({len(items)}, eight to a query) | |")
    print("|---|---|")

    def told(name: str, side: Callable[[], float]) -> None:
        print(f"| {name} | {rate(side, given.rounds):.1f} |", flush=True)

    told("ours", lambda: len(ours().score(items)))
    told("one plain forward pass each", lambda: len([plain_score(item) for item in items]))
    told("padded batches of 32", lambda: len(padded_scores(items)))
    if given.vllm:
        with serving(vllm(given)) as url:
            model = asked(f"{url}#model?score=vllm", 64)
            told("vLLM", lambda: len(model.score(items)))
            model.close()
    print()


def scored_items() -> list[Scorable]:
    examples = load_trait("curious").examples
    replies = [reply for example in examples for reply in (example.good, example.bad)][:8]
    return [Scorable((Message("user", e.user),), reply) for e in examples for reply in replies]


def plain_score(item: Scorable, model: PreTrainedModel | None = None) -> float:
    """The log-probability of a reply by a forward pass over nothing else."""
    prompt, reply = ours().conversation_ids(item.conversation), ours().reply_ids(item)
    with torch.no_grad():
        logits = (model or plain()[0])(torch.tensor([prompt + reply])).logits
    logprobs = logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    return float(logprobs.gather(1, torch.tensor(reply).unsqueeze(1)).sum())


def padded_scores(items: Sequence[Scorable], size: int = 32) -> list[float]:
    """As most engines do it: whole sequences, padded, and logits for every token."""
    found = []
    for start in range(0, len(items), size):
        part = items[start : start + size]
        prompts = [ours().conversation_ids(item.conversation) for item in part]
        replies = [ours().reply_ids(item) for item in part]
        longest = max(len(p) + len(r) for p, r in zip(prompts, replies, strict=True))
        ids = torch.zeros(len(part), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, both in enumerate(map(list.__add__, prompts, replies)):
            ids[row, : len(both)] = torch.tensor(both)
            mask[row, : len(both)] = 1
        with torch.no_grad():
            logits = plain()[0](input_ids=ids, attention_mask=mask).logits
        for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
            own = logits[row, len(prompt) - 1 : len(prompt) + len(reply) - 1].float()
            targets = torch.tensor(reply).unsqueeze(1)
            found.append(float(own.log_softmax(-1).gather(1, targets).sum()))
    return found


# --- agreement ---


def agreement() -> None:
    """Mean log-probabilities against one plain forward pass each, in float32."""
    items = scored_items()
    whole, _ = open_checkpoint(model_folder(NAME))
    whole.float()
    lengths = [len(ours().reply_ids(item)) for item in items]

    def means(logprobs: Sequence[float]) -> list[float]:
        return [logprob / length for logprob, length in zip(logprobs, lengths, strict=True)]

    exact = means([plain_score(item, whole) for item in items])
    found = {
        "ours, all together": means([score.logprob for score in ours().score(items)]),
        "ours, one at a time": means([ours().score([item])[0].logprob for item in items]),
        "plain forward pass": means([plain_score(item) for item in items]),
        "plain, padded batches": means(padded_scores(items)),
    }
    print(f"| {ours().model.dtype} against float32 | mean error | largest | Kendall tau |")
    print("|---|---|---|---|")
    for name, values in found.items():
        errors = [abs(value - true) for value, true in zip(values, exact, strict=True)]
        tau = kendalltau(values, exact).statistic
        print(f"| {name} | {statistics.mean(errors):.4f} | {max(errors):.4f} | {tau:.4f} |")
    print()


# --- models and servers ---


@cache
def ours() -> LocalModel:
    return load_local(NAME)


@cache
def plain() -> tuple[PreTrainedModel, Any]:
    return open_checkpoint(model_folder(NAME))


def asked(name: str, at_once: int) -> Any:
    """A server's model, asked so many at once from the first and with nothing kept."""
    return load_model(
        name, serving=Serving(RequestsConfig(concurrency=at_once, first=at_once, timeout=600))
    )


def llama(given: argparse.Namespace, gguf: Path) -> list[str | Path]:
    slots = max(AT_ONCE)
    room = ["--parallel", str(slots), "--ctx-size", str(slots * WINDOW)]
    threads = ["--threads", str(given.threads), "--threads-batch", str(given.threads)]
    return [given.llama_server, "--model", gguf, *room, *threads]


def vllm(given: argparse.Namespace) -> list[str | Path]:
    room = ["--max-num-seqs", str(max(AT_ONCE)), "--max-model-len", str(WINDOW)]
    name = ["--served-model-name", "model", "--dtype", "bfloat16"]
    return [given.vllm, "serve", model_folder(NAME), *name, *room]


@contextmanager
def serving(command: Sequence[str | Path]) -> Iterator[str]:
    """The address of a server that this command starts; SystemExit with its words when it fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryFile("w+") as said:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=said,
            stderr=said,
            env={**os.environ, **QUIET},
        )
        try:
            for _ in range(START):
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                    break
                if server.poll() is not None:
                    break
                time.sleep(1)
            else:
                server.kill()
            if server.poll() is not None:
                said.seek(0)
                raise SystemExit(f"{command[0]} did not start:\n{said.read()[-3000:]}")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait()


QUIET: Mapping[str, str] = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "2",  # GB
}

if __name__ == "__main__":
    main()
