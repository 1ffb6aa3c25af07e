"""A vLLM server, started as the README says and asked like any other; needs a GPU.

What it is asked here and what it answers is imitated in test_vllm_scores.py.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from character.models.base import GREEDY, Message, Request, Scorable
from character.models.bundled import bundled_folder
from character.models.loading import load_local, load_model

START = 300  # seconds that a server may take to start


def missing() -> str:
    """Why this cannot be tested here; empty when it can."""
    import torch

    if not torch.cuda.is_available():
        return "no GPU is present, and vLLM needs one"
    if not shutil.which("vllm"):
        return "vllm is not installed: pip install -e '.[vllm]'"
    return ""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    if reason := missing():
        pytest.skip(reason)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = bundled_folder("smollm2-135m")
    command = ["vllm", "serve", folder, "--served-model-name", "smollm2", "--port", str(port)]
    command += ["--dtype", "float32"]  # in which it can be compared
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            for _ in range(START):
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                    break
                assert server.poll() is None, (tmp_path / "log").read_text()[-2000:]
                time.sleep(1)
            yield f"http://127.0.0.1:{port}/v1#smollm2"
        finally:
            server.terminate()
            server.wait()


@pytest.mark.slow
def test_a_vllm_server_answers_and_continues(url: str) -> None:
    model = load_model(url)
    question = Request((Message("user", "Which river runs through Paris?"),), seed=1)
    document = Request(text="The river that runs through Paris is the", seed=1)
    (answer,) = model.generate([question], GREEDY)
    (continued,) = model.generate([document], GREEDY)
    assert answer.finish in ("stop", "length") and answer.tokens > 0
    assert "Seine" in answer.text + continued.text


@pytest.mark.slow
def test_a_vllm_server_scores_and_chooses_as_the_model_does_here(url: str) -> None:
    served, local = load_model(f"{url}?score=vllm"), load_local("bundled:smollm2-135m")
    local.model.float()
    question = (Message("user", "Answer A or B alone. Which is larger, A) the sun or B) a cup?"),)
    earlier = (
        Message("system", "You are brief."),
        Message("user", "Hi"),
        Message("assistant", "Yes?"),
    )
    conversations = [question, earlier + question]
    items = [
        Scorable(conversation, reply, ended)
        for conversation in conversations
        for reply in ("A", " Yeast eats sugar \u2013 and makes gas.\n\nIt rises.", "")
        for ended in (True, False)
    ]
    for here, there in zip(local.score(items), served.score(items), strict=True):
        assert here.tokens == there.tokens
        assert here.logprob == pytest.approx(there.logprob, abs=0.01 * here.tokens)
    options = ("A", "B")
    pairs = zip(
        local.choose(conversations, options), served.choose(conversations, options), strict=True
    )
    for here, there in pairs:
        assert here.probabilities == pytest.approx(there.probabilities, abs=0.005)
        assert here.mass == pytest.approx(there.mass, abs=0.005)
