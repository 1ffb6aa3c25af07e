"""Queries, and the replies to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from character.building.context import Build
from character.data.queries import (
    drafts_wanted,
    fresh_drafts,
    write_fresh_queries,
    write_queries,
    yield_of,
)
from character.data.replies import (
    PlannedReply,
    plan_own_replies,
    plan_replies,
    write_replies,
)
from character.errors import RunError
from character.models.local import LocalModel
from character.models.served import ServedModel
from character.progress import Bar
from character.rows import (
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
    """Those of this round; in a further one none is near a `known` one."""
    recipe, traits = this.recipe, this.constitution.traits

    def make(bar: Bar) -> list[Query]:
        writer = this.models.any(recipe.roles.writer)

        def drafted(count: int) -> None:
            bar.add(count)
            if isinstance(writer, ServedModel):
                bar.note(f"${writer.budget.spent:.4f}")

        means = this.models.embedder() if recipe.queries.similarity == "embedding" else None
        if this.round:
            return write_fresh_queries(
                this.constitution,
                writer,
                recipe.queries,
                this.seed,
                this.round,
                known,
                drafted,
                means,
            )
        return write_queries(this.constitution, writer, recipe.queries, this.seed, drafted, means)

    drafts = sum(
        fresh_drafts(recipe.queries) if this.round else drafts_wanted(trait, recipe.queries)
        for trait in traits
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
    language = this.language
    found = this.run.each(
        this.stage("replies"),
        this.title("Replies"),
        Reply,
        [Chunk(chunk[0].id, len(chunk), chunk) for chunk in planned],
        lambda todo: write_replies(todo, this.models[policy], recipe.replies, language),
    )
    return _to(queries, found, "plain", "steered")


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

    found = this.run.each(
        this.stage("own_replies"),
        this.title("Own replies"),
        Reply,
        [Chunk(chunk[0].id, len(chunk), chunk) for chunk in planned],
        make,
    )
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
