from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from character.errors import RecipeError
from character.models.base import Sampling
from character.recipe import Recipe, Roles, load_recipe
from character.shipped import names


def fails(*settings: str, recipe: str = "default") -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, settings)
    return str(caught.value)


def written(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_default_recipe_is_the_defaults() -> None:
    recipe = load_recipe("default")
    assert recipe == Recipe(title=recipe.title)
    assert recipe.roles == Roles() and not recipe.smoke


def test_the_quick_recipe_says_it_is_a_smoke_build() -> None:
    assert load_recipe("quick").smoke


@pytest.mark.parametrize("name", names("pipelines", ".yaml"))
def test_every_shipped_recipe_loads_by_name_and_by_path(name: str) -> None:
    assert load_recipe(name) == load_recipe(f"pipelines/{name}.yaml")


def test_one_setting_leaves_what_the_stage_sets_beside_it(tmp_path: Path) -> None:
    usual = load_recipe("default")
    expected = usual.queries.sampling.model_copy(update={"max_tokens": 60})
    assert expected.stop == ("\n",)  # which no sampling has of itself
    assert load_recipe("default", ["queries.sampling.max_tokens=60"]).queries.sampling == expected
    path = written(tmp_path, "title: Mine\nqueries: {sampling: {max_tokens: 60}}\n")
    assert load_recipe(path).queries.sampling == expected


def test_settings_are_yaml_and_go_on_top_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "title: Mine\nseed: 3\nreplies: {steered: 5, plain: 2}\n")
    recipe = load_recipe(
        path,
        [
            "replies.steered=4",
            "measure.sampling.temperature=0.25",
            r'queries.sampling.stop=["\n", "|"]',
            "title= a=b ",
            "seed=8",
            "seed=9",
        ],
    )
    assert (recipe.replies.steered, recipe.replies.plain) == (4, 2)
    assert recipe.measure.sampling == Sampling(temperature=0.25)
    assert recipe.queries.sampling.stop == ("\n", "|")
    assert (recipe.title, recipe.seed) == ("a=b", 9)


def test_a_recipe_of_ones_own_wins_over_a_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pipelines").mkdir()
    Path("pipelines/quick.yaml").write_text("title: Quicker", encoding="utf-8")
    assert load_recipe("quick").title == "Quicker"
    assert load_recipe("default").title != "Quicker"


def test_a_recipe_cannot_be_changed_after_it_was_checked() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_recipe("default").seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("reference", "meant"), [("quik", "quick"), ("defualt", "default"), ("Quick", "quick")]
)
def test_an_unknown_recipe_says_what_was_meant(reference: str, meant: str) -> None:
    message = fails(recipe=reference)
    assert f"no recipe {reference!r} (did you mean {meant!r}?)" in message
    assert (
        "There are: default, gpu-24gb, gpu-80gb, ppo, quick, sources; or give the path" in message
    )


def test_a_recipe_unlike_any_is_not_guessed_at() -> None:
    assert "did you mean" not in fails(recipe="zzzzzz")
    assert "no recipe ''" in fails(recipe="")


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        (
            "replies.steerd=4",
            ["'replies.steerd' (did you mean 'steered'?)", "replies has: steered"],
        ),
        ("sed=4", ["'sed' (did you mean 'seed'?)", "A recipe has: title, smoke, seed"]),
        ("repliez.steered=4", ["'repliez' (did you mean 'replies'?)"]),
        ("training.dpo.bta=1", ["'training.dpo.bta' (did you mean 'beta'?)"]),
        ("queries.sampling.zzz=1", ["'queries.sampling.zzz'. queries.sampling has: max_tokens"]),
        ("1=2", ["'1'"]),
    ],
)
def test_an_unknown_key_says_which_there_are(setting: str, parts: list[str]) -> None:
    message = fails(setting)
    assert message.count("\n") == 0 and "there is no setting" in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("replies.steered=many", "replies.steered = 'many': input should be a valid integer"),
        ("replies.steered=0", "replies.steered = 0: input should be greater than or equal to 1"),
        ("seed=-1", "seed = -1: input should be greater than or equal to 0"),
        ("seed=2147483648", "seed = 2147483648: input should be less than 2147483648"),
        ("seed=", "seed = None: input should be a valid integer"),
        ("smoke=perhaps", "smoke = 'perhaps': input should be a valid boolean"),
        ("roles.judge=[]", "roles.judge = []: input should be a valid string"),
        ("queries.sampling.stop=[3]", "queries.sampling.stop = 3: input should be a valid string"),
        ("replies.sampling.temperature=.nan", "replies.sampling.temperature = nan: input should"),
        ("measure.short_questions=all", "measure.short_questions = 'all': input should be 'test'"),
        ("ranking.judge=coin", "ranking.judge = 'coin': input should be 'likelihood'"),
        ("ranking.panel=[likelihood]", "name two judges or more, each once"),
        ("ranking.panel=[rubric, rubric]", "name two judges or more, each once"),
        ("ranking.panel=[likelihood, coin@m]", "'coin@m': there is no such kind. kinds: likel"),
    ],
)
def test_a_wrong_value_says_what_was_found_and_what_belongs_there(
    setting: str, message: str
) -> None:
    assert message in fails(setting)
    assert fails(setting).startswith(f"--set {setting}: ")


