"""The planted-truth table: every shipped trait by kinds of judge on the bundled model.

    python tests/benchmarks/judges.py [--judges likelihood checks ...] [--traits ...] [--attacks N]

One card a cell, made or taken from the cache; the cells say the share of verdicts that found the
planted order, with Wilson's interval, at a strong dose, at a low one and for short good replies
against long bad ones. Then what a verdict costs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from rich.console import Console

from character.judge_job import config_of, examined
from character.judging.card import Card
from character.models.names import BUNDLED_DEFAULT
from character.progress import Reporter
from character.spec.loading import load_trait

TRAITS = (
    "candid", "concise", "curious", "encouraging", "humble", "plain-spoken", "playful", "poetic",
    "steady", "warm",
)  # fmt: skip
TESTS = ("planted order", "low dose", "short good, long bad", "shown, not announced", "attacks")


def main(judges: list[str], traits: list[str], queries: int, attacks: int) -> None:
    print(f"| judge | trait | {' | '.join(TESTS)} | place | flips | ECE | seconds |")
    print("|---" * (len(TESTS) + 6) + "|")
    for kind in judges:
        for name in traits:
            found = examined(
                [load_trait(name)], kind, BUNDLED_DEFAULT, BUNDLED_DEFAULT,  # type: ignore[arg-type]
                config_of(queries, attacks), Reporter(Console(stderr=True)),
            )  # fmt: skip
            print(f"| {kind} | {name} | {' | '.join(cells(found.cards[0]))} |", flush=True)


def cells(card: Card) -> Iterator[str]:
    for name in TESTS:
        test = card.test(name)
        missed = "*" if test.passed is False else ""
        yield f"{test.shown}{missed} {test.interval}".strip()
    for name in ("place", "flips"):
        yield card.test(name).shown
    yield f"{card.calibration.before:.2f}, {card.calibration.after:.2f}" if card.calibration else ""
    yield f"{card.seconds:.0f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judges", nargs="*", default=["likelihood"])
    parser.add_argument("--traits", nargs="*", default=list(TRAITS))
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--attacks", type=int, default=217)
    given = parser.parse_args()
    main(given.judges, given.traits, given.queries, given.attacks)
