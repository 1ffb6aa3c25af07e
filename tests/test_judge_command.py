"""Cards through the front door on the tiny model, kept, damaged and made again."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from rich.console import Console

from character import judge as command
from character.errors import RecipeError, SpecError
from character.judge_job import config_of, examined
from character.judge_pipeline import (
    Bench,
    card_id,
    card_of,
    cards_folder,
    panel_bench,
    read_card,
    seats_of,
    writer_of,
)
from character.judging.calibration import Calibration
from character.judging.card import Card, ClauseTest, Failed, Test, refusal
from character.judging.config import KINDS, CardConfig, NamedJudge
from character.judging.discriminant import Discriminant
from character.judging.kinds import judge_of
from character.judging.panel import Seat
from character.judging.plants import PlantsConfig
from character.models.fake import ScriptedModel
from character.models.local import LocalModel
from character.progress import Reporter
from character.report.judge_card import cards_page, cards_text
from character.spec.schema import Trait

SCRIPT = "<script>alert(1)</script>\x1b[31m"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHARACTER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tiny_folder: Path) -> LocalModel:
    from character.models.loading import load_local

    return load_local(f"local:{tiny_folder}")


def quiet() -> Reporter:
    return Reporter(Console(file=io.StringIO()))


def small(model: LocalModel) -> Bench:
    config = CardConfig(plants=PlantsConfig(queries=10, dosed=10), attacks=10)
    return Bench(("likelihood",), judge_of("likelihood", model), model, config)


def test_a_card_is_made_once_and_kept(model: LocalModel, small_trait: Trait) -> None:
    bench = small(model)
    card, planted = card_of(small_trait, bench, quiet())
    assert planted and card.test("planted order").count > 5
    assert card.same_family
    again, nothing = card_of(small_trait, bench, quiet())
    assert again == card and nothing is None
    fresh, planted = card_of(small_trait, bench, quiet(), again=True)
    assert planted and replace(fresh, seconds=card.seconds) == card


def test_a_damaged_card_is_made_again(model: LocalModel, small_trait: Trait) -> None:
    bench = small(model)
    card, _ = card_of(small_trait, bench, quiet())
    (path,) = cards_folder().glob("*.json")
    path.write_text(path.read_text()[:100])
    assert read_card(card.id) is None
    again, planted = card_of(small_trait, bench, quiet())
    assert planted and again.id == card.id
    other = json.loads(path.read_text()) | {"id": "0" * 16}
    path.write_text(json.dumps(other))
    assert read_card(card.id) is None


def test_whatever_decides_a_card_names_it(model: LocalModel, small_trait: Trait) -> None:
    bench = small(model)
    edited = small_trait.model_copy(update={"statement": "I always ask back."})
    ids = {
        card_id(small_trait, bench),
        card_id(edited, bench),
        card_id(small_trait, replace(bench, judge=judge_of("likelihood-plain", model))),
        card_id(small_trait, replace(bench, config=CardConfig(attacks=10))),
        card_id(small_trait, replace(bench, also=ScriptedModel(name="another"))),
    }
    assert len(ids) == 5


def test_several_traits_get_a_matrix(tiny_folder: Path, small_trait: Trait) -> None:
    other = small_trait.model_copy(update={"id": "other"})
    name = f"local:{tiny_folder}"
    found = examined(
        [small_trait, other],
        [NamedJudge("checks", name)],
        name,
        config_of(10, 0),
        quiet(),
        matrix=True,
    )
    assert [card.trait for card in found.cards] == ["asking", "other"]
    assert found.discriminant and found.discriminant.traits == ("asking", "other")
    told = json.loads(json.dumps(found.told()))
    assert told["form"] == 1 and told["cards"][0]["tests"][0]["name"] == "planted order"


def test_a_trait_without_enough_messages_is_told_so(
    tiny_folder: Path, small_trait: Trait, model: LocalModel
) -> None:
    few = small_trait.queries.model_copy(update={"seeds": ["Tea?", "Tea!", "tea", "TEA"]})
    with pytest.raises(SpecError, match="at least ten queries"):
        card_of(small_trait.model_copy(update={"queries": few}), small(Mute(model)), quiet())


class Mute(LocalModel):
    """Continues every list of messages with nothing."""

    def __init__(self, model: LocalModel) -> None:
        super().__init__(model.model, model.tokenizer, "mute")

    def generate(self, requests: Any, sampling: Any, on_done: Any = lambda count: None) -> Any:
        found = super().generate(requests, sampling, on_done)
        return [replace(g, text="") if r.text else g for r, g in zip(requests, found, strict=True)]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(command.main, ["card", *arguments])


def test_the_command_writes_a_page_and_says_whether_the_judge_may_judge(
    tiny_folder: Path, small_trait: Trait, tmp_path: Path
) -> None:
    file = tmp_path / "asking.yaml"
    file.write_text(yaml.safe_dump(small_trait.model_dump(by_alias=True)))
    name, page = f"local:{tiny_folder}", tmp_path / "card.html"
    done = run("--traits", str(file), "--model", name, "--planter", name, "--queries", "10",
               "--attacks", "0", "--out", str(page))  # fmt: skip
    assert done.exit_code == 1, done.output  # random weights are no judge
    assert "planted order" in done.output and "asking: " in done.output
    assert "<h2>asking</h2>" in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text())["cards"][0]["trait"] == "asking"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--traits", "nobody"], "nobody"),
        (["--traits", "curious", "--model", "bundled:nobody"], "nobody"),
        (["--traits", "curious", "--planter", "openai:gpt-6-mini"], "--planter"),
        (["--traits", "curious", "--out", "no/such/card.html"], "there is no folder"),
        (["--traits", "curious", "--judge", "coin"], "coin"),
        (["--traits", "curious", "--also", "bundled:nobody"], "nobody"),
        (["--traits", "curious", "--member", "checks"], "--judge panel"),
        (["--traits", "curious", "--judge", "panel", "--member", "checks"], "two judges or more"),
        (
            ["--traits", "curious", "--judge", "panel", "--member", "checks", "--member", "coin@x"],
            "no such kind",
        ),
        (
            [
                "--traits",
                "curious",
                "--judge",
                "panel",
                "--member",
                "checks",
                "--member",
                "verdict@bundled:nobody",
            ],
            "nobody",
        ),
    ],
)
def test_mistakes_are_one_message(arguments: list[str], says: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    done = run(*arguments)
    assert done.exit_code == 2 and says in done.output and "Traceback" not in done.output


def test_the_command_s_card_is_the_one_that_a_build_looks_for() -> None:
    told = {option.name: option.default for option in command.card.params}
    assert config_of(told["queries"], told["attacks"]) == CardConfig()


def test_the_command_offers_every_kind() -> None:
    (judge,) = [option for option in command.card.params if option.name == "kind"]
    assert tuple(judge.type.choices) == (*KINDS, "panel")  # type: ignore[attr-defined]


def test_a_kind_that_the_model_cannot_be_is_refused(model: LocalModel) -> None:
    class Speechless(LocalModel):
        can_score = False

    mute = Speechless(model.model, model.tokenizer, "mute")
    with pytest.raises(RecipeError, match="--judge verdict"):
        judge_of("likelihood", mute)


def test_a_panel_is_weighed_by_its_members_cards(
    tiny_folder: Path, small_trait: Trait, tmp_path: Path
) -> None:
    file = tmp_path / "asking.yaml"
    file.write_text(yaml.safe_dump(small_trait.model_dump(by_alias=True)))
    name, page = f"local:{tiny_folder}", tmp_path / "card.html"
    done = run("--traits", str(file), "--judge", "panel", "--member", "checks", "--member",
               f"likelihood@{name}", "--model", name, "--planter", name, "--queries", "12",
               "--attacks", "0", "--out", str(page))  # fmt: skip
    assert done.exit_code == 1, done.output
    (card,) = json.loads(page.with_suffix(".json").read_text())["cards"]
    assert card["judge"].startswith("panel of checks at ") and "likelihood by " in card["judge"]
    apart = next(test for test in card["tests"] if test["name"] == "members apart")
    assert apart["value"] is not None and apart["count"] > 0
    kept = [json.loads(path.read_text()) for path in cards_folder().glob("*.json")]
    assert {one["judge"].partition(" ")[0] for one in kept} == {"panel", "checks", "likelihood"}


def test_a_panel_without_a_voice_is_told_so(model: LocalModel, small_trait: Trait) -> None:
    bare = small_trait.model_copy(update={"checks": []})  # so that there is nothing to say
    bench = Bench(("checks",), judge_of("checks"), model, small(model).config)
    with pytest.raises(
        RecipeError, match=r"No member of the panel .* asking .*: checks no verdict; "
    ):
        seats_of(bare, [bench, bench], quiet())


def test_a_panel_is_tried_on_other_plants_than_its_members(
    model: LocalModel, small_trait: Trait
) -> None:
    members = [small(model), replace(small(model), kinds=("checks",), judge=judge_of("checks"))]
    bench = panel_bench(members, [Seat("likelihood", 0.8, 1.0), Seat("checks", 0.7, 1.0)])
    assert bench.kinds == ("likelihood", "checks")
    assert bench.config.seed != members[0].config.seed
    assert bench.config.plants == members[0].config.plants
    other = panel_bench(members, [Seat("likelihood", 0.8, 1.0), Seat("checks", 0.71, 1.0)])
    assert card_id(small_trait, bench) != card_id(small_trait, other)


def test_which_writer_is_the_judge_s_own(model: LocalModel) -> None:
    bench, other = small(model), ScriptedModel(name="another")
    assert writer_of(bench).own is None and "--also" in writer_of(bench).why
    assert writer_of(replace(bench, also=other)).own == "planter"
    assert writer_of(replace(bench, planter=other, also=model)).own == "other"
    assert "neither writer" in writer_of(replace(bench, planter=other, also=other)).why
    assert "both writers" in writer_of(replace(bench, also=model)).why
    checks = replace(bench, kinds=("checks",), judge=judge_of("checks"), also=other)
    assert "no language model" in writer_of(checks).why


HOSTILE = Card(
    id="0123456789abcdef",
    trait="brisk",
    judge=f"verdict by {SCRIPT}",
    planter="planter",
    tests=(
        Test("planted order", 0.61, 0.51, 0.7, 100, 3, "lower end >= 0.85", False, True, SCRIPT,
             (Failed(SCRIPT, "better", SCRIPT, 0.2), Failed("Why?", "b", "w", None, "refused"))),
        Test("attacks", None, bar="<= 0.02", note="not tried"),
        Test("longer preferred", 0.4, 0.3, 0.5, 90),
    ),
    clauses=(ClauseTest("first", 0.5, 0.3, 0.7, 20), ClauseTest("last", 0.9, 0.8, 0.95, 30)),
    calibration=Calibration(0.5, 0.2, 0.05, 180),
)  # fmt: skip


def test_a_page_shows_every_test_and_escapes_what_was_written() -> None:
    matrix = Discriminant(("brisk", "slow"), ((0.2, None), (0.1, 0.3)))
    page = cards_page([HOSTILE], matrix)
    assert "<script>" not in page and "\x1b" not in page
    for words in ("planted order", "not measured", "at chance", "refused by 1", "missing", "+0.30"):
        assert words in page
    console = Console(file=io.StringIO(), width=120)
    console.print(cards_text([HOSTILE], matrix))
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0.61" in told and "3 missing" in told and "\x1b[31m" not in told


def test_a_refusal_names_the_test_the_number_and_the_worst_examples() -> None:
    first, *examples = refusal(HOSTILE)
    assert "planted order is 0.61 [0.51, 0.70], and the bar is lower end >= 0.85" in first
    assert "gave the better reply 0.20" in examples[0] and "(refused)" in examples[3]


def agree(*arguments: str) -> Any:
    return CliRunner().invoke(command.main, ["agree", *arguments])


def test_two_judges_are_compared_clause_by_clause(
    tiny_folder: Path, small_trait: Trait, tmp_path: Path
) -> None:
    file = tmp_path / "asking.yaml"
    file.write_text(yaml.safe_dump(small_trait.model_dump(by_alias=True)))
    name = f"local:{tiny_folder}"
    judges = ("--judge", f"likelihood@{name}", "--judge", f"likelihood-plain@{name}")
    done = agree(*judges, "--planter", name, "--queries", "12", "--traits", str(file))
    assert done.exit_code == 0, done.output
    assert "Cohen's kappa" in done.output and "answers" in done.output
    assert "they differ in" in done.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--judge", "likelihood"], "name two judges"),
        (["--judge", "coin", "--judge", "rubric"], "no such kind"),
        (["--judge", "rubric", "--judge", "rubric@bundled:nobody"], "nobody"),
    ],
)
def test_judges_that_cannot_be_compared_are_told_so(arguments: list[str], says: str) -> None:
    done = agree(*arguments, "--traits", "curious")
    assert done.exit_code == 2 and says in done.output and "Traceback" not in done.output


def test_two_judges_behind_apis_share_one_cost_limit(
    tiny_folder: Path, small_trait: Trait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faulty_server import Server, serving

    from character.judge_job import compared
    from character.models.budget import Budget

    made: list[Budget] = []

    class Counted(Budget):
        def __init__(self, cap: float | None = None) -> None:
            super().__init__(cap)
            made.append(self)

    monkeypatch.setattr("character.judge_job.Budget", Counted)
    with serving(Server(tokens={"A": 0.7, "B": 0.2}, reply="A")) as server:
        judges = [NamedJudge("verdict", f"{server.url}#{name}") for name in "mn"]
        (found,) = compared([small_trait], judges, f"local:{tiny_folder}", 10, quiet())
    assert found.missing > 0 and len(made) == 1  # each prefers what it reads first: ties