@pytest.mark.parametrize("setting", ["seed", "", "=3", "--seed 3"])
def test_a_setting_is_a_key_and_a_value(setting: str) -> None:
    assert f"--set {setting!r} is not key=value; for example --set replies." in fails(setting)


def test_a_value_holds_no_keys() -> None:
    assert "--set 'seed.of=3': 'seed' holds a value, not further keys" in fails(
        "seed=1", "seed.of=3"
    )


@pytest.mark.parametrize("value", ["[1, 2", "'open", "!!python/name:os.system", "2024-13-45"])
def test_a_value_that_is_no_yaml_is_told_as_such(value: str) -> None:
    setting = f"seed={value}"
    assert fails(setting) == f"--set {setting!r}: the value is not YAML; quote it"


def test_every_mistake_of_a_recipe_is_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "sed: 1\nseed: x\nreplies: {steered: 0, plan: 1}\n")
    lines = fails(recipe=path).splitlines()
    found = {
        place: name
        for line in lines
        for place, name in re.findall(r"^\S+?:(\d+:\d+): (?:.*setting ')?([\w.]+)", line)
    }
    assert found == {
        "1:1": "sed",  # and title, which is missing
        "2:1": "seed",
        "3:11": "replies.steered",
        "3:23": "replies.plan",
    }
    assert f"{path}:1:1: title is missing, for example `title: My recipe`" in lines


def test_a_mistake_in_a_setting_is_told_as_one(tmp_path: Path) -> None:
    path = written(tmp_path, "title: Mine\nreplies: {steered: 0}\n")
    assert fails("replies.plain=0", recipe=path).splitlines() == [
        f"{path}:2:11: replies.steered = 0: input should be greater than or equal to 1",
        "--set replies.plain=0: replies.plain = 0: input should be greater than or equal to 1",
    ]


def test_a_key_that_comes_twice_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, "title: Mine\nseed: 1\nseed: 2\n")
    assert fails(recipe=path) == (
        f"{path}:3:1: seed: appears twice, on line 2 and again here on line 3. Keep one."
    )


def test_a_recipe_nested_without_end_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, "title: " + "[" * 100_000)
    assert "is nested more than 50 levels deep; a recipe needs 4" in fails(recipe=path)
    assert "the value is not YAML" in fails("seed=" + "[" * 100_000)


@pytest.mark.parametrize("text", ["", "just words", "- a\n- list"])
def test_a_recipe_is_a_mapping(text: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    message = fails(recipe=path)
    assert message.startswith(f"{path}:1:1: ")
    assert message.endswith("A recipe is a mapping, for example `title: My recipe`.")


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        (b"title: [", "2:1", "is not valid YAML"),
        (b"title: x\nseed: 2024-13-45", "2:7", "in the form of a number or date but none"),
        (b"? [a]\n: b", "1:3", "a list of 1 as a key"),
        (b"title: \xff\xfe", "1:8", "is not UTF-8 text"),
        (b"title: Mine\n1: 2\n", "2:1", "found 1 as a key"),
        (b"title: !!python/name:os.system x", "1:8", "a recipe file has no tags"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(
    text: bytes, place: str, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(text)
    message = fails(recipe=str(path))
    assert message.startswith(f"{path}:{place}: ") and problem in message
