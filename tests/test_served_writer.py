"""A build whose writer or judge is behind an API: what is asked, what it costs, and the key."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from asking import CANARY, message
from faulty_server import Server, serving

from character.models.budget import Budget
from character.rows import Judgement, Query, Reply
from character.store.store import Store


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server(say=message)) as started:
        yield started


def test_a_judge_behind_an_api_compares_the_replies(tiny_folder: Path, tmp_path: Path) -> None:
    """It prefers whichever reply is first, so both orders make all replies equal."""
    with serving(Server(tokens={"A": 0.7, "B": 0.2}, reply="A")) as server:
        judge = ("--set", f"roles.judge={server.url}#m", "--set", "ranking.judge=verdict")
        done = build(server, tiny_folder, tmp_path, f"local:{tiny_folder}", *judge,
                     "--set", "replies.steered=2", "--until", "judgements")  # fmt: skip
    assert done.returncode == 0, done.stderr
    with Store(tmp_path / "run" / "character.duckdb") as store:
        judgements, replies = store.all(Judgement), store.all(Reply)
    assert len(judgements) == len(replies) > 20
    judged = [j.contrast for j in judgements if j.contrast is not None]
    assert len(judged) > 20
    assert judged == pytest.approx([0.0] * len(judged), abs=1e-6)
    assert {j.judge for j in judgements} == {f"verdict (letter probabilities) by {server.url}#m"}
    assert all(j.relevance is not None for j in judgements if j.contrast is not None)


def build(
    server: Server, tiny: Path, folder: Path, writer: str, *more: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`build --until queries` with this writer, in a folder of its own."""
    roles = (f"roles.writer={writer}", f"roles.policy=local:{tiny}", f"roles.judge=local:{tiny}")
    command = [sys.executable, "-m", "character.build", "--traits", "curious", "--quick"]
    command += ["--until", "queries", "--out", "run"]
    for role in roles:
        command += ["--set", role]
    command += more
    keys = dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "CHARACTER_SERVER_KEY"), CANARY)
    bases = {"OPENAI_BASE_URL": server.url, "ANTHROPIC_BASE_URL": server.url.removesuffix("/v1")}
    home = {"CHARACTER_CACHE": str(folder / "cache"), "HOME": str(folder)}
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **keys, **bases, **home, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize(
    "writer", ["openai:gpt-5-mini", "openai:gpt-5-mini?api=responses", "anthropic:m", "{url}#m"]
)
def test_any_model_can_write_the_queries_and_no_key_is_written(
    server: Server, tiny_folder: Path, tmp_path: Path, writer: str
) -> None:
    done = build(server, tiny_folder, tmp_path, writer.format(url=server.url))
    assert done.returncode == 0, done.stderr
    with Store(tmp_path / "run" / "character.duckdb") as store:
        written = [q for q in store.all(Query) if q.source == "writer" and not q.dropped]
    assert len(written) > 10 and all(q.text.startswith("Why does ") for q in written)
    assert any(CANARY in " ".join(headers.values()) for headers in server.headers)  # it was sent
    spoken = [done.stdout, done.stderr]
    for place in tmp_path.rglob("*"):
        if place.is_file():
            spoken.append(place.read_bytes().decode("latin-1"))
    assert len(spoken) > 5
    assert not any(CANARY in text for text in spoken)


def test_the_same_command_asks_nothing_again(
    server: Server, tiny_folder: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        assert build(server, tiny_folder, tmp_path, f"{server.url}#m").returncode == 0
    assert set(server.asked.values()) == {1}
    asked = sum(server.asked.values())
    other = build(server, tiny_folder, tmp_path, f"{server.url}#m", "--out", "another")
    assert other.returncode == 0, other.stderr  # another run, from the shared cache
    assert sum(server.asked.values()) == asked


def test_a_cost_limit_stops_and_a_higher_one_goes_on(
    server: Server, tiny_folder: Path, tmp_path: Path
) -> None:
    writer = "openai:gpt-5-mini"
    stopped = build(server, tiny_folder, tmp_path, writer, "--max-cost", "0.0028")
    assert stopped.returncode == 2
    assert "is reached" in stopped.stderr and "--max-cost 0.0056" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    spent = Budget(journal=tmp_path / "run" / "spending.jsonl").spent
    assert 0 < spent <= 0.0028
    done = build(server, tiny_folder, tmp_path, writer, "--max-cost", "5")
    assert done.returncode == 0, done.stderr
    assert set(server.asked.values()) == {1}


def test_a_cost_limit_needs_a_price(server: Server, tiny_folder: Path, tmp_path: Path) -> None:
    refused = build(server, tiny_folder, tmp_path, f"{server.url}#m", "--max-cost", "5")
    assert refused.returncode == 2
    assert f"{server.url}#m" in refused.stderr and "prices.yaml" in refused.stderr
    assert not server.asked


@pytest.mark.parametrize("fault", ["401", "redirect", "400", "500"])
def test_a_writer_that_does_not_write_is_told_without_a_traceback_or_a_key(
    tiny_folder: Path, tmp_path: Path, fault: str
) -> None:
    with serving(Server({fault: 1.0})) as broken:
        settings = ("--set", "requests.backoff=0.01", "--set", "requests.attempts=2")
        done = build(broken, tiny_folder, tmp_path, "openai:gpt-5-mini", *settings)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and CANARY not in done.stdout + done.stderr
    assert "openai:gpt-5-mini" in done.stderr
