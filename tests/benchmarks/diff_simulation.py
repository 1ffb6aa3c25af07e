"""How often a diff raises a false alarm, and how often it finds what is there: simulated.

    python tests/benchmarks/diff_simulation.py

Every table is made of draws with fixed seeds, through the same functions that a diff uses. A
query's difference has a part of its own (skewed), a part shared by all traits, and the noise of
its samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from scipy import stats

from character.diffing.inference import (
    ALPHA,
    at_equal_style,
    movements,
    share_no_worse,
    within,
)
from character.diffing.verdicts import Evidence, verdict_of
from character.intervals import wilson

TRAITS, QUERIES, MARGIN = 12, 100, 0.05
RUNS = 2000
SD = 0.19  # of one query's difference, nats a token, as curious had it


def draws(seed: int, queries: int = QUERIES, samples: int = 1, traits: int = TRAITS) -> np.ndarray:
    """Differences between two versions that are the same: queries x traits, samples averaged."""
    draw = np.random.default_rng(seed)
    query = draw.exponential(size=(queries, traits)) - 1
    query *= draw.choice([-1.0, 1.0], size=(queries, 1))  # OLD and NEW are exchangeable
    shared = draw.normal(size=(queries, 1))
    noise = draw.normal(size=(queries, traits, samples)).mean(axis=2)
    return SD * (0.5 * query + 0.5 * shared + 0.7 * noise)


def rate(name: str, alarm: Callable[[int], bool], runs: int = RUNS) -> None:
    hits = sum(alarm(seed) for seed in range(runs))
    low, high = wilson(hits, runs)
    print(f"| {name} | {hits / runs:.3f} | [{low:.3f}, {high:.3f}] | {runs} |")


def any_alarm(seed: int) -> bool:
    return any(m is not None and m.significant for m in movements(draws(seed), 999, seed))


def uncorrected(seed: int) -> bool:
    values = draws(seed)
    return any(movements(values[:, [t]], 999, seed)[0].significant for t in range(TRAITS))  # type: ignore[union-attr]


def pooled(seed: int) -> bool:
    """What must not be done: the four samples of a query counted as four queries."""
    draw = np.random.default_rng(seed)
    own = draw.normal(size=(QUERIES, 1, 1))
    values = (own + 0.7 * draw.normal(size=(QUERIES, 4, 1))).reshape(-1, 1)
    (found,) = movements(values, 999, seed)
    return found is not None and found.significant


def averaged(seed: int) -> bool:
    draw = np.random.default_rng(seed)
    own = draw.normal(size=(QUERIES, 1, 1))
    values = (own + 0.7 * draw.normal(size=(QUERIES, 4, 1))).mean(axis=1)
    (found,) = movements(values, 999, seed)
    return found is not None and found.significant


def power(effect: float, queries: int, samples: int) -> Callable[[int], bool]:
    def finds(seed: int) -> bool:
        values = draws(seed, queries, samples)
        values[:, 0] += effect * SD
        first = movements(values, 999, seed)[0]
        return first is not None and first.significant

    return finds


def longer(adjust: bool) -> Callable[[int], bool]:
    """NEW is longer and the judge likes length: is the trait called INTENDED?"""

    def intended(seed: int) -> bool:
        draw = np.random.default_rng(seed)
        words = draw.normal(10, 20, size=QUERIES)
        values = SD * (np.tanh(words / 20) + draw.normal(size=QUERIES))
        (movement,) = movements(values[:, None], 999, seed)
        adjusted = at_equal_style(values, words) if adjust else None
        evidence = Evidence(values, movement, adjusted, controlled=adjust)
        return verdict_of(evidence, "up", MARGIN, 0.02)[0] == "INTENDED"

    return intended


def falsely_held(seed: int) -> bool:
    """The truth is exactly at the margin: is it called held?"""
    return within(draws(seed, traits=1)[:, 0] + MARGIN, MARGIN)


def fall(questions: int, tango: bool) -> Callable[[int], bool]:
    """The share of right answers truly falls by the margin: is it called no worse?"""

    def no_worse(seed: int) -> bool:
        lost = int(np.random.default_rng(seed).binomial(questions, MARGIN))
        if tango:
            return share_no_worse(lost, 0, questions, MARGIN)
        values = -(np.arange(questions) < lost).astype(float)
        half = stats.t.ppf(1 - ALPHA, questions - 1) * stats.sem(values)
        return bool(values.mean() - half > -MARGIN)

    return no_worse


def main() -> None:
    print("\n| no difference: how often is anything called a movement | rate | 95 % | runs |")
    print("|---|---|---|---|")
    rate(f"max-T over {TRAITS} traits", any_alarm)
    rate(f"the same, each trait by itself ({TRAITS} tests at 5 %)", uncorrected, 500)
    rate("4 samples a query, averaged first", averaged)
    rate("4 samples a query, pooled as if independent", pooled)
    rate("a judge that likes length and a longer NEW, raw", longer(False))
    rate("the same, with the adjusted interval", longer(True))
    rate("a true movement of exactly the margin called HELD", falsely_held)
    for questions in (20, 150):
        rate(
            f"a fall of {questions} answers by the margin called no worse, t",
            fall(questions, False),
        )
        rate("the same, Tango's score", fall(questions, True))
    print("\n| a movement of .2 standard deviations | found | 95 % | runs |")
    print("|---|---|---|---|")
    for queries, samples in ((100, 1), (200, 1), (200, 4), (400, 2)):
        rate(f"{queries} queries x {samples} samples", power(0.2, queries, samples), 500)
    began = time.perf_counter()
    movements(np.random.default_rng(0).normal(size=(2000, 40)), 10_000)
    seconds = time.perf_counter() - began
    print(f"\n2,000 queries x 40 traits x 10,000 sign flips: {seconds:.1f} s")


if __name__ == "__main__":
    main()
