"""Open the models that a judge's cards need, make the cards, and close the models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from character.judge_pipeline import Bench, card_of, discriminant, plants_for, told
from character.judging.agreement import Agreement, agreement
from character.judging.card import Card
from character.judging.config import CardConfig, Kind
from character.judging.discriminant import Discriminant
from character.judging.kinds import NEED_NO_MODEL, judge_of
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
    kind: Kind,
    judge: str,
    planter: str,
    config: CardConfig,
    reporter: Reporter,
    *,
    matrix: bool = False,
    again: bool = False,
    cap: float | None = None,
) -> Examined:
    """One card a trait; with `matrix` also what planting each trait does to all of them."""
    local = load_local(planter, reporter.say)
    with _judging(kind, judge, {planter: local}, Budget(cap), reporter) as model:
        bench = Bench(kind, judge_of(kind, model, _embedder(kind, reporter)), local, config)
        cards: list[Card] = []
        planted: dict[str, list[Planted]] = {}
        for trait in traits:
            card, plants = card_of(trait, bench, reporter, again)
            cards.append(card)
            if plants:
                planted[trait.id] = plants
        found = discriminant(traits, bench, planted, reporter) if matrix else None
        return Examined(tuple(cards), found)


def compared(
    traits: Sequence[Trait],
    judges: Sequence[tuple[Kind, str]],
    planter: str,
    queries: int,
    reporter: Reporter,
    cap: float | None = None,
) -> Iterator[Agreement]:
    """Where two judges differ, trait by trait."""
    local = load_local(planter, reporter.say)
    opened: dict[str, Any] = {planter: local}
    budget = Budget(cap)  # what both may cost together
    with ExitStack() as stack:
        made = []
        for kind, name in judges:
            model = stack.enter_context(_judging(kind, name, opened, budget, reporter))
            opened[name] = model or opened.get(name)
            made.append(judge_of(kind, model, _embedder(kind, reporter)))
        first, second = made
        bench = Bench(judges[0][0], first, local, config_of(queries, 0))
        for trait in traits:
            yield agreement(first, second, trait, plants_for(trait, bench, reporter))


def config_of(queries: int, attacks: int) -> CardConfig:
    return CardConfig(plants=PlantsConfig(queries=queries), attacks=attacks)


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
