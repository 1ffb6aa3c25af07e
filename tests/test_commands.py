"""The front doors: what they list, what they load, and how they answer bad input."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from character import build, chat, check, new
from character.__main__ import COMMANDS, main
from character.commands import friendly
from character.errors import CharacterError
from character.job import prepare
from character.shipped import shipped
from character.spec.rules import RULES

HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, far from the checkout."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def call(command: click.Command, *args: str) -> Result:
    result = CliRunner().invoke(command, args)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result


def refused(command: click.Command, *args: str) -> str:
    """The message with which a command refuses its input: on stderr, alone, with exit code 2."""
    result = call(command, *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("Error: ") == 1
    return result.stderr


# --- what they list and load ---


def test_help_lists_every_command_with_what_it_does() -> None:
    result = call(main, "--help")
    assert result.exit_code == 0
    for name, does in COMMANDS.items():
        assert re.search(rf"^ +{name} +{re.escape(does)}$", result.output, re.MULTILINE)
    assert "python -m character.build --traits" in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_has_help(name: str) -> None:
    for flag in ("-h", "--help"):
        result = call(main, name, flag)
        assert result.exit_code == 0
        assert result.output.startswith(f"Usage: main {name} ")


def test_an_unknown_command_is_refused() -> None:
    assert "No such command 'biuld'" in refused(main, "biuld")


LIGHT = [
    ("character", "--help"),
    ("character", "build", "--help"),
    ("character.build", "--help"),
    ("character.check", "curious"),
    ("character.check", "curios"),
    ("character.check", "curious", "--model", "openai:gpt-5-mini"),
    ("character.build", "--traits", "curious", "--dry-run"),
    ("character.build", "--traits", "curious", "--set", "sed=1"),
]


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_nothing_heavy_is_loaded_before_there_is_work(arguments: tuple[str, ...]) -> None:
    module, *rest = arguments
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{module!r}, *{rest}]\n"
        f"try: runpy.run_module({module!r}, run_name='__main__')\n"
        f"finally: print('\\nloaded:', *sorted({{*{HEAVY}}} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "loaded:"
    assert len(done.stdout + done.stderr) > 40 and "Traceback" not in done.stderr


def test_importing_the_package_loads_nothing_else() -> None:
    code = "import sys, character; print(*(m for m in sys.modules if m.startswith('character')))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "character\n"


# --- build ---

TRAITS = ("--traits", "curious")
BAD = {
    "missing trait file": (["--traits", "nowhere/warm.yaml"], "There is no trait 'nowhere/warm"),
    "unknown trait": (["--traits", "curios"], "no trait 'curios'. Did you mean 'curious'? There"),
    "second trait unknown": ([*TRAITS, "wram"], "no trait 'wram'. Did you mean 'warm'?"),
    "trait twice": ([*TRAITS, "curious"], "'curious' is in the constitution 2 times"),
    "weight": (["--traits", "curious:0"], "weight of trait 'curious' is 0.0; it must be a number"),
    "recipe": ([*TRAITS, "--recipe", "quik"], "no recipe 'quik' (did you mean 'quick'?)"),
    "key": ([*TRAITS, "--set", "replies.steerd=4"], "(did you mean 'steered'?). replies has: "),
    "type": ([*TRAITS, "--set", "replies.steered=few"], "replies.steered = 'few': input should be"),
    "no =": ([*TRAITS, "--set", "seed"], "--set 'seed' is not key=value; for example --set"),
    "date": ([*TRAITS, "--set", "seed=2024-13-45"], "--set 'seed=2024-13-45': the value is not"),
    "stage": (
        [*TRAITS, "--until", "polcy"],
        "--until 'polcy' is not a stage. Stages: judge_cards, ",
    ),
    "model kind": (
        [*TRAITS, "--set", "roles.policy=bundle:smollm2-135m"],
        "Did you mean 'bundled:smollm2-135m'?",
    ),
    "model name": (
        [*TRAITS, "--set", "roles.policy=bundled:smollm3"],
        "smollm2-135m",
    ),
    "judge name": ([*TRAITS, "--set", "roles.judge=gpt"], "'gpt' is not a model name."),
    "writer behind an API": ([*TRAITS, "--set", "roles.writer=openai:x"], "export OPENAI_API_KEY="),
    "negative seed": ([*TRAITS, "--seed", "-1"], "-1 is not in the range"),
    "seed is no number": ([*TRAITS, "--seed", "many"], "'many' is not a valid integer"),
    "no traits": ([], "Missing option '--traits'"),
    "unknown option": ([*TRAITS, "--quik"], "No such option '--quik'"),
}


@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["build", "dry-run"])
@pytest.mark.parametrize("case", BAD)
def test_build_refuses_bad_input_before_it_writes(
    case: str, more: tuple[str, ...], elsewhere: Path
) -> None:
    arguments, message = BAD[case]
    assert message in refused(build.main, *arguments, *more)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id: [curious\n", ":2:1: is not valid YAML: "),
        (
            "schema: 1\nid: mine\nstatment: I ask.\n",
            ":3:1: statment: unknown key. Did you mean 'st",
        ),
        ("", ":1:1: holds no trait."),
    ],
)
def test_a_faulty_trait_file_is_told_by_line_and_column(text: str, message: str) -> None:
    Path("mine.yaml").write_text(text, encoding="utf-8")
    assert f"mine.yaml{message}" in refused(build.main, "--traits", "mine.yaml", "--dry-run")
    assert f"mine.yaml{message}" in call(check.main, "mine.yaml").stdout.replace(
        " error [format]", ""
    )


def test_a_faulty_template_of_ones_own_is_told_by_line() -> None:
    """In a process of its own: a template is read once a process."""
    Path("prompts").mkdir()
    Path("prompts/continue_queries.jinja").write_text("Messages:\n{% for x in %}", encoding="utf-8")
    command = [sys.executable, "-m", "character.build", *TRAITS, "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: prompts/continue_queries.jinja:2: ")
    assert "Traceback" not in done.stderr


def test_a_refusal_of_the_real_process_is_one_message() -> None:
    command = [sys.executable, "-m", "character", "build", "--traits", "curios"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: There is no trait 'curios'.")
    assert done.stderr.count("\n") == 1


def test_a_dry_run_tells_the_plan_and_writes_nothing(elsewhere: Path) -> None:
    result = call(build.main, *TRAITS, "--quick", "--out", "runs/mine", "--dry-run")
    assert result.exit_code == 0
    assert "Would build in runs/mine" in result.output
    for stage in ("queries", "replies", "reward_model", "distilled", "policy", "measure"):
        assert re.search(rf"^ *{stage} ", result.output, re.MULTILINE)
    assert list(elsewhere.iterdir()) == []


def test_a_dry_run_names_the_run_that_it_would_take_over_from(elsewhere: Path) -> None:
    job = prepare(["curious"], "quick", (), None, "report")
    old = elsewhere / "runs" / "old"
    old.mkdir(parents=True)
    (old / "character.duckdb").touch()
    record = {"identity": job.identity, "spec": job.constitution.plain}
    (old / "run.json").write_text(json.dumps(record))
    for more, told in (((), True), (("--fresh",), False), (("--seed", "1"), False)):
        result = call(build.main, *TRAITS, "--quick", *more, "--dry-run")
        assert ("What runs/old made and still holds" in result.output) == told
    assert "leave out one" in refused(build.main, *TRAITS, "--fresh", "--from", "runs/old")


def test_an_out_that_is_a_file_is_refused() -> None:
    Path("taken").touch()
    assert "'taken' is a file" in refused(build.main, *TRAITS, "--out", "taken", "--dry-run")


def test_the_run_folder_is_named_for_what_decides_the_build() -> None:
    def folder(*settings: str, traits: tuple[str, ...] = ("curious",)) -> Path:
        return prepare(traits, "quick", settings, None, "report").folder

    assert re.fullmatch(r"runs/curious-[0-9a-f]{8}", folder().as_posix())
    assert folder() == folder() == folder("seed=0")
    assert folder(traits=("curious", "warm")).name.startswith("curious+warm-")
    assert len({folder(), folder("seed=1"), folder("seed=2"), folder(traits=("curious:2",))}) == 4
    assert prepare(["curious"], "quick", (), "here", "report").folder == Path("here")


def test_options_reach_the_build() -> None:
    def told(*options: str) -> str:
        return call(build.main, *TRAITS, *options, "--dry-run").output.split("\n\n")[0].strip()

    def would(recipe: str, *settings: str) -> str:
        return f"Would build in {prepare(['curious'], recipe, settings, None, 'report').folder}"

    assert told().startswith(would("default"))
    assert told("--recipe", "quick").startswith(would("quick"))
    assert told("--quick").startswith(would("quick"))
    assert told("--seed", "3").startswith(would("default", "seed=3"))
    assert told("--set", "seed=4", "--seed", "3").startswith(would("default", "seed=4", "seed=3"))
    assert told("--set", "replies.plain=2").startswith(would("default", "replies.plain=2"))
    assert len({told(), told("--quick"), told("--seed", "3"), told("--set", "seed=4")}) == 4


def test_the_command_of_a_build_makes_the_same_build_again() -> None:
    """Spaces and all; only where it is written and how far it goes is left to the user."""
    settings = ("seed=3", 'title="Two words"')
    job = prepare(["curious", "warm:0.5"], "quick", settings, "here", "pairs")
    words = shlex.split(job.command)
    assert words[:3] == ["python", "-m", "character.build"]
    given = build.main.make_context("build", words[3:]).params
    again = prepare(
        (*given["first"], *given["more"]), given["recipe"], given["settings"], None, "report"
    )
    assert again.identity == job.identity


# --- check ---


def test_check_says_what_is_fine() -> None:
    result = call(check.main, "curious", "warm.yaml")
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.fullmatch(
        r"\S*curious.yaml: Curious, \d clauses, \d examples: fine\n\S*warm.yaml: Warm, .* fine\n",
        result.output,
    )


def test_check_goes_on_after_a_mistake_and_fails_in_the_end() -> None:
    Path("mine.yaml").write_text("schema: 1\nid: mine\nid: mine\n", encoding="utf-8")
    result = call(check.main, "mine.yaml", "curios", "curious")
    assert result.exit_code == 2
    assert "mine.yaml:3:1: error [format] id: appears twice" in result.stdout
    assert "Did you mean 'curious'?" in result.stdout
    assert "Curious, 3 clauses" in result.stdout
    assert "Found 2 errors." in result.stdout


def a_warning() -> None:
    """A trait of one's own with a single warning."""
    text = (shipped("traits") / "curious.yaml").read_text(encoding="utf-8")
    seed = "I had a rough day at work today."
    assert seed in text
    Path("mine.yaml").write_text(text.replace(seed, "How curious are you?"), encoding="utf-8")


