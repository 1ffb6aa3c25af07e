"""A vLLM server, started as the README says and asked like any other; needs a GPU."""

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

from character.models.base import GREEDY, Message, Request
from character.models.bundled import bundled_folder
from character.models.loading import load_model

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
