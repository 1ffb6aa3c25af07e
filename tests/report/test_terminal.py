import os
import subprocess
import sys
from dataclasses import replace
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from rich.console import Console, RenderableType

from character.diffing.outcome import Line, Outcome
from character.diffing.statistics import Estimate
from character.plan import PlannedStage
from character.report.content import Report
from character.report.terminal import (
    Unit,
    change_text,
    headline,
    interval_text,
    level_text,
    outcome_table,
    plan_table,
    spill_text,
    verdict_of,
)

PERCENT = Unit(100, 1, " %", " points")


def printed(renderable: RenderableType, width: int = 80) -> str:
    file = StringIO()
    Console(width=width, file=file, color_system=None).print(renderable)
    assert max(map(len, file.getvalue().splitlines())) <= width
    return file.getvalue()


@pytest.mark.parametrize(
    ("value", "level", "change"),
    [
        (0.4666, "46.7 %", "+46.7 points"),
        (-0.0333, "-3.3 %", "-3.3 points"),
        (-0.00001, "0.0 %", "+0.0 points"),
        (float("nan"), "missing", "missing"),
    ],
)
def test_numbers(value: float, level: str, change: str) -> None:
    found = Estimate(value, value - 0.1, value + 0.1, 60)
    assert level_text(found, PERCENT) == level
    assert change_text(found, PERCENT) == change


def test_what_is_missing_is_a_word() -> None:
    assert level_text(None, PERCENT) == change_text(None, PERCENT) == "missing"
    assert interval_text(None, PERCENT) == ""


@pytest.mark.parametrize(
    ("bar", "holds", "change", "verdict"),
    [
        ("-3 points", True, Estimate(0, -1, 1, 9), "holds"),
        ("-3 points", False, Estimate(0, -1, 1, 9), "missed"),
        ("-3 points", None, None, "missing"),
        ("-3 points", True, Estimate(float("nan"), 0, 0, 9), "missing"),
        ("", None, Estimate(0, -1, 1, 9), "no bar"),
    ],
)
def test_verdicts(bar: str, holds: bool | None, change: Estimate | None, verdict: str) -> None:
    assert verdict_of(Line("m", "M", "share", {}, change, bar, holds)) == verdict


@pytest.mark.parametrize(
    ("change", "reading"),
    [
        (Estimate(0.1, 0.01, 0.2, 9), "spills over"),
        (Estimate(0.1, -0.01, 0.2, 9), "no change shown"),
        (Estimate(-0.1, -0.2, -0.01, 9), "fell"),
        (None, "missing"),
    ],
)
def test_spills(change: Estimate | None, reading: str) -> None:
    assert spill_text(Line("m", "M", "share", {}, change)).startswith(reading)


def test_one_trait_s_headline(report: Report) -> None:
    curious = report.outcome.traits[0]
    alone = replace(report, outcome=Outcome((curious,), report.outcome.quality[:2]))
    assert headline(alone) == (
        "Moved 92 % [80, 104] of the way from plain to prompted; 1 of 2 quality bars hold "
        "(missed: short questions right); short questions right: 47 % before, 40 % after."
    )
    still = replace(curious, contrast=replace(curious.contrast, holds=False))
    unmoved = replace(report, outcome=Outcome((still,), ()))
    assert headline(unmoved).startswith("Not shown to move: 92 % [80, 104] of the way")


def test_a_build_ends_with_what_matters(report: Report) -> None:
    text = printed(outcome_table(report))
    assert "Curious" in text and "+0.320 [0.280, 0.360]" in text and "92 % [80, 104]" in text
    assert "47.0 % -> 40.0 %" in text
    assert "Took 10.0 minutes, peak memory 2.9 GB." in text
    assert "runs/curious-0123abcd/report.html" in text
    assert "python -m character.chat runs/curious-0123abcd" in text
    assert "Spills over: Curious, where it must not show, by +0.100 [0.060, 0.140]." in text
    assert "Smoke build" not in text


def test_failed_and_missing_bars_are_said_in_words(report: Report) -> None:
    rows = printed(outcome_table(report)).splitlines()
    (short,) = [row for row in rows if "Short questions right" in row]
    (fluency,) = [row for row in rows if "Fluency under base" in row]
    assert short.rstrip().endswith("missed")
    assert "missing -> -1.200" in fluency and fluency.rstrip().endswith("missing")


def test_titles_are_neither_markup_nor_terminal_codes(report: Report) -> None:
    text = printed(outcome_table(report))
    assert "[bold]" in text
    assert "\x1b" not in text


def test_a_smoke_build_says_so(bare: Report) -> None:
    assert "Smoke build: too small to mean anything." in printed(outcome_table(bare))


def test_a_folder_with_a_space_can_be_pasted(report: Report) -> None:
    spaced = replace(report, folder="my runs/one")
    assert "character.chat 'my runs/one'" in printed(outcome_table(spaced))


def test_a_log_file_in_ascii_can_hold_the_ending(report: Report) -> None:
    outcome = Outcome(report.outcome.traits[:1], report.outcome.quality)
    plain = replace(report, outcome=outcome, asked=report.asked[1:])
    for renderable in (outcome_table(plain), plan_table([], "runs/one")):
        log = TextIOWrapper(BytesIO(), encoding="ascii", errors="strict")
        Console(width=80, file=log).print(renderable)
        log.flush()
        assert b"runs/" in log.buffer.getvalue()  # type: ignore[attr-defined]


def test_models_behind_apis_are_told_with_their_cost(report: Report) -> None:
    said = " ".join(printed(outcome_table(report)).split())
    assert "openai:m: 300 stop, 12 cached; $0.1234." in said
    assert "1,312 stop, 3 failed; price of 1,315 unknown." in said


def test_how_ppo_ended_is_said_and_where_its_policy_is(report: Report, stopped: Report) -> None:
    assert "PPO" not in printed(outcome_table(report))
    said = " ".join(printed(outcome_table(stopped)).split())
    assert "PPO was stopped after update 15 of 30, and the policy was rolled back" in said
    assert "by 31%." in said
    assert "runs/curious-0123abcd/ppo" in said and "runs/curious-0123abcd/policy" not in said


def test_the_plan_adds_up() -> None:
    stages = [
        PlannedStage("queries", "drafts", 552, 19_872, 36.0),
        PlannedStage("measure", "answers under each context", 3_360, 332_640, 174.0),
    ]
    text = printed(plan_table(stages, "runs/curious-0123abcd"))
    total = next(line for line in text.splitlines() if "total" in line)
    assert total.split()[-3:] == ["3,912", "352,512", "3.5"]
    assert "runs/curious-0123abcd" in text
    assert "Nothing was started; leave out --dry-run to start." in text


def test_the_plan_tells_the_cost_of_models_behind_apis_and_what_nobody_knows() -> None:
    here = PlannedStage("replies", "replies", 100, 6400, 10.0)
    text = printed(plan_table([here], "runs/one"))
    assert "$" not in text and "unknown" not in text
    dear = PlannedStage("queries", "drafts by openai:m", 100, 3600, 3.0, dollars=0.0123)
    strange = PlannedStage("measure", "answers by http://h/v1#m", 1, 1, 1.0, dollars=None)
    text = " ".join(printed(plan_table([here, dear, strange], "runs/one")).split())
    assert "About $0.0123 for models behind APIs" in text
    assert "What measure will cost is unknown" in text


def test_a_dry_run_loads_neither_torch_nor_matplotlib() -> None:
    script = (
        "import sys, character.report.terminal; "
        "sys.exit(' '.join({'torch', 'trl', 'matplotlib', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=False
    )
    assert done.stderr.strip() == ""
