"""From a movement to a verdict, and from verdicts to whether a version may ship."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy import stats

from character.diffing.inference import (
    ALPHA,
    Adjusted,
    Floats,
    Movement,
    share_no_worse,
    within,
)
from character.errors import SuiteError
from character.yaml_file import FaultyFileError, at, descend, read_yaml

Verdict = Literal[
    "INTENDED", "REGRESSED", "HELD", "INCONCLUSIVE", "CONFOUNDED", "UNMEASURABLE", "MOVED"
]
"""MOVED is for what no spec asked about: it changed, which is neither good nor bad."""
Expect = Literal["up", "down", "hold", "no_less", "no_more"]
Tier = Literal["critical", "supporting", "advisory"]

Word = Literal["PASS", "REGRESSION", "UNDERPOWERED", "INVALID"]

T = TypeVar("T")

FEWEST = 20  # queries

PASSED, REGRESSION, UNDERPOWERED, INVALID = range(4)  # exit codes
WORDS: tuple[Word, ...] = get_args(Word)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a verdict is made of. `values` are per-query differences, NaN where one is missing.

    `controlled`: length and style must not explain it. `identical`: NEW said what OLD said.
    """

    values: Floats
    movement: Movement | None
    adjusted: Adjusted | None = None
    missing_old: int = 0
    missing_new: int = 0
    unmeasurable: str = ""
    controlled: bool = False
    identical: bool = False


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
    if evidence.identical or (not _is_share(known) and within(known, margin)):
        return _at_equal_style(evidence, "HELD", f"shown to lie within {margin:g}", margin)
    if _no_worse(known, expect, margin):
        return "HELD", f"shown to be no worse by {margin:g}"
    if not movement.significant:
        return "INCONCLUSIVE", (
            f"below what {movement.queries} queries detect ({movement.detectable:.3f}), "
            f"and not shown to lie within {margin:g}"
        )
    return _at_equal_style(evidence, *_direction(movement, expect), margin)


def _at_equal_style(
    evidence: Evidence, verdict: Verdict, why: str, margin: float
) -> tuple[Verdict, str]:
    """The verdict, unless length and style may be what it is made of."""
    movement, adjusted = evidence.movement, evidence.adjusted
    if not evidence.controlled or movement is None or evidence.identical:
        return verdict, why
    if adjusted is None:
        if verdict == "HELD":
            return verdict, why
        return "INCONCLUSIVE", "too few queries to tell it from a change of length and style"
    told = f"{movement.value:+.3f}, but {adjusted.value:+.3f} [{adjusted.low:+.3f}, "
    told += f"{adjusted.high:+.3f}] at equal length and style"
    if verdict == "HELD":
        hidden = adjusted.p <= ALPHA and abs(adjusted.value) > margin
        return ("CONFOUNDED", told) if hidden else (verdict, why)
    same_side = (movement.value > 0) == (adjusted.value > 0)
    return (verdict, why) if adjusted.p <= ALPHA and same_side else ("CONFOUNDED", told)


def _direction(movement: Movement, expect: Expect) -> tuple[Verdict, str]:
    """What a certain movement means for what was expected."""
    rose = movement.value > 0
    if expect in ("no_less", "no_more"):
        better = rose == (expect == "no_less")
        return ("HELD", "better") if better else ("REGRESSED", "worse")
    if expect == "hold":
        return "REGRESSED", f"{'rose' if rose else 'fell'}, and was to hold"
    if rose == (expect == "up"):
        return "INTENDED", f"moved {expect}, as meant"
    return "REGRESSED", f"{'rose' if rose else 'fell'}, and was to go {expect}"


Margin = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Gate(BaseModel):
    """Which results decide. Names are those of the report, with * for any part of one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    critical: tuple[str, ...] = ("trait/*", "quality/capability", "quality/answers")
    supporting: tuple[str, ...] = ("unless/*", "quality/*", "robustness/*")
    advisory: tuple[str, ...] = ("*",)
    expect: dict[str, Expect] = Field(default_factory=dict)
    margin: dict[str, Margin] = Field(default_factory=dict)

    def tier_of(self, name: str) -> Tier:
        """The first tier with a pattern that fits; advisory when none does."""
        for tier in ("critical", "supporting", "advisory"):
            if any(fnmatchcase(name, pattern) for pattern in getattr(self, tier)):
                return tier
        return "advisory"

    def expected(self, name: str, otherwise: Expect) -> Expect:
        return _fitting(self.expect, name, otherwise)

    def margin_of(self, name: str, otherwise: float) -> float:
        return _fitting(self.margin, name, otherwise)

    def asks(self, name: str) -> bool:
        """Whether it decides on a result, or says which way it should go."""
        told = any(fnmatchcase(name, pattern) for pattern in self.expect)
        return told or self.tier_of(name) != "advisory"

    def unmet(self, names: Sequence[str]) -> list[str]:
        """What it speaks of and nothing that was measured fits, in words."""
        asked = {"critical": self.critical, "expect": self.expect, "margin": self.margin}
        return [
            f"the gate's {key} {pattern!r} fits nothing that was measured"
            for key, patterns in asked.items()
            for pattern in patterns
            if not any(fnmatchcase(name, pattern) for name in names)
        ]


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
    found[INVALID] += gate.unmet([result.name for result in results])
    for result in results:
        tier = gate.tier_of(result.name)
        code = _code(result, tier)
        if code != PASSED:
            found[code].append(f"{result.name} ({tier}): {result.verdict}, {result.why}")
    reasons = tuple(reason for told in found.values() for reason in told)
    code = next((code for code, told in found.items() if told), PASSED)
    return Decision(code, reasons)


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


def _fitting(given: Mapping[str, T], name: str, otherwise: T) -> T:
    """What is given for the name itself, else for the first pattern that fits."""
    if name in given:
        return given[name]
    return next((v for pattern, v in given.items() if fnmatchcase(name, pattern)), otherwise)


def _code(result: Judged, tier: Tier) -> int:
    if tier == "advisory":
        return PASSED
    if result.verdict in ("REGRESSED", "MOVED"):
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
        return (
            f"missing for {evidence.missing_old} (old) and {evidence.missing_new} (new) queries; "
            "to ask again, diff into a fresh folder: --out"
        )
    return ""


def _no_worse(known: Floats, expect: Expect, margin: float) -> bool:
    """Shown not to be worse by the margin, one-sided at 5 % (non-inferiority)."""
    if expect not in ("no_less", "no_more") or not margin:
        return False
    better = known if expect == "no_less" else -known
    if _is_share(better):
        lost, won = int((better < 0).sum()), int((better > 0).sum())
        return share_no_worse(lost, won, len(better), margin)
    half = stats.t.ppf(1 - ALPHA, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known))
    return bool(better.mean() - half > -margin)


def _is_share(values: Floats) -> bool:
    """Whether each query is right or wrong, for which t is too sure of few changes."""
    return bool(np.isin(values, (-1.0, 0.0, 1.0)).all())
