"""What of a run's data still holds when its traits are edited, and why the rest does not.

Nothing is guessed: what a new build would take over is found by the same ids that it would look up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from character.data.queries import (
    clause_grounds,
    plan_drafts,
    plan_unless_drafts,
    queries_from,
    taken_over,
    unless_ground,
)
from character.data.replies import plan_replies
from character.earlier import Earlier, find_run, open_earlier
from character.folder import record_of
from character.judge_pipeline import cards_in
from character.judging.config import PANEL
from character.judging.judgements import plan_judgements, read_by
from character.judging.kinds import decided_by
from character.judging.likelihood import NAME, foils
from character.models.embedder import embedder
from character.models.names import can_continue, has_weights
from character.recipe import Recipe
from character.rows import Draft, Reply
from character.run import CARDS
from character.spec.constitution import Constitution
from character.spec.demonstrations import demonstrations
from character.spec.schema import Trait

QUERIES, UNLESS = "queries", "unless queries"
PLAIN, STEERED, JUDGEMENTS = "plain replies", "steered replies", "judgements"

Counts = Mapping[tuple[str, str, str], tuple[int, int]]  # (trait, clause, stage): kept, stored


@dataclass(frozen=True, slots=True)
class Holds:
    """Whether one stage's data of a trait, or of one clause, can serve the new version."""

    trait: str
    clause: str  # empty: of all clauses
    stage: str
    holds: bool
    why: str
    kept: int | None = None  # rows of the run at hand; None without one
    stored: int | None = None


@dataclass(frozen=True, slots=True)
class Valid:
    """What holds, and the run whose rows were counted; None without one."""

    run: Path | None
    judge: str
    holds: tuple[Holds, ...]


@dataclass(frozen=True, slots=True)
class _Hand:
    """A writer by what decides its requests."""

    name: str = ""
    can_continue: bool = True


def what_holds(
    old: Constitution, new: Constitution, run: Path | None = None, folder: Path = Path("runs")
) -> Valid:
    """For the data of `run`, or of the newest run of these traits in `folder`, or in principle.

    Raises RunError when `run` is none.
    """
    run = run or find_run(folder, [trait.id for trait in old.traits])
    if run is None:
        return Valid(None, NAME, tuple(_principle(old, new, NAME)))
    record = record_of(run)
    recipe = Recipe.model_validate(record["identity"]["recipe"])
    earlier, models = open_earlier(run), record.get("models")
    counts = _counted(earlier, new, recipe, models, record) if models else {}
    kind = recipe.ranking.judge
    return Valid(
        run,
        kind,
        tuple(
            one if found is None else replace(one, kept=found[0], stored=found[1])
            for one in _principle(earlier.constitution, new, kind)
            for found in (counts.get((one.trait, one.clause, one.stage)),)
        ),
    )


# --- in principle ---


def _principle(old: Constitution, new: Constitution, kind: str) -> Iterator[Holds]:
    before = {trait.id: trait for trait in old.traits}
    for trait in new.traits:
        was = before.get(trait.id)
        if was is None:
            yield Holds(trait.id, "", "everything", False, "there was no trait of this id")
            continue
        yield from _queries(was, trait)
        yield Holds(
            trait.id, "", PLAIN, True, "to every query that stays, on its side of the split"
        )
        yield from _replies(was, trait)
        yield from _judgements(was, trait, kind)


def _queries(old: Trait, new: Trait) -> Iterator[Holds]:
    config, hand = Recipe(title="any").queries, _Hand()
    before, after = (clause_grounds(trait, hand, config, 0) for trait in (old, new))
    shared = [
        f"queries.{part}"
        for part in ("seeds", "topics", "registers")
        if getattr(old.queries, part) != getattr(new.queries, part)
    ]
    for clause, ground in after.items():
        if clause not in before:
            yield Holds(new.id, clause, QUERIES, False, "the clause is new")
        elif ground == before[clause]:
            yield Holds(
                new.id, clause, QUERIES, True, "made from its examples' messages and the seeds"
            )
        else:
            why = shared or ["the messages of its examples"]
            yield Holds(new.id, clause, QUERIES, False, f"changed: {', '.join(why)}")
    for clause in before.keys() - after.keys():
        yield Holds(new.id, clause, QUERIES, False, "the clause is gone")
    if new.queries.unless:
        same = unless_ground(old, hand, config, 0) == unless_ground(new, hand, config, 0)
        yield Holds(new.id, "", UNLESS, same, "" if same else "changed: queries.unless")


