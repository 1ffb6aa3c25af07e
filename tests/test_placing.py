from __future__ import annotations

from pathlib import Path

import pytest

from character.errors import RunError
from character.placing import check_place, placed


def test_a_folder_appears_whole_and_replaces_the_one_before(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    for text in ("first", "second"):
        with placed(target) as part:
            (part / "file").write_text(text, encoding="utf-8")
            if text == "second":
                assert (target / "file").read_text(encoding="utf-8") == "first"
        assert (target / "file").read_text(encoding="utf-8") == text
    assert [path.name for path in target.parent.iterdir()] == ["out"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "file").write_text("old", encoding="utf-8")
    with pytest.raises(ValueError, match="half"), placed(target) as part:
        (part / "file").write_text("new", encoding="utf-8")
        raise ValueError("half way")
    assert (target / "file").read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_place_is_free_empty_or_the_same_maker_s(tmp_path: Path) -> None:
    place = tmp_path / "out"
    check_place(place, "made.json", {"by": "me"})
    place.mkdir()
    check_place(place, "made.json", {"by": "me"})
    (place / "made.json").write_text('{"by": "me", "on": "Monday"}', encoding="utf-8")
    check_place(place, "made.json", {"by": "me"})
    for other in ('{"by": "you"}', "[]", "{", ""):
        (place / "made.json").write_text(other, encoding="utf-8")
        with pytest.raises(RunError, match="--out"):
            check_place(place, "made.json", {"by": "me"})
    with pytest.raises(RunError, match="something else"):
        check_place(place / "made.json", "made.json", {"by": "me"})
