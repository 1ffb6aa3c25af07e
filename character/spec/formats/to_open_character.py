"""A trait as an OpenCharacterTraining constitution."""

from __future__ import annotations

import json

from character.spec.schema import Trait

LEFT_OUT = (
    "opposite, rationale, authority, applies, weights, good and bad replies with their reasons,"
    " queries.unless, topics, registers, checks, expect, margin, controls"
)


def to_open_character(trait: Trait) -> str:
    """The statement with the seed messages, then each clause with its examples' messages."""
    assertions = [{"trait": trait.statement, "questions": trait.queries.seeds}]
    for clause in trait.clauses:
        asked = [example.user for example in trait.examples if example.clause == clause.id]
        assertions.append({"trait": clause.text, "questions": asked})
    return json.dumps(assertions, indent=4, ensure_ascii=False) + "\n"
