"""How replies are ranked."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from character.judging.plants import PlantsConfig

Kind = Literal[
    "likelihood", "likelihood-plain", "verdict", "verdict-reasons", "listwise", "rubric", "checks",
    "embedding",
]  # fmt: skip
CARD_SEED = 3_000_017  # apart from the seeds that builds and previews are given


class RankingConfig(BaseModel):
    """How judgements become tiers, and tiers pairs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: Kind = "likelihood"
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


class CardConfig(BaseModel):
    """What a judge's card is made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=True, description="Whether a judge is tried before it judges.")
    plants: PlantsConfig = PlantsConfig()
    attacks: int = Field(default=40, ge=0, description="Attacks tried, evenly from every kind.")
    seed: int = Field(default=CARD_SEED, ge=0)
