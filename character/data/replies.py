"""Have the policy answer every query several times: steered by the examples, plain, and trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field

from character.language import language_of
from character.models.base import ChatModel, Generation, Message, Request, Sampling
from character.pleading import flags
from character.rows import Query, Reply, Style, content_id
from character.spec.constitution import Constitution
from character.spec.demonstrations import demonstrations
from character.text import refuses, repeated_share, sentences

FAILED = "failed"
OUTCOMES = {"refusal": "refused", "content filter": "filtered", FAILED: FAILED}
CHUNK = 128  # replies written, and kept, together


class RepliesConfig(BaseModel):
    """How many candidate replies each query gets, and of which kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steered: int = Field(default=3, ge=1, description="Steered replies per training query.")
    steered_held_out: int = Field(
        default=1, ge=1, description="Per held-out query; the reward model is tried on these."
    )
    plain: int = Field(
        default=1, ge=1, description="Plain replies per query; they set the quality floor."
    )
    own: int = Field(
        default=3, ge=2, description="The policy's own, per fresh query of a further round."
    )
    sampling: Sampling = Sampling()
    looping: float = Field(
        default=0.1, gt=0, le=1, description="Repeated 4-grams that mark a loop."
    )


@dataclass(frozen=True, slots=True)
class PlannedReply:
    """A reply that has not been written yet; its id is already known."""

    id: str
    query: Query
    style: Style
    trait: str
    sample: int
    seed: int
    request: Request


def plan_replies(
    constitution: Constitution,
    queries: Sequence[Query],
    model: str,
    config: RepliesConfig,
    seed: int,
) -> list[list[PlannedReply]]:
    """Chunks of replies to write. Each chunk shares its earlier turns and is kept as a whole.

    A query is steered by the examples of its own trait; every sample sees them in another order.
    """
    asked = [q for q in queries if q.kind == "on_trait" and q.split != "none"]
    chunks: list[list[PlannedReply]] = []
    for trait in constitution.traits:
        own = [query for query in asked if query.trait == trait.id]
        for sample in range(config.plain):
            chunks += _chunks(own, "plain", "", sample, (), model, config, seed)
        for sample in range(max(config.steered, config.steered_held_out)):
            turns = demonstrations(trait, "good", variant=sample + 1)
            wanted = {"train": config.steered, "held_out": config.steered_held_out}
            steered = [query for query in own if sample < wanted[query.split]]
            chunks += _chunks(steered, "steered", trait.id, sample, turns, model, config, seed)
    return chunks


def plan_own_replies(
    queries: Sequence[Query], models: Sequence[str], config: RepliesConfig, seed: int
) -> list[list[PlannedReply]]:
    """One plain reply to every training query by each of these states of the trained policy.

    A reply's sample number says which; each chunk is for one of them.
    """
    asked = [q for q in queries if q.kind == "on_trait" and q.split == "train"]
    return [
        chunk
        for sample, model in enumerate(models)
        for chunk in _chunks(asked, "own", "", sample, (), model, config, seed)
    ]


def write_replies(
    chunks: Iterable[Sequence[PlannedReply]],
    policy: ChatModel,
    config: RepliesConfig,
    language: str,
) -> Iterator[list[Reply]]:
    """Yield the replies of one chunk at a time, flaws marked; language "" is unknown."""
    for chunk in chunks:
        generations = policy.generate([planned.request for planned in chunk], config.sampling)
        yield [
            reply_of(
                planned.id, planned.query, planned.style, planned.trait, planned.sample,
                planned.seed, generation, policy.name, language, config.looping,
            )
            for planned, generation in zip(chunk, generations, strict=True)
        ]  # fmt: skip


def renewed(reply: Reply, config: RepliesConfig, language: str) -> Reply | None:
    """An earlier build's reply with its flaws marked as this one would; None when it failed.

    Its id does not know of the settings that flaws depend on.
    """
    if FAILED in reply.flaws:
        return None
    if set(reply.flaws) & set(OUTCOMES.values()):
        return reply
    generation = Generation(reply.text, reply.tokens, "stop" if reply.ended else "length")
    return replace(reply, flaws=tuple(flaws_of(generation, language, config.looping)))


def _chunks(
    queries: list[Query],
    style: Style,
    trait: str,
    sample: int,
    turns: tuple[Message, ...],
    model: str,
    config: RepliesConfig,
    seed: int,
) -> list[list[PlannedReply]]:
    planned = []
    for query in queries:
        identity = content_id(
            "reply", query.id, style, turns, sample, seed, model, config.sampling.model_dump()
        )
        request = Request((*turns, Message("user", query.text)), seed=int(identity[:7], 16))
        planned.append(PlannedReply(identity, query, style, trait, sample, request.seed, request))
    return [planned[start : start + CHUNK] for start in range(0, len(planned), CHUNK)]


def reply_of(
    identity: str,
    query: Query,
    style: Style,
    trait: str,
    sample: int,
    seed: int,
    generation: Generation,
    model: str,
    language: str,
    looping: float,
) -> Reply:
    """What a model answered, as a row, its flaws marked."""
    return Reply(
        id=identity,
        query_id=query.id,
        style=style,
        trait=trait,
        sample=sample,
        seed=seed,
        model=model,
        text=generation.text,
        tokens=generation.tokens,
        ended=generation.finish == "stop",
        flaws=tuple(flaws_of(generation, language, looping)),
    )


def flaws_of(generation: Generation, language: str, looping: float) -> Iterator[str]:
    """What is wrong with a text; "" is an unknown language, and `looping` a share of 4-grams."""
    if generation.finish in OUTCOMES:
        yield OUTCOMES[generation.finish]
        return
    if not generation.text:
        yield "empty"
        return
    if generation.finish == "length":
        yield "truncated"
    if flags(generation.text):
        yield "pleading"  # it speaks to a judge, and not to the user
    if repeated_share(generation.text) > looping:
        yield "looping"
    if language and language_of(generation.text) not in ("", language):
        yield "wrong language"


def failure_of(generation: Generation, language: str, looping: float) -> str:
    """Why a text cannot be learned from, its first flaw; empty when it can.

    To be cut off is none. Whoever declines does so in the first sentence; later ones may quote.
    """
    flaws = (flaw for flaw in flaws_of(generation, language, looping) if flaw != "truncated")
    declines = any(refuses(sentence) for sentence in sentences(generation.text)[:1])
    return next(flaws, "refused" if declines else "")
