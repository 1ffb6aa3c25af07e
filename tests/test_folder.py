from __future__ import annotations

from pathlib import Path

import pytest

from character.errors import RunError
from character.folder import newest, policy_of


def folders(run: Path, *names: str) -> Path:
    for name in names:
        (run / name / "merged").mkdir(parents=True, exist_ok=True)
    (run / "run.json").write_text('{"identity": {"recipe": {"roles": {"policy": "m"}}}}')
    return run


@pytest.mark.parametrize(
    ("made", "last"),
    [
        (["policy"], "policy"),
        (["policy", "ppo"], "ppo"),
        (["policy", "ppo", "policy-1"], "policy-1"),
        (["policy", "policy-1", "policy-2", "policy-10"], "policy-10"),
        (["policy", "ppo", "policy-1", "ppo-1", "dataset-2"], "ppo-1"),
    ],
)
def test_the_trained_policy_is_that_of_the_last_round(
    tmp_path: Path, made: list[str], last: str
) -> None:
    assert policy_of(folders(tmp_path, *made)) == tmp_path / last / "merged"


def test_what_no_round_made_is_not_there(tmp_path: Path) -> None:
    run = folders(tmp_path, "dataset", "judge-card")
    assert newest(run, "reward_model") is None
    with pytest.raises(RunError, match="no trained policy yet"):
        policy_of(run)
