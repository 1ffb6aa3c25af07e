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

import pytest
from diffed import PAYLOADS, a_report, a_result
from markupsafe import escape
from rich.console import Console

from character.diffing.divergence import Place
from character.diffing.results import Difference
from character.report.diff_exports import as_json, as_junit, as_markdown, json_schema
from character.report.diff_html import render_diff
from character.report.diff_terminal import verdict_table
from character.report.printable import printable

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)


def test_nothing_that_was_said_is_markup() -> None:
    page = render_diff(a_report())
    body = page.partition("</style>")[2]
    assert body.count("<script") == 2  # the data and the page's own
    assert not re.search(r"<(img|svg onload|iframe)", body)
    assert "old &lt;i&gt;" in body and "because &lt;b&gt;" in body
    assert "{{ 7 * 7 }}" in body and "\x1b" not in page
    assert not re.search(r"https?://(?!www\.w3\.org/)", page)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_is_discovered_is_text_too(payload: str) -> None:
    """Words of clusters, statements of a proposer and tokens come from models."""
    report = a_report(0)
    found = report.discovery
    assert found and found.themes and found.hypotheses and found.divergence
    found = replace(
        found,
        phrases=(replace(found.phrases[0], text=payload, also=(payload,)),),
        themes=replace(found.themes, found=(replace(found.themes.found[0], words=(payload,)),)),
        hypotheses=replace(
            found.hypotheses,
            model=payload,
            found=(replace(found.hypotheses.found[0], statement=payload),),
        ),
        divergence=replace(
            found.divergence,
            habits=(replace(found.divergence.habits[0], said=payload),),
            places=(Place("id9/1", payload, payload, payload, 3.5),),
        ),
        unseen=(payload,),
    )
    hostile = replace(report, discovery=found)
    section = render_diff(hostile).partition('id="discovered"')[2].partition("</section>")[0]
    shown = str(escape(printable(payload)))
    assert section.count(shown) >= 9  # phrase, its companion, cluster, model, statement, 4 tokens
    assert not re.search(r"<(script|img|svg|iframe|!--)", section)
    console = Console(record=True, width=400, file=StringIO())
    console.print(verdict_table(hostile))
    text = console.export_text()
    assert text.count(printable(payload)) >= 4 and "\x1b" not in text
    assert "\x1b" not in as_markdown(hostile) and json.loads(as_json(hostile))


def test_who_caused_what_is_shown_everywhere() -> None:
    report = a_report()
    page = render_diff(report)
    table = page.partition("What each trait added")[2].partition("</table>")[0]
    assert re.search(r'class="number caused">\+0\.200 .*\*<small>\+90.% \[80, 110\] of it', table)
    assert "3 queries &lt;b&gt;" in table and "missing" in table
    assert "runs/&lt;i&gt;plain" in page and "7 answers missing: no &lt;b&gt;reply" in page
    console = Console(record=True, width=140, file=StringIO())
    console.print(verdict_table(report))
    row = next(
        line for line in console.export_text().splitlines()
        if "style/emoji" in line and "missing" in line
    )  # fmt: skip
    assert row.count("*") == 1
    assert "Title of style/emoji: Curious, +0.200" in as_markdown(report)
    cells = json.loads(as_json(report))["contributions"]
    assert [cell["discovered"] for cell in cells] == [True, False]
    assert cells[1]["share"] is None and cells[1]["movement"] is None  # and never 0


def test_nothing_is_said_of_causes_where_no_trait_was_left_out_or_nothing_moved() -> None:
    report = a_report()
    bare = replace(report.difference, contributions=())
    still = replace(report, difference=bare)
    assert "nothing was caused" in render_diff(still)
    assert "caused" not in render_diff(replace(still, without={})).partition("</style>")[2]


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
