"""A made-up diff with hostile replies, for tests of what is shown of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from character.diffing.discovery import Discovery
from character.diffing.divergence import Divergence, Habit, Place
from character.diffing.inference import Ratio, movements
from character.diffing.phrases import Phrase, Telling
from character.diffing.proposals import Hypotheses, Hypothesis
from character.diffing.results import Contribution, Difference, Kept, Result
from character.diffing.themes import Theme, Themes
from character.diffing.verdicts import Gate, Verdict, decide
from character.report.content import StageCost
from character.report.diff_content import DiffReport, Example, Side

PAYLOADS = [
    "<script>document.title = 'pwned'</script>",
    "</script><script>document.title = 'pwned'</script>",
    "<img src=x onerror=\"document.title = 'pwned'\">",
    "\"><svg onload=\"document.title = 'pwned'\">",
    "<!-- <script>", "]]>", "{{ 7 * 7 }}", "\u202egnp.exe", "a\u2028b", "\x1b[31mred",
    "javascript:document.title='pwned'",
    "<iframe srcdoc='<script>parent.document.title=1</script>'>",
]  # fmt: skip


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
    (movement,) = movements(np.linspace(0.1, 0.3, 30)[:, None], 99)
    caused = (
        Contribution("style/emoji", "curious", movement, 0.003, True, Ratio(0.9, 0.8, 1.1, 30)),
        Contribution("style/emoji", "warm", None, 1.0, False, None, "3 queries <b>"),
    )
    difference = Difference(results, kept, {"curious": 4.2}, caused)
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
            Telling(0.8, 0.7, 0.9), Telling(0.6, 0.5, 0.7), None, Telling(0.55, 0.5, 0.6),
            Themes((Theme(("<i>stocks",), 0.1, 0.7, 0.001, ("id5/1",)),), 8, 0, "minilm"),
            Hypotheses(
                (Hypothesis("It says <script>.", 0.1, 0.8, 0.01, 40, 1, ("id7/1",)),), 9, 1, 0, 0,
                "openai:x",
            ),
            Divergence(
                0.2, 0.1, 0.3, 0.5, 30, (Habit("<b>", 9.0, 4),),
                (Place("id9/1", "so <i>", "<script>", "[end]", 3.5),),
            ),
            ("anything else: <b>why",),
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
        without={
            "curious": Side("runs/<i>plain", "local", {}),
            "warm": Side("b", "local", {"no <b>reply": 7}),
        },
    )  # fmt: skip
    return replace(report, **changes)  # type: ignore[arg-type]
