"""What a report shows, in plain values: the renderers need nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from character.diffing.outcome import Outcome
from character.models.served import Tally
from character.rows import Step
from character.spec.constitution import Constitution
from character.training.dose import Doses
from character.training.reward_card import RewardCard


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """How many items a stage let through, and why the others stayed behind."""

    stage: str
    kept: int
    lost: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One held-out query with what each subject said; `gain` is trained minus base contrast."""

    query: str
    replies: Mapping[str, str]  # subject -> reply
    gain: float | None
    kind: str  # on_trait or unless


@dataclass(frozen=True, slots=True)
class StageCost:
    stage: str
    seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a build has to show."""

    constitution: Constitution
    recipe_title: str
    smoke: bool
    command: str
    folder: str
    base_model: str
    judge: str
    seed: int
    outcome: Outcome
    funnel: Sequence[FunnelStep]
    comparisons: Sequence[Comparison]  # in random order
    reward_card: RewardCard | None
    doses: Doses | None
    steps: Sequence[Step]
    costs: Sequence[StageCost]
    asked: Sequence[Tally]  # models behind APIs
    versions: Mapping[str, str]
    recipe: Mapping[str, Any]

    @property
    def seconds(self) -> float:
        return sum(cost.seconds for cost in self.costs)

    @property
    def peak_bytes(self) -> int:
        return max((cost.peak_bytes for cost in self.costs), default=0)
