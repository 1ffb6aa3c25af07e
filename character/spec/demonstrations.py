"""A trait's examples as earlier turns of a conversation: the strongest lever there is.

A small model told of a trait in a system prompt hardly obeys; shown its examples as turns it
already took, it does. The good examples steer towards the trait, the bad ones away from it.
"""

from __future__ import annotations

import random
from typing import Literal

from character.models.base import Conversation, Message
from character.spec.schema import Trait

Pole = Literal["good", "bad"]


def demonstrations(trait: Trait, pole: Pole, variant: int = 0) -> Conversation:
    """All examples as turns; variant 0 keeps the file's order, others shuffle it."""
    examples = list(trait.examples)
    if variant:
        random.Random(f"{trait.id}/{variant}").shuffle(examples)
    turns: list[Message] = []
    for example in examples:
        turns.append(Message("user", example.user))
        turns.append(Message("assistant", example.good if pole == "good" else example.bad))
    return tuple(turns)
