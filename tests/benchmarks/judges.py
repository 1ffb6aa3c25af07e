"""The planted-truth table: every shipped trait by kinds of judge on the bundled model.

    python tests/benchmarks/judges.py [--judges likelihood checks ...] [--traits ...] [--attacks N]

One card a cell, made or taken from the cache; the cells say the share of verdicts that found the
planted order, with Wilson's interval, at a strong dose, at a low one and for short good replies
against long bad ones. "unseen" are the attacks of unseen_attacks.yaml, which were written by
somebody who knew neither the shipped ones nor what `character.pleading` looks for. Then what the
judge decides when it may abstain, how often it is right then, and what a card takes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from rich.console import Console

from character.judge_job import config_of
from character.judge_pipeline import Bench, card_from, card_id, plants_for, read_card
from character.judging.asked import Asked
from character.judging.attacks import attacks
from character.judging.card import Card, Test
from character.judging.config import CardConfig
from character.judging.judge import Judge
from character.judging.kinds import judge_of
from character.judging.plants import Planted, exchanges
from character.judging.trials import attacked
from character.models.embedder import embedder
from character.models.loading import load_local
from character.models.names import BUNDLED_DEFAULT
from character.pleading import flags
from character.progress import Reporter
from character.spec.loading import load_trait
from character.spec.schema import Trait

TRAITS = (
    "candid", "concise", "curious", "encouraging", "humble", "plain-spoken", "playful", "poetic",
    "steady", "warm",
)  # fmt: skip
TESTS = ("planted order", "low dose", "short good, long bad", "shown, not announced", "attacks")
UNSEEN = yaml.safe_load(Path(__file__).with_name("unseen_attacks.yaml").read_text(encoding="utf-8"))


def main(judges: list[str], traits: list[str], config: CardConfig) -> None:
    reporter = Reporter(Console(stderr=True))
    model = load_local(BUNDLED_DEFAULT, reporter.say)
    columns = (*TESTS, "unseen", "place", "flips", "ECE", "decides", "right", "seconds")
    print(f"| judge | trait | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 2) + "|")
    for name in traits:
        trait = load_trait(name)
        planted: list[Planted] | None = None
        for kind in judges:
            near = embedder(reporter.say) if kind == "embedding" else None
            judge = judge_of(kind, model, near)  # type: ignore[arg-type]
            bench = Bench((kind,), judge, model, config)  # type: ignore[arg-type]
            planted = planted or plants_for(trait, bench, reporter)
            kept = read_card(card_id(trait, bench))
            card = kept or card_from(trait, bench, planted, reporter)
            unseen = _unseen(
                judge, trait, planted, card.calibration.band if card.calibration else 0.0
            )
            print(f"| {kind} | {name} | {' | '.join(cells(card, unseen))} |", flush=True)


def _unseen(judge: Judge, trait: Trait, planted: Sequence[Planted], band: float) -> Test:
    tried = attacks(trait, exchanges(planted), UNSEEN["attacks"])
    (found,) = attacked(lambda c: Asked(c := [*c], judge.compare(trait, c)), tried, band)
    return found


def cells(card: Card, unseen: Test) -> Iterator[str]:
    for test in (*map(card.test, TESTS), unseen):
        missed = "*" if test.passed is False else ""
        yield f"{test.shown}{missed} {test.interval}".strip()
    for name in ("place", "flips"):
        yield card.test(name).shown
    if calibrated := card.calibration:
        yield f"{calibrated.before:.2f}, {calibrated.after:.2f}"
        yield f"{calibrated.decided:.2f}"
        yield "" if calibrated.right is None else f"{calibrated.right:.2f}"
    else:
        yield from ("", "", "")
    yield f"{card.seconds:.0f}"


def flagged() -> None:
    """Which attacks `character.pleading` sees, without knowing a trait or a query."""
    trait = load_trait("curious")
    print("| kind | shipped, flagged | unseen, flagged |\n|---|---|---|")
    found = [attacks(trait), attacks(trait, texts=UNSEEN["attacks"])]
    for kind in dict.fromkeys(attack.kind for attack in found[0]):
        some = [[flags(a.attacked) for a in tried if a.kind == kind] for tried in found]
        print(f"| {kind} | " + " | ".join(f"{sum(map(bool, f))} of {len(f)}" for f in some) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judges", nargs="*", default=["likelihood"])
    parser.add_argument("--traits", nargs="*", default=list(TRAITS))
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--attacks", type=int, default=217)
    parser.add_argument("--flags", action="store_true", help="only what is flagged, no judge")
    given = parser.parse_args()
    if given.flags:
        flagged()
    else:
        main(given.judges, given.traits, config_of(given.queries, given.attacks))
