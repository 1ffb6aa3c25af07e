"""How well two fifths of the comparisons rank eight replies, against all of them.

    python tests/benchmarks/adaptive.py [--real JUDGE ...]

Simulated judges tell P(i beats j) with log-odds off by a normal error that stays with the pair;
their replies' strengths are normal with standard deviation 1.5. "Random" spends the same budget on
pairs drawn at random. Real judges rank eight replies of the bundled model to each query of a
development trait, three of the full dose, two of none, two of the opposite and one of one example;
there tau is against the judge's own full round-robin.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from scipy.special import expit
from scipy.stats import kendalltau

from character.judging.judge import Contest, Outcome, Said, Verdict
from character.judging.strengths import compared, fit_strengths, rank_adaptively

REPLIES, BUDGET, LISTS = 8, 11, 400
PAIRS = list(combinations(range(REPLIES), 2))
ERRORS = (0.0, 0.15, 0.3, 0.5, 1.0)

Compare = Callable[[list[tuple[int, int]]], list[Outcome]]


def main(judges: Sequence[str], queries: int) -> None:
    print(f"{BUDGET} of {len(PAIRS)} comparisons, {LISTS} lists: mean Kendall tau with the truth\n")
    print("| error of log-odds | all | adaptive | random | adaptive - all |\n|---|---|---|---|---|")
    for error in ERRORS:
        found = np.array([simulated(error, seed) for seed in range(LISTS)])
        told(f"{error:g}", found)
    for kind in judges:
        told(kind, np.array(list(real(kind, queries))))


def told(name: str, found: np.ndarray) -> None:
    full, adaptive, by_chance = found.mean(axis=0)
    gap = found[:, 1] - found[:, 0]
    half = 1.96 * gap.std() / len(gap) ** 0.5
    print(
        f"| {name} | {full:.3f} | {adaptive:.3f} | {by_chance:.3f} |"
        f" {gap.mean():+.3f} [{gap.mean() - half:+.3f}, {gap.mean() + half:+.3f}] |",
        flush=True,
    )


def simulated(error: float, seed: int) -> tuple[float, float, float]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1.5, REPLIES)
    said = {(i, j): float(expit(truth[i] - truth[j] + error * rng.normal())) for i, j in PAIRS}
    return taus(lambda pairs: [Verdict(said[p], 1 - said[p]) for p in pairs], truth, seed)


def taus(ask: Compare, truth: np.ndarray | None, seed: int) -> tuple[float, float, float]:
    """Tau of all comparisons, of the adaptive ones, and of as many by chance."""
    full, _ = rank_adaptively(REPLIES, ask, len(PAIRS))
    adaptive, _ = rank_adaptively(REPLIES, ask, BUDGET)
    drawn = random.Random(seed).sample(PAIRS, BUDGET)
    known = [c for p, found in zip(drawn, ask(drawn), strict=True) if (c := compared(*p, found))]
    by_chance = fit_strengths(REPLIES, known)
    against = full.values if truth is None else truth
    found = (kendalltau(s.values, against).statistic for s in (full, adaptive, by_chance))
    first, second, third = (float(tau) for tau in found)
    return first, second, third


def real(kind: str, queries: int) -> list[tuple[float, float, float]]:
    from rich.console import Console

    from character.judge_pipeline import Bench, plants_for
    from character.judging.config import CardConfig
    from character.judging.kinds import judge_of
    from character.judging.plants import PlantsConfig
    from character.models.loading import load_local
    from character.progress import Reporter
    from character.spec.loading import load_trait

    model = load_local("bundled:smollm2-135m")
    trait = load_trait("tests/benchmarks/dev_traits/sensory.yaml")
    judge = judge_of(kind, model)  # type: ignore[arg-type]
    config = CardConfig(plants=PlantsConfig(queries=queries, dosed=queries))
    bench = Bench("likelihood", judge, model, config)
    found = []
    for number, planted in enumerate(plants_for(trait, bench, Reporter(Console(stderr=True)))):
        replies = list(planted.replies.values())
        if len({said.reply for said in replies}) == REPLIES:

            def ask(pairs: list[tuple[int, int]], replies: list[Said] = replies) -> list[Outcome]:
                return judge.compare(trait, [Contest(replies[i], replies[j]) for i, j in pairs])

            found.append(taus(ask, None, number))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", nargs="*", default=[], help="kinds of judge on the bundled model")
    parser.add_argument("--queries", type=int, default=20)
    given = parser.parse_args()
    main(given.real, given.queries)
