"""How models behind an API are asked. No SDK here: recipes load without one."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class RequestsConfig(BaseModel):
    """Limits for each endpoint, and the patience with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrency: int = Field(default=64, ge=1, description="Requests under way at once, at most.")
    first: int = Field(default=8, ge=1, description="Requests at once to begin with.")
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    timeout: float = Field(default=120.0, gt=0, description="Seconds for one attempt in all.")
    attempts: int = Field(default=6, ge=1, description="Per request; being told to wait is none.")
    patience: float = Field(
        default=900.0, ge=0, description="Seconds that a request may be told to wait, in all."
    )
    backoff: float = Field(default=0.5, gt=0, description="Seconds; doubled with each attempt.")
    longest_backoff: float = Field(default=60.0, gt=0)
    batch: bool = Field(
        default=False, description="Use the provider's batch API: half the price, within a day."
    )
    poll: float = Field(
        default=30.0, gt=0, description="Seconds between looks at a batch, growing."
    )
    hedge: float | None = Field(
        default=None, gt=0, description="Seconds until a slow request is sent a second time."
    )
    failures: float = Field(
        default=0.1, ge=0, le=1, description="Share of requests that may fail before a run ends."
    )
