"""Queries, and the replies to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from character.building.context import Build
from character.building.reuse import in_order, stored, tell
from character.data.queries import (
    NOTHING,
    drafts_wanted,
    fresh_drafts,
    fresh_queries,
    queries_from,
    write_drafts,
    yield_of,
)
from character.data.replies import (
    PlannedReply,
    plan_own_replies,
    plan_replies,
    renewed,
    write_replies,
)
from character.earlier import HELD_BEFORE
from character.errors import RunError
from character.models.local import LocalModel
from character.models.served import ServedModel
from character.progress import Bar
from character.rows import (
    Draft,
    Query,
    Reply,
)
from character.run import Chunk
from character.spec.constitution import Constitution
from character.training.policy import (
    adapter_name,
    at_dose,
)


def make_queries(this: Build, known: Sequence[Query] = ()) -> list[Query]:
    """Those of this round; in a further one none is near a `known` one.

    In the first the earlier run's drafts are taken over, and its queries stay on the side they were
    on. What any run before held out is trained on in no round.
    """
    recipe, constitution = this.recipe, this.constitution
    before = this.earlier.before if this.earlier else NOTHING

    def make(bar: Bar) -> list[Draft | Query]:
        writer = this.models.any(recipe.roles.writer)

        def drafted(count: int) -> None:
            bar.add(count)
            if isinstance(writer, ServedModel):
                bar.note(f"${writer.budget.spent:.4f}")

        means = this.models.embedder() if recipe.queries.similarity == "embedding" else None
        config = recipe.queries
        drafts = write_drafts(constitution, writer, config, this.seed, drafted, before, this.round)
        taken = {draft.id for draft in before.drafts}
        tell(this, "drafts", sum(draft.id in taken for draft in drafts), len(drafts))
        if this.round:
            held = this.run.recorded(HELD_BEFORE) or ()
            found = fresh_queries(constitution, drafts, config, this.round, known, held, means)
        else:
            found = queries_from(constitution, drafts, config, this.seed, before, means)
        return [*drafts, *found]

    drafts = sum(
        fresh_drafts(recipe.queries) if this.round else drafts_wanted(trait, recipe.queries)
        for trait in constitution.traits
    )
    stage, title = this.stage("queries"), this.title("Queries")
    found = this.run.once(stage, title, Query, make, drafts, "drafts")
    return [query for query in found if query.round == this.round]


def make_replies(this: Build, queries: Sequence[Query]) -> list[Reply]:
    if not this.round:
        _check_split(this.constitution, queries)
    recipe, policy = this.recipe, this.recipe.roles.policy
    planned = plan_replies(
        this.constitution, queries, this.models.identity(policy), recipe.replies, this.seed
    )
    found = _replies(
        this,
        "replies",
        "Replies",
        planned,
        lambda todo: write_replies(todo, this.models[policy], recipe.replies, this.language),
    )
    return _to(queries, found, "plain", "steered")


def _replies(
    this: Build,
    stage: str,
    title: str,
    planned: Sequence[Sequence[PlannedReply]],
    make: Callable[[Iterable[Sequence[PlannedReply]]], Iterator[list[Reply]]],
) -> list[Reply]:
    """All replies there are, the planned ones first and in their order."""
    config, language = this.recipe.replies, this.language
    ids = [one.id for chunk in planned for one in chunk]
    there = stored(this, stage, Reply, ids, lambda reply: renewed(reply, config, language))
    left = [[one for one in chunk if one.id not in there] for chunk in planned]
    chunks = [Chunk(chunk[0].id, len(chunk), chunk) for chunk in left if chunk]
    found = this.run.each(this.stage(stage), this.title(title), Reply, chunks, make, len(there))
    return in_order(found, ids)


def make_own_replies(this: Build, queries: Sequence[Query], distilled: Path) -> list[Reply]:
    """What the policy says by itself to the training queries: in the first round once at every
    dose of the distillation, then as it is.
    """
    recipe = this.recipe
    doses = (1.0,) * recipe.replies.own if this.round else recipe.training.dose.tried
    name = adapter_name(distilled)
    planned = plan_own_replies(
        queries, [f"{name} x{dose:g}" for dose in doses], recipe.replies, this.seed
    )
    language = this.language

    def make(todo: Iterable[Sequence[PlannedReply]]) -> Iterator[list[Reply]]:
        for sample, chunks in groupby(todo, key=lambda chunk: chunk[0].sample):
            policy, tokenizer = at_dose(
                this.models.folder(recipe.roles.policy), distilled, doses[sample]
            )
            model = LocalModel(policy.merge_and_unload(), tokenizer, f"{name} x{doses[sample]:g}")
            yield from write_replies(chunks, model, recipe.replies, language)

    found = _replies(this, "own_replies", "Own replies", planned, make)
    return _to(queries, found, "own")


def _to(queries: Sequence[Query], replies: Sequence[Reply], *styles: str) -> list[Reply]:
    """The replies of these styles to these queries: a run holds those of all its rounds."""
    asked = {query.id for query in queries}
    return [reply for reply in replies if reply.style in styles and reply.query_id in asked]


def _check_split(constitution: Constitution, queries: Sequence[Query]) -> None:
    """Every trait needs queries on both sides; without, all that follows would be for nothing."""
    for trait in constitution.traits:
        own = [q for q in queries if q.trait == trait.id and q.kind == "on_trait"]
        for split in ("train", "held_out"):
            if not any(query.split == split for query in own):
                fates = ", ".join(f"{n} {fate}" for fate, n in yield_of(own).items())
                raise RunError(
                    f"no {split} query for {trait.id!r} ({fates}). Add seed messages to the trait, "
                    "or write more drafts: --set queries.spare=3"
                )
