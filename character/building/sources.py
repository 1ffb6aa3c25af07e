"""What the policy is fine-tuned on word for word: each source made, and all of them learned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from character.building.context import Build
from character.data.documents import plan_documents, write_documents
from character.data.examples import best_replies, example_id
from character.data.introspection import PlannedTalk, hold_talks, plan_introspection
from character.data.revisions import plan_revisions, write_revisions
from character.errors import RunError
from character.judging.ranking import rank_replies
from character.models.base import Message
from character.models.local import LocalModel
from character.progress import Bar
from character.rows import Document, Judgement, Query, Ranking, Reply, Revision, Row, Talk
from character.run import Chunk
from character.training.policy import Anchors, adapter_name, at_dose, finetuned_adapter
from character.training.sft import Target


def make_revisions(this: Build, queries: Sequence[Query], replies: Sequence[Reply]) -> list[Reply]:
    """The plain replies that the writer criticised and wrote anew; none when not asked for."""
    recipe = this.recipe
    if not recipe.revisions.replies:
        return []
    planned = plan_revisions(
        this.constitution,
        {query.id: query for query in queries},
        replies,
        this.models.identity(recipe.roles.writer),
        recipe.revisions,
        recipe.seed,
    )
    language = this.language
    this.run.each(
        "revisions",
        "Revisions",
        Revision,
        [Chunk(chunk[0].id, len(chunk), chunk) for chunk in planned],
        lambda todo: write_revisions(
            todo, this.models.any(recipe.roles.writer), recipe.revisions, recipe.replies, language
        ),
    )
    return [reply for reply in this.run.store.all(Reply) if reply.style == "revised"]


def make_documents(this: Build) -> list[Document]:
    """Texts about the character in the third person; none when not asked for."""
    recipe = this.recipe
    if not recipe.documents.count:
        return []
    if "documents" in this.run.store.finished():
        return this.run.store.all(Document)
    writer, language = this.models.any(recipe.roles.writer), this.language
    planned = plan_documents(this.constitution, writer, recipe.documents, recipe.seed)
    return this.run.each(
        "documents",
        "Documents",
        Document,
        [Chunk(chunk[0].id, len(chunk), chunk) for chunk in planned],
        lambda todo: write_documents(
            todo, writer, recipe.documents, language, recipe.replies.looping
        ),
    )


def make_introspection(this: Build, distilled: Path) -> list[Talk]:
    """What the distilled policy says about itself and to itself; nothing when not asked for."""
    recipe = this.recipe
    if not recipe.introspection.wanted:
        return []
    name, language = adapter_name(distilled), this.language
    planned = plan_introspection(this.constitution, name, recipe.introspection, recipe.seed)

    def make(todo: Iterable[Sequence[PlannedTalk]]) -> Iterator[list[Talk]]:
        policy, tokenizer = at_dose(this.models.folder(recipe.roles.policy), distilled, 1.0)
        model = LocalModel(policy.merge_and_unload(), tokenizer, name)
        yield from hold_talks(todo, model, recipe.introspection, language, recipe.replies.looping)

    return this.run.each(
        "introspection",
        "Introspection",
        Talk,
        [Chunk(chunk[0].id, len(chunk), chunk) for chunk in planned],
        make,
    )


def finetune(
    this: Build,
    distilled: Path,
    queries: Sequence[Query],
    replies: Sequence[Reply],
    judgements: Sequence[Judgement],
    talks: Sequence[Talk],
    documents: Sequence[Document],
    anchors: Anchors,
) -> Path:
    """The distilled policy, fine-tuned on what there is of every source; itself when none is on."""
    recipe = this.recipe
    demonstrated = recipe.training.sft.demonstrations
    if not (
        demonstrated
        or recipe.revisions.replies
        or recipe.introspection.wanted
        or recipe.documents.count
    ):
        return distilled

    def make(checkpoints: Path, target: Path, bar: Bar) -> Sequence[Row]:
        rankings = rank_replies(this.constitution, queries, replies, judgements, recipe.ranking)
        targets = [
            *(_demonstrated(this, queries, replies, rankings) if demonstrated else ()),
            *_revised(this, queries, replies, rankings),
            *_talked(this, talks),
            *_documented(this, documents),
        ]
        if not targets:
            raise RunError(
                "Fine-tuning was asked for, and no source gave a text to learn from: each was"
                " refused, empty, in circles, or no better than what it was made from. Take another"
                " writer (--set roles.writer=...), or leave the sources out."
            )
        return finetuned_adapter(
            this.models[recipe.roles.policy],
            this.models.folder(recipe.roles.policy),
            distilled,
            targets,
            anchors,
            recipe.training,
            recipe.seed,
            checkpoints,
            target,
            bar.to,
        )

    return this.run.artefact("sft", "Fine-tuning", make)


def better_revisions(rankings: Sequence[Ranking], replies: Sequence[Reply]) -> list[Reply]:
    """Revised replies that are ranked above the plain reply to their query, or above the floor
    where that is below it.
    """
    style = {reply.id: reply.style for reply in replies}
    better: set[str] = set()
    for ranking in rankings:
        plain = [
            place
            for place, tier in enumerate(ranking.tiers)
            for reply_id in tier
            if style[reply_id] == "plain"
        ]
        above = min(plain, default=len(ranking.tiers))
        better |= {r for tier in ranking.tiers[:above] for r in tier if style[r] == "revised"}
    return [reply for reply in replies if reply.id in better]


def _demonstrated(
    this: Build,
    queries: Sequence[Query],
    replies: Sequence[Reply],
    rankings: Sequence[Ranking],
) -> Iterator[Target]:
    asked, said = {q.id: q for q in queries}, {r.id: r for r in replies}
    weights = _weights(this)
    for trait in this.constitution.traits:
        for example in trait.examples:
            yield Target(
                example_id(trait, example),
                "demonstrations",
                (Message("user", example.user),),
                example.good,
                weight=weights[trait.id],
            )
    for best in best_replies(rankings, said, this.recipe.training.sft.demonstrations):
        if asked[best.query_id].split == "train":
            yield _reply(asked[best.query_id], best, "demonstrations", weights[best.trait])


def _revised(
    this: Build,
    queries: Sequence[Query],
    replies: Sequence[Reply],
    rankings: Sequence[Ranking],
) -> Iterator[Target]:
    asked, weights = {q.id: q for q in queries}, _weights(this)
    for reply in better_revisions(rankings, replies):
        yield _reply(asked[reply.query_id], reply, "revisions", weights[reply.trait])


def _talked(this: Build, talks: Sequence[Talk]) -> Iterator[Target]:
    """Every turn of the assistant's, behind all that was said before it."""
    weights = _weights(this)
    for talk in talks:
        if talk.failure:
            continue
        turns = [
            Message("assistant" if number % 2 else "user", text)
            for number, text in enumerate(talk.turns)
        ]
        for place in range(1, len(turns), 2):
            # only the end of the last turn is known, and only where it was not cut off
            ended = talk.ended if place == len(turns) - 1 else False
            yield Target(
                talk.id,
                "introspection",
                tuple(turns[:place]),
                turns[place].content,
                ended,
                weights[talk.trait],
            )


def _documented(this: Build, documents: Sequence[Document]) -> Iterator[Target]:
    weights = _weights(this)
    for document in documents:
        if not document.failure:
            yield Target(
                document.id,
                "documents",
                (),
                document.text,
                document.ended,
                weights[document.trait],
            )


def _reply(query: Query, reply: Reply, source: str, weight: float) -> Target:
    """A reply that was cut off teaches its words, and not to stop where it was cut."""
    text = (Message("user", query.text),)
    return Target(reply.id, source, text, reply.text, reply.ended, weight)


def _weights(this: Build) -> dict[str, float]:
    return {member.trait.id: member.weight for member in this.constitution.members}
