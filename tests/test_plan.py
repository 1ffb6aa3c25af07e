from __future__ import annotations

from pathlib import Path

import pytest
from making import a_constitution, a_trait

from character.data.pairs import PairsConfig
from character.data.queries import QueriesConfig
from character.data.replies import RepliesConfig
from character.diffing.config import MeasureConfig
from character.job import Job
from character.models.base import Sampling
from character.plan import PROMPT, STAGES, WRITES, PlannedStage, minutes, plan
from character.recipe import Recipe, load_recipe
from character.shipped import names
from character.training.config import (
    AnchorsConfig,
    DoseConfig,
    GuardsConfig,
    PpoConfig,
    TrainingConfig,
)

RECIPE = Recipe(
    title="Ten and five queries a trait",
    queries=QueriesConfig(
        train=10, held_out=5, unless=4, neutral=3, spare=2, sampling=Sampling(max_tokens=20)
    ),
    replies=RepliesConfig(steered=3, steered_held_out=2, plain=1, sampling=Sampling(max_tokens=50)),
    pairs=PairsConfig(per_query=2),
    training=TrainingConfig(
        anchors=AnchorsConfig(facts=4, instructions=2, formats=1),
        dose=DoseConfig(tried=(0.5, 1.0)),
    ),
    measure=MeasureConfig(samples=2, questions=7),
)


def test_calls_and_tokens_by_hand() -> None:
    # one trait with 4 messages of its own: 11 are wanting, times 2
    found = {(step.stage, step.what): step for step in plan(a_constitution(), RECIPE)}
    calls = {key: step.calls for key, step in found.items()}
    assert calls == {
        # 100 queries at three doses; 40 again at these and at two low ones
        ("judge_cards", "planted replies"): 3 * 100 + 5 * 40,
        # twice: long ones, announced ones, disguises; and 40 attacks against 40 honest replies
        ("judge_cards", "plants and attacks judged"): 2 * (500 + 5 * 40 + 3 * 40),
        ("queries", "drafts"): 22,
        ("replies", "replies"): 10 * 4 + 5 * 3,
        ("judgements", "replies under each context"): 55 * 4,  # good, bad, query, foil
        ("distilled", "teacher passes"): 10 * 2 * 2,
        ("distilled", "lesson tokens"): 10 * 2 + 7 + 3 + 2,
        ("own_replies", "replies"): 10 * 2,
        ("own_judgements", "replies under each context"): 20 * 4,
        ("reward_model", "pair tokens"): 10 * 2 * 2,
        ("policy", "pair tokens"): 10 * 2,
        ("measure", "doses' replies"): 2 * 10 * 2,
        ("measure", "answers"): 4 * 5 * 2,
        ("measure", "short answers"): 4 * 7,
        ("measure", "answers under each context"): 4 * 5 * 2 * 5,
    }
    written, scored = found["replies", "replies"], found["judgements", "replies under each context"]
    assert (written.tokens, scored.tokens) == (55 * 50, 220 * (PROMPT + 50))
    assert written.seconds == pytest.approx(55 * 50 / WRITES)
    assert found["reward_model", "pair tokens"].tokens == 40 * 2 * (PROMPT + 50)


def test_a_writer_behind_an_api_has_a_price_or_an_unknown_one() -> None:
    def queries(writer: str) -> PlannedStage:
        roles = RECIPE.roles.model_copy(update={"writer": writer})
        stages = plan(a_constitution(), RECIPE.model_copy(update={"roles": roles}))
        return next(step for step in stages if step.stage == "queries")

    priced = queries(
        "openai:gpt-5-mini"
    )  # 22 drafts of 250 tokens in and 20 out, .25 and 2 dollars
    assert priced.dollars == pytest.approx(22 * (250 * 0.25 + 20 * 2) / 1e6)
    assert (priced.what, priced.tokens) == ("drafts by openai:gpt-5-mini", 440)
    assert queries("http://localhost:1/v1#m").dollars is None
    assert queries("bundled:smollm2-135m").dollars == 0.0


def test_a_judge_behind_an_api_is_counted_in_calls_and_dollars() -> None:
    roles = RECIPE.roles.model_copy(update={"judge": "openai:gpt-5-mini"})
    ranking = RECIPE.ranking.model_copy(update={"judge": "verdict"})
    recipe = RECIPE.model_copy(update={"roles": roles, "ranking": ranking})
    found = {s.stage: s for s in plan(a_constitution(), recipe) if "openai" in s.what}
    # 55 replies, 4 a query: 14 queries of 6 pairs, in both orders, two samples each
    assert found["judgements"].calls == 14 * 6 * 2 * 2
    # 20 own replies beside those 4, 6 a query: 4 queries of .4 x 15 pairs
    assert found["own_judgements"].calls == 4 * 6 * 2 * 2
    assert found["judgements"].dollars == pytest.approx(336 * (500 * 0.25 + 20 * 2) / 1e6)
    assert found["judge_cards"].calls == 2 * 2 * (3 * 100 + 12 * 40 + 2 * 40)


