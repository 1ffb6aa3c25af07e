"""What a report shows, in plain values: the renderers need nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from character.diffing.outcome import Outcome
from character.judging.card import Card
from character.judging.front import Front
from character.models.served import Tally
from character.rows import Judgement, Pair, Query, Ranking, Reply, Reward, Step, Taught
from character.spec.constitution import Constitution
from character.training.dose import Doses
from character.training.guards import Guarded
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
class Effect:
    """Trained minus base contrast on the clause's held-out queries, with a 95 % t interval."""

    value: float
    low: float
    high: float
    queries: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """What one clause gave rise to. `weight` is its share of all that the policy learned from, None
    when the run does not say what that was.

    `seconds` and `dollars` are its share of what was spent on writing and judging, in all rounds:
    by texts of what the writer wrote (drafts, revisions, documents), by replies of the rest.
    `dollars` is None where a price was not known. `effect` is None when fewer than two of its
    held-out queries were measured.
    """

    trait: str
    clause: str
    text: str
    queries: int
    held_out: int
    replies: int
    below_floor: int
    pairs: int
    distilled: int
    preferred: int
    weight: float | None
    seconds: float
    effect: Effect | None
    finetuned: int = 0
    drafts: int = 0  # that the writer wrote for it, unusable ones too
    judgements: int = 0
    dollars: float | None = 0.0

    @property
    def gap(self) -> str:
        """What is missing for the clause to show; empty when nothing is."""
        if not self.queries:
            return "no queries"
        if not (self.pairs or self.distilled or self.finetuned):
            return "no pairs"
        if self.weight == 0:
            return "nothing learned"
        if self.effect is None:
            return "not measured"
        return "" if self.effect.low > 0 else "no effect shown"


@dataclass(frozen=True, slots=True)
class Thread:
    """One pair, reply or query with every row it hangs together with."""

    query: Query
    clause: str  # its text
    replies: tuple[Reply, ...]
    judgements: Mapping[str, Judgement]  # reply id -> what the judge found, for the query's trait
    ranking: Ranking | None
    pairs: tuple[Pair, ...]
    taught: Mapping[str, tuple[Taught, ...]]  # reply or pair id -> the stages that learned from it
    rewards: Mapping[str, Reward]  # pair id -> the reward model's verdict
    named: str  # the id that was asked for
    seconds: float = 0.0  # its share of what writing and judging took
    dollars: float | None = 0.0  # None: a price was not known


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
    coverage: Sequence[Coverage]
    comparisons: Sequence[Comparison]  # in random order
    reward_card: RewardCard | None
    doses: Doses | None
    steps: Sequence[Step]
    costs: Sequence[StageCost]
    asked: Sequence[Tally]  # models behind APIs
    versions: Mapping[str, str]
    recipe: Mapping[str, Any]
    judge_cards: Sequence[Card] = ()
    measured_by: str = ""  # when that was not the judge
    ppo: Guarded | None = None  # None: there was none
    front: Front | None = None  # what the ranking had to choose between
    distances: Mapping[float, float] = field(default_factory=dict)  # dose -> KL, nats a token
    settled: str = ""  # how much of the training was kept and why; empty: all, unasked
    policy: str = "policy"  # the folder of the trained policy, inside the run's
    earlier: str = ""  # the run that was taken over from
    taken_over: Mapping[str, int] = field(default_factory=dict)  # stage -> rows

    @property
    def judge_refused(self) -> bool:
        """Whether a card keeps the judge out; it was then accepted by hand."""
        return any(card.refusals for card in self.judge_cards)

    @property
    def seconds(self) -> float:
        return sum(cost.seconds for cost in self.costs)

    @property
    def peak_bytes(self) -> int:
        return max((cost.peak_bytes for cost in self.costs), default=0)
