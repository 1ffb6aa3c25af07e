"""The diff's page and exports with hostile replies, and in a real browser where there is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from character.diffing.difference import Difference, Kept, Result
from character.diffing.discovery import Discovery, Phrase, Telling
from character.diffing.inference import Ratio, movements
from character.diffing.verdicts import Gate, Verdict, decide
from character.report.content import StageCost
from character.report.diff_content import DiffReport, Example, Side
from character.report.diff_exports import as_json, as_junit, as_markdown, json_schema
from character.report.diff_html import render_diff
from character.report.diff_terminal import verdict_table

PAYLOADS = [
    "<script>document.title = 'pwned'</script>",
    "</script><script>document.title = 'pwned'</script>",
    "<img src=x onerror=\"document.title = 'pwned'\">",
    "\"><svg onload=\"document.title = 'pwned'\">",
    "<!-- <script>", "]]>", "{{ 7 * 7 }}", "\u202egnp.exe", "a\u2028b", "\x1b[31mred",
    "javascript:document.title='pwned'",
    "<iframe srcdoc='<script>parent.document.title=1</script>'>",
]  # fmt: skip
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)


def a_result(name: str, verdict: Verdict, **more: object) -> Result:
    (movement,) = movements(np.linspace(0.1, 0.3, 30)[:, None], 99)
    group = name.partition("/")[0]
    return Result(
        name, group, f"Title of {name}", "nats a token", "up", 0.05, 0.1, 0.3, movement,  # type: ignore[arg-type]
        verdict, "because <b>", dose=Ratio(0.4, 0.3, 0.5, 30), **more,  # type: ignore[arg-type]
    )  # fmt: skip


def a_report(examples: int = 30, **changes: object) -> DiffReport:
    results = (
        a_result("trait/curious", "INTENDED"),
        replace(a_result("trait/warm", "UNMEASURABLE"), movement=None, old=float("nan"), dose=None),
        a_result("quality/capability", "REGRESSED"),
        a_result("style/emoji", "MOVED", q=0.01),
        a_result("panel/gloomy", "INCONCLUSIVE", q=0.4),
    )
    kept = (Kept("robustness/curious/polite", "curious", "polite", None, "INCONCLUSIVE", "few"),)
    difference = Difference(results, kept, {"curious": 4.2})
    report = DiffReport(
        old=Side("old <i>", "bundled", {}),
        new=Side("new", "local", {"no reply in the file": 2}),
        traits={"curious": "Curious", "warm": "Warm"},
        examiner="bundled:x",
        circular=True,
        quick=False,
        suite="abc",
        asked={"on_trait": 30, "neutral": 4},
        overlap={},
        gate=Gate(),
        difference=difference,
        discovery=Discovery(
            (Phrase("<b>ahoy", ("ahoy there",), 0.02, 0.4, 0.001, ("id3/1",)),), 40, 160, 0,
            Telling(0.8, 0.7, 0.9), Telling(0.6, 0.5, 0.7), None,
        ),
        decision=decide(Gate(), difference.judged),
        examples=[
            Example(f"id{i}/1", ("on_trait", "neutral")[i % 2], "curious", "asks", "", f"query {i}",
                    f"it is {PAYLOADS[i % len(PAYLOADS)]}",
                    f"it was {PAYLOADS[-1 - i % len(PAYLOADS)]}",
                    {"curious": i / 10 if i % 5 else None})
            for i in range(examples)
        ],
        costs=[StageCost("answers", 61.0, 2_000_000_000)],
        command="python -m character.diff a b",
        folder="diffs/x",
        config={"samples": 1},
        versions={"python": "3.11"},
    )  # fmt: skip
    return replace(report, **changes)  # type: ignore[arg-type]


def test_nothing_that_was_said_is_markup() -> None:
    page = render_diff(a_report())
    body = page.partition("</style>")[2]
    assert body.count("<script") == 2  # the data and the page's own
    assert not re.search(r"<(img|svg onload|iframe)", body)
    assert "old &lt;i&gt;" in body and "because &lt;b&gt;" in body
    assert "{{ 7 * 7 }}" in body and "\x1b" not in page
    assert not re.search(r"https?://(?!www\.w3\.org/)", page)


def test_the_same_report_gives_the_same_bytes() -> None:
    assert render_diff(a_report()) == render_diff(a_report())


def test_the_page_stays_small() -> None:
    words = "Two thousand queries, and replies of sixty-four tokens each, which is about this. " * 4
    one = a_report(1).examples[0]
    examples = [replace(one, id=f"i{i}", old=words, new=words[::-1]) for i in range(2000)]
    assert len(render_diff(replace(a_report(), examples=examples)).encode()) < 4e6


def test_json_keeps_its_schema_and_a_missing_number_is_null() -> None:
    page = json.loads(as_json(a_report()))
    assert set(page) == set(json.loads(json_schema())["properties"])
    warm = next(result for result in page["results"] if result["name"] == "trait/warm")
    assert warm["old"] is None and warm["movement"] is None
    assert page["tiers"]["quality/capability"] == "critical"
    assert (page["word"], page["decision"]["code"]) == ("INVALID", 3)


def test_junit_fails_what_regressed_and_skips_what_is_unsure() -> None:
    suite = ElementTree.fromstring(as_junit(a_report()))
    found = {case.attrib["name"]: [child.tag for child in case] for case in suite}
    assert found["quality/capability"] == ["failure"]
    assert found["trait/warm"] == ["skipped"] and found["trait/curious"] == []
    assert "style/emoji" not in found and found["valid"] == ["error"]
    assert suite.attrib["failures"] == "1"


def test_markdown_cannot_be_broken_out_of() -> None:
    hostile = replace(a_result("trait/curious", "INTENDED"), title="a | b\n# c [x](y) <i>")
    report = a_report()
    page = as_markdown(replace(report, difference=Difference((hostile,), (), {})))
    assert "a \\| b \\# c \\[x\\](y) \\<i\\>" in page
    assert "MOVED" not in page


def test_the_terminal_says_verdict_reasons_and_where() -> None:
    console = Console(record=True, width=100, file=StringIO())
    console.print(verdict_table(a_report()))
    text = " ".join(console.export_text().split())
    for part in ("INVALID", "+40 % [30, 50]", "missing", "Specificity of curious: 4.2", "circular",
                 "in 2% of OLD's replies",
                 "diffs/x/report.html", "Moved, though nobody asked"):  # fmt: skip
        assert part in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_shows_the_replies_as_text(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render_diff(a_report()), encoding="utf-8")
    dom = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000",
         f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title and "what changed" in title.group(1)
    shown = dom.partition('id="examples"')[2].partition("</ul>")[0]
    assert shown.count('class="comparison"') == 12
    assert not re.search(r"<(img|script|iframe|svg)", shown)
    assert "12 of 15 shown" in dom  # on-trait first
    assert "<ins>" in shown and "<del>" in shown
