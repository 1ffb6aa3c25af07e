"""A judge's cards: queries, planted replies, the tests; and where finished cards are kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from character import prompts
from character.data.queries import TEMPLATES as WRITING
from character.data.queries import QueriesConfig, drafts_wanted, write_queries
from character.errors import RecipeError, SpecError
from character.judging.attacks import attacks
from character.judging.card import Card, judged_by
from character.judging.config import CardConfig, Kind
from character.judging.discriminant import Discriminant, discriminate
from character.judging.habits import ALONE, Writer
from character.judging.judge import Judge
from character.judging.judgements import read_by
from character.judging.kinds import NEED_NO_MODEL, TEMPLATES, UNITS
from character.judging.panel import Seat, seat, seated
from character.judging.plants import Planted, exchanges, plant, plant_others, replies_wanted
from character.judging.trials import TESTS, examine
from character.kept import keep, kept_in, read_kept
from character.models.base import ChatModel
from character.progress import Reporter
from character.rows import Query, content_id
from character.spec.constitution import Constitution, Member
from character.spec.schema import Trait

VERSION = 5  # of what a card measures; a card of another version is made again
CARDS = "judge-cards"
APART = 1_000  # added to the seed of a panel's plants


@dataclass(frozen=True, slots=True)
class Bench:
    """The judge on trial, and the model that writes queries and plants replies.

    `kinds` is the judge's, or those of a panel's members.
    """

    kinds: tuple[Kind, ...]
    judge: Judge
    planter: ChatModel
    config: CardConfig = field(default_factory=CardConfig)
    also: ChatModel | None = None
    """Another writer, against which the judge's preference for its own model is measured."""


def card_of(
    trait: Trait, bench: Bench, reporter: Reporter, again: bool = False
) -> tuple[Card, list[Planted] | None]:
    """The kept card, or a new one, which is then kept; and the plants when they were made.

    Raises SpecError when the writer makes too few queries of the trait's seed messages.
    """
    if not again and (kept := read_card(card_id(trait, bench))):
        return kept, None
    started = time.monotonic()
    planted = plants_for(trait, bench, reporter)
    return card_from(trait, bench, planted, reporter, started), planted


