"""Drafting a trait: what the writer is asked, and that nothing it did not write is made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from character.data.traits import drafted_by
from character.errors import ModelError
from character.models.fake import ScriptedModel
from character.spec.drafts import MARK, drafts_of
from character.spec.loading import FaultyTraitError, read_trait

DRAFT: dict[str, Any] = {
    "statement": "I look for the way that costs least.",
    "opposite": "Money is no object to me.",
    "rationale": "People forget the price: \"it's only ten\".",
    "when": ["The user wants to buy something."],
    "unless": ["The user asks for a fact."],
    "clauses": [{"id": f"clause-{n}", "text": f"I do {n}."} for n in range(3)],
    "examples": [
        {
            "clause": f"clause-{n % 3}", "user": f"Which {thing}?", "good": "A used one.",
            "bad": "A new one.", "why": "It saves.",
        }
        for n, thing in enumerate(("kettle", "tent", "ladder", "bicycle"))
    ],
    "messages": [f"How do I do number {n}?" for n in range(12)],
    "messages_where_it_must_not_show": ["What is 2 + 2?", "One word, please.", "JSON only."],
}  # fmt: skip


def test_a_draft_becomes_a_trait_whose_texts_are_marked(tmp_path: Path) -> None:
    writer = ScriptedModel([json.dumps(DRAFT)])
    file = tmp_path / "thrifty.yaml"
    file.write_text(drafted_by(writer, "thrifty", "spends little"), encoding="utf-8")
    trait = read_trait(file).trait
    assert trait.statement == f"{MARK} {DRAFT['statement']}"
    assert trait.rationale == f"{MARK} {DRAFT['rationale']}"
    assert [e.user for e in trait.examples] == [f"{MARK} {e['user']}" for e in DRAFT["examples"]]
    assert len(trait.queries.seeds) == 12 and len(trait.queries.unless) == 3
    assert len(list(drafts_of(trait))) == 3 + 2 + 3 + 16 + 15
    asked = writer.requests[0].conversation[0].content
    assert '"thrifty". In one line: spends little' in asked


def test_a_clause_that_does_not_exist_is_left_to_the_reader(tmp_path: Path) -> None:
    wrong = DRAFT | {"examples": [DRAFT["examples"][0] | {"clause": "other"}, *DRAFT["examples"]]}
    file = tmp_path / "thrifty.yaml"
    file.write_text(drafted_by(ScriptedModel([json.dumps(wrong)]), "thrifty", "spends little"))
    with pytest.raises(FaultyTraitError, match="there is no clause 'other'"):
        read_trait(file)


@pytest.mark.parametrize("said", ["I would rather chat.", '{"statement": "I save."}'])
def test_a_writer_that_cannot_draft_is_told(said: str) -> None:
    with pytest.raises(ModelError, match=r"could not draft a trait: .* Try a larger model"):
        drafted_by(ScriptedModel([said, said]), "thrifty", "spends little")
