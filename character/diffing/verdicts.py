"""From a movement to a verdict, and from verdicts to whether a version may ship."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy import stats

from character.diffing.inference import ALPHA, Adjusted, Floats, Movement, within
from character.errors import SuiteError
from character.yaml_file import FaultyFileError, at, descend, read_yaml

Verdict = Literal[
    "INTENDED", "REGRESSED", "HELD", "INCONCLUSIVE", "CONFOUNDED", "UNMEASURABLE", "MOVED"
]
"""MOVED is for what no spec asked about: it changed, which is neither good nor bad."""
Expect = Literal["up", "down", "hold", "no_less", "no_more"]
Tier = Literal["critical", "supporting", "advisory"]

Word = Literal["PASS", "REGRESSION", "UNDERPOWERED", "INVALID"]

FEWEST = 20  # queries

PASSED, REGRESSION, UNDERPOWERED, INVALID = range(4)  # exit codes
WORDS: tuple[Word, ...] = get_args(Word)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a verdict is made of. `values` are per-query differences, NaN where one is missing."""

    values: Floats
    movement: Movement | None
    adjusted: Adjusted | None = None
    missing_old: int = 0
    missing_new: int = 0
    unmeasurable: str = ""


def verdict_of(
    evidence: Evidence, expect: Expect, margin: float, missing_allowed: float
) -> tuple[Verdict, str]:
    """The verdict and its reason in words. Not significant never means held."""
    values, movement = evidence.values, evidence.movement
    known = values[np.isfinite(values)]
    if evidence.unmeasurable:
        return "UNMEASURABLE", evidence.unmeasurable
    if len(known) < FEWEST or movement is None:
        return "INCONCLUSIVE", f"{len(known)} queries are fewer than {FEWEST}"
    if lost := _lost(evidence, missing_allowed):
        return "INCONCLUSIVE", lost
    if within(known, margin) or _no_worse(known, expect, margin):
        return "HELD", f"shown to lie within {margin:g}"
    if not movement.significant:
        return "INCONCLUSIVE", (
            f"below what {movement.queries} queries detect ({movement.detectable:.3f}), "
            f"and not shown to lie within {margin:g}"
        )
    if evidence.adjusted is not None and _disagrees(movement, evidence.adjusted):
        return "CONFOUNDED", (
            f"{movement.value:+.3f}, but {evidence.adjusted.value:+.3f} "
            f"[{evidence.adjusted.low:+.3f}, {evidence.adjusted.high:+.3f}] at equal length and "
            "style"
        )
    rose = movement.value > 0
    if expect in ("no_less", "no_more"):
        better = rose == (expect == "no_less")
        return ("HELD", "better") if better else ("REGRESSED", "worse")
    if expect == "hold":
        return "REGRESSED", f"{'rose' if rose else 'fell'}, and was to hold"
    if rose == (expect == "up"):
        return "INTENDED", f"moved {expect}, as meant"
    return "REGRESSED", f"{'rose' if rose else 'fell'}, and was to go {expect}"


class Gate(BaseModel):
    """Which results decide. Names are those of the report, with * for any part of one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    critical: tuple[str, ...] = ("trait/*", "quality/capability", "quality/answers")
    supporting: tuple[str, ...] = ("unless/*", "quality/*", "robustness/*")
    advisory: tuple[str, ...] = ("*",)
    expect: dict[str, Expect] = Field(default_factory=dict)
    margin: dict[str, float] = Field(default_factory=dict)

    def tier_of(self, name: str) -> Tier:
        """The first tier with a pattern that fits; advisory when none does."""
        for tier in ("critical", "supporting", "advisory"):
            if any(fnmatchcase(name, pattern) for pattern in getattr(self, tier)):
                return tier
        return "advisory"


@dataclass(frozen=True, slots=True)
class Judged:
    """One named result with the verdict a gate looks at."""

    name: str
    verdict: Verdict
    expect: Expect
    why: str


@dataclass(frozen=True, slots=True)
class Decision:
    """`code` is the exit code; `reasons` are in the order of their weight."""

    code: int
    reasons: tuple[str, ...]

    @property
    def word(self) -> Word:
        return WORDS[self.code]


def decide(gate: Gate, results: list[Judged], invalid: tuple[str, ...] = ()) -> Decision:
    """Invalid before regression before underpowered before passed.

    Critical results must be what was expected; supporting ones must not have regressed; advisory
    ones decide nothing.
    """
    if invalid:
        return Decision(INVALID, invalid)
    found: dict[int, list[str]] = {INVALID: [], REGRESSION: [], UNDERPOWERED: []}
    for result in results:
        tier = gate.tier_of(result.name)
        code = _code(result, tier)
        if code != PASSED:
            found[code].append(f"{result.name} ({tier}): {result.verdict}, {result.why}")
    if not any(gate.tier_of(result.name) == "critical" for result in results):
        found[INVALID].append("nothing critical was measured")
    for code, reasons in found.items():
        if reasons:
            return Decision(code, tuple(reasons))
    return Decision(PASSED, ())


def load_gate(path: Path) -> Gate:
    """Raises SuiteError with file, line and column."""
    start = 'A gate is a mapping, for example `critical: ["trait/*"]`.'
    try:
        root, values = read_yaml(path, "gate", start)
        return Gate.model_validate(values)
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read: {error.strerror}.") from None
    except FaultyFileError as error:
        raise SuiteError(error.lines(path)) from None
    except ValidationError as error:
        told = error.errors()[0]
        key, _ = descend(root, told["loc"])
        place = at(key.start_mark, "")
        known = ", ".join(Gate.model_fields)
        raise SuiteError(
            f"{path}:{place.line}:{place.column}: {'.'.join(map(str, told['loc']))}: "
            f"{told['msg'].lower()}. A gate has: {known}"
        ) from None


def _code(result: Judged, tier: Tier) -> int:
    if tier == "advisory":
        return PASSED
    if result.verdict == "REGRESSED":
        return REGRESSION
    if tier == "supporting":
        return PASSED
    if result.verdict == "HELD" and result.expect in ("up", "down"):
        return REGRESSION  # asked for, and it did not happen
    if result.verdict in ("INCONCLUSIVE", "CONFOUNDED"):
        return UNDERPOWERED
    return INVALID if result.verdict == "UNMEASURABLE" else PASSED


def _lost(evidence: Evidence, allowed: float) -> str:
    total = len(evidence.values)
    old, new = evidence.missing_old / total, evidence.missing_new / total
    if max(old, new) > allowed:
        return f"missing for {evidence.missing_old} (old) and {evidence.missing_new} (new) queries"
    return ""


def _no_worse(known: Floats, expect: Expect, margin: float) -> bool:
    """One-sided: shown not to be worse by the margin (non-inferiority at 5 %)."""
    if expect not in ("no_less", "no_more"):
        return False
    better = known if expect == "no_less" else -known
    half = stats.t.ppf(1 - ALPHA, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known))
    return bool(better.mean() - half > -margin)


def _disagrees(movement: Movement, adjusted: Adjusted) -> bool:
    same_side = (movement.value > 0) == (adjusted.value > 0)
    return adjusted.p > ALPHA or not same_side