def test_warnings_fail_only_a_strict_check() -> None:
    a_warning()
    result = call(check.main, "mine.yaml")
    assert result.exit_code == 0
    assert "warning [seed-names-trait] 'How curious are you?' says 'curious'" in result.stdout
    assert "measure obedience, not character" in result.stdout  # why
    assert "leaves the trait to the reply" in result.stdout  # what to do
    assert call(check.main, "--strict", "mine.yaml").exit_code == 1
    assert call(check.main, "--strict", "curious").exit_code == 0


def test_check_answers_in_json() -> None:
    a_warning()
    result = call(check.main, "--json", "mine.yaml", "curios")
    found = json.loads(result.stdout)
    assert result.exit_code == 2
    assert (found["version"], found["worst"]) == (1, "error")
    assert [row["code"] for row in found["findings"]] == ["seed-names-trait", "format"]
    assert found["findings"][0]["severity"] == "warning" and found["findings"][0]["line"] > 80
    assert found["traits"] == [{"path": "mine.yaml", "id": "curious"}]


def test_check_tells_its_rules_and_the_schema() -> None:
    rules = call(check.main, "--rules").stdout
    assert all(code in rules for code in RULES)
    assert json.loads(call(check.main, "--schema").stdout)["title"] == "Trait"


def test_check_wants_a_file() -> None:
    assert "Name one trait or more" in refused(check.main)


