"""Open the models that a judge's cards need, make the cards, and close the models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from character.judge_pipeline import (
    Bench,
    card_of,
    discriminant,
    panel_bench,
    plants_for,
    seats_of,
    told,
)
from character.judging.agreement import Agreement, agreement
from character.judging.card import Card
from character.judging.config import CardConfig, Kind, NamedJudge
from character.judging.discriminant import Discriminant
from character.judging.judge import Judge
from character.judging.kinds import NEED_NO_MODEL, judge_of
from character.judging.panel import ByTrait
from character.judging.plants import Planted, PlantsConfig
from character.models.base import ChatModel
from character.models.budget import Budget
from character.models.cache import shared_cache
from character.models.config import RequestsConfig
from character.models.loading import Serving, load_local, load_served
from character.models.names import has_weights
from character.progress import Reporter
from character.spec.schema import Trait

FORM = 1  # of the JSON


@dataclass(frozen=True, slots=True)
class Examined:
    cards: tuple[Card, ...]
    discriminant: Discriminant | None

    def told(self) -> dict[str, Any]:
        """As JSON has it."""
        matrix = self.discriminant and {
            "traits": self.discriminant.traits,
            "values": self.discriminant.values,
        }
        return {"form": FORM, "cards": [told(card) for card in self.cards], "discriminant": matrix}


def examined(
    traits: Sequence[Trait],
    judges: Sequence[NamedJudge],
    planter: str,
    config: CardConfig,
    reporter: Reporter,
    *,
    also: str | None = None,
    matrix: bool = False,
    again: bool = False,
    cap: float | None = None,
) -> Examined:
    """One card a trait, of the judge, or of the panel that several make; with `matrix` also what
    planting each trait does to all of them. `also` names a second writer."""
    local = load_local(planter, reporter.say)
    with ExitStack() as stack:
        opened: dict[str, Any] = {planter: local}
        budget = Budget(cap)
        made = _opened(judges, opened, budget, reporter, stack)
        other = None
        if also:  # a model for a kind that needs one
            other = stack.enter_context(_judging("verdict", also, opened, budget, reporter))
        members = [
            Bench((named.kind,), judge, local, config, other)
            for named, judge in zip(judges, made, strict=True)
        ]
        cards: list[Card] = []
        planted: dict[str, list[Planted]] = {}
        benches: dict[str, Bench] = {}
        for trait in traits:
            bench = members[0]
            if len(members) > 1:
                bench = panel_bench(members, seats_of(trait, members, reporter, again))
            card, plants = card_of(trait, bench, reporter, again)
            benches[trait.id] = bench
            cards.append(card)
            if plants:
                planted[trait.id] = plants
        found = None
        if matrix:
            every = ByTrait({trait: bench.judge for trait, bench in benches.items()})
            found = discriminant(traits, replace(bench, judge=every), planted, reporter)
        return Examined(tuple(cards), found)


def compared(
    traits: Sequence[Trait],
    judges: Sequence[NamedJudge],
    planter: str,
    queries: int,
    reporter: Reporter,
    cap: float | None = None,
) -> Iterator[Agreement]:
    """Where two judges differ, trait by trait."""
    local = load_local(planter, reporter.say)
    with ExitStack() as stack:
        # what both may cost together
        first, second = _opened(judges, {planter: local}, Budget(cap), reporter, stack)
        bench = Bench((judges[0].kind,), first, local, config_of(queries, 0))
        for trait in traits:
            yield agreement(first, second, trait, plants_for(trait, bench, reporter))


def config_of(queries: int, attacks: int) -> CardConfig:
    return CardConfig(plants=PlantsConfig(queries=queries), attacks=attacks)


def _opened(
    judges: Sequence[NamedJudge],
    opened: dict[str, Any],
    budget: Budget,
    reporter: Reporter,
    stack: ExitStack,
) -> list[Judge]:
    """The judges, each model opened once; the stack closes them."""
    made = []
    for each in judges:
        model = stack.enter_context(_judging(each.kind, each.model, opened, budget, reporter))
        opened[each.model] = model or opened.get(each.model)
        made.append(judge_of(each.kind, model, _embedder(each.kind, reporter)))
    return made


@contextmanager
def _judging(
    kind: Kind, name: str, opened: dict[str, Any], budget: Budget, reporter: Reporter
) -> Iterator[ChatModel | None]:
    """The model that judges, opened only when it is another; closed if it was asked over a
    network."""
    if kind in NEED_NO_MODEL:
        yield None
    elif has_weights(name):
        yield opened.get(name) or load_local(name, reporter.say)
    elif opened.get(name):
        yield opened[name]
    else:
        served = load_served(name, Serving(RequestsConfig(), budget, shared_cache()))
        try:
            yield served
        finally:
            served.close()


def _embedder(kind: Kind, reporter: Reporter) -> Any:
    if kind != "embedding":
        return None
    from character.models.embedder import embedder

    return embedder(reporter.say)
