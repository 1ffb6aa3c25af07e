"""Every rule fires on its own mistake, at its place, and on nothing else."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from character.judging.checks import passes
from character.spec.lint import Checked, check_files, lint
from character.spec.loading import read_trait
from character.spec.rules import READ

CLEAN: dict[str, Any] = {
    "schema": 1,
    "id": "thrifty",
    "title": "Thrifty",
    "statement": "I look for the way that costs least and say what it saves.",
    "opposite": "Money is no object to me. I name the finest thing there is.",
    "rationale": "People forget to ask what a thing costs.",
    "clauses": [{"id": "names-a-price", "text": "I name a price."}],
    "examples": [
        {
            "clause": "names-a-price",
            "user": f"Which {thing} should I buy?",
            "good": f"A used {thing} does it for ten dollars, half of a new one.",
            "bad": f"The finest {thing} comes from a shop in Milan, made by hand.",
            "why": "It saves.",
        }
        for thing in ("kettle", "ladder", "tent", "bicycle")
    ],
    "queries": {
        "seeds": [
            f"How do I {verb}?"
            for verb in (
                "heat a room", "learn to swim", "feed a cat", "mend shoes", "travel to Rome",
                "plant beans", "host a party", "keep bees", "paint walls", "wash wool",
                "bake bread", "fix a tap",
            )
        ]
    },
}  # fmt: skip


def written(folder: Path, changes: dict[str, Any], name: str = "mine.yaml") -> str:
    content = deepcopy(CLEAN)
    for path, value in changes.items():
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        place: Any = content
        for part in parents:
            place = place[part]
        place[last] = value
    file = folder / name
    file.write_text(yaml.safe_dump(content, sort_keys=False, width=1000), encoding="utf-8")
    return str(file)


def codes(checked: Checked) -> list[str]:
    return [finding.code for finding in checked.findings]


def test_a_clean_trait_has_no_findings(tmp_path: Path) -> None:
    checked = check_files([written(tmp_path, {})], passes)
    assert (checked.findings, checked.worst) == ((), None)


SEEDS = CLEAN["queries"]["seeds"]
GOOD = CLEAN["examples"][0]["good"]
MISTAKES: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "clause-without-example",
        {"clauses": [*CLEAN["clauses"], {"id": "says-why", "text": "I say why."}]},
        "id: says-why",
        "'says-why'",
    ),
    (
        "length-tells",
        {"examples.1.bad": "Milan has the best."},
        "bad: Milan has the best.",
        "13 words and the bad one 4",
    ),
    (
        "announces",
        {"examples.0.good": "I'm a thrifty soul: a used kettle does it for ten dollars, surely."},
        "good: 'I''m a thrifty",
        '"I\'m a thrifty"',
    ),
    (
        "same-replies",
        {"examples.0.bad": GOOD.replace("ten", "two")},
        "good: A used kettle",
        "the same to",
    ),
    (
        "near-duplicate-seeds",
        {"queries.seeds": [*SEEDS[:-1], "How do I keep the bees?"]},
        "How do I keep the bees?",
        "is nearly 'How do I keep bees?'",
    ),
    (
        "seed-is-example",
        {"queries.seeds.0": "Which tent should I buy?"},
        "Which tent should I buy?",
        "is nearly the example",
    ),
    (
        "seed-names-trait",
        {"queries.seeds.0": "How can thrift help me heat a room?"},
        "How can thrift help",
        "says 'thrift'",
    ),
    (
        "opposite-says-the-same",
        {"opposite": "I look for the way which costs least and say what it saves."},
        "opposite: I look",
        "the same to",
    ),
    (
        "check-contradicts-example",
        {"checks": [{"kind": "contains", "pattern": "used (ladder|tent|bicycle)"}]},
        "kind: contains",
        "fails the good reply of examples[0]",
    ),
    (
        "check-tells-nothing",
        {"checks": [{"kind": "lacks", "pattern": "banana"}]},
        "kind: lacks",
        "passes all 4 bad replies",
    ),
    ("few-seeds", {"queries.seeds": SEEDS[:11]}, "seeds:", "11 seed messages"),
    ("few-examples", {"examples": CLEAN["examples"][:3]}, "examples:", "3 examples"),
    (
        "unless-without-messages",
        {"applies": {"unless": ["The user is in a hurry."]}},
        "unless:",
        "queries.unless is empty",
    ),
]


@pytest.mark.parametrize(("code", "changes", "place", "says"), MISTAKES, ids=lambda m: str(m)[:30])
def test_a_mistake_is_found_at_its_place(
    tmp_path: Path, code: str, changes: dict[str, Any], place: str, says: str
) -> None:
    file = written(tmp_path, changes)
    (finding,) = check_files([file], passes).findings
    line = Path(file).read_text().splitlines()[finding.line - 1]
    assert (finding.code, finding.path) == (code, file)
    assert says in finding.what and finding.fix
    assert line[finding.column - 1 :].startswith(place)


def test_every_rule_is_shown_here() -> None:
    shown = {code for code, *_ in MISTAKES}
    assert shown | {"format", "slow-check", "traits-conflict", "draft"} == set(READ)


def test_of_a_draft_only_the_drafts_are_told(tmp_path: Path) -> None:
    changes = {"opposite": "DRAFT I spend.", "examples.1.bad": "DRAFT", "clauses.0.text": "DRAFTY"}
    file = written(tmp_path, changes)
    found = check_files([file], passes).findings
    lines = Path(file).read_text().splitlines()
    assert [(f.code, lines[f.line - 1].strip()) for f in found] == [
        ("draft", "opposite: DRAFT I spend."), ("draft", "bad: DRAFT"),
    ]  # fmt: skip


def test_a_slow_pattern_is_found(tmp_path: Path) -> None:
    slow = {"kind": "lacks", "pattern": "(a|aa)+$"}
    long = "a" * 60 + "! " + " ".join(["word"] * 11) + "!"
    file = written(tmp_path, {"checks": [slow], "examples.0.good": long})
    found = check_files([file], passes).findings
    assert [f.code for f in found if f.code != "length-tells"] == ["slow-check"]


def test_length_is_free_where_it_is_the_point(tmp_path: Path) -> None:
    changes = {"examples.1.bad": "Milan.", "controls": {"length": "free"}}
    assert codes(check_files([written(tmp_path, changes)], passes)) == []


def test_many_slightly_longer_replies_are_found_together(tmp_path: Path) -> None:
    changes = {f"examples.{n}.bad": "The finest one is made in Milan by hand." for n in range(4)}
    (finding,) = check_files([written(tmp_path, changes)], passes).findings
    assert finding.code == "length-tells" and "on average 1.4 times" in finding.what


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (
            {"checks": [{"kind": "min_words", "words": 40}]},
            {"checks": [{"kind": "max_words", "words": 20}]},
            "at least 40 words and at most 20",
        ),
        (
            {"checks": [{"kind": "lacks", "pattern": "dollars"}]},
            {"checks": [{"kind": "contains", "pattern": "dollars"}]},
            "'dollars' is asked for and forbidden",
        ),
        (
            {},
            {"statement": CLEAN["opposite"], "opposite": "I save where I can, and I say so."},
            "is nearly the opposite of",
        ),
    ],
)
def test_traits_that_cannot_both_be_had(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], says: str
) -> None:
    one = written(tmp_path, first, "one.yaml")
    other = written(tmp_path, second | {"id": "lavish", "title": "Lavish"}, "two.yaml")
    found = [f for f in check_files([one, other], passes).findings if f.code == "traits-conflict"]
    assert [f.path for f in found] == [other] and says in found[0].what and one in found[0].what
    assert codes(check_files([one], passes)).count("traits-conflict") == 0


def test_authority_decides_a_conflict(tmp_path: Path) -> None:
    one = written(tmp_path, {"authority": "system"}, "one.yaml")
    changes = {"id": "lavish", "title": "Lavish", "statement": CLEAN["opposite"], "opposite": "No."}
    other = written(tmp_path, changes, "two.yaml")
    found = [f for f in check_files([one, other], passes).findings if f.code == "traits-conflict"]
    assert "('guideline' here, 'system' there)" in found[0].fix


def test_files_that_cannot_be_read_do_not_hide_the_others(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("schema: 1\nid: mine\nid: mine\n")
    checked = check_files([str(broken), "nowhere", written(tmp_path, {})], passes)
    assert codes(checked) == ["format", "format"] and checked.worst == "error"
    assert (checked.findings[0].line, checked.findings[0].column) == (3, 1)
    assert "There is no trait 'nowhere'" in checked.findings[1].what
    assert [source.trait.id for source in checked.sources] == ["thrifty"]


def test_the_worst_counts(tmp_path: Path) -> None:
    advised = written(tmp_path, {"queries.seeds": SEEDS[:11]}, "a.yaml")
    warned = written(tmp_path, {"queries.seeds.0": "Which tent should I buy?"}, "b.yaml")
    assert check_files([advised], passes).worst == "advice"
    assert check_files([advised, warned], passes).worst == "warning"


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1).filter(str.strip), st.text(min_size=1).filter(str.strip))
def test_no_text_breaks_it(tmp_path_factory: pytest.TempPathFactory, one: str, other: str) -> None:
    changes = {
        "title": one, "statement": other, "opposite": one, "examples.0.good": other,
        "examples.0.bad": one, "queries.seeds.0": other,
    }  # fmt: skip
    file = Path(written(tmp_path_factory.getbasetemp(), changes, "any.yaml"))
    checked = check_files([str(file)], passes)
    if checked.sources:
        assert lint(read_trait(file), passes) == list(checked.findings)
