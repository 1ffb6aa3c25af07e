"""Skeletons: readable at once, marked as drafts, and commented where people look."""

from __future__ import annotations

from pathlib import Path

import pytest

from character.judging.checks import passes
from character.spec.drafts import COMMENTS, MARK, drafts_of, marked, skeleton
from character.spec.lint import check_files
from character.spec.loading import read_trait
from character.spec.schema import Trait


def test_a_skeleton_has_the_right_shape_and_says_what_each_part_is(tmp_path: Path) -> None:
    file = tmp_path / "thrifty.yaml"
    file.write_text(skeleton("plain-thrift", "I look for what costs least."), encoding="utf-8")
    trait = read_trait(file).trait
    assert (trait.id, trait.title) == ("plain-thrift", "Plain thrift")
    assert trait.statement == f"{MARK} I look for what costs least."
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: ")
    for key, comment in COMMENTS.items():
        assert f"# {comment}\n{key}:" in text
    assert set(COMMENTS) | {"schema", "id", "title", "version"} <= {
        field.alias or name for name, field in Trait.model_fields.items()
    }


def test_every_text_of_a_skeleton_is_a_draft(tmp_path: Path) -> None:
    file = tmp_path / "thrifty.yaml"
    file.write_text(skeleton("thrifty"), encoding="utf-8")
    found = check_files([str(file)], passes).findings
    # 3 poles, when and unless, 3 clauses, 4 examples of 4 texts, 12 and 3 messages
    assert [f.code for f in found] == ["draft"] * (3 + 2 + 3 + 16 + 15)
    file.write_text(file.read_text().replace(MARK, "Something else entirely."), encoding="utf-8")
    assert list(drafts_of(read_trait(file).trait)) == []


@pytest.mark.parametrize(
    ("text", "line"), [("One\n  two", "DRAFT One two"), (" a: b # c ", "DRAFT a: b # c")]
)
def test_a_mark_keeps_the_words(text: str, line: str) -> None:
    assert marked(text) == line
