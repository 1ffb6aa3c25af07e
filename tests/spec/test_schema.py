import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from character.shipped import shipped
from character.spec.json_schema import trait_json_schema, write_trait_json_schema
from character.spec.loading import load_trait
from character.spec.schema import (
    Contains,
    FollowUpQuestion,
    KeepsJson,
    Lacks,
    MaxWords,
    MinWords,
    Part,
    Trait,
)

each_shipped_trait = pytest.mark.parametrize(
    "trait",
    [load_trait(path) for path in sorted(shipped("traits").glob("*.yaml"))],
    ids=lambda trait: trait.id,
)

# What each kind of check asks of a reply, said again and simply: the shipped traits are held
# against this, not against the code that scores replies. JSON is asked of no example here.
ASKS: dict[type[Part], Callable[..., bool]] = {
    FollowUpQuestion: lambda check, reply: reply.endswith("?") and "." in reply,
    MaxWords: lambda check, reply: len(reply.split()) <= check.words,
    MinWords: lambda check, reply: len(reply.split()) >= check.words,
    Contains: lambda check, reply: bool(re.search(check.pattern, reply, re.IGNORECASE)),
    Lacks: lambda check, reply: not re.search(check.pattern, reply, re.IGNORECASE),
}


def words(text: str) -> int:
    return len(text.split())


def test_there_are_traits_to_hold_against_this() -> None:
    assert len(list(shipped("traits").glob("*.yaml"))) >= 10


@each_shipped_trait
def test_a_shipped_trait_says_enough(trait: Trait) -> None:
    assert len(trait.clauses) >= 3
    assert len(trait.examples) >= 4
    assert len(trait.queries.seeds) >= 12
    assert len(set(trait.queries.seeds)) == len(trait.queries.seeds)
    assert {example.clause for example in trait.examples} == {clause.id for clause in trait.clauses}


@each_shipped_trait
def test_only_a_trait_about_length_may_show_in_length(trait: Trait) -> None:
    if trait.controls.length == "free":
        assert any(isinstance(check, MaxWords | MinWords) for check in trait.checks)
        return
    for example in trait.examples:
        short, long = sorted([words(example.good), words(example.bad)])
        assert short >= 0.65 * long, example.user


@each_shipped_trait
def test_a_check_passes_the_good_replies_and_hardly_a_bad_one(trait: Trait) -> None:
    for check in trait.checks:
        if isinstance(check, KeepsJson):
            continue
        asks = ASKS[type(check)]
        assert all(asks(check, example.good) for example in trait.examples)
        bad = sum(asks(check, example.bad) for example in trait.examples)
        assert bad <= len(trait.examples) / 4


@each_shipped_trait
def test_a_pattern_finds_words_and_not_just_anything(trait: Trait) -> None:
    for check in trait.checks:
        if isinstance(check, Contains | Lacks):
            assert not re.search(check.pattern, "", re.IGNORECASE)
            assert not re.search(check.pattern, "Water boils at 100 degrees.", re.IGNORECASE)


def test_the_published_json_schema_is_up_to_date() -> None:
    published = (shipped("traits") / "trait.schema.json").read_text(encoding="utf-8")
    assert json.loads(published) == trait_json_schema(), "run: python -m character.spec.json_schema"


def test_the_json_schema_is_what_an_editor_needs(tmp_path: Path) -> None:
    write_trait_json_schema(tmp_path / "schema.json")
    schema = json.loads((tmp_path / "schema.json").read_text(encoding="utf-8"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "Trait"
    assert schema["description"]
    assert schema["additionalProperties"] is False
    assert {"schema", "statement", "opposite", "examples"} <= set(schema["required"])
    for definition in schema["$defs"].values():
        assert definition["additionalProperties"] is False
        assert definition["description"]


@each_shipped_trait
def test_the_json_schema_knows_every_key_a_shipped_trait_uses(trait: Trait) -> None:
    text = (shipped("traits") / f"{trait.id}.yaml").read_text(encoding="utf-8")
    assert set(yaml.safe_load(text)) <= set(trait_json_schema()["properties"])
    assert text.startswith("# yaml-language-server: $schema=./trait.schema.json\n")
