"""Value a reply by what it is nearest to in meaning: the trait's good examples, or its bad ones.

Cheap and independent of the model that wrote the reply; but an embedder hears what a reply is
about far better than how it is said, so its card decides which traits it may judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from character.judging.judge import NoVerdict, Said
from character.spec.schema import Trait

NEAREST = 2  # examples of each pole that count


class Embeds(Protocol):
    @property
    def name(self) -> str: ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, width), each row of unit length."""
        ...


@dataclass(frozen=True, slots=True)
class EmbeddingJudge:
    """Mean cosine to the nearest good examples, less the same of the bad ones: -2 to 2."""

    embedder: Embeds

    @property
    def name(self) -> str:
        return f"embedding by {self.embedder.name}"

    def value(self, trait: Trait, said: Sequence[Said]) -> list[float | NoVerdict]:
        if not said:
            return []
        good = self.embedder.embed([example.good for example in trait.examples])
        bad = self.embedder.embed([example.bad for example in trait.examples])
        replies = self.embedder.embed([item.reply for item in said])
        return [float(gap) for gap in _nearest(replies, good) - _nearest(replies, bad)]


def _nearest(replies: NDArray[np.float32], examples: NDArray[np.float32]) -> NDArray[np.float32]:
    """(replies,): the mean of the `NEAREST` highest cosines to the examples."""
    cosines = np.sort(replies @ examples.T, axis=1)
    nearest: NDArray[np.float32] = cosines[:, -NEAREST:].mean(axis=1)
    return nearest
