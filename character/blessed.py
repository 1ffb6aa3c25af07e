"""The versions that passed: a line for each in diffs/history.jsonl, never edited."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from character.errors import RunError
from character.report.diff_content import DiffReport

HISTORY = "history.jsonl"


class TraitThen(BaseModel):
    """How a trait stood: nats a token against OLD, and the dose where there was one."""

    model_config = ConfigDict(frozen=True)

    verdict: str
    value: float | None
    low: float | None
    high: float | None
    dose: float | None


class Blessed(BaseModel):
    model_config = ConfigDict(frozen=True)

    when: str
    old: str
    new: str
    suite: str
    examiner: str
    folder: str
    traits: dict[str, TraitThen]


def bless(report: DiffReport, when: datetime | None = None) -> Path:
    """Record a passed diff beside its folder. Raises RunError for one that did not pass."""
    if report.decision.code:
        raise RunError(
            f"Not blessed: the diff is {report.decision.word}, and only one that passes can be a "
            "baseline."
        )
    entry = Blessed(
        when=(when or datetime.now(UTC)).isoformat(timespec="seconds"),
        old=report.old.reference,
        new=report.new.reference,
        suite=report.suite,
        examiner=report.examiner,
        folder=report.folder,
        traits={
            result.name.partition("/")[2]: TraitThen(
                verdict=result.verdict,
                value=result.movement.value if result.movement else None,
                low=result.movement.low if result.movement else None,
                high=result.movement.high if result.movement else None,
                dose=result.dose.value if result.dose else None,
            )
            for result in report.difference.of("trait")
        },
    )
    path = Path(report.folder).parent / HISTORY
    with path.open("a", encoding="utf-8") as file:
        file.write(entry.model_dump_json() + "\n")
    return path


def read_history(path: Path) -> list[Blessed]:
    """Every blessed version, oldest first. Raises RunError, naming the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise RunError(
            f"{path} cannot be read. A diff that passes is recorded with --bless, for example "
            "python -m character.diff runs/v1 runs/v2 --bless"
        ) from None
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(Blessed.model_validate_json(line))
        except ValidationError:
            raise RunError(f"{path}:{number}: is no blessed version. Remove the line.") from None
    return found
