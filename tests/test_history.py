from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from diffed import a_report

from character import history
from character.blessed import bless, read_history
from character.diffing.verdicts import Decision
from character.errors import RunError
from character.report.diff_content import DiffReport

WHEN = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def passed(tmp_path: Path) -> DiffReport:
    return replace(a_report(), decision=Decision(0, ()), folder=str(tmp_path / "one"))


def test_what_passed_is_recorded_and_read_again(passed: DiffReport, tmp_path: Path) -> None:
    bless(passed, WHEN)
    path = bless(replace(passed, suite="other"), WHEN)
    assert path == tmp_path / "history.jsonl"
    first, second = read_history(path)
    assert (first.when, first.suite, second.suite) == ("2026-11-20T12:00:00+00:00", "abc", "other")
    curious, warm = first.traits["curious"], first.traits["warm"]
    assert curious.value == pytest.approx(0.2) and curious.dose == 0.4
    assert (warm.value, warm.dose, warm.verdict) == (None, None, "UNMEASURABLE")


def test_what_did_not_pass_cannot_be_blessed(passed: DiffReport, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="only one that passes"):
        bless(replace(passed, decision=Decision(1, ("worse",))))
    assert not (tmp_path / "history.jsonl").exists()


def test_the_command_shows_a_trend_a_trait(passed: DiffReport) -> None:
    path = bless(passed, WHEN)
    run = CliRunner().invoke
    shown = run(history.main, [str(path)])
    assert shown.exit_code == 0
    for part in ("curious", "missing", "INTENDED", "+40%"):
        assert part in shown.output
    assert "cannot be compared" not in shown.output
    bless(replace(passed, suite="other"), WHEN)
    assert "cannot be compared" in " ".join(run(history.main, [str(path)]).output.split())
    assert len(run(history.main, [str(path), "--json"]).output.splitlines()) == 2


def test_no_file_or_a_broken_line_is_one_message(tmp_path: Path) -> None:
    run = CliRunner().invoke
    missing = run(history.main, [str(tmp_path / "none.jsonl")])
    assert missing.exit_code == 2 and "--bless" in missing.output
    broken = tmp_path / "history.jsonl"
    broken.write_text("{}\n")
    assert "history.jsonl:1:" in run(history.main, [str(broken)]).output
