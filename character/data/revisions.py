"""Have a writer criticise plain replies against a clause and write them anew.

The first half of Constitutional AI (Bai et al. 2022, section 3): reply, critique, revision. A
writer that can continue a document is shown the trait's examples as earlier work of an editor, each
with its bad reply, what is wrong with it and its good reply; any other writer is asked in words.
What comes of it is a reply like any other, to be judged beside the one it was made from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from pydantic import BaseModel, ConfigDict, Field
from rapidfuzz import fuzz, utils

from character import prompts
from character.data.replies import RepliesConfig, failure_of, reply_of
from character.models.base import ChatModel, Generation, Message, Request, Sampling
from character.quoting import fence, quoted
from character.rows import Query, Reply, Revision, content_id
from character.spec.constitution import Constitution
from character.spec.schema import Trait
from character.text import whole_sentences

TEMPLATES = ("continue_critique", "continue_revision", "ask_for_critique", "ask_for_revision")
CHUNK = 64  # replies criticised, rewritten and kept together
SAME, COPIED = 95, 85  # similarity, of 100, to the reply before and to an example
LABEL = re.compile(r"^(?:message|reply|critici?sm|better reply)\s*:", re.IGNORECASE | re.MULTILINE)
LINE = ("\n",)  # a document is continued for one line


class RevisionsConfig(BaseModel):
    """How many replies are criticised, and how long a criticism may be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replies: int = Field(
        default=0, ge=0, description="Plain replies to training queries, at most, per trait."
    )
    critique: Sampling = Sampling(max_tokens=60, temperature=0.7)


@dataclass(frozen=True, slots=True)
class PlannedRevision:
    """A reply to be criticised against the clause that its query is about."""

    id: str
    reply: Reply
    query: Query
    trait: Trait
    seed: int

    @property
    def clause(self) -> str:
        return next(c.text for c in self.trait.clauses if c.id == self.query.clause)


def plan_revisions(
    constitution: Constitution,
    queries: Mapping[str, Query],
    replies: Sequence[Reply],
    writer: str,
    config: RevisionsConfig,
    seed: int,
) -> list[list[PlannedRevision]]:
    """Chunks of replies to revise, each of one clause; `writer` names the model."""
    planned = []
    for trait in constitution.traits:
        own = [
            reply
            for reply in replies
            if reply.style == "plain"
            and reply.text
            and queries[reply.query_id].trait == trait.id
            and queries[reply.query_id].split == "train"
        ]
        for reply in own[: config.replies]:
            told = (reply.id, writer, seed, config.critique.model_dump())
            identity = content_id("revision", *told, *map(prompts.digest, TEMPLATES))
            query = queries[reply.query_id]
            planned.append(PlannedRevision(identity, reply, query, trait, int(identity[:7], 16)))
    planned.sort(key=lambda p: (p.trait.id, p.query.clause))
    return [
        group[start : start + CHUNK]
        for _, found in groupby(planned, key=lambda p: (p.trait.id, p.query.clause))
        for group in [list(found)]
        for start in range(0, len(group), CHUNK)
    ]


def write_revisions(
    chunks: Iterable[Sequence[PlannedRevision]],
    writer: ChatModel,
    config: RevisionsConfig,
    replies: RepliesConfig,
    language: str,
) -> Iterator[list[Revision | Reply]]:
    """Yield one chunk at a time: what became of each reply, and the new replies there are.

    A criticism or a new reply that is refused, empty, in circles or not to be parsed, and a new
    reply that changes nothing or copies an example, is kept as a failure and used for nothing.
    """
    for chunk in chunks:
        critiques = _asked(chunk, "critique", [""] * len(chunk), writer, config.critique)
        why = [_unusable(said, language, replies.looping) for said in critiques]
        told = [_sentences(said) for said in critiques]
        able = [i for i, failure in enumerate(why) if not failure]
        written = _asked(
            [chunk[i] for i in able], "revision", [told[i] for i in able], writer, replies.sampling
        )
        found: list[Revision | Reply] = []
        anew = dict(zip(able, written, strict=True))
        for i, planned in enumerate(chunk):
            failure = f"criticism {why[i]}" if why[i] else ""
            if not failure:
                failure = _unusable(anew[i], language, replies.looping) or _no_better(
                    planned, anew[i].text
                )
            revised = (
                "" if failure else content_id("revised", planned.id, replies.sampling, anew[i].text)
            )
            found.append(_row(planned, writer.name, told[i], anew.get(i), revised, failure))
            if revised:
                found.append(
                    reply_of(
                        revised, planned.query, "revised", planned.trait.id, 0, planned.seed,
                        anew[i], writer.name, language, replies.looping,
                    )
                )  # fmt: skip
        yield found


def _row(
    planned: PlannedRevision,
    writer: str,
    critique: str,
    anew: Generation | None,
    revised: str,
    failure: str,
) -> Revision:
    return Revision(
        id=planned.id,
        reply_id=planned.reply.id,
        revised_id=revised,
        trait=planned.trait.id,
        clause=planned.query.clause,
        writer=writer,
        critique=critique,
        text=anew.text if anew else "",
        failure=failure,
    )


def _asked(
    chunk: Sequence[PlannedRevision],
    task: str,
    critiques: Sequence[str],
    writer: ChatModel,
    sampling: Sampling,
) -> list[Generation]:
    continuing = writer.can_continue
    requests = []
    for planned, critique in zip(chunk, critiques, strict=True):
        text = _prompt(planned, critique, task, continuing)
        seed = planned.seed + (task == "revision")
        requests.append(
            Request(text=text, seed=seed)
            if continuing
            else Request((Message("user", text),), seed=seed)
        )
    if continuing:
        sampling = sampling.model_copy(update={"stop": LINE})
    return writer.generate(requests, sampling)


def _prompt(planned: PlannedRevision, critique: str, task: str, continuing: bool) -> str:
    query, reply = planned.query.text, planned.reply.shown
    # the last are nearest to what is to be written
    examples = sorted(planned.trait.examples, key=lambda e: e.clause == planned.query.clause)
    values: dict[str, object] = {"clause": planned.clause, "examples": examples}
    if continuing:  # one line each, as the document has it
        query, reply, critique = (" ".join(text.split()) for text in (query, reply, critique))
    else:
        values |= {"statement": planned.trait.statement, "fence": fence(query, reply, critique)}
        query, reply, critique = map(quoted, (query, reply, critique))
    values |= {"query": query, "reply": reply}
    if task == "revision":
        values["critique"] = critique
    name = f"continue_{task}" if continuing else f"ask_for_{task}"
    return prompts.render(name, **values)


def _sentences(said: Generation) -> str:
    return said.text if said.finish == "stop" else whole_sentences(said.text)


def _unusable(said: Generation, language: str, looping: float) -> str:
    failure = failure_of(said, language, looping)
    return failure or ("unparseable" if LABEL.search(said.text) else "")


def _no_better(planned: PlannedRevision, text: str) -> str:
    def like(other: str) -> float:
        return fuzz.ratio(text, other, processor=utils.default_process)

    if like(planned.reply.shown) >= SAME:
        return "unchanged"
    if any(like(example.good) >= COPIED for example in planned.trait.examples):
        return "copies an example"
    return ""
