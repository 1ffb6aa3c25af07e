import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from huggingface_hub import DatasetCard, ModelCard

from character.report.cards import dataset_card, model_card
from character.report.content import Report
from character.report.html import render_report
from character.training.reward_card import RewardCard, RewardTest

COUNTS = {"train": 1120, "held_out": 30}


@pytest.fixture(params=[model_card, lambda report: dataset_card(report, COUNTS)])
def card(request: pytest.FixtureRequest, report: Report) -> str:
    write: Callable[[Report], str] = request.param
    assert write(report) == write(report)
    return write(report)


def section(card: str, title: str) -> str:
    return card.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_a_hub_reads_the_model_s_front_matter(report: Report) -> None:
    data = ModelCard(model_card(report)).data
    assert data.license == "apache-2.0"
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert data.library_name == "peft"
    assert {"character", "curious", "hostile"} <= set(data.tags)


def test_a_hub_reads_the_dataset_s_front_matter(report: Report) -> None:
    data = DatasetCard(dataset_card(report, COUNTS)).data
    assert data.license == "cc0-1.0"
    assert data.size_categories == ["1K<n<10K"]
    assert data.task_categories == ["text-generation"]
    assert report.outcome.traits[1].title.replace("\x1b", "\ufffd") in data.pretty_name


@pytest.mark.parametrize(
    ("name", "hub_id"),
    [("local:someone/some-model", "someone/some-model"), ("local:./runs/mine/policy", None)],
)
def test_no_licence_is_claimed_for_other_base_models(
    report: Report, name: str, hub_id: str | None
) -> None:
    other = replace(report, base_model=name)
    data = ModelCard(model_card(other)).data
    assert data.license is None
    assert data.base_model == hub_id
    assert "4-bit" not in model_card(other)


def test_hostile_text_stays_text(card: str) -> None:
    body = card.split("\n---\n", 1)[1]
    prose = re.sub(r"```.*?```", "", body, flags=re.DOTALL)
    assert "<" not in prose
    assert "&lt;script&gt;" in prose or "&lt;script\\>" in prose
    assert "\x1b" not in card


def test_tables_keep_their_columns(card: str) -> None:
    tables = re.findall(r"(?:^\|.*\n?)+", card, flags=re.MULTILINE)
    assert tables
    for table in tables:
        rows = [re.split(r"(?<!\\)\|", line) for line in table.strip().splitlines()]
        assert len({len(row) for row in rows}) == 1


def test_the_model_card_gives_every_measure_with_its_interval(report: Report) -> None:
    measured = section(model_card(report), "Measured behaviour")
    for line in report.outcome.quality:
        assert line.label in measured
    assert "| 47.0 % [43.0, 51.0] | 40.0 % [36.0, 44.0] |" in measured
    assert "| -7.0 points [-11.0, -3.0] | -3 points | missed |" in measured
    assert "| missing | -1.200 [-1.240, -1.160] | missing | missing | missing |" in measured
    assert "Curious: 92 % [80, 104]" in measured


def test_side_effects_name_what_failed_and_what_is_unknown(report: Report) -> None:
    told = section(model_card(report), "Side effects")
    assert "**missed**: Short questions right" in told
    assert "**missing**: Fluency under base" in told
    assert "Curious where it must not show: spills over" in told
    assert "Every bar" not in told


def test_the_model_card_says_whether_the_reward_model_may_drive(report: Report) -> None:
    assert "## Reward model" not in model_card(report)
    tests = (
        RewardTest(
            "accuracy on held-out queries", 0.71, 0.6, 0.8, 148, ">= 0.80", False, required=True
        ),
        RewardTest("transfer to another trait", None, note="<b> was not | tried"),
    )
    card = RewardCard(148, 0.71, 0.6, 0.8, 0.56, 0.047, tests)
    told = section(model_card(replace(report, reward_card=card)), "Reward model")
    assert "Tried on 148 pairs of held-out queries. It may not drive PPO: accuracy on" in told
    assert "| 0.71 [0.60, 0.80] | 148 | \\>= 0.80, required | missed |" in told
    assert "(&lt;b\\> was not \\| tried) | not measured |  |  | not measured |" in told
    good = replace(card, tests=(replace(tests[0], value=0.9, passed=True),))
    told = section(model_card(replace(report, reward_card=good)), "Reward model")
    assert "Every required test holds: it may drive PPO." in told


def test_the_model_card_is_that_of_the_policy_of_ppo(report: Report, stopped: Report) -> None:
    told = model_card(stopped)
    assert "PPO was stopped after update 15 of 30" in section(told, "Training")
    assert 'from_pretrained("ppo/merged")' in told and '"policy' not in told
    assert "PPO was" not in model_card(report)
    assert 'from_pretrained("policy/merged")' in model_card(report)


def test_both_cards_admit_what_is_circular(report: Report, card: str) -> None:
    assert "judged by itself" in section(card, "Limitations")
    other = replace(report, judge="likelihood by local:someone/judge")
    for text in (model_card(other), dataset_card(other, COUNTS)):
        assert "judged by itself" not in text
        assert "overrated twice" in text


def test_a_judge_without_likelihoods_did_not_measure(report: Report) -> None:
    asked = replace(
        report, judge="verdict by openai:m", measured_by="likelihood by bundled:smollm2-135m"
    )
    for text in (model_card(asked), dataset_card(asked, COUNTS), render_report(asked)):
        assert "likelihood by bundled:smollm2-135m" in text
        assert "overrated twice" not in text and "also measured the movement" not in text


def test_cards_say_when_a_build_was_a_smoke_build(report: Report) -> None:
    smoke = replace(report, smoke=True)
    for text in (model_card(smoke), dataset_card(smoke, COUNTS)):
        assert "too small to mean anything" in text


def test_the_dataset_card_counts_pairs_and_explains_columns(report: Report) -> None:
    text = dataset_card(report, COUNTS)
    assert "1,150 pairs" in text
    assert "| held\\_out | 30 |" in text
    for column in ("prompt", "chosen", "rejected", "pair_id", "trait", "clause", "probability"):
        assert f"| `{column}` |" in section(text, "Columns")


def test_the_columns_are_the_dataset_s() -> None:
    from character.report.cards import LINEAGE
    from character.rows import Pair, Query, Reply
    from character.training.dataset import trl_rows

    query = Query("q", "Hi.", "on_trait", "curious", "asks", "", "", "seed", 0, "train", "")
    replies = {
        name: Reply(name, "q", "plain", "", 0, 0, "m", "Hello.", 2, True, ()) for name in ("a", "b")
    }
    pair = Pair("p", "q", "r", "a", "b", 1.0, 0.8, "train")
    assert trl_rows([pair], {"q": query}, replies).column_names == list(LINEAGE)


def test_a_build_with_nothing_to_show_still_has_cards(bare: Report) -> None:
    assert "missing" in section(model_card(bare), "Measured behaviour")
    assert "0 pairs" in dataset_card(bare, {})


def test_a_model_card_says_that_helpfulness_came_last(report: Report) -> None:
    assert "HELPFULNESS IS BELOW" not in model_card(report)
    low = replace(report.constitution, helpfulness_first=False)
    assert "**HELPFULNESS IS BELOW CHARACTER" in model_card(replace(report, constitution=low))
