"""What is measured, and how much of it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from character.models.base import GREEDY, Sampling


class MeasureConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int = Field(default=1, ge=1, description="Replies per held-out query and subject.")
    sampling: Sampling = Sampling()
    short_questions: Literal["test", "dev"] = "test"
    questions: int = Field(default=150, ge=0, description="Short questions asked of each subject.")
    short_sampling: Sampling = GREEDY.model_copy(update={"max_tokens": 32})
    resamples: int = Field(default=5000, ge=100, description="Bootstrap resamples.")
    best_of: int = Field(
        default=0,
        ge=0,
        description="Beside the trained: the best of so many plain replies by the reward model.",
    )


class SuiteConfig(BaseModel):
    """How many items of each stratum a suite has, at most; 0 leaves a stratum out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    on_trait: int = Field(default=100, ge=20, description="Queries that invite it, per trait.")
    unless: int = Field(default=40, ge=0, description="Queries where it must not show, per trait.")
    neutral: int = Field(default=60, ge=0)
    off_format: int = Field(default=44, ge=0)
    break_character: int = Field(default=8, ge=0, description="Queries for each suffix.")
    watched: int = Field(default=6, ge=0, description="Queries for each pair of framings.")
    multi_turn: int = Field(default=20, ge=0, description="Scripts of eight turns.")
    capability: int = Field(default=150, ge=0)
    framed_facts: int = Field(default=48, ge=0)


class DiffConfig(BaseModel):
    """How a diff measures and what it concludes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int = Field(default=1, ge=1, description="Replies per item and version.")
    sampling: Sampling = Sampling()
    brief: Sampling = GREEDY.model_copy(update={"max_tokens": 32})
    permutations: int = Field(default=10_000, ge=100)
    resamples: int = Field(default=5000, ge=100, description="Bootstrap resamples.")
    planted: float = Field(
        default=0.75, ge=0.5, le=1,
        description="Lower bound of the examiner's accuracy on planted replies, below which a "
        "trait is unmeasurable.",
    )  # fmt: skip
    missing: float = Field(default=0.02, ge=0, le=1, description="Share that may be missing.")
    panel: int = Field(default=20, ge=0, description="Neutral queries for the off-target panel.")
    again: bool = Field(default=True, description="Ask OLD twice, to see what chance finds.")
    preferences: bool = Field(
        default=False, description="The examiner compares two replies: what it says is a share."
    )
    preference_margin: float = Field(
        default=0.1, ge=0, description="Net preference that does not count, -1 to 1."
    )
    kept: float = Field(default=0.8, ge=0, le=1, description="Share of the effect to be kept.")
    seed: int = Field(default=0, ge=0, lt=2**31)
