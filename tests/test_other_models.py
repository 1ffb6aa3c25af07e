"""The README's page on other models, run as it stands against a server on loopback.

Commands and settings are read out of the README, so a word changed there is a word tried here. Of
the sentences around them each says, in `HELD`, which test holds it: a new one needs a test.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from asking import CANARY, message
from click.testing import CliRunner, Result
from faulty_server import Server, serving

from character import build as build_command
from character import cache as cache_command
from character.models.budget import Budget
from character.models.cache import FOLDER, RequestCache, shared_cache
from character.models.names import BUNDLED_DEFAULT
from character.models.providers import PROVIDERS
from character.recipe import Roles
from character.rows import Judgement, Query, Reply
from character.store.store import Store

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "README.md").read_text().partition("\n## Other models\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]
PROSE = re.sub(r"```sh\n.*?```", "\n\n", PAGE, flags=re.DOTALL)
SETTINGS = re.findall(r"`(?:--set )?(requests\.\w+=\S+)`", PROSE)
ROLE = re.compile(r"roles\.(\w+)=(\S+)")
SERVER = re.compile(r"http://localhost:\d+/v1")
HUB_ID = re.compile(r"local:(\S+/\S+)")

Build = Callable[..., Result]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server(say=message, seed=5)) as started:
        yield started


@pytest.fixture
def build(
    server: Server, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Build]:
    """Run a command of the README in a folder of its own, with every provider on loopback."""
    for provider in PROVIDERS.values():
        monkeypatch.setenv(provider.key, CANARY)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url.removesuffix("/v1"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("CHARACTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    shared_cache.cache_clear()
    opened: list[RequestCache] = []

    def run(command: str, *more: str) -> Result:
        opened.append(shared_cache())
        arguments = arguments_of(command, server, tiny_folder, *more)
        return CliRunner().invoke(build_command.main, arguments, terminal_width=200)

    yield run
    for each in set(opened):
        each.close()
    shared_cache.cache_clear()


def arguments_of(command: str, server: Server, tiny: Path, *more: str) -> list[str]:
    """What follows `python -m character.build`, on a tiny model where it names none of its own."""
    command = SERVER.sub(server.url, re.sub(r"\s+# .*", "", command))
    python, flag, module, *given = shlex.split(command)
    assert (python, flag, module) == ("python", "-m", "character.build")
    roles = [f"roles.{role}=local:{tiny}" for role in ("writer", "policy", "judge")]
    first = [word for role in roles for word in ("--set", role)]  # the README's own come later
    return [*first, *given, "--quick", "--out", "run", *more]


# --- the commands ---


def on_the_hub(hub_id: str, tiny: Path, hub: Path) -> None:
    """As if this model had been fetched before; the network is shut in tests."""
    folder = hub / f"models--{hub_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    shutil.copytree(tiny, folder / "snapshots" / ("0" * 40))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs_as_it_stands(
    command: str, build: Build, server: Server, tiny_folder: Path, tmp_path: Path
) -> None:
    ((role, model),) = ROLE.findall(command)
    stage = {"writer": "queries", "policy": "replies", "judge": "judgements"}[role]
    if role == "judge":
        server.reply = '{"letter": "A"}'
    if hub_id := HUB_ID.fullmatch(model):
        on_the_hub(hub_id[1], tiny_folder, tmp_path / "hub")
    done = build(command, "--until", stage)
    assert done.exit_code == 0, done.output
    with Store(tmp_path / "run" / "character.duckdb") as store:
        if role == "writer":
            written = [q for q in store.all(Query) if q.source == "writer" and not q.dropped]
            assert len(written) > 10 and all(q.text.startswith("Why does ") for q in written)
        elif role == "policy":
            assert len(store.all(Reply)) > 20
            assert (tmp_path / "hub").is_dir() and not server.asked
            return
        else:
            assert {j.judge.rpartition(" by ")[2] for j in store.all(Judgement)} == {
                f"{model} at {server.url}"
            }
    named = model.partition("#")[2] or model.partition(":")[2].partition("?")[0]
    assert {body["model"] for body in server.bodies} == {named}
    sent = [" ".join(headers.values()) for headers in server.headers]
    assert all(CANARY in headers for headers in sent)  # each provider's own variable holds it


def test_every_command_changes_one_role_and_no_role_twice_the_same_way() -> None:
    assert len(COMMANDS) >= 6
    models = [model for command in COMMANDS for _, model in ROLE.findall(command)]
    kinds = {model.partition(":")[0] for model in models}
    assert kinds == {"local", "openai", "anthropic", "http"}
    assert len(models) == len(COMMANDS)


def test_the_responses_api_is_one_option_away(build: Build, server: Server) -> None:
    (option,) = re.findall(r"`openai:NAME(\?\S+)`", PROSE)
    command = next(c for c in COMMANDS if "roles.writer=openai:" in c)
    model = ROLE.findall(command)[0][1]
    done = build(command.replace(model, model + option), "--until", "queries")
    assert done.exit_code == 0, done.output
    assert all("input" in body for body in server.bodies)


# --- what is said around them ---


def test_everything_runs_on_the_bundled_model_until_told_otherwise() -> None:
    assert set(Roles().model_dump().values()) == {BUNDLED_DEFAULT}


def test_the_keys_come_from_where_it_says() -> None:
    told = PROSE.replace("\n", " ").partition("Keys come from ")[2].partition("keyring")[0]
    assert re.findall(r"`(\w+)`", told) == [provider.key for provider in PROVIDERS.values()]


def test_a_vllm_server_starts_as_its_own_test_starts_it() -> None:
    install, serve = re.findall(r"`(pip install -e \S+) && (vllm serve \S+)`", PROSE)[0]
    extra = re.findall(r"\[(\w+)\]", install)[0]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any(each.startswith("vllm") for each in extras["optional-dependencies"][extra])
    starts = (ROOT / "tests" / "models" / "test_vllm.py").read_text()
    assert '["' + '", "'.join(serve.split()[:2]) + '", ' in starts


@pytest.mark.parametrize("model", ["openai:gpt-5-mini", "http://localhost:8000/v1#m"])
def test_the_policy_needs_its_weights_here(build: Build, server: Server, model: str) -> None:
    command = f"python -m character.build --traits curious --set roles.policy={model}"
    refused = build(command)
    assert refused.exit_code == 2 and "its weights are needed here" in refused.output
    assert not server.asked


def test_nothing_is_asked_twice_and_a_longer_limit_reuses_what_had_finished(
    build: Build, server: Server
) -> None:
    command = next(c for c in COMMANDS if "roles.writer=anthropic:" in c)
    assert build(command, "--until", "queries").exit_code == 0
    asked = sum(server.asked.values())
    longer = ("--set", "queries.sampling.max_tokens=60", "--out", "another")
    done = build(command, "--until", "queries", *longer)
    assert done.exit_code == 0, done.output
    assert sum(server.asked.values()) == asked > 10


def test_the_cache_command_shows_lists_and_prunes_what_a_build_asked(
    build: Build, server: Server
) -> None:
    (named,) = re.findall(r"`python -m (character\.cache)`", PROSE)
    assert named == cache_command.__name__
    command = next(c for c in COMMANDS if "#llama3.2" in c)
    assert build(command, "--until", "queries").exit_code == 0

    def told(*arguments: str) -> str:
        result = CliRunner().invoke(cache_command.main, arguments, terminal_width=200)
        assert result.exit_code == 0, result.output
        return result.output

    asked = sum(server.asked.values())
    assert f"{server.url}#llama3.2" in told() and str(asked) in told()
    assert len(told("list").splitlines()) == asked
    told("prune", "--all")
    assert "None yet." in told()


def test_a_killed_build_goes_on_where_it_was(
    build: Build, server: Server, tiny_folder: Path, tmp_path: Path
) -> None:
    command = next(c for c in COMMANDS if "roles.writer=openai:" in c)
    server.latency = 0.1
    slow = ("--until", "queries", "--set", "requests.concurrency=2")
    arguments = arguments_of(command, server, tiny_folder, *slow)
    child = subprocess.Popen(
        [sys.executable, "-m", "character.build", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    while sum(server.paid.values()) < 8:
        assert child.poll() is None
        signal.sigtimedwait((), 0.02)
    child.kill()
    child.wait()
    with RequestCache(tmp_path / "cache" / FOLDER) as cache:
        kept = len(list(cache.listed()))
    asked = sum(server.asked.values())
    assert kept > 0
    assert Budget(journal=tmp_path / "run" / "spending.jsonl").spent > 0
    done = build(command, *slow)
    assert done.exit_code == 0, done.output
    # what was under way is asked again, and nothing that was kept
    assert sum(server.asked.values()) - len(server.asked) == asked - kept


def test_a_model_without_a_price_is_refused_under_a_limit_and_told_where_to_write_it(
    build: Build, server: Server
) -> None:
    command = next(c for c in COMMANDS if "#my-model" in c)
    refused = build(command, "--max-cost", "5")
    assert refused.exit_code == 2 and not server.asked
    (told,) = re.findall(r"your own `(\S+)`", PROSE.replace("\n", " "))
    assert re.search(rf"/\S*{re.escape(told)}", refused.output.replace("\n", ""))


def test_a_dry_run_estimates_the_cost(build: Build, server: Server) -> None:
    for command in COMMANDS:
        if "--max-cost" in command:
            told = build(command, "--dry-run")
            assert told.exit_code == 0, told.output
            assert re.search(r"About \$\d+\.\d+ for models behind APIs", told.output)
    assert not server.asked


def test_the_limits_on_requests_hold(build: Build, server: Server) -> None:
    assert len(SETTINGS) >= 4
    given = [word for setting in SETTINGS for word in ("--set", setting)]
    limit = int(next(s for s in SETTINGS if "concurrency" in s).partition("=")[2])
    command = next(c for c in COMMANDS if "roles.writer=openai:" in c)
    server.latency = 0.05
    done = build(command, "--until", "queries", *given)
    assert done.exit_code == 0, done.output
    assert 1 < server.most_at_once <= limit


def test_one_failure_in_ten_ends_a_build_unless_more_may_fail(
    build: Build, server: Server, tmp_path: Path
) -> None:
    command = next(c for c in COMMANDS if "roles.writer=openai:" in c)
    server.faults = {"400": 0.2}
    many = ("--until", "queries", "--set", "queries.train=60")
    stopped = build(command, *many)
    assert stopped.exit_code == 2
    assert "more than 10%" in stopped.output and "this prompt is too long" in stopped.output
    more = next(s for s in SETTINGS if "failures" in s)
    done = build(command, *many, "--set", more)
    assert done.exit_code == 0, done.output
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["asked"]
    assert recorded[0]["outcomes"]["failed"] > 0


# --- the page as a whole ---

SERVED = "models/test_served.py"
HELD = {
    "Everything runs on the bundled model": "test_everything_runs_on_the_bundled_model_until",
    "A name is one flag": "test_every_command_changes_one_role",
    "A vLLM server for the last line": "test_a_vllm_server_starts_as_its_own_test_starts_it",
    "The policy needs its weights here": "test_the_policy_needs_its_weights_here",
    "It compares the replies to each query": "judging/test_tournament.py",
    "Relevance and measurement then stay": "test_served_writer.py::test_a_judge_behind_an_api",
    "Keys come from": "test_the_keys_come_from_where_it_says",
    "`openai:NAME?api=responses`": "test_the_responses_api_is_one_option_away",
    "For requests over the network:": "",
    "Nothing is paid twice": "",
    "Answers are kept on disk": f"{SERVED}::test_answers_are_on_disk_before_they_are_handed",
    "`python -m character.cache`": "test_the_cache_command_shows_lists_and_prunes",
    "A killed build goes on": "test_a_killed_build_goes_on_where_it_was",
    "`--max-cost` holds": "",
    "The most a request can cost": f"{SERVED}::test_killed_at_thirty_moments",
    "A model without a price": "test_a_model_without_a_price_is_refused_under_a_limit",
    "`--dry-run` estimates": "test_a_dry_run_estimates_the_cost",
    "It finds the server's pace": "",
    "Concurrency grows until": f"{SERVED}::test_a_server_that_takes_six_at_once_answers_all",
    "`--set requests.concurrency": "test_the_limits_on_requests_hold",
    "Failures are counted, never guessed": "",
    "Refusals, filtered, cut-off": "report/test_terminal.py",
    "When one in ten fails": "test_one_failure_in_ten_ends_a_build_unless_more_may_fail",
}
"""The start of every sentence of the page, and the test that holds it; headings have none."""


def test_every_sentence_is_held_by_a_test() -> None:
    text = " ".join(PROSE.replace("**", "").replace("\n- ", "\n").split())
    sentences = [each for each in re.split(r"(?<=[.:])\s+(?=[A-Z`])", text) if each]
    unheld = [s for s in sentences if sum(s.startswith(start) for start in HELD) != 1]
    assert not unheld, f"write a test that holds this, and name it in HELD: {unheld}"
    gone = [start for start in HELD if not any(s.startswith(start) for s in sentences)]
    assert not gone, f"the README no longer says this: {gone}"
    here = Path(__file__)
    for place in filter(None, HELD.values()):
        file, _, test = place.rpartition("::") if "::" in place else ("", "", place)
        path = here.parent / (file or (test if test.endswith(".py") else here.name))
        assert test.endswith(".py") or f"def {test}" in path.read_text(), place
        assert path.is_file(), place
