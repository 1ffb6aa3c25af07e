import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from character import shipped
from character.errors import SpecError
from character.spec.constitution import Constitution, Member, load_constitution
from character.spec.loading import load_trait


def test_order_is_priority_and_weights_follow_the_colon() -> None:
    constitution = load_constitution(["warm.yaml:0.5", "curious", "traits/concise.yaml:3"])
    assert constitution.name == "warm+curious+concise"
    assert [member.weight for member in constitution.members] == [0.5, 1.0, 3.0]
    assert constitution.traits == (load_trait("warm"), load_trait("curious"), load_trait("concise"))


def test_one_trait_gives_its_name() -> None:
    assert load_constitution(["curious.yaml"]).name == "curious"


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "-0.0"])
def test_a_weight_is_finite_and_above_zero(weight: str) -> None:
    with pytest.raises(SpecError, match=r"weight of trait 'warm' is .+above 0, .*warm:0\.5"):
        load_constitution([f"warm:{weight}"])


@pytest.mark.parametrize("weight", ["", "heavy", "0,5", "1x"])
def test_a_weight_is_a_number(weight: str) -> None:
    message = f"warm:{weight}: the weight {weight!r} is not a number. "
    with pytest.raises(SpecError, match=re.escape(message) + ".*warm:0.5"):
        load_constitution([f"warm:{weight}"])


def test_a_drive_letter_is_no_weight() -> None:
    with pytest.raises(SpecError, match=r"There is no trait 'C:.+warm\.yaml'"):
        load_constitution([r"C:\mine\warm.yaml"])


def test_a_trait_is_named_once() -> None:
    with pytest.raises(SpecError, match=r"'curious' is in the constitution 2 times.*curious:2"):
        load_constitution(["curious", "warm", "traits/curious.yaml:2"])


def test_a_constitution_has_a_trait() -> None:
    with pytest.raises(SpecError, match=r"at least one trait, for example curious\.yaml"):
        load_constitution([])


def test_a_faulty_file_is_told_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("schema: 1\nid: mine\nid: mine\n", encoding="utf-8")
    with pytest.raises(SpecError, match=re.escape(f"{path}:3:1: id: appears twice")):
        load_constitution(["curious", f"{path}:2"])


def test_the_digest_is_the_same_in_another_process(tmp_path: Path) -> None:
    here = load_constitution(["curious", "warm:0.5"]).digest
    assert re.fullmatch("[0-9a-f]{64}", here)
    code = (
        "from character.spec.constitution import load_constitution as load;"
        "print(load(['traits/curious.yaml', 'warm.yaml:0.50']).digest)"
    )
    root = str(Path(shipped.__file__).parents[1])
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": root, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code]
        there = subprocess.check_output(command, env=environment, cwd=tmp_path, text=True)
        assert there.strip() == here


def test_the_digest_sees_order_weight_and_content_and_nothing_else(tmp_path: Path) -> None:
    curious, warm = load_trait("curious"), load_trait("warm")
    reworded = curious.model_copy(update={"statement": "I ask."})
    constitutions = [
        Constitution((Member(curious), Member(warm))),
        Constitution((Member(warm), Member(curious))),
        Constitution((Member(curious), Member(warm, 0.5))),
        Constitution((Member(reworded), Member(warm))),
        Constitution((Member(curious),)),
    ]
    assert len({constitution.digest for constitution in constitutions}) == len(constitutions)
    text = (shipped.shipped("traits") / "curious.yaml").read_text(encoding="utf-8")
    commented = tmp_path / "curious.yaml"
    commented.write_text(f"# mine\n{text}\n\n", encoding="utf-8")
    assert load_constitution([str(commented)]).digest == constitutions[-1].digest
    assert Constitution((Member(curious, 1),)).digest == constitutions[-1].digest
