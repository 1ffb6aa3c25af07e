"""Judge replies by how likely the model itself finds them in contrasting contexts.

A small model's verdicts ("A or B?") are at or below chance; its likelihoods are good. For reply y
to query x,

    contrast  = (log p(y | good examples, x) - log p(y | bad examples, x)) / |y|
    relevance = (log p(y | x) - log p(y | x')) / |y|

where x' is another query. Contrast says how much the reply is of the trait; relevance, the
pointwise mutual information of query and reply, says whether it answers *this* query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from character.judging.judge import NoVerdict, Said
from character.models.base import ChatModel, Conversation, Message, Scorable
from character.rows import content_id
from character.spec.demonstrations import demonstrations
from character.spec.schema import Trait

NAME = "likelihood"


@dataclass(frozen=True, slots=True)
class LikelihoodJudge:
    """A reply's worth is its contrast, in nats a token.

    Against "plain" the good examples are compared with none at all: that divides out how fluent a
    reply is anyway, and asks nothing of the bad examples.
    """

    model: ChatModel
    against: Literal["opposite", "plain"] = "opposite"

    @property
    def name(self) -> str:
        against = "" if self.against == "opposite" else f" against {self.against}"
        return f"{NAME}{against} by {self.model.name}"

    def value(self, trait: Trait, said: Sequence[Said]) -> list[float | NoVerdict]:
        away = demonstrations(trait, "bad") if self.against == "opposite" else ()
        found = _contrast(self.model, demonstrations(trait, "good"), away, said)
        return [NoVerdict("empty reply") if value is None else value for value in found]


def contrast(judge: ChatModel, trait: Trait, said: Sequence[Said]) -> list[float | None]:
    """Nats a token towards the trait; None for an empty reply, which has no likelihood."""
    good, bad = demonstrations(trait, "good"), demonstrations(trait, "bad")
    return _contrast(judge, good, bad, said)


def likelihood(judge: ChatModel, said: Sequence[Said]) -> list[float | None]:
    """Log-probability per token of each reply to its plain query; None for an empty reply."""
    return _means(judge, (), said)


def foils(queries: Iterable[str]) -> dict[str, str]:
    """For each query another one, to ask whether a reply could as well answer that.

    In hash order, so that a foil is not a neighbour with the same first words. A lone query has
    none.
    """
    distinct = sorted(set(queries), key=content_id)
    if len(distinct) < 2:
        return {}
    return dict(zip(distinct, [*distinct[1:], *distinct[:1]], strict=True))


def relevance(
    judge: ChatModel,
    said: Sequence[Said],
    foil: Mapping[str, str],
    own: Sequence[float | None] | None = None,
) -> list[float | None]:
    """Nats a token that the query explains, beyond what its foil explains; None without a foil.

    `own` saves a pass where the judge's mean log-probabilities of the replies are known.
    """
    own = _means(judge, (), said) if own is None else own
    compared = [i for i, item in enumerate(said) if item.query in foil]
    others = [replace(said[i], query=foil[said[i].query]) for i in compared]
    other = dict(zip(compared, _means(judge, (), others), strict=True))
    return [None if a is None or (b := other.get(i)) is None else a - b for i, a in enumerate(own)]


def _contrast(
    judge: ChatModel, towards: Conversation, away: Conversation, said: Sequence[Said]
) -> list[float | None]:
    both = zip(_means(judge, towards, said), _means(judge, away, said), strict=True)
    return [None if a is None or b is None else a - b for a, b in both]


def _means(judge: ChatModel, turns: Conversation, said: Sequence[Said]) -> list[float | None]:
    """Log-probability per token of each reply behind these turns; None for an empty reply."""
    asked = [i for i, item in enumerate(said) if item.reply]
    scores = judge.score(
        [
            Scorable((*turns, Message("user", said[i].query)), said[i].reply, said[i].ended)
            for i in asked
        ]
    )
    found = dict(zip(asked, scores, strict=True))
    return [found[i].mean if i in found else None for i in range(len(said))]
