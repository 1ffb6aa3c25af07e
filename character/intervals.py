"""The interval of a share, as every card and report has it."""

from __future__ import annotations


def wilson(hits: float, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); a half hit, as of a tie, counts half."""
    from statsmodels.stats.proportion import proportion_confint  # slow to load

    low, high = proportion_confint(hits, count, method="wilson")
    return float(low), float(high)
