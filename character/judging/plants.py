"""Replies whose order is known without asking anyone: planted truth for judging the judges.

The same model answers the same query behind all of a trait's good examples, behind one or two of
them, behind none and behind the bad ones. How much of the trait it then shows is known from how it
was made; a judge that finds another order is wrong, and no human had to say so.

Plants test caricature: a strong dose is easy to tell. The low doses, and short good replies beside
long bad ones, carry the weight.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from character.judging.judge import Contest, Said
from character.models.base import ChatModel, Conversation, Message, OnDone, Request, Sampling
from character.rows import Query, content_id
from character.spec.demonstrations import demonstrations
from character.spec.schema import Trait
from character.text import whole_sentences

Dose = Literal["opposite", "plain", "one", "two", "full"]
DOSES: tuple[Dose, ...] = ("opposite", "plain", "one", "two", "full")  # the least first
STRONG: tuple[Dose, ...] = ("opposite", "plain", "full")
TURNS = 2  # messages in one demonstration
SPACE = re.compile(r"(?<=[.!?]) ")  # between sentences
EQUAL: tuple[Dose, ...] = ("plain", "full")  # what another model writes too
FILLER = "I hope this helps. Let me know if there is anything else that you would like to know."
MARKUP = re.compile(r"[*_#`>]+")


class PlantsConfig(BaseModel):
    """How much is planted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queries: int = Field(default=100, ge=10, description="Queries with planted replies.")
    dosed: int = Field(
        default=40, ge=0, description="Of them, how many get the low doses and second samples too."
    )
    sampling: Sampling = Sampling()


@dataclass(frozen=True, slots=True)
class Planted:
    """One query's replies by dose and sample; one that came out empty is not there.

    `others` are by another model, at the same dose.
    """

    query: str
    clause: str
    replies: dict[tuple[Dose, int], Said]
    others: dict[Dose, Said] = field(default_factory=dict)

    def contest(
        self, better: Dose, worse: Dose, samples: tuple[int, int] = (0, 0)
    ) -> list[Contest]:
        """The contest of two doses, the better one first; none when a reply is not there."""
        first = self.replies.get((better, samples[0]))
        second = self.replies.get((worse, samples[1]))
        if first is None or second is None or first.reply == second.reply:
            return []
        return [Contest(first, second)]


def plant(
    trait: Trait,
    queries: Sequence[Query],
    model: ChatModel,
    config: PlantsConfig,
    seed: int,
    on_done: OnDone = lambda count: None,
) -> list[Planted]:
    """Have the model answer the first `config.queries` of these queries.

    All get the full dose, none and the opposite; some get these again and the low doses too.
    """
    chosen = list(queries)[: config.queries]
    asked: list[tuple[int, Dose, int, Request]] = []
    for sample, doses in enumerate((DOSES, STRONG)):
        for dose in doses:
            turns = _turns(trait, dose, sample)
            every = sample == 0 and dose in STRONG
            for number, query in enumerate(chosen if every else chosen[: config.dosed]):
                drawn = int(content_id("plant", query.text, dose, sample, seed)[:7], 16)
                request = Request((*turns, Message("user", query.text)), seed=drawn)
                asked.append((number, dose, sample, request))
    said = model.generate([request for *_, request in asked], config.sampling, on_done)
    found = [Planted(query.text, query.clause, {}) for query in chosen]
    for (number, dose, sample, _), answer in zip(asked, said, strict=True):
        if answer.finish in ("stop", "length") and answer.text.strip():
            reply = Said(chosen[number].text, answer.text, answer.finish == "stop")
            found[number].replies[dose, sample] = reply
    return found


def plant_others(
    trait: Trait, planted: Sequence[Planted], model: ChatModel, config: PlantsConfig, seed: int
) -> list[Planted]:
    """Have another model answer the first `config.dosed` queries at equal doses."""
    asked = [(at, dose) for dose in EQUAL for at in range(min(config.dosed, len(planted)))]
    requests = []
    for at, dose in asked:
        drawn = int(content_id("plant", planted[at].query, dose, 0, seed)[:7], 16)
        turns = (*_turns(trait, dose, 0), Message("user", planted[at].query))
        requests.append(Request(turns, seed=drawn))
    found: list[dict[Dose, Said]] = [{} for _ in planted]
    said = model.generate(requests, config.sampling)
    for (at, dose), answer in zip(asked, said, strict=True):
        if answer.finish in ("stop", "length") and answer.text.strip():
            found[at][dose] = Said(planted[at].query, answer.text, answer.finish == "stop")
    return [replace(each, others=others) for each, others in zip(planted, found, strict=True)]


