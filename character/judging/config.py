"""How replies are ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from character.judging.plants import PlantsConfig

Kind = Literal[
    "likelihood", "likelihood-plain", "verdict", "verdict-reasons", "listwise", "rubric", "checks",
    "embedding",
]  # fmt: skip
PANEL = "panel"  # several of them together
KINDS: tuple[Kind, ...] = get_args(Kind)
MEMBERS = ("likelihood", "likelihood-plain", "embedding")  # all at home on a laptop
CARD_SEED = 3_000_017  # apart from the seeds that builds and previews are given


@dataclass(frozen=True, slots=True)
class NamedJudge:
    """A judge as it is named: KIND, or KIND@MODEL."""

    kind: Kind
    model: str

    @classmethod
    def read(cls, name: str, model: str) -> Self:
        """`model` judges where none is named. ValueError when there is no such kind."""
        kind, _, named = name.partition("@")
        if kind not in KINDS:
            raise ValueError(f"{name!r}: there is no such kind. Kinds: {', '.join(KINDS)}")
        return cls(kind, named or model)


def read_members(names: Sequence[str], model: str) -> tuple[NamedJudge, ...]:
    """The members of a panel. ValueError for fewer than two, for one named twice, or unknown."""
    found = tuple(NamedJudge.read(name, model) for name in names)
    if len(set(found)) < max(2, len(found)):
        raise ValueError("name two judges or more, each once")
    return found


class RankingConfig(BaseModel):
    """How judgements become tiers, and tiers pairs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: Literal[Kind, "panel"] = "likelihood"
    panel: tuple[str, ...] = Field(
        default=MEMBERS,
        description="Members of a panel, KIND or KIND@MODEL; weighed by their cards.",
    )
    comparisons: float = Field(
        default=0.4,
        gt=0,
        le=1,
        description="Share of all pairs of a query's replies that a judge of pairs is asked for, "
        "where there are more than four replies.",
    )
    checks: float = Field(
        default=1.5, ge=0, description="Weight of the checks, in spreads of the contrast."
    )
    relevance: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the relevance, in its own spreads, up to the plain replies' median.",
    )
    length: float = Field(
        default=3.5,
        ge=0,
        description="What a log-ratio to the plain replies' length costs, in spreads of the "
        "contrast, where no trait sets its length free.",
    )
    floor: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Relevance below this quantile of the plain replies' is not an answer.",
    )
    tie: float = Field(default=0.1, ge=0, description="Values this close, in spreads, are tied.")

    @field_validator("panel")
    @classmethod
    def _members_exist(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        read_members(names, "")
        return names

    def judges(self, model: str) -> tuple[NamedJudge, ...]:
        """All that are asked; `model` judges where none is named."""
        if self.judge == PANEL:
            return read_members(self.panel, model)
        return (NamedJudge.read(self.judge, model),)


class CardConfig(BaseModel):
    """What a judge's card is made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=True, description="Whether a judge is tried before it judges.")
    plants: PlantsConfig = PlantsConfig()
    attacks: int = Field(default=40, ge=0, description="Attacks tried, evenly from every kind.")
    sure: float = Field(
        default=0.6,
        ge=0.5,
        lt=1,
        description="Least calibrated probability of a verdict; below it the judge abstains.",
    )
    seed: int = Field(default=CARD_SEED, ge=0)