# --- new ---


def test_new_starts_a_trait_that_check_reads_and_build_refuses() -> None:
    result = call(new.main, "thrifty", "--about", "I spend little.")
    assert (
        result.exit_code == 0 and "python -m character.check traits/thrifty.yaml" in result.output
    )
    checked = call(check.main, "thrifty")
    assert checked.exit_code == 0 and "warning [draft] statement is a draft" in checked.stdout
    assert "warning [draft] examples[3].why is a draft" in checked.stdout
    assert checked.stdout.count("Nobody has written or read it yet") == 1
    assert json.loads(Path("traits/trait.schema.json").read_text())["title"] == "Trait"
    assert "has 39 texts that are still drafts" in refused(
        build.main, "--traits", "thrifty", "--dry-run"
    )


def test_new_writes_over_nothing() -> None:
    Path("mine.yaml").write_text("mine")
    assert "mine.yaml exists" in refused(new.main, "thrifty", "--out", "mine.yaml")
    assert Path("mine.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Thrifty"], "cannot be a trait's id"),
        (["../thrifty"], "cannot be a trait's id"),
        (["thrifty", "--model", "openai:x"], "--about"),
        (["thrifty", "--model", "nobody", "--about", "spends little"], "is not a model name"),
    ],
)
def test_new_refuses_before_it_writes(arguments: list[str], message: str, elsewhere: Path) -> None:
    assert message in refused(new.main, *arguments)
    assert list(elsewhere.iterdir()) == []