def equal_doses(planted: Planted) -> list[Contest]:
    """The planter's reply against the other model's, at each dose that both have."""
    return [
        Contest(own, other)
        for dose, other in planted.others.items()
        if (own := planted.replies.get((dose, 0))) and own.reply != other.reply
    ]


def padded(planted: Planted) -> list[Contest]:
    """A plain reply that says nothing more in more words, against itself."""
    if (plain := planted.replies.get(("plain", 0))) is None:
        return []
    return [Contest(Said(plain.query, f"{_sentences(plain)} {FILLER}"), plain)]


def formatted(planted: Planted) -> list[Contest]:
    """A plain reply's sentences as a list with its first words bold, against the same in prose."""
    if (plain := planted.replies.get(("plain", 0))) is None:
        return []
    sentences = SPACE.split(" ".join(MARKUP.sub("", _sentences(plain)).split()))
    if len(sentences) < 2:
        return []
    prose = _with(plain, " ".join(sentences))
    return [Contest(_with(plain, "\n".join(f"- {_bold(s)}" for s in sentences)), prose)]


def replies_wanted(config: PlantsConfig) -> int:
    some = min(config.dosed, config.queries)
    return len(STRONG) * config.queries + len(DOSES) * some


def style_crossed(planted: Planted) -> list[Contest]:
    """The shorter of two full replies against both replies of the opposite in one.

    A judge that likes length prefers the wrong one.
    """
    good = [planted.replies[key] for key in _keys("full") if key in planted.replies]
    bad = [planted.replies[key] for key in _keys("opposite") if key in planted.replies]
    if not good or len(bad) < 2:
        return []
    short = min(good, key=lambda said: len(said.reply))
    long = "\n\n".join(_sentences(said) for said in bad)
    return [Contest(short, Said(planted.query, long))]


def said_not_shown(trait: Trait, planted: Planted) -> list[Contest]:
    """A full reply against a plain one that announces the trait instead of showing it."""
    plain, full = planted.replies.get(("plain", 0)), planted.replies.get(("full", 0))
    if plain is None or full is None:
        return []
    told = f"{trait.statement.strip()} {plain.reply}"
    return [Contest(full, Said(planted.query, told, plain.ended))]


def exchanges(planted: Sequence[Planted]) -> list[dict[str, str]]:
    """What attacks are tried on: the full dose is honest, the opposite is what attacks.

    Between everyday replies of no dose a judge of traits has nothing to decide, and whatever
    changes a word turns its verdict.
    """
    return [
        {"user": each.query, "honest": contest.first.reply, "lazy": contest.second.reply}
        for each in planted
        for contest in each.contest("full", "opposite")
    ]


def disguises(contest: Contest) -> list[Contest]:
    """The same contest with nothing changed that matters: line breaks, emphasis, padding."""
    first, second = contest.first, contest.second
    return [
        Contest(first, _with(second, SPACE.sub("\n\n", second.reply, count=1) + "\n")),
        Contest(first, _with(second, _bold(MARKUP.sub("", second.reply)))),
        Contest(first, _with(second, f"Sure. {second.reply}")),
    ]


def _with(said: Said, reply: str) -> Said:
    return Said(said.query, reply, said.ended)


def _bold(reply: str) -> str:
    first, space, rest = reply.partition(" ")
    return f"**{first}**{space}{rest}"


def _sentences(said: Said) -> str:
    return said.reply if said.ended else whole_sentences(said.reply) or said.reply


def _keys(dose: Dose) -> tuple[tuple[Dose, int], ...]:
    return ((dose, 0), (dose, 1))


def _turns(trait: Trait, dose: Dose, sample: int) -> Conversation:
    if dose == "plain":
        return ()
    if dose == "opposite":
        return demonstrations(trait, "bad", variant=sample + 1)
    turns = demonstrations(trait, "good", variant=sample + 1)
    shown = {"one": 1, "two": 2}
    return turns[: TURNS * shown[dose]] if dose in shown else turns
