from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from character import build
from character.errors import SpecError
from character.job import prepare
from character.judging.checks import passes
from character.report.findings import findings_text
from character.spec.constitution import load_constitution
from character.spec.constitution_file import resolve
from character.spec.lint import check_files

BASE = """\
schema: 1
constitution: base
traits:
  - {trait: curious, weight: 2}
  - {trait: playful}
  - {trait: steady, authority: developer}
"""
OWN = """\
schema: 1
constitution: helper
title: A helper
extends: base.yaml
remove: [playful]
traits:
  - {trait: warm, weight: 0.5}
  - {trait: curious, authority: user}
"""
BROKEN = st.builds(
    lambda text, at: text[:at] + ":" + text[at:], st.sampled_from([OWN, BASE]), st.integers(0, 200)
)


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{next(iter(files))}.yaml"


def test_inherited_overridden_removed_and_added(tmp_path: Path) -> None:
    path = write(tmp_path, helper=OWN, base=BASE)
    found = resolve(path)
    assert [(one.trait.id, one.trait.authority, one.weight) for one in found.listed] == [
        ("steady", "developer", 1.0),  # higher authority first, the file's order among equals
        ("curious", "user", 2.0),
        ("warm", "guideline", 0.5),
    ]
    assert [one.said_by.name for one in found.listed] == ["base.yaml", "helper.yaml", "helper.yaml"]
    assert found.helpfulness_first


def test_a_file_stands_for_its_traits(tmp_path: Path) -> None:
    path = write(tmp_path, helper=OWN, base=BASE)
    constitution = load_constitution([f"{path}:0.5", "humble"])
    assert constitution.name == "steady+curious+warm+humble"
    assert [member.weight for member in constitution.members] == [0.5, 1.0, 0.25, 1.0]
    same = load_constitution([f"{path}:0.5", "humble"])
    assert constitution.digest == same.digest


def test_helpfulness_below_character_is_said_loudly(tmp_path: Path) -> None:
    plain = write(tmp_path, helper=OWN, base=BASE)
    low = write(tmp_path, low=OWN + "helpfulness: below\n", base=BASE)
    told = findings_text(check_files([str(low)], passes))
    assert "HELPFULNESS IS BELOW CHARACTER" in told
    assert "HELPFULNESS" not in findings_text(check_files([str(plain)], passes))
    one, other = load_constitution([str(plain)]), load_constitution([str(low)])
    assert one.digest != other.digest and not other.helpfulness_first
    job = prepare([str(low)], "default", [], None, "report")
    assert (job.recipe.ranking.floor, job.recipe.ranking.relevance) == (0, 0)
    assert prepare([str(plain)], "default", [], None, "report").recipe.ranking.floor > 0
    for path, loud in ((low, True), (plain, False)):
        dry = CliRunner().invoke(build.main, ["--traits", str(path), "--dry-run"])
        assert dry.exit_code == 0 and ("HELPFULNESS IS BELOW CHARACTER" in dry.output) == loud
    again = write(
        tmp_path, up="schema: 1\nconstitution: up\nextends: low.yaml\nhelpfulness: above\n"
    )
    assert resolve(again).helpfulness_first


def test_check_shows_what_it_comes_to(tmp_path: Path) -> None:
    told = findings_text(check_files([str(write(tmp_path, helper=OWN, base=BASE))], passes))
    assert "1. steady, developer, weight 1, by base.yaml" in told
    assert "2. curious, user, weight 2, by helper.yaml" in told


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("schema: 1\nconstitution: a\n", "no trait is left"),
        ("schema: 1\nconstitution: a\ntrait: [curious]\n", "a.yaml:3:1: trait: extra"),
        ("schema: 2\nconstitution: a\n", "a.yaml:1:9: schema"),
        ("schema: 1\nconstitution: A b\n", "a.yaml:2:15: constitution"),
        (
            "schema: 1\nconstitution: a\ntraits:\n  - {trait: curios}\n",
            "There is no trait 'curios'",
        ),
        ("schema: 1\nconstitution: a\ntraits:\n  - {trait: curious, weight: 0}\n", "a.yaml:4:"),
        (
            "schema: 1\nconstitution: a\ntraits:\n  - {trait: curious}\n  - {trait: curious}\n",
            "a.yaml:5:13: the trait 'curious' is listed twice",
        ),
        ("schema: 1\nconstitution: a\nremove: [warm]\n", "'warm' is not inherited"),
        ("schema: 1\nconstitution: a\nextends: a.yaml\n", "in a circle: a.yaml -> a.yaml"),
        ("schema: 1\nconstitution: a\nextends: ../b.yaml\n", "is outside of"),
        ("schema: 1\nconstitution: a\nextends: /etc/passwd\n", "is outside of"),
        ("schema: 1\nconstitution: a\ntraits:\n  - {trait: ../b.yaml}\n", "is outside of"),
        ("schema: 1\nconstitution: a\nextends: none.yaml\n", "cannot be read"),
    ],
)
def test_a_faulty_file_says_what_and_where(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, a=text)
    with pytest.raises(SpecError) as error:
        load_constitution([str(path)])
    assert says in str(error.value)
    checked = check_files([str(path)], passes)
    assert checked.worst == "error"


def test_a_circle_of_two_is_found(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        a="schema: 1\nconstitution: a\nextends: b.yaml\n",
        b="schema: 1\nconstitution: b\nextends: a.yaml\n",
    )
    with pytest.raises(SpecError, match=r"a\.yaml -> b\.yaml -> a\.yaml"):
        resolve(path)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    outside = write(tmp_path, base=BASE)
    (inside / "base.yaml").symlink_to(outside)
    with pytest.raises(SpecError, match="is outside of"):
        resolve(write(inside, helper=OWN))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(st.characters(codec="utf-8")) | BROKEN)
def test_any_text_is_a_constitution_or_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "any.yaml"
    path.write_text("constitution: a\n" + text, encoding="utf-8")
    (tmp_path / "base.yaml").write_text(BASE)
    try:
        load_constitution([str(path)])
    except SpecError as error:
        assert str(error)
