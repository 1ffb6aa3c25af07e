"""The off-target panel that ships: forty traits that `check` has nothing against."""

from __future__ import annotations

from character.judging.checks import passes
from character.shipped import names, shipped
from character.spec.lint import check_files
from character.spec.loading import load_trait

FILES = sorted((shipped("traits") / "panel").glob("*.yaml"))


def test_forty_traits_without_a_warning() -> None:
    checked = check_files([str(file) for file in FILES], passes)
    assert len(checked.sources) == 40
    assert checked.worst == "advice"  # few seeds: nothing is trained on them
    assert {finding.code for finding in checked.findings} == {"few-seeds"}


def test_each_only_holds_and_no_message_is_used_twice() -> None:
    traits = [load_trait(file) for file in FILES]
    assert [trait.id for trait in traits] == [file.stem for file in FILES]
    assert {trait.expect for trait in traits} == {"hold"}
    messages = [e.user for t in traits for e in t.examples]
    messages += [seed for t in traits for seed in t.queries.seeds]
    assert len(set(messages)) == len(messages)


def test_the_panel_is_not_among_the_traits_one_names() -> None:
    assert not {file.stem for file in FILES} & set(names("traits", ".yaml"))
