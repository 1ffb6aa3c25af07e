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
