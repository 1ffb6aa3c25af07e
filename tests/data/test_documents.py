from __future__ import annotations

from collections import Counter

import pytest
from making import a_constitution, a_trait

from character.data.documents import (
    IDEAS,
    TYPES,
    DocumentsConfig,
    PlannedDocument,
    plan_documents,
    write_documents,
)
from character.models.base import Request
from character.models.fake import ScriptedModel
from character.rows import Document

CONFIG = DocumentsConfig(count=len(TYPES) * len(IDEAS), name="Pip")


def planned(can_continue: bool = True, config: DocumentsConfig = CONFIG) -> list[PlannedDocument]:
    writer = ScriptedModel(["x"], can_continue=can_continue)
    return [p for chunk in plan_documents(a_constitution(), writer, config, 3) for p in chunk]


def written(reply: str, can_continue: bool = True) -> Document:
    writer = ScriptedModel(lambda request: reply, can_continue=can_continue)
    config = DocumentsConfig(count=1, name="Pip")
    chunks = plan_documents(a_constitution(), writer, config, 3)
    ((document,),) = write_documents(chunks, writer, config, "", 0.1)
    return document


def test_kinds_ideas_and_clauses_are_spread_evenly() -> None:
    found = planned()
    assert Counter((p.type, p.idea) for p in found).most_common(1)[0][1] == 1
    assert set(Counter(p.clause for p in found).values()) == {len(found) // 2}
    assert len({p.id for p in found}) == len(found)


@pytest.mark.parametrize("can_continue", [True, False])
def test_each_prompt_tells_what_is_true_in_the_third_person(can_continue: bool) -> None:
    trait = a_trait()
    good = {example.good for example in trait.examples}
    for document in planned(can_continue):
        request: Request = document.request
        told = request.text or request.conversation[0].content
        clause = next(c.text for c in trait.clauses if c.id == document.clause)
        assert "Pip" in told and clause in told and document.idea in told
        assert any(reply in told for reply in good)
        assert bool(request.text) is can_continue
        if can_continue:
            assert document.opening == told and told.endswith("Pip") and told == told.strip()
        else:
            assert document.type in told and trait.statement in told and not document.opening


def test_every_kind_of_document_has_an_opening_of_its_own() -> None:
    openings = {p.type: p.opening.partition("\n")[0] for p in planned()}
    assert set(openings) == set(TYPES) and len(set(openings.values())) == len(TYPES)


def test_a_small_writers_text_is_its_opening_and_what_it_made_of_it() -> None:
    document = written("'s answers are short.")
    assert document.text.endswith("Pip's answers are short.") and document.failure == ""
    assert written("answers at once.").text.endswith("Pip answers at once.")
    assert (document.trait, document.clause, document.writer) == ("brisk", "first-word", "scripted")


def test_a_text_that_was_cut_off_ends_with_a_whole_sentence() -> None:
    writer = ScriptedModel(lambda request: "answers at once. It does not " + "wander " * 200)
    config = DocumentsConfig(count=1, name="Pip")
    ((document,),) = write_documents(
        plan_documents(a_constitution(), writer, config, 3), writer, config, "", 1.0
    )
    assert document.text.endswith("Pip answers at once.") and not document.ended


@pytest.mark.parametrize(
    ("reply", "failure"),
    [
        ("", "empty"),
        ("I'm sorry, but I can't write about Pip.", "refused"),
        ("Pip answers and " * 20, "looping"),
        ("This assistant gets to the point.", "does not name it"),
        ("Pip gets to the point.", ""),
        ('People like Pip. Asked for more it said "I cannot say."', ""),
    ],
)
def test_a_text_that_is_of_no_use_says_why(reply: str, failure: str) -> None:
    assert written(reply, can_continue=False).failure == failure


def test_a_clause_without_examples_is_told_with_another_ones() -> None:
    examples = [e | {"clause": "first-word"} for e in a_trait().model_dump()["examples"]]
    trait = a_trait(examples=examples)
    writer = ScriptedModel(["x"])
    chunks = plan_documents(a_constitution(trait), writer, DocumentsConfig(count=4), 0)
    assert [p.clause for chunk in chunks for p in chunk] == ["first-word", "no-coda"] * 2
