"""What a user can type, and what they are told when it is wrong; no model is asked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from character import diff, suite
from character.commands import friendly, friendly_as
from character.diff_job import DiffJob, prepare_diff, version_of
from character.diff_plan import detectable, plan, within
from character.diffing.config import SuiteConfig
from character.diffing.suite import make_suite, read_suite, write_suite
from character.errors import CharacterError
from character.rows import Query, content_id
from character.shipped import shipped
from character.spec.constitution import load_constitution
from character.store.store import Store

BUNDLED = "bundled:smollm2-135m"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def trained(tmp_path: Path, tiny_folder: Path) -> Path:
    """A run folder as a build leaves it, with a tiny policy."""
    folder = tmp_path / "runs" / "mine"
    (folder / "policy").mkdir(parents=True)
    (folder / "policy" / "merged").symlink_to(tiny_folder)
    record = {
        "identity": {"recipe": {"roles": {"policy": BUNDLED, "judge": BUNDLED}}},
        "spec": load_constitution(["curious", "warm:0.5"]).plain,
    }
    (folder / "run.json").write_text(json.dumps(record))
    Store(folder / "character.duckdb").close()
    return folder


def locked(path: Path, *traits: str) -> Path:
    written = {
        trait: [
            Query(content_id(trait, i), f"{trait} {i}", "on_trait", trait, "", "", "", "writer", i,
                  "held_out", "")
            for i in range(30)
        ]
        for trait in traits
    }  # fmt: skip
    write_suite(make_suite(written, SuiteConfig(on_trait=30)), path)
    return path


def told(*arguments: object) -> tuple[int, str]:
    found = CliRunner().invoke(diff.main, [str(argument) for argument in arguments])
    assert not isinstance(found.exception, Exception), found.exception
    return found.exit_code, " ".join(found.output.split())


def test_one_run_is_diffed_against_its_base_with_the_traits_it_was_built_from(
    trained: Path,
) -> None:
    job = prepare_diff([str(trained)], [], None, None, [], BUNDLED, None, False, True, False, 0)
    assert (job.old.model, job.new.model) == (BUNDLED, f"local:{trained / 'policy' / 'merged'}")
    assert [(m.trait.id, m.weight) for m in job.constitution.members] == [
        ("curious", 1.0), ("warm", 0.5),
    ]  # fmt: skip
    assert len(job.panel) == 40
    assert job.folder.parent == Path("diffs")


def test_what_a_version_may_be(trained: Path, tiny_folder: Path) -> None:
    assert version_of(BUNDLED).model == BUNDLED
    assert version_of(str(trained)).run == trained
    checkpoint = version_of(str(tiny_folder))
    assert (checkpoint.model, checkpoint.run) == (f"local:{tiny_folder}", None)
    inside = trained / "policy" / "copy"
    inside.symlink_to(tiny_folder)
    assert version_of(str(inside)).run == trained  # whose training queries must not be asked
    saved = trained / "replies.jsonl"
    saved.write_text("{}")
    assert version_of(str(saved)).saved == saved


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere", BUNDLED], "is not a model name"),
        ([BUNDLED, BUNDLED], "which traits?"),
        ([BUNDLED], "name two versions"),
        ([BUNDLED, "none.jsonl", "--traits", "curious"], "no such file"),
        ([BUNDLED, BUNDLED, "--traits", "curios"], "curious"),
        ([BUNDLED, BUNDLED, "--traits", "curious", "--suite", "none.lock"], "cannot be read"),
        ([BUNDLED, BUNDLED, "--traits", "curious", "--gate", "none.yaml"], "cannot be read"),
        (
            [BUNDLED, BUNDLED, "--traits", "curious", "--expect", "sideways"],
            "--expect curious=hold",
        ),
        ([BUNDLED, BUNDLED, "--traits", "curious", "--expect", "warm=up"], "for one of curious"),
        ([BUNDLED, BUNDLED, "--traits", "curious", "--examiner", "openai:gpt-5-mini"], "a key"),
        ([BUNDLED, BUNDLED, "--traits", "curious", "--proposer", "gpt-5"], "is not a model name"),
        ([], "name two versions"),
        ([BUNDLED, BUNDLED, BUNDLED, "--traits", "curious", "--out", "x"], "--out is for two"),
    ],
)
def test_a_mistake_is_one_message(arguments: list[str], says: str) -> None:
    code, message = told(*arguments)
    assert code == 3 and says in message and "Traceback" not in message


@pytest.mark.parametrize("crash", [ZeroDivisionError(), OSError(5, "Input/output error")])
def test_a_crash_never_reads_as_a_verdict(
    crash: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise crash

    with pytest.raises(SystemExit) as left:
        friendly_as(3)(fails)()
    assert left.value.code == 3 and "Traceback" in capsys.readouterr().err
    with pytest.raises(type(crash)):  # elsewhere a bug is a bug
        friendly(fails)()


def test_a_version_without_a_trait_must_be_new_without_it(
    trained: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    def left_out(*settings: str) -> str:
        words = [word for setting in settings for word in ("--without", setting)]
        code, message = told(trained, *words, "--dry-run")
        assert code == 3 and "Traceback" not in message
        return message

    other = tmp_path / "runs" / "other"
    shutil.copytree(trained, other, symlinks=True)
    (other / "policy" / "merged").unlink()
    shutil.copytree(tiny_folder, other / "policy" / "merged")
    (other / "policy" / "merged" / "generation_config.json").write_text("{}")
    record = json.loads((other / "run.json").read_text())
    record["spec"] = load_constitution(["curious"]).plain
    (other / "run.json").write_text(json.dumps(record))
    assert "write one of curious, warm" in left_out("warm")
    assert "write one of curious, warm" in left_out(f"warm2={other}")
    assert "write one of curious, warm" in left_out("warm=")
    assert "is not a model name" in left_out("warm=nowhere")
    assert "is NEW. A version without warm" in left_out(f"warm={trained}")
    assert "warm twice" in left_out(f"warm={other}", f"warm={BUNDLED}")
    assert "is the version without warm" in left_out(f"warm={other}", f"curious={other}")
    message = left_out(f"curious={other}")
    assert "was built from curious, and NEW without curious is warm" in message
    assert "--leave-out curious" in message
    record["spec"] = load_constitution(["curious:3"]).plain
    (other / "run.json").write_text(json.dumps(record))
    assert "other texts or weights of curious" in left_out(f"warm={other}")
    code, message = told(BUNDLED, trained, other, "--without", f"warm={other}", "--dry-run")
    assert code == 3 and "--without is for two versions" in message


def test_a_dry_run_counts_the_versions_without_a_trait(trained: Path, tmp_path: Path) -> None:
    def job(*left_out: str) -> DiffJob:
        return prepare_diff(
            [str(trained)], [], None, None, [], BUNDLED, None, False, True, False, 0,
            left_out=left_out,
        )  # fmt: skip

    plain, one = job(), job(f"warm={BUNDLED}")
    more = {(stage.stage, stage.what): stage.calls for stage in plan(one)}
    asked = [calls for (_, what), calls in more.items() if what.startswith("without warm's")]
    for stage in plan(plain):
        assert more[stage.stage, stage.what] >= stage.calls
    # two traits' queries where it should show and where not, neutral ones and formats; then facts
    sizes = SuiteConfig()
    assert asked[0] == 2 * (sizes.on_trait + sizes.unless) + sizes.neutral + sizes.off_format
    assert sum(asked) == replies_of(one) - replies_of(plain)
    # three versions' replies in two contexts each
    assert more["examiner", "off-target panel"] == 3 * one.config.panel * 40 * 2
    assert one.folder == plain.folder and "--without warm=" in one.command
    assert "without warm's replies" in told(
        trained, "--without", f"warm={BUNDLED}", "--dry-run", "--no-panel"
    )[1].replace("│", "")


def test_an_unfinished_or_damaged_run_says_so(trained: Path) -> None:
    (trained / "policy" / "merged").unlink()
    assert "no trained policy yet" in told(trained)[1]
    (trained / "policy" / "merged").mkdir()
    (trained / "run.json").write_text("{")
    assert "is damaged" in told(trained)[1]


def test_a_suite_must_ask_for_the_traits_and_be_as_it_was_locked(tmp_path: Path) -> None:
    path = locked(tmp_path / "suite.lock", "warm")
    code, message = told(BUNDLED, BUNDLED, "--traits", "curious", "--suite", path)
    assert code == 3 and "character.suite make" in message
    path.write_text(path.read_text().replace("warm 3", "warm three"))
    assert "suite lock" in told(BUNDLED, BUNDLED, "--traits", "warm", "--suite", path)[1]


def test_dry_run_says_what_it_would_take_and_writes_nothing(tmp_path: Path) -> None:
    code, message = told(BUNDLED, BUNDLED, "--traits", "curious", "--dry-run")
    assert code == 0
    for part in ("planted replies", "off-target panel", "Minutes", "Detects a movement of curious"):
        assert part in message
    assert not (tmp_path / "diffs").exists()
    smaller = told(BUNDLED, BUNDLED, "--traits", "curious", "--dry-run", "--quick")[1]
    assert "off-target panel" not in smaller


def planned(*arguments: str) -> DiffJob:
    """The job within a budget, the last argument."""
    *traits, budget = arguments
    job = prepare_diff(
        [BUNDLED, BUNDLED], traits, None, None, [], BUNDLED, None, False, True, False, 0
    )
    return within(job, int(budget))


def replies_of(job: DiffJob) -> int:
    return sum(stage.calls for stage in plan(job) if stage.stage == "answers")


def test_a_budget_buys_queries_before_samples() -> None:
    small, large, huge = (planned("curious", budget) for budget in ("400", "3000", "40000"))
    for job, budget in ((small, 400), (large, 3000), (huge, 40000)):
        assert 0.8 * budget <= replies_of(job) <= budget
    assert 20 <= small.suite_config.on_trait < 100 < large.suite_config.on_trait < 400
    assert (small.config.samples, large.config.samples) == (1, 1)
    assert huge.suite_config.on_trait == 400 and huge.config.samples > 1
    assert len({job.folder for job in (small, large, huge)}) == 3  # other data, other folders
    reach = [detectable(job)["curious"] for job in (small, large, huge)]
    assert reach == sorted(reach, reverse=True)


def test_a_budget_that_is_too_small_says_what_is_needed(tmp_path: Path) -> None:
    code, message = told(BUNDLED, BUNDLED, "--traits", "curious", "--budget", "5", "--dry-run")
    assert code == 3 and "at least" in message and "--quick" in message
    path = locked(tmp_path / "suite.lock", "curious")
    arguments = (BUNDLED, BUNDLED, "--traits", "curious", "--suite", path, "--dry-run")
    code, message = told(*arguments, "--budget", "5")
    assert code == 3 and "a smaller suite" in message


def test_the_queries_of_a_given_suite_are_kept_and_a_budget_buys_samples(tmp_path: Path) -> None:
    path = locked(tmp_path / "suite.lock", "curious")
    job = prepare_diff(
        [BUNDLED, BUNDLED], ["curious"], str(path), None, [], BUNDLED, None, False, True, False, 0
    )
    once = replies_of(job)
    fitted = within(job, 3 * once + 5)
    assert fitted.config.samples == 3 and replies_of(fitted) == 3 * once


def test_the_plan_needs_no_torch() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from character.diff import main;"
        f"CliRunner().invoke(main, ['{BUNDLED}', '{BUNDLED}', '--traits', 'curious', '--dry-run']);"
        "print([m for m in ('torch', 'trl', 'openai', 'statsmodels') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_schema_is_json_schema() -> None:
    code, _ = told("--schema")
    schema = json.loads(CliRunner().invoke(diff.main, ["--schema"]).output)
    assert code == 0 and schema["$schema"].endswith("2020-12/schema")
    assert {"results", "decision", "kept"} <= set(schema["properties"])
    bound = schema["$defs"]["Movement"]["properties"]["low"]["anyOf"]
    assert {"type": "null"} in bound and {"type": "number"} in bound  # an interval without end


def test_the_expected_direction_can_be_set_for_all_or_for_one(trained: Path) -> None:
    def expects(*settings: str) -> dict[str, str]:
        job = prepare_diff(
            [str(trained)], [], None, None, settings, BUNDLED, None, False, False, False, 0
        )
        return dict(job.gate.expect)

    assert expects("hold") == {"trait/curious": "hold", "trait/warm": "hold"}
    assert expects("hold", "warm=down")["trait/warm"] == "down"


# --- the suite's own command ---


def test_a_suite_is_shown_edited_and_locked_again(tmp_path: Path) -> None:
    path = locked(tmp_path / "suite.lock", "curious")
    run = CliRunner().invoke
    shown = run(suite.main, ["show", str(path)]).output
    assert "on_trait" in shown and "curious" in shown and read_suite(path).digest in shown
    lines = run(suite.main, ["show", str(path), "--jsonl"]).output.splitlines()
    rows = [json.loads(line) for line in lines]
    assert {"id", "query", "stratum"} <= set(rows[0])
    assert any(row.get("earlier") for row in rows) and any(row.get("opening") for row in rows)
    path.write_text(path.read_text().replace("curious 3", "curious three"))
    assert run(suite.main, ["show", str(path)]).exit_code == 2
    assert run(suite.main, ["lock", str(path)]).exit_code == 0
    assert read_suite(path)


def test_make_refuses_to_write_over_a_file(tmp_path: Path) -> None:
    path = locked(tmp_path / "suite.lock", "curious")
    found = CliRunner().invoke(suite.main, ["make", str(path), "--traits", "curious"])
    assert found.exit_code == 2 and "is there already" in found.output


def test_the_shipped_traits_are_never_shadowed_by_the_panel() -> None:
    with pytest.raises(CharacterError):
        load_constitution(["gloomy"])
    assert load_constitution([str(shipped("traits") / "panel" / "gloomy.yaml")]).name == "gloomy"
