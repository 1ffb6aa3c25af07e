"""Whatever a file holds, it is a trait or told what is wrong, within 2 s and 200 MB."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from character.judging.checks import passes
from character.report.findings import findings_json, findings_text
from character.shipped import shipped
from character.spec.lint import check_files
from character.yaml_file import MAX_BYTES

SECONDS, MEGABYTES = 2.0, 200
CURIOUS = (shipped("traits") / "curious.yaml").read_text(encoding="utf-8")
FULL = MAX_BYTES - 100  # bytes that are still read


def filled(part: str) -> str:
    """As many of these as are still read."""
    return part * (FULL // len(part.encode()))


def bomb() -> str:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(["a0: &a0 [x, x, x]", *levels])


NASTY: dict[str, bytes | str] = {
    "ten megabytes": b"a: b\n" * 2_000_000,
    "binary": bytes(range(256)) * 4000,
    "utf-16": CURIOUS.encode("utf-16"),
    "utf-16, big endian, no mark": CURIOUS.encode("utf-16-be"),
    "tabs": "\t" + CURIOUS.replace("  ", "\t"),
    "alias bomb": bomb(),
    "merge bomb": bomb() + "\nz: {<<: *a11}",
    "an anchor in itself": "a: &a [*a]",
    "brackets": "[" * FULL,
    "braces": filled("{a: "),
    "dashes": filled("- "),
    "indentation": "\n".join(" " * n + "a:" for n in range(1400)),
    "question marks": filled("? "),
    "as many values as there is room for": filled("- a\n"),
    "many keys": "\n".join(f"k{n}: v" for n in range(90_000)),
    "many duplicate keys": filled("a: b\n"),
    "one long line": "a: " + "x" * FULL,
    "one long quoted text": 'a: "' + filled(r"\u0041") + '"',
    "one long block": "a: >-\n" + filled("  word word word\n"),
    "blank lines": filled("\n"),
    "comments": filled("# a comment\n"),
    "anchors": "\n".join(f"k{n}: &a{n} v" for n in range(60_000)),
    "tags": filled("- !!python/name:os.system a\n"),
    "directives": filled("%YAML 1.1\n"),
    "documents": filled("---\n"),
    "a huge number": "schema: " + "9" * FULL,
    "a huge float": "margin: 1e" + "9" * 400_000,
    "sexagesimal": "margin: " + filled("1:"),
    "unclosed quote": "a: '" + filled("it''s\n"),
    "too many seeds": CURIOUS.replace("seeds:\n", "seeds:\n" + "    - Is this a seed?\n" * 9000),
    "as many seeds as there may be": CURIOUS.replace(
        "seeds:\n", "seeds:\n" + "".join(f"    - Is {n} a seed, or two?\n" for n in range(384))
    ),
    "a slow pattern": CURIOUS.replace(
        "checks:\n", "checks:\n  - {kind: lacks, pattern: '(a|[a-z ]+)+(.*)+\\d{9}$'}\n"
    ),
    "many examples without a clause": CURIOUS.replace(
        "examples:\n",
        "examples:\n" + "  - {clause: none, user: a, good: b, bad: c, why: d}\n" * 1500,
    ),
    "wrong types everywhere": CURIOUS.replace(": ", ": [1]  # "),
}  # fmt: skip

WELCOME = {
    "right to left": CURIOUS.replace("I had a rough day at work today.", "כמה זמן מבשלים אורז?"),
    "arabic": CURIOUS.replace("title: Curious", "title: فضولي"),
    "chinese": CURIOUS.replace("title: Curious", "title: 好奇"),
    "combining marks and emoji": CURIOUS.replace("title: Curious", "title: Cu\u0301rieux 🐈‍⬛"),
}


MEASURE = """
import json, resource, sys, time
from pathlib import Path
from character.judging.checks import passes
from character.report.findings import findings_text
from character.spec.lint import check_files
began = time.process_time()
checked = check_files(sys.argv[1:], passes)
told = findings_text(checked)
seconds = time.process_time() - began
status = Path("/proc/self/status")
if status.exists():  # on Linux getrusage begins with the memory of the process that started this
    told_peak = status.read_text().partition("VmHWM:")[2].split()[0]
else:
    told_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
peak = int(told_peak) / 1024
print(json.dumps([seconds, peak, checked.worst, told[:2000]]))
"""


@pytest.mark.parametrize("name", NASTY)
def test_what_is_nasty_is_told_in_time_and_in_little_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / "nasty.yaml"
    content = NASTY[name]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seconds, peak, worst, told = json.loads(done.stdout)
    assert seconds < SECONDS and peak < MEGABYTES, (seconds, peak)
    assert worst in ("error", "warning") and f"{path}:" in told


@pytest.mark.parametrize("name", WELCOME)
def test_other_scripts_are_fine(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(WELCOME[name], encoding="utf-8")
    assert check_files([str(path)], passes).worst is None


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    raw=st.binary(max_size=300)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.builds(
        lambda at, cut, put: CURIOUS.encode()[:at] + put + CURIOUS.encode()[at + cut :],
        st.integers(0, len(CURIOUS)), st.integers(0, 400), st.binary(max_size=6),
    )
)  # fmt: skip
def test_any_bytes_are_a_trait_or_findings_with_places(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "any.yaml"
    path.write_bytes(raw)
    checked = check_files([str(path)], passes)
    assert checked.sources or checked.worst == "error"
    assert all(found.line >= 1 and found.column >= 1 for found in checked.findings)
    assert "\x1b" not in findings_text(checked)
    assert json.loads(findings_json(checked))["version"] == 1