def _replies(old: Trait, new: Trait) -> Iterator[Holds]:
    """A trait's good examples are all shown, in an order of their own, before every reply."""
    shown = [demonstrations(trait, "good", variant=1) for trait in (old, new)]
    same = shown[0] == shown[1]
    why = (
        "to every query that stays"
        if same
        else ("every one was shown all good examples, and what is shown is not the same")
    )
    yield Holds(new.id, "", STEERED, same, why)


def _judgements(old: Trait, new: Trait, kind: str) -> Iterator[Holds]:
    same = read_by(kind, old) == read_by(kind, new)
    reads = {
        NAME: "all examples, good and bad",
        "likelihood-plain": "all good examples",
        "embedding": "all good and bad replies of the examples",
        "checks": "nothing",
        PANEL: "all examples, the statements and the clauses' texts",
    }.get(kind, "the statements and the clauses' texts")
    why = f"the {kind} judge reads {reads}, and the checks"
    told = (
        f"of every reply that stays: {why}, which did not change"
        if same
        else (f"{why}; of that something changed")
    )
    yield Holds(new.id, "", JUDGEMENTS, same, told)


# --- in a run ---


def _counted(
    earlier: Earlier,
    new: Constitution,
    recipe: Recipe,
    models: Mapping[str, str],
    record: Mapping[str, Any],
) -> Counts:
    """What a build of the new traits would find in the run, by the ids it would look up."""
    drafts, counts = _drafts(earlier, new, recipe, models)
    by_meaning = recipe.queries.similarity == "embedding"
    means = embedder(lambda message: None) if by_meaning else None
    queries = queries_from(new, drafts, recipe.queries, recipe.seed, earlier.before, means)
    planned = [
        one
        for chunk in plan_replies(new, queries, models["policy"], recipe.replies, recipe.seed)
        for one in chunk
    ]
    of_trait = {query.id: query.trait for query in (*earlier.queries, *queries)}
    base = [reply for reply in earlier.replies.values() if reply.style in ("plain", "steered")]
    stored: Counter[tuple[str, str]] = Counter(
        (of_trait[reply.query_id], reply.style) for reply in base
    )
    kept: Counter[tuple[str, str]] = Counter(
        (one.query.trait, one.style) for one in planned if one.id in earlier.replies
    )
    for trait in new.traits:
        for style, stage in (("plain", PLAIN), ("steered", STEERED)):
            counts[trait.id, "", stage] = (kept[trait.id, style], stored[trait.id, style])
    wanted = [
        Reply(one.id, one.query.id, one.style, one.trait, one.sample, one.seed, "", "", 0, True, ())
        for one in planned
    ]
    roles = recipe.roles
    judge = models["judge"]
    if recipe.ranking.judge != NAME:
        judge = next((j.judge for j in earlier.judgements.values()), "")
    scorer = models["judge" if has_weights(roles.judge) else "policy"]
    foil = foils(query.text for query in queries if query.split != "none") | earlier.foils
    judged = plan_judgements(
        new.traits,
        wanted,
        queries,
        foil,
        decided_by(
            recipe.ranking,
            judge,
            scorer,
            {card.trait: card.band for card in cards_in(record.get(CARDS))},
            record.get(PANEL),
        ),
        recipe.ranking.judge,
    )
    held = Counter(
        one.trait.id for chunk in judged for one in chunk if one.id in earlier.judgements
    )
    own = {reply.id for reply in base}
    found = Counter(j.trait for j in earlier.judgements.values() if j.reply_id in own)
    for trait in new.traits:
        counts[trait.id, "", JUDGEMENTS] = (held[trait.id], found[trait.id])
    return counts


def _drafts(
    earlier: Earlier, new: Constitution, recipe: Recipe, models: Mapping[str, str]
) -> tuple[list[Draft], dict[tuple[str, str, str], tuple[int, int]]]:
    """The drafts that serve, and their counts by clause."""
    hand = _Hand(models["writer"], can_continue(recipe.roles.writer))
    drafts: list[Draft] = []
    for trait in new.traits:
        for plan in (plan_drafts, plan_unless_drafts):
            found = taken_over(plan(trait, hand, recipe.queries, recipe.seed), earlier.drafts)
            drafts += [draft for draft in found if draft]
    places = [
        Counter((d.trait, d.clause, UNLESS if d.kind == "unless" else QUERIES) for d in group)
        for group in (drafts, earlier.drafts)
    ]
    named = {(trait.id, clause.id, QUERIES) for trait in new.traits for clause in trait.clauses}
    named |= {(trait.id, "", UNLESS) for trait in new.traits}
    return drafts, {place: (places[0][place], places[1][place]) for place in named | {*places[1]}}