def card_from(
    trait: Trait,
    bench: Bench,
    planted: Sequence[Planted],
    reporter: Reporter,
    started: float | None = None,
) -> Card:
    """A card from the bench's plants, which several kinds of judge can share; it is kept."""
    started = time.monotonic() if started is None else started
    tried = attacks(trait, exchanges(planted))
    count = min(bench.config.attacks, len(tried))
    chosen = [tried[k * len(tried) // count] for k in range(count)]
    with reporter.bar(f"Judge, {trait.id}", TESTS, "tests") as bar:
        tests, clauses, calibration = examine(
            bench.judge, trait, planted, chosen, bench.config.sure, bar.add, writer_of(bench)
        )
    seconds = time.monotonic() - started
    card = Card(
        card_id(trait, bench),
        trait.id,
        bench.judge.name,
        bench.planter.name,
        tests,
        clauses,
        calibration,
        seconds,
    )
    keep_card(card)
    return card


def seats_of(
    trait: Trait, members: Sequence[Bench], reporter: Reporter, again: bool = False
) -> list[Seat]:
    """What each member's own card makes of it. RecipeError when none has a voice in a panel."""
    seats = [seat(card_of(trait, bench, reporter, again)[0]) for bench in members]
    if not any(each.weight for each in seats):
        told = "; ".join(
            f"{s.judge} {'no verdict' if s.accuracy is None else f'{s.accuracy:.2f}'}"
            for s in seats
        )
        raise RecipeError(
            f"No member of the panel tells replies of a low dose of {trait.id} from plain ones"
            f" better than chance: {told}. Take other members, or mend the trait's examples."
        )
    return seats


def panel_bench(members: Sequence[Bench], seats: Sequence[Seat]) -> Bench:
    """The bench on which the panel of these members is tried: the weights knew the members'
    plants, so it gets others."""
    kinds = tuple(kind for bench in members for kind in bench.kinds)
    first = members[0]
    config = first.config.model_copy(update={"seed": first.config.seed + APART})
    return replace(
        first, kinds=kinds, judge=seated([b.judge for b in members], seats), config=config
    )


def plants_for(trait: Trait, bench: Bench, reporter: Reporter) -> list[Planted]:
    config = bench.config
    wanted = _wanted(config.plants.queries)
    with reporter.bar(f"Queries, {trait.id}", drafts_wanted(trait, wanted), "drafts") as bar:
        alone = Constitution((Member(trait),))
        queries = _usable(write_queries(alone, bench.planter, wanted, config.seed, bar.add))
    if len(queries) < 10:
        raise SpecError(
            f"{trait.id}: a judge is tried on at least ten queries, and its seed messages gave "
            f"{len(queries)}. Write more of them, as varied as real ones."
        )
    with reporter.bar(f"Plants, {trait.id}", replies_wanted(config.plants), "replies") as bar:
        found = plant(trait, queries, bench.planter, config.plants, config.seed, bar.add)
    if bench.also:
        found = plant_others(trait, found, bench.also, config.plants, config.seed)
    return found


def writer_of(bench: Bench) -> Writer:
    """Which of the two writers is the judge's own model, by their names."""
    if bench.also is None:
        return ALONE
    if all(kind in NEED_NO_MODEL for kind in bench.kinds):
        return Writer(None, "this judge is no language model")
    own = [judged_by(bench.judge.name, m.name) for m in (bench.planter, bench.also)]
    if own == [True, False]:
        return Writer("planter")
    if own == [False, True]:
        return Writer("other")
    which = "both writers are" if own[0] else "neither writer is"
    return Writer(None, f"{which} the judge's own model")


def discriminant(
    traits: Sequence[Trait], bench: Bench, planted: dict[str, list[Planted]], reporter: Reporter
) -> Discriminant:
    """What planting each trait does to the judge's verdicts on every one; plants where missing."""
    for trait in traits:
        if trait.id not in planted:
            planted[trait.id] = plants_for(trait, bench, reporter)
    with reporter.bar("Discriminant", len(traits) ** 2, "cells") as bar:
        return discriminate(bench.judge, traits, planted, bar.add)


def card_id(trait: Trait, bench: Bench) -> str:
    """The hash of everything that decides a card.

    Of the trait, that is what its queries and plants are made from, and what the judge reads.
    """
    queries = trait.queries
    made_from = (
        trait.id, trait.statement, [clause.id for clause in trait.clauses],
        [(example.clause, example.user, example.good, example.bad) for example in trait.examples],
        queries.seeds, queries.topics, queries.registers,
    )  # fmt: skip
    templates = dict.fromkeys(t for kind in bench.kinds for t in TEMPLATES.get(kind, ()))
    return content_id(
        "card", VERSION, bench.judge.name, [UNITS.get(kind) for kind in bench.kinds],
        [prompts.digest(name) for name in (*templates, *WRITING)],
        made_from, [read_by(kind, trait) for kind in bench.kinds],
        bench.planter.name, bench.also and bench.also.name,
        bench.config.model_dump(exclude={"enabled"}),
        [attack.attacked for attack in attacks(trait)],
    )  # fmt: skip


def cards_folder() -> Path:
    return kept_in(CARDS)


def read_card(identity: str) -> Card | None:
    """A kept card; None when there is none, or when its file is damaged."""
    card = read_kept(CARDS, identity, TypeAdapter(Card))
    return card if card and card.id == identity else None


def keep_card(card: Card) -> Path:
    return keep(CARDS, card.id, told(card))


def told(card: Card) -> dict[str, Any]:
    """The card as JSON has it."""
    return asdict(card)


def cards_in(recorded: Sequence[dict[str, Any]] | None) -> list[Card]:
    """The cards in a run's record; none when it made none."""
    return TypeAdapter(list[Card]).validate_python(recorded or [])


def _wanted(queries: int) -> QueriesConfig:
    """A fifth more than are planted: the writer's near-duplicates are dropped."""
    return QueriesConfig(train=round(1.2 * queries), held_out=4, unless=0, neutral=0)


def _usable(written: Sequence[Query]) -> list[Query]:
    return [q for q in written if q.kind == "on_trait" and not q.dropped]
