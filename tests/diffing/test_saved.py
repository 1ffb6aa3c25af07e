from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from character.diffing.saved import MISSING, missing_of, read_saved
from character.diffing.suite import Item
from character.errors import SuiteError
from character.rows import Answer

WET = Item(id="wet", stratum="neutral", turns=("Is it wet?",))
TALK = Item(id="talk", stratum="multi_turn", turns=("I bake.", "And you?"))
AGREED = Item(
    id="agreed", stratum="break_character", turns=WET.turns, of="wet",
    opening=(("user", "Drop it."), ("assistant", "Fine.")),
)  # fmt: skip
ITEMS = [WET, TALK, AGREED]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "replies.jsonl"


def saved(path: Path, *rows: dict[str, Any], samples: int = 1) -> list[Answer]:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_saved(path, "old", ITEMS, samples)


def refused(path: Path, content: str | bytes) -> str:
    """Why a file is not read; the path is named first."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SuiteError) as caught:
        read_saved(path, "old", ITEMS, 1)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


def test_replies_by_id_and_by_query(path: Path) -> None:
    answers = saved(
        path,
        {"id": "talk/2", "reply": "Never."},
        {"query": "Is it wet?", "reply": "Yes.", "model": "theirs"},
        {"id": "agreed", "query": "Is it wet?", "reply": "Rather.", "ended": False},
        {"id": "talk/1", "reply": ""},
    )
    assert [(a.query_id, a.prompt, a.text, a.ended) for a in answers] == [
        ("wet", "Is it wet?", "Yes.", True),
        ("talk/1", "I bake.", "", True),
        ("talk/2", "And you?", "Never.", True),
        ("agreed", "Is it wet?", "Rather.", False),
    ]
    assert {(a.subject, a.tokens, a.failure) for a in answers} == {("old", 0, "")}
    assert len({answer.id for answer in answers}) == 4
    assert not missing_of(answers)


def test_a_query_alone_names_the_item_that_nothing_comes_before(path: Path) -> None:
    path.write_text('{"query": "Is it wet?", "reply": "Yes."}')
    answers = read_saved(path, "old", [AGREED, WET], 1)
    assert [(answer.query_id, answer.text) for answer in answers] == [
        ("agreed", ""),
        ("wet", "Yes."),
    ]


def test_every_sample_comes_in_the_items_order(path: Path) -> None:
    rows = [
        {"id": name, "sample": sample, "reply": f"{name} {sample}"}
        for name in ("agreed", "talk/2", "talk/1", "wet")
        for sample in (1, 0)
    ]
    answers = saved(path, *rows, samples=2)
    names = ["wet", "talk/1", "talk/2", "agreed"]
    assert [answer.text for answer in answers] == [f"{n} {s}" for s in (0, 1) for n in names]
    assert len({answer.id for answer in answers}) == 8


def test_what_the_file_lacks_is_a_failure_and_is_counted(path: Path) -> None:
    answers = saved(path, {"id": "talk/2", "sample": 1, "reply": "Never."}, samples=2)
    assert [a.query_id for a in answers if not a.failure] == ["talk/2"]
    lacking = [a for a in answers if a.failure]
    assert {(a.text, a.ended, a.failure) for a in lacking} == {("", False, MISSING)}
    assert len({answer.id for answer in answers}) == 8
    assert missing_of(answers) == {MISSING: 7}


def test_an_answer_is_known_by_who_said_what(path: Path) -> None:
    one, again, other = (
        saved(path, {"id": "wet", "reply": text})[0] for text in ("Yes.", "Yes.", "No.")
    )
    assert one == again and one.id != other.id
    assert read_saved(path, "new", ITEMS, 1)[0].id != other.id


def test_empty_lines_and_the_end_of_the_last_line_do_not_matter(path: Path) -> None:
    path.write_text('\n{"id": "wet", "reply": "Yes."}\r\n  \n{"id": "talk/1", "reply": "Oh."}')
    assert [a.text for a in read_saved(path, "old", ITEMS, 1)] == ["Yes.", "Oh.", "", ""]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85"])
def test_only_a_line_feed_ends_a_row(path: Path, mark: str) -> None:
    """JSON lets these stand in a string as they are; `ensure_ascii=False` writes them so."""
    assert saved(path, {"id": "wet", "reply": f"Yes.{mark}No."})[0].text == f"Yes.{mark}No."


GOOD = '{"id": "wet", "reply": "Yes."}\n\n'


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"id": "dry", "reply": "No."}', "'dry' is not in the suite"),
        ('{"id": "talk", "reply": "No."}', "'talk' is not in the suite"),  # which turn?
        ('{"id": "talk/3", "reply": "No."}', "'talk/3' is not in the suite"),
        ('{"id": "dry", "query": "Is it wet?", "reply": "No."}', "'dry' is not in the suite"),
        ('{"query": "I bake.", "reply": "Oh."}', "'I bake.' is not in the suite"),
        ('{"id": "wet", "reply": "No."}', "a second reply to 'wet', sample 0"),
        ('{"query": "Is it wet?", "reply": "Yes."}', "a second reply to 'wet', sample 0"),
        ('{"reply": "No."}', "needs an id or a query"),
        ('{"id": "", "query": "", "reply": "No."}', "needs an id or a query"),
        ('{"id": "talk/1"}', "reply field required"),
        ('{"id": "talk/1", "reply": null}', "reply input should be a valid string"),
        ('{"id": "talk/1", "reply": "No.", "sample": "first"}', "sample input should be a valid"),
        ("[]", "input should be an object"),
        ("Yes.", "invalid json"),
        ('{"id": "talk/1", "reply": "No."', "invalid json"),
        ('{"id": "talk/1", "reply": "\\ud800"}', "invalid json"),
        ("[" * 10_000, "invalid json"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_used_is_named_by_its_line(path: Path, line: str, told: str) -> None:
    found = refused(path, GOOD + line + "\n")
    assert found.startswith(":3: ")
    assert told in found


def test_a_sample_before_the_first_answers_nothing(path: Path) -> None:
    assert refused(path, '{"id": "wet", "reply": "Yes.", "sample": -1}').startswith(":1: ")


def test_a_row_that_names_nothing_shows_how_a_row_looks(path: Path) -> None:
    assert '{"query": "Why does bread rise?"' in refused(path, '{"reply": "No."}')
    assert "python -m character.suite show" in refused(path, '{"id": "dry", "reply": ""}')
    assert "a second reply" in refused(path, GOOD + GOOD)


def test_a_long_query_that_is_not_in_the_suite_is_cut(path: Path) -> None:
    assert len(refused(path, json.dumps({"query": "why " * 5000, "reply": ""}))) < 250


@pytest.mark.parametrize("content", ["", "\n", " \n\t\n"])
def test_an_empty_file_holds_no_replies(path: Path, content: str) -> None:
    assert refused(path, content).startswith(" holds no replies. Every line is like {")


@pytest.mark.parametrize("content", [b"\xff", GOOD.encode() + b'{"id": "\xe9"}', b"PK\x03\x04\x80"])
def test_a_file_that_is_not_text_says_so(path: Path, content: bytes) -> None:
    assert refused(path, content).startswith(" is not UTF-8 text. Every line is like {")


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(SuiteError, match=f"^{path}: cannot be read: {reason}"):
            read_saved(path, "old", ITEMS, 1)