def test_a_panel_costs_what_its_members_do_and_two_rounds_of_plants() -> None:
    members = ("likelihood", "verdict@openai:gpt-5-mini", "checks")
    ranking = RECIPE.ranking.model_copy(update={"judge": "panel", "panel": members})
    stages = plan(a_constitution(), RECIPE.model_copy(update={"ranking": ranking}))
    found = {(s.stage, s.what): s.calls for s in stages if s.stage.startswith("judge")}
    judge = "verdict by openai:gpt-5-mini"
    assert found["judgements", "replies under each context"] == 55 * 4
    assert found["judgements", judge] == 14 * 6 * 2 * 2
    assert found["judge_cards", "planted replies"] == 2 * (3 * 100 + 5 * 40)
    assert found["judge_cards", judge] == 2 * 2 * 2 * (3 * 100 + 12 * 40 + 2 * 40)


def test_each_source_costs_what_it_writes_and_all_of_them_a_training() -> None:
    told = RECIPE.model_dump()
    told["revisions"]["replies"] = 20  # of ten plain ones
    told["introspection"] |= {"reflections": 3, "dialogues": 2, "replies": 4}
    told["documents"]["count"] = 5
    told["training"]["sft"]["demonstrations"] = 2
    plain = {(step.stage, step.what) for step in plan(a_constitution(), RECIPE)}
    stages = plan(a_constitution(), Recipe.model_validate(told))
    calls = {(s.stage, s.what): s.calls for s in stages if (s.stage, s.what) not in plain}
    assert calls == {
        ("revisions", "criticisms"): 10,
        ("revisions", "new replies"): 10,
        ("revision_judgements", "replies under each context"): 10 * 4,
        ("introspection", "turns"): 3 + 2 * 7,
        ("documents", "documents"): 5,
        # two steered replies a query and three examples; a dialogue teaches four replies
        ("sft", "text tokens"): 10 * 2 + 3 + 10 + 3 + 2 * 4 + 5,
    }
    told["roles"]["writer"] = "openai:gpt-5-mini"
    found = {s.what: s for s in plan(a_constitution(), Recipe.model_validate(told))}
    dollars = found["documents by openai:gpt-5-mini"].dollars
    assert dollars == pytest.approx(5 * (250 * 0.25 + 120 * 2) / 1e6)


def test_further_rounds_cost_what_a_build_does_on_fresh_queries() -> None:
    told = RECIPE.model_dump() | {"rounds": 3}
    told["queries"]["fresh"] = 6
    told["replies"]["own"] = 2
    told["measure"]["best_of"] = 4
    stages = plan(a_constitution(), Recipe.model_validate(told))
    calls = {s.what: s.calls for s in stages if s.stage == "rounds"}
    assert calls == {
        "fresh drafts": 3 * 6 * 2,
        "replies": 3 * 6 * (3 + 1 + 2),
        "replies under each context": 3 * 36 * 4,
        "reward pairs": 3 * 128,
        "policy pairs": 3 * 6 * 2,
    }
    # five subjects, of which one answers each of five queries twice with four replies
    assert next(s.calls for s in stages if s.what == "answers") == 5 * 5 * 2 + 10 * 3
    assert not [step for step in plan(a_constitution(), RECIPE) if step.stage == "rounds"]


def test_ppo_costs_its_updates_and_its_probes() -> None:
    guards = GuardsConfig(every=5, queries=4, questions=10)
    training = RECIPE.training.model_copy(
        update={"ppo": PpoConfig(updates=12, rollouts=8, max_tokens=50, guards=guards)}
    )
    stages = plan(a_constitution(), RECIPE.model_copy(update={"training": training}))
    calls = {step.what: step.calls for step in stages if step.stage == "ppo"}
    # probes before the first update, after 5 and 10, and after the last
    assert calls == {
        "replies": 12 * 8 + 4 * 4,
        "replies read and rewarded": 96 * 3 + 16 * 5,
        "reply tokens": 96,
        "short answers": 4 * 10,
    }
    assert not [step for step in plan(a_constitution(), RECIPE) if step.stage == "ppo"]


def test_every_trait_adds_its_work_and_its_contexts() -> None:
    two = plan(a_constitution(a_trait(), a_trait("warm")), RECIPE)
    calls = {(step.stage, step.what): step.calls for step in two}
    assert calls["queries", "drafts"] == 44
    assert calls["replies", "replies"] == 110
    assert calls["judgements", "replies under each context"] == 110 * 6
    assert calls["measure", "short answers"] == 4 * 7


def test_minutes_are_the_sum_of_the_stages() -> None:
    stages = plan(a_constitution(), RECIPE)
    assert minutes(stages) == pytest.approx(sum(step.seconds for step in stages) / 60)
    assert minutes([]) == 0


@pytest.mark.parametrize("name", names("pipelines", ".yaml"))
def test_every_shipped_recipe_can_be_planned(name: str) -> None:
    stages = plan(a_constitution(), load_recipe(name))
    assert all(step.calls > 0 and step.tokens > 0 and step.seconds > 0 for step in stages)
    assert [STAGES.index(step.stage) for step in stages] == sorted(
        STAGES.index(step.stage) for step in stages
    )


@pytest.mark.parametrize("until", STAGES)
def test_a_job_plans_no_further_than_it_goes(until: str) -> None:
    job = Job(a_constitution(), RECIPE, Path("run"), until, {}, "")
    whole = plan(a_constitution(), RECIPE)
    wanted = STAGES[: STAGES.index(until) + 1]
    assert job.planned() == [step for step in whole if step.stage in wanted]
    assert job.planned()[0].stage == "judge_cards"
    assert all(STAGES.index(step.stage) <= STAGES.index(until) for step in job.planned())