# --- chat ---


@pytest.fixture
def run() -> Path:
    """A run folder, as far as chat looks before it loads models."""
    folder = Path("run")
    (folder / "policy" / "merged").mkdir(parents=True)
    recipe = {"roles": {"policy": "bundled:smollm2-135m"}}
    (folder / "run.json").write_text(json.dumps({"identity": {"recipe": recipe}}))
    return folder


def test_chat_wants_a_run_folder() -> None:
    assert "nowhere is not a run folder (no run.json)" in refused(chat.main, "nowhere", "-m", "Hi")


def test_chat_wants_a_finished_policy(run: Path) -> None:
    (run / "policy" / "merged").rmdir()
    assert "run has no trained policy yet. Finish" in refused(chat.main, "run", "-m", "Hi")


@pytest.mark.parametrize("record", ["", "{", "{}", "[]", '{"identity": {"recipe": {}}}'])
def test_chat_tells_that_a_record_is_damaged(run: Path, record: str) -> None:
    (run / "run.json").write_text(record)
    assert "run.json is damaged" in refused(chat.main, "run", "-m", "Hi")


@pytest.mark.parametrize("option", ["--max-tokens=0", "--max-tokens=-3", "--seed=-1", "--seed=x"])
def test_chat_refuses_numbers_that_mean_nothing(run: Path, option: str) -> None:
    name = option.partition("=")[0]
    assert f"Invalid value for '{name}'" in refused(chat.main, "run", "-m", "Hi", option)


# --- what they share ---


def stumbling(error: BaseException) -> click.Command:
    @click.command()
    @friendly
    def stumble() -> None:
        raise error

    return stumble


def test_a_users_error_is_a_message() -> None:
    assert refused(stumbling(CharacterError("mend this"))) == "Error: mend this\n"


def test_an_interrupt_says_how_to_go_on() -> None:
    result = call(stumbling(KeyboardInterrupt()))
    assert result.exit_code == 130
    assert "The same command goes on from here" in result.stderr


def test_a_bug_is_not_hidden() -> None:
    result = CliRunner().invoke(stumbling(ZeroDivisionError("oops")))
    assert isinstance(result.exception, ZeroDivisionError)
