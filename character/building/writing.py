"""Queries, and the replies to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from character.building.context import Build
from character.data.queries import drafts_wanted, write_queries, yield_of
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


def make_queries(this: Build) -> list[Query]:
    recipe = this.recipe

    def make(bar: Bar) -> list[Query]:
        writer = this.models.any(recipe.roles.writer)

        def drafted(count: int) -> None:
            bar.add(count)
            if isinstance(writer, ServedModel):
                bar.note(f"${writer.budget.spent:.4f}")

        means = this.models.embedder() if recipe.queries.similarity == "embedding" else None
        return write_queries(this.constitution, writer, recipe.queries, recipe.seed, drafted, means)

    drafts = sum(drafts_wanted(trait, recipe.queries) for trait in this.constitution.traits)
    return this.run.once("queries", "Queries", Query, make, drafts, "drafts")


def make_replies(this: Build, queries: Sequence[Query]) -> list[Reply]:
    _check_split(this.constitution, queries)
    recipe, policy = this.recipe, this.recipe.roles.policy
    planned = plan_replies(
        this.constitution, queries, this.models.identity(policy), recipe.replies, recipe.seed
    )
    language = this.language
    found = this.run.each(
        "replies",
        "Replies",
        Reply,
        [Chunk(chunk[0].id, len(chunk), chunk) for chunk in planned],
        lambda todo: write_replies(todo, this.models[policy], recipe.replies, language),
    )
    return [reply for reply in found if reply.style in ("plain", "steered")]


def make_own_replies(this: Build, queries: Sequence[Query], distilled: Path) -> list[Reply]:
    """What the distilled policy says by itself to the training queries, at every dose."""
    recipe, doses = this.recipe, this.recipe.training.dose.tried
    name = adapter_name(distilled)
    planned = plan_own_replies(
        queries, [f"{name} x{dose:g}" for dose in doses], recipe.replies, recipe.seed
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
        "own_replies",
        "Own replies",
        Reply,
        [Chunk(chunk[0].id, len(chunk), chunk) for chunk in planned],
        make,
    )
    return [reply for reply in found if reply.style == "own"]


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
