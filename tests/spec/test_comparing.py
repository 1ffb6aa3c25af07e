"""What counts as a change of meaning, and what does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from making import EXAMPLES, SEEDS, a_constitution, a_trait

from character import check
from character.spec.comparing import compare, compare_traits
from character.spec.constitution import Constitution, Member
from character.spec.schema import Trait

CLAUSES = [
    {"id": "first-word", "text": "I open with the answer."},
    {"id": "no-coda", "text": "I stop when I am done."},
]


def told(**changes: Any) -> list[tuple[str, str]]:
    return [(c.place, c.what) for c in compare_traits(a_trait(), a_trait(**changes))]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"statement": "I hurry."}, [("statement", "reworded")]),
        ({"opposite": "I dawdle."}, [("opposite", "reworded")]),
        ({"authority": "system"}, [("authority", "changed")]),
        ({"expect": "hold", "margin": 0.1}, [("expect", "changed"), ("margin", "changed")]),
        ({"version": "1.1.0"}, [("version", "changed")]),
        ({"controls": {"length": "free"}}, [("controls.length", "changed")]),
        ({"applies": {"when": ["Always."]}}, [("applies.when", "added")]),
        ({"clauses": [CLAUSES[0] | {"text": "I answer."}, CLAUSES[1]]},
         [("clauses.first-word", "reworded")]),
        ({"clauses": [CLAUSES[0] | {"weight": 2}, CLAUSES[1]]},
         [("clauses.first-word.weight", "reweighted")]),
        ({"clauses": [*CLAUSES, {"id": "greets", "text": "I greet."}]},
         [("clauses.greets", "added")]),
        ({"clauses": CLAUSES[:1], "examples": [EXAMPLES[0], EXAMPLES[2],
                                               EXAMPLES[1] | {"clause": "first-word"}]},
         [("clauses.no-coda", "removed"),
          ("examples of first-word: Could you name a fruit that floats?: clause", "changed"),
          ("examples", "reordered")]),
        ({"clauses": CLAUSES[::-1]}, [("clauses", "reordered")]),
        ({"examples": EXAMPLES[::-1]}, [("examples", "reordered")]),
        ({"examples": [EXAMPLES[0] | {"user": "Is hail cold?"}, *EXAMPLES[1:]]},
         [("examples of first-word: Is hail cold?: user", "reworded")]),
        ({"examples": [EXAMPLES[0] | {"bad": "Hm."}, *EXAMPLES[1:]]},
         [("examples of first-word: Is the rain in April cold?: bad", "reworded")]),
        ({"examples": [*EXAMPLES, EXAMPLES[0] | {"user": "Why?", "good": "So."}]},
         [("examples of first-word: Why?", "added")]),
        ({"queries": {"seeds": [*SEEDS[:-1], "Is glass a liquid?"]}},
         [("queries.seeds", "added"), ("queries.seeds", "removed")]),
        ({"queries": {"seeds": SEEDS[::-1]}}, [("queries.seeds", "reordered")]),
        ({"checks": [{"kind": "max_words", "words": 9}]}, [("checks", "added")]),
    ],
)  # fmt: skip
def test_every_field_is_compared(changes: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert told(**changes) == expected


def test_every_field_there_is_can_be_told_apart() -> None:
    """A field that is added to the schema must be compared too."""
    compared = {
        "id", "title", "version", "statement", "opposite", "rationale", "authority", "applies",
        "clauses", "examples", "queries", "checks", "expect", "margin", "controls",
    }  # fmt: skip
    assert compared == Trait.model_fields.keys() - {"schema_"}


@given(st.permutations(range(3)), st.permutations(range(4)), st.permutations(range(2)))
def test_order_alone_changes_no_meaning(
    examples: list[int], seeds: list[int], clauses: list[int]
) -> None:
    other = a_trait(
        examples=[EXAMPLES[i] for i in examples],
        queries={"seeds": [SEEDS[i] for i in seeds]},
        clauses=[CLAUSES[i] for i in clauses],
    )
    assert not [c for c in compare_traits(a_trait(), other) if c.of_meaning]


def test_what_is_added_one_way_is_removed_the_other() -> None:
    one, other = a_trait(), a_trait(clauses=[*CLAUSES, {"id": "greets", "text": "I greet."}])
    (there,), (back,) = compare_traits(one, other), compare_traits(other, one)
    assert (there.what, back.what) == ("added", "removed")
    assert (there.old, there.new) == (back.new, back.old) == (None, "I greet.")


def test_constitutions_are_compared_trait_by_trait() -> None:
    brisk, warm, calm = (a_trait(name) for name in ("brisk", "warm", "calm"))
    old = Constitution((Member(brisk), Member(warm, 2.0)))
    new = Constitution((Member(warm), Member(brisk), Member(calm)), helpfulness_first=False)
    found = [(c.trait, c.place, c.what, c.old, c.new) for c in compare(old, new)]
    assert found == [
        ("warm", "weight", "reweighted", "2", "1"),
        ("calm", "trait", "added", None, "Calm"),
        ("", "order of traits", "changed", "brisk, warm", "warm, brisk"),
        ("", "helpfulness", "changed", "above", "below"),
    ]
    assert ("brisk", "trait", "removed") in [
        (c.trait, c.place, c.what) for c in compare(old, Constitution((Member(warm, 2.0),)))
    ]


def test_a_lone_trait_under_another_id_is_the_same_trait_renamed() -> None:
    (change,) = compare(a_constitution(a_trait("brisk", title="B")),
                        a_constitution(a_trait("swift", title="B")))  # fmt: skip
    assert (change.place, change.old, change.new) == ("id", "brisk", "swift")


# --- the command ---


def run(*arguments: object) -> tuple[int, str]:
    found = CliRunner().invoke(check.main, [str(argument) for argument in arguments])
    assert not isinstance(found.exception, Exception), found.exception
    return found.exit_code, found.output


def written(path: Path, **changes: Any) -> Path:
    trait = a_trait(**changes).model_dump(mode="json", by_alias=True)
    path.write_text(yaml.safe_dump(trait), encoding="utf-8")
    return path


def test_the_command_says_what_changed_and_what_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    old = written(tmp_path / "old.yaml")
    new = written(
        tmp_path / "new.yaml",
        clauses=[CLAUSES[0] | {"text": "I an\x1bswer."}, CLAUSES[1]],
        examples=[*EXAMPLES[:1], EXAMPLES[1] | {"user": "Which fruit floats?"}, EXAMPLES[2]],
    )
    code, text = run("--against", old, new)
    assert code == 0 and "clauses.first-word: reworded\n    - I open with the answer." in text
    assert "\x1b" not in text and "--traits" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["stays", "brisk/first-word", "queries"] in [line[:3] for line in lines]
    assert ["anew", "brisk/no-coda", "queries"] in [line[:3] for line in lines]
    assert ["anew", "brisk", "steered", "replies"] in [line[:4] for line in lines]
    found = json.loads(run("--against", old, new, "--json")[1])["against"]
    assert found["changed"] is True and found["run"] is None
    assert [change["what"] for change in found["changes"]] == ["reworded", "reworded"]
    assert {one["stage"] for one in found["data"]} >= {"queries", "plain replies", "judgements"}


def test_its_exit_codes_are_those_of_a_check(tmp_path: Path) -> None:
    old, same = written(tmp_path / "old.yaml"), written(tmp_path / "same.yaml")
    code, text = run("--against", old, same)
    assert code == 0 and "nothing changed in meaning" in text
    assert json.loads(run("--against", old, same, "--json")[1])["against"]["changed"] is False
    (tmp_path / "broken.yaml").write_text("schema: 1\n")
    code, text = run("--against", old, tmp_path / "broken.yaml")
    assert code == 2 and "What stays" not in text
    assert run("--against", tmp_path / "broken.yaml", old)[0] == 2
    assert run("--against", tmp_path / "none.yaml", old)[0] == 2
    assert run("--against", old, same, "--run", tmp_path)[0] == 2
    assert run("--run", tmp_path, same)[0] == 2
    warned = written(tmp_path / "warned.yaml", opposite="I get to the point.")
    assert (run("--against", old, warned)[0], run("--against", old, warned, "--strict")[0]) == (
        0,
        1,
    )
