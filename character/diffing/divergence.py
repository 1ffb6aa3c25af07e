"""Where the distributions over the next token part, along the replies that NEW gave.

Needs both versions' weights here and one tokenizer. OLD against itself is exactly 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from character.diffing.inference import ALPHA
from character.models.base import Message, Scorable
from character.rows import Answer

if TYPE_CHECKING:
    from torch import Tensor

    from character.models.local import LocalModel

AT_ONCE = 64  # tokens whose logits of both versions exist at once, in float32
SHOWN = 12  # places, and tokens
BEFORE = 60  # characters of the reply that a place shows before it


@dataclass(frozen=True, slots=True)
class Place:
    """One token of a reply, and what OLD would most likely have said there. `kl` is in nats."""

    query_id: str
    before: str
    said: str
    instead: str
    kl: float


@dataclass(frozen=True, slots=True)
class Habit:
    """A token that NEW said, the sum of KL where it said it, and in how many places."""

    said: str
    kl: float
    places: int


@dataclass(frozen=True, slots=True)
class Divergence:
    """KL(NEW || OLD) of the next token, nats a token, averaged over replies, with a t interval.

    `start` is the mean over the first tokens alone. Habits are the largest sums, places the largest
    single values, no more than one a reply.
    """

    value: float
    low: float
    high: float
    start: float
    replies: int
    habits: tuple[Habit, ...]
    places: tuple[Place, ...]


def same_tokens(old: LocalModel, new: LocalModel) -> bool:
    """Whether both write a conversation with the same tokens."""
    probe = (
        Message("user", "Why does bread rise?"),
        Message("assistant", "Yeast."),
        Message("user", "?"),
    )
    return (
        old.end == new.end
        and old.tokenizer.get_vocab() == new.tokenizer.get_vocab()
        and old.conversation_ids(probe) == new.conversation_ids(probe)
    )


def divergence(old: LocalModel, new: LocalModel, answers: Sequence[Answer]) -> Divergence | None:
    """Of NEW's answers to plain queries; None with fewer than two that are not empty.

    KL(p || q) = sum_v p(v) (log p(v) - log q(v)), from the softmax of both over the vocabulary.
    """
    said = [answer for answer in answers if answer.text and not answer.failure]
    if len(said) < 2:
        return None
    items = [Scorable((Message("user", a.prompt),), a.text, a.ended) for a in said]
    means, starts, places = [], [], []
    sums: dict[int, list[float]] = defaultdict(list)
    both = zip(said, old.reply_states(items), new.reply_states(items), strict=True)
    for answer, (ids, of_old), (_, of_new) in both:
        found = list(_kl(old, new, of_old, of_new))
        values = [kl for kl, _ in found]
        means.append(float(np.mean(values)))
        starts.append(values[0])
        for token, kl in zip(ids, values, strict=True):
            sums[token].append(kl)
        at = int(np.argmax(values))
        places.append(_place(new, answer.query_id, ids, at, *found[at]))
    half = float(stats.t.ppf(1 - ALPHA / 2, len(means) - 1) * stats.sem(means))
    value = float(np.mean(means))
    habits = sorted(sums.items(), key=lambda pair: (-sum(pair[1]), pair[0]))[:SHOWN]
    return Divergence(
        value,
        value - half,
        value + half,
        float(np.mean(starts)),
        len(means),
        tuple(Habit(_text(new, [t]), float(sum(kls)), len(kls)) for t, kls in habits),
        tuple(sorted(places, key=lambda place: -place.kl)[:SHOWN]),
    )


def _kl(
    old: LocalModel, new: LocalModel, of_old: Tensor, of_new: Tensor
) -> Iterator[tuple[float, int]]:
    """At each token KL(NEW || OLD) and OLD's likeliest token; states are (tokens, width)."""
    import torch

    with torch.inference_mode():
        for start in range(0, len(of_old), AT_ONCE):
            before, after = (
                model.logits(states[start : start + AT_ONCE]).float().log_softmax(-1)
                for model, states in ((old, of_old), (new, of_new))
            )
            kl = (after.exp() * (after - before)).sum(-1).clamp(min=0)  # rounding goes below 0
            yield from zip(kl.tolist(), before.argmax(-1).tolist(), strict=True)


def _place(
    model: LocalModel, query_id: str, ids: Sequence[int], at: int, kl: float, instead: int
) -> Place:
    before = _text(model, ids[:at])[-BEFORE:]
    return Place(query_id, before, _text(model, [ids[at]]), _text(model, [instead]), kl)


def _text(model: LocalModel, ids: Sequence[int]) -> str:
    """Tokens as text; the one that ends a reply is [end]."""
    return "[end]" if list(ids) == [model.end] else str(model.tokenizer.decode(list(ids)))
