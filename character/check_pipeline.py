"""Measure what trait files do to a model: planted order, confused and ambiguous clauses, pulls.

One trait's measures, and each pair's pull, are kept by the hash of everything that decides them;
a judge's card that a build made serves here too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache
from itertools import product
from typing import TypeVar

from pydantic import TypeAdapter

from character.errors import SpecError
from character.judge_pipeline import Bench, card_id, card_of, plants_for, read_card
from character.judging.card import Card
from character.judging.config import CardConfig
from character.judging.halves import Ambiguity, ambiguities
from character.judging.kinds import judge_of
from character.judging.likelihood import LikelihoodJudge
from character.judging.measures import Measured, Measures
from character.judging.nearness import Nearness, confusion
from character.judging.plants import Planted, PlantsConfig
from character.judging.pull import Pull, pull
from character.kept import keep, read_kept
from character.models.base import ChatModel
from character.progress import Reporter
from character.rows import content_id
from character.spec.drafts import drafts_of
from character.spec.lint import Checked, Finding, Place, finding_at
from character.spec.loading import Source
from character.spec.schema import Trait

VERSION = 1  # of what is measured; what was kept of another version is measured again
KEPT = "trait-measures"
SIZES = CardConfig(plants=PlantsConfig(queries=40, dosed=16), attacks=0)
SHOWN = ("planted order", "low dose", "short good, long bad", "shown, not announced")

ORDER = 0.85  # share of planted contests won by the better reply, as the card's bar has it

T = TypeVar("T")


def measure(sources: Sequence[Source], model: ChatModel, reporter: Reporter) -> Measured:
    """Measure every trait that is written, and every two of them on each other."""
    started = time.monotonic()
    bench = Bench(("likelihood",), judge_of("likelihood", model), model, SIZES)
    by_id = {source.trait.id: source.trait for source in sources}
    plants = cache(lambda name: tuple(plants_for(by_id[name], bench, reporter)))
    found = [_measures(trait, bench, plants, model, reporter) for trait in by_id.values()]
    usable = [measures.trait for measures in found if not measures.missing]
    pulls = [
        _pull(by_id[planted], by_id[judged], bench, plants, reporter)
        for planted, judged in product(usable, usable if len(usable) > 1 else ())
    ]
    return Measured(model.name, tuple(found), tuple(pulls), time.monotonic() - started)


def with_measures(checked: Checked, measured: Measured) -> Checked:
    """What was checked, with what the measures found."""
    by_id = {source.trait.id: source for source in checked.sources}
    found = [f for one in measured.traits for f in _findings(by_id[one.trait], one)]
    found += [f for one in measured.pulls for f in _pulled(by_id, one)]
    return replace(checked, findings=(*checked.findings, *sorted(found)))


# --- measuring ---


def _measures(
    trait: Trait,
    bench: Bench,
    plants: Callable[[str], tuple[Planted, ...]],
    model: ChatModel,
    reporter: Reporter,
) -> Measures:
    if drafts := len(list(drafts_of(trait))):
        return Measures(trait.id, missing=f"{drafts} of its texts are still drafts")

    def make() -> Measures:
        card = _card(trait, bench, reporter)
        with reporter.bar(f"Clauses, {trait.id}", 2, "measures") as bar:
            split = ambiguities(bench.judge, trait, plants(trait.id))
            bar.add(1)
            confused = confusion(model, trait)
            bar.add(1)
        tests = tuple(test for test in card.tests if test.name in SHOWN)
        return Measures(trait.id, tests, card.clauses, tuple(split), confused)

    try:
        return _kept(content_id("measures", VERSION, card_id(trait, bench)), Measures, make)
    except SpecError as error:
        return Measures(trait.id, missing=str(error))


def _card(trait: Trait, bench: Bench, reporter: Reporter) -> Card:
    """The card of a build, which has more replies, where there is one."""
    of_a_build = read_card(card_id(trait, replace(bench, config=CardConfig())))
    return of_a_build or card_of(trait, bench, reporter)[0]


def _pull(
    planted: Trait,
    judged: Trait,
    bench: Bench,
    plants: Callable[[str], tuple[Planted, ...]],
    reporter: Reporter,
) -> Pull:
    ids = [card_id(trait, bench) for trait in (planted, judged)]

    def make() -> Pull:
        replies = plants(planted.id)
        with reporter.bar(f"{planted.id} on {judged.id}", 1, "pull") as bar:
            found = pull(LikelihoodJudge(bench.planter), judged, planted.id, replies)
            bar.add(1)
        return found

    return _kept(content_id("pull", VERSION, *ids), Pull, make)


def _kept(identity: str, form: type[T], make: Callable[[], T]) -> T:
    if kept := read_kept(KEPT, identity, TypeAdapter(form)):
        return kept
    made = make()
    keep(KEPT, identity, asdict(made))  # type: ignore[call-overload]
    return made


# --- from measures to findings ---


def _findings(source: Source, found: Measures) -> Iterator[Finding]:
    if found.missing:
        yield _missing(source, ("id",), found.missing)
        return
    order = next(test for test in found.tests if test.name == "planted order")
    if order.value is None:
        yield _missing(source, ("examples",), f"planted order: {order.note}")
    elif order.value < ORDER:
        yield finding_at(
            source, "examples-do-not-steer", ("examples",),
            f"the better reply won {order.shown} {order.interval} of {order.count}",
            "Let good and bad replies differ in the trait and in nothing else, and show it all the "
            "way through.",
        )  # fmt: skip
    places = {clause.id: n for n, clause in enumerate(source.trait.clauses)}
    for test in found.clauses:
        if test.at_chance:
            yield finding_at(
                source, "clause-at-chance", ("clauses", places[test.clause], "id"),
                f"the better reply won {test.value:.2f} [{test.low:.2f}, {test.high:.2f}] of "
                f"{test.count} on {test.clause!r}",
                "Add examples of this clause whose good and bad reply differ in it alone.",
            )  # fmt: skip
    for ambiguity in found.ambiguities:
        place = ("clauses", places[ambiguity.clause], "id")
        yield from _ambiguous(source, place, ambiguity)
    for beside in found.confusion.beside if found.confusion else ():
        if beside.nearer:
            yield _nearer(source, beside)


def _ambiguous(source: Source, place: Place, found: Ambiguity) -> Iterator[Finding]:
    if found.ambiguous and found.split:
        split = found.split
        yield finding_at(
            source, "clause-ambiguous", place,
            f"the halves differ on {split.value:.2f} [{split.low:.2f}, {split.high:.2f}] of "
            f"{split.count} contests of {found.clause!r}",
            "Say in the clause which behaviour is meant, and show that one in all its examples.",
        )  # fmt: skip


def _nearer(source: Source, found: Nearness) -> Finding:
    first = next(n for n, e in enumerate(source.trait.examples) if e.clause == found.clause)
    return finding_at(
        source, "nearer-another-clause", ("examples", first, "clause"),
        f"the examples of {found.clause!r} learn {-(found.value or 0):.2f} "
        f"[{-(found.high or 0):.2f}, {-(found.low or 0):.2f}] nats a token more from those of "
        f"{found.other!r} than from one another",
        "File them under the clause they show, or join the two clauses.",
    )  # fmt: skip


def _pulled(by_id: dict[str, Source], found: Pull) -> Iterator[Finding]:
    source = by_id[found.judged]
    if found.value is None:
        what = f"what {found.planted!r} does to {found.judged!r}"
        yield _missing(source, ("id",), f"{what}: fewer than two replies of each kind came out")
    elif found.planted != found.judged and found.apart(source.trait.margin):
        yield finding_at(
            source, "traits-pull-apart", ("statement",),
            f"planting {found.planted!r} moves {found.judged!r} by {found.value:+.2f} "
            f"[{found.low:+.2f}, {found.high:+.2f}] nats a token",
            f"Train them apart, give one a lower weight, or let no good reply of "
            f"{found.planted!r} do what {found.judged!r} calls bad.",
        )  # fmt: skip


def _missing(source: Source, place: Place, why: str) -> Finding:
    return finding_at(
        source, "not-measured", place, why, "Mend what is named, and measure again."
    )  # fmt: skip
