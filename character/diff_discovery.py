"""What of a diff's discovery needs a model: themes, what a proposer names, where tokens part.

Each is made once for the replies it was made of, and read from the run's record afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from pydantic import TypeAdapter

from character.diff_job import DiffJob
from character.diffing.discovery import FEWEST, Discovery, discover, shared_queries
from character.diffing.divergence import Divergence, divergence, same_tokens
from character.diffing.proposals import TEMPLATES, Hypotheses, find_hypotheses
from character.diffing.subjects import AGAIN, NEW, OLD, bad, good, is_built_without
from character.diffing.suite import Stratum, Suite
from character.diffing.themes import Themes, find_themes
from character.errors import CharacterError
from character.models.embedder import MINILM, embedder_is_here
from character.models.names import has_weights
from character.opened import Models
from character.prompts import digest
from character.rows import Answer, content_id
from character.run import Run

TALK: tuple[Stratum, ...] = ("on_trait", "neutral")  # free replies to plain queries

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Talk:
    """The first replies of each subject to plain queries, by query id, and the queries' texts."""

    asked: dict[str, str]
    said: dict[str, dict[str, str]]
    of_new: tuple[Answer, ...]

    @property
    def again(self) -> dict[str, str] | None:
        return self.said.get(AGAIN) or None

    @property
    def queries(self) -> list[str]:
        return shared_queries(self.said.get(OLD, {}), self.said.get(NEW, {}))

    @property
    def id(self) -> str:
        return content_id("talk", self.asked, self.said)


@dataclass(frozen=True, slots=True)
class Deeper:
    """What the models added; `unseen` says what was not looked for, and why."""

    themes: Themes | None
    hypotheses: Hypotheses | None
    divergence: Divergence | None
    unseen: tuple[str, ...]


def talk_of(suite: Suite, answers: Sequence[Answer]) -> Talk:
    asked = {item.id: item.turns[0] for item in suite.of(*TALK)}
    said: dict[str, dict[str, str]] = {}
    of_new: dict[str, Answer] = {}
    for answer in answers:
        own = answer.query_id in asked and not is_built_without(answer.subject)
        if own and not answer.failure:
            said.setdefault(answer.subject, {}).setdefault(answer.query_id, answer.text)
            if answer.subject == NEW:
                of_new.setdefault(answer.query_id, answer)
    return Talk(asked, said, tuple(of_new.values()))


def discovered(job: DiffJob, talk: Talk, deeper: Deeper) -> Discovery | None:
    """Everything that nobody named; no model is asked."""
    said = talk.said
    planted = {
        trait.id: (said.get(good(trait.id), {}), said.get(bad(trait.id), {}))
        for trait in job.traits
    }
    found = discover(said.get(OLD, {}), said.get(NEW, {}), talk.again, planted)
    if found is None:
        return None
    return Discovery(
        found.phrases, found.tested, found.queries, found.by_chance, found.telling, found.left,
        found.telling_by_chance, found.unnamed, deeper.themes, deeper.hypotheses,
        deeper.divergence, deeper.unseen,
    )  # fmt: skip


def look_deeper(job: DiffJob, run: Run, models: Models, talk: Talk) -> Deeper:
    """Everything that needs a model and can be had, once."""
    if len(talk.queries) < FEWEST:
        return Deeper(None, None, None, ())
    unseen: list[str] = []

    def look(name: str, kind: type[T], of: object, why_not: str, make: Callable[[], T]) -> T | None:
        """The kept finding of this identity, or a new one, which is then kept."""
        if why_not:
            unseen.append(f"{name}: {why_not}")
            return None
        identity = content_id(name, talk.id, of)
        kept = run.recorded(name)
        if kept is None or kept["of"] != identity:
            try:
                found = run.step(name, make)
            except CharacterError as error:
                unseen.append(f"{name}: {error}")
                return None
            kept = {"of": identity, "found": asdict(found)}  # type: ignore[call-overload]
            run.record(**{name: kept})
        return TypeAdapter(kind).validate_python(kept["found"])

    old, new, again = talk.said[OLD], talk.said[NEW], talk.again

    def by_meaning() -> Themes:
        embedder = models.embedder()
        texts = list({text for side in (old, new, again or {}) for text in side.values()})
        vectors = dict(zip(texts, embedder.embed(texts), strict=True))
        return find_themes(old, new, again, vectors, embedder.name)

    def by_words() -> Hypotheses:
        return find_hypotheses(talk.asked, old, new, again, models.any(job.proposer))

    def by_tokens() -> Divergence:
        one, other = models[job.old.model], models[job.new.model]
        if not same_tokens(one, other):
            raise CharacterError("the two versions do not write with the same tokens")
        found = divergence(one, other, talk.of_new)
        if found is None:
            raise CharacterError("NEW's replies to plain queries are empty")
        return found

    of_proposer = [job.proposer, *map(digest, TEMPLATES)]
    return Deeper(
        look("themes", Themes, MINILM.sha256, _no_embedder(job), by_meaning),
        look("hypotheses", Hypotheses, of_proposer, _no_proposer(job), by_words),
        look("divergence", Divergence, "", _no_weights(job), by_tokens),
        tuple(unseen),
    )


def _no_embedder(job: DiffJob) -> str:
    if job.embeddings or (job.embeddings is None and embedder_is_here()):
        return ""
    if job.embeddings is False:
        return "left out by --no-embeddings"
    return "the embedder is not here yet; --embeddings fetches it (91 MB)"


def _no_proposer(job: DiffJob) -> str:
    return "" if job.proposer else "no model reads the replies; name one: --proposer MODEL"


def _no_weights(job: DiffJob) -> str:
    for side, version in (("OLD", job.old), ("NEW", job.new)):
        if version.saved is not None:
            return f"{side} is a file of saved replies"
        if not has_weights(version.model):
            return f"{side}'s weights are not here"
    return ""
