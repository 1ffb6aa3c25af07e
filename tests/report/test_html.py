import base64
import hashlib
import re
from collections import defaultdict
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from character.diffing.outcome import Outcome
from character.diffing.statistics import Estimate
from character.judging.card import Card, Test
from character.judging.front import Front, Point
from character.report.cards import model_card
from character.report.content import Comparison, Report
from character.report.html import render_report
from character.training.reward_card import RewardCard, RewardTest

SCRIPT = '<script>alert("owned")</script>'  # in titles, queries and replies of `report`
VOID = {"meta", "br", "input", "link", "img", "hr"}
ADDRESSES = {"src", "href", "xlink:href", "srcset", "action", "data", "poster", "background"}


class Page(HTMLParser):
    """What a browser would find in a page; an element that is not closed is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.sections: list[str] = []
        self.texts: defaultdict[str, list[str]] = defaultdict(list)
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag == "section":
            self.sections.append(dict(attributes)["id"] or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.texts[self.sections[-1] if self.sections else "top"].append(data)

    def text(self, section: str) -> str:
        """The words of a section, or of what stands above the first one, one space apart."""
        return " ".join(" ".join(self.texts[section]).split())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def page(report: Report) -> Page:
    return Page(render_report(report))


def test_sections_come_in_the_order_that_a_reader_needs(page: Page) -> None:
    assert page.sections == [
        "movement",
        "quality",
        "replies",
        "unless",
        "data",
        "judge",
        "reward",
        "training",
        "cost",
        "character",
        "made",
    ]


def test_what_was_taken_over_is_told_beside_the_cost(report: Report, page: Page) -> None:
    assert "Taken over from" not in render_report(report)
    taken = replace(report, earlier="runs/<b>", taken_over={"own_replies": 1200, "drafts": 3})
    told = "1,200 own replies, 3 drafts. Times are of what was made anew."
    assert f"Taken over from runs/&lt;b&gt;: {told}" in render_report(taken)
    assert told in model_card(taken).replace("\\", "")


def test_two_renders_are_equal(report: Report) -> None:
    assert render_report(report) == render_report(report)


def test_nothing_is_fetched(report: Report, page: Page) -> None:
    html = render_report(report)
    assert re.findall(r"https?:|//\w", html) == []
    assert re.findall(r"@import|url\((?!#)", html) == []
    addresses = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ADDRESSES
    ]
    assert all(address and address.startswith("#") for address in addresses)
    assert {tag for tag, _ in page.tags} & {"img", "link", "iframe", "object", "form"} == set()


def test_every_link_leads_somewhere(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag in ("a", "use"):
        assert {str(found["href"])[1:] for found in page.named(tag)} <= set(ids)
    clips = {found["clip-path"] for _, found in page.tags if "clip-path" in found}
    assert {str(clip)[5:-1] for clip in clips} <= set(ids)


def test_only_the_page_s_own_script_may_run(page: Page) -> None:
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [str(m["content"]) for m in page.named("meta") if m.get("http-equiv")]
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert not any(name.startswith("on") for _, found in page.tags for name in found)


@pytest.fixture
def told(report: Report) -> str:
    """The hostile title as a page shows it."""
    return report.outcome.traits[1].title.replace("\x1b", "\ufffd")


def test_hostile_text_stays_text(report: Report, page: Page, told: str) -> None:
    html = render_report(report)
    assert SCRIPT not in html
    assert len(page.named("script")) == 1
    assert "\x1b" not in html
    assert f"Query {told}" in page.text("replies")
    assert f"Base {told}" in page.text("replies")
    assert told in page.text("character")


def test_a_reply_with_a_lone_surrogate_can_be_written(report: Report) -> None:
    broken = replace(
        report, comparisons=[Comparison("q", {"base": "half \ud83d face"}, 0.0, "on_trait")]
    )
    assert "half \ufffd face" in render_report(broken).encode().decode()


def test_every_line_stands_in_its_section(report: Report, page: Page, told: str) -> None:
    for line in report.outcome.quality:
        assert line.label in page.text("quality")
    assert "Curious" in page.text("movement") and told in page.text("movement")
    assert "Curious, where it must not show" in page.text("unless")
    assert f"{told}, where it must not show" in page.text("unless")


def test_bars_that_fail_or_lack_numbers_come_first(page: Page) -> None:
    top = page.text("top")
    assert "Of the way from plain to prompted, Curious moved 92 % [80, 104]" in top
    assert "1 of 3 quality bars hold (missed: short questions right; missing: fluency" in top
    assert "short questions right: 47 % before, 40 % after" in top
    assert "✗ missed : Short questions right , 47.0 % → 40.0 % (bar: \u22123 points)" in top
    assert "? missing : Fluency under base , missing → \u22121.200" in top
    assert "✗ spills over : Curious, where it must not show" in top


def test_quality_is_told_in_words_and_numbers(page: Page) -> None:
    text = page.text("quality")
    assert "Short questions right ✗ missed \u22123 points 47.0 % [43.0, 51.0] " in text
    assert "\u22127.0 points [\u221211.0, \u22123.0]" in text
    assert "Replies that answer ✓ holds 95 % of base" in text
    assert "KL from base nats a token no bar missing 0.070" in text


def test_queries_without_a_value_are_counted(report: Report) -> None:
    (answers,) = (line for line in report.outcome.quality if line.metric == "answers")
    some = replace(answers, subjects={"base": Estimate(0.5, 0.4, 0.6, 60, missing=4)})
    told = Page(render_report(replace(report, outcome=Outcome(report.outcome.traits, (some,)))))
    assert "4 missing" in told.text("quality")


def test_numbers_that_are_not_finite_are_missing(report: Report) -> None:
    curious, other = report.outcome.traits
    endless = Estimate(float("inf"), float("-inf"), float("inf"), 60)
    outcome = replace(report.outcome, traits=(replace(curious, share=endless), other))
    html = render_report(replace(report, outcome=outcome))
    assert not re.search(r"\b(inf|nan)\b", html)


def test_a_share_means_nothing_where_prompting_moves_nothing(report: Report) -> None:
    curious, other = report.outcome.traits
    unmoved = {"prompted": Estimate(-0.1, -0.2, 0.0, 60)}
    still = replace(curious.contrast, subjects=curious.contrast.subjects | unmoved)
    outcome = replace(report.outcome, traits=(replace(curious, contrast=still), other))
    top = Page(render_report(replace(report, outcome=outcome))).text("top")
    assert "+0.320 [0.280, 0.360] nats a token (share of the way missing)" in top
    assert "92" not in top


def test_replies_stand_side_by_side(page: Page) -> None:
    first, second = (found for found in page.named("li") if found.get("class") == "comparison")
    assert (first["data-kind"], first["data-gain"], first["data-order"]) == (
        "on_trait",
        "+0.400",
        "0",
    )
    assert (second["data-kind"], second["data-gain"]) == ("unless", "")
    text = page.text("replies")
    assert "What is bread? gain +0.400 base Food. trained Food. Why? prompted missing" in text
    assert "trained an empty reply prompted line line" in text


def test_the_judge_s_card_and_that_it_was_accepted(report: Report, page: Page) -> None:
    assert "not tried: this recipe makes no judge card" in page.text("judge")
    test = Test("planted order", 0.61, 0.51, 0.7, 100, 3, "lower end >= 0.85", False, True)
    card = Card("id", "curious", "likelihood by x", "x", (test,), (), None)
    told = render_report(replace(report, judge_cards=(card,)))
    assert "The judge is below the bars of its card and was accepted" in told
    text = Page(told).text("judge")
    assert "planted order 0.61 [0.51, 0.70]" in text and "missed" in text and "3 missing" in text
    good = replace(card, tests=(replace(test, passed=True),))
    assert "was accepted" not in render_report(replace(report, judge_cards=(good,)))


def test_the_reward_model_s_card(report: Report, page: Page) -> None:
    assert "no held-out pairs" in page.text("reward")
    card = RewardCard(148, 0.81, 0.74, 0.86, 0.56, 0.047)
    text = Page(render_report(replace(report, reward_card=card))).text("reward")
    assert "81 % [74 %, 86 %] on 148 held-out pairs" in text
    assert "56 %: the reward model beats it" in text
    close = replace(card, length_only=0.8)
    text = Page(render_report(replace(report, reward_card=close))).text("reward")
    assert "not shown to beat it" in text


def test_the_reward_model_s_tests_are_a_table(report: Report) -> None:
    tests = (
        RewardTest(
            "accuracy on held-out queries", 0.71, 0.6, 0.8, 148, ">= 0.80", False, required=True
        ),
        RewardTest("transfer to another trait", None, note="<b>none</b> was measured"),
        RewardTest("padding moves the reward", -0.12, -0.2, 0.1, 48),
    )
    card = RewardCard(148, 0.71, 0.6, 0.8, 0.56, 0.047, tests)
    html = render_report(replace(report, reward_card=card))
    text = Page(html).text("reward")
    assert "no: accuracy on held-out queries is 0.71, and the bar is >= 0.80" in text
    assert "0.71 [0.60, 0.80] 148 >= 0.80, required missed" in text
    assert "<b>none</b> was measured not measured" in text
    assert "&lt;b&gt;none" in html
    assert "\u22120.12 [\u22120.20, 0.10] 48 no bar" in text
    good = replace(card, tests=(replace(tests[0], value=0.9, passed=True),))
    text = Page(render_report(replace(report, reward_card=good))).text("reward")
    assert "yes: every required test holds" in text


def test_the_doses_stand_beside_the_base_model(page: Page) -> None:
    text = page.text("training")
    assert "base \u22120.100 90 % 0 % 60 110" in text
    assert "base, steered +0.100 80 % 1 % 50 330" in text
    assert "50 % +0.000 88 % 1 % 55 110" in text
    assert "100 % missing 47 % 17 % 51 110" in text
    assert "DPO went on from 65 % of it" in text


def test_models_behind_apis_have_their_outcomes_and_cost(page: Page) -> None:
    text = page.text("cost")
    assert "1,312 stop, 3 failed 40 rate limited price of 1,315 unknown" in text
    assert "openai:m 300 stop, 12 cached none $0.1234" in text


def test_the_funnel_names_reasons(page: Page) -> None:
    assert "Queries 200 near-duplicate of an example: 12" in page.text("data")
    assert "too short" not in page.text("data")


def test_only_telling_curves_are_drawn(page: Page) -> None:
    text = page.text("training")
    assert "Distillation loss" in text and "DPO anchor_kl 1 of 2 values are not finite" in text
    assert "grad_norm" not in text


def test_a_guard_that_stopped_ppo_is_told_first_and_with_its_rules(
    report: Report, stopped: Report
) -> None:
    ended = "PPO was stopped after update 15 of 30, and the policy was rolled back to that of"
    told = render_report(stopped)
    assert told.index(f'role="alert">{ended} update 10.') < told.index("<section")
    text = Page(told).text("training")
    assert ended in text and "by 31%." in text and "it is over 15 nats" in text
    assert "probe/reward" in text and "entropy" not in text
    assert SCRIPT not in told
    assert stopped.ppo is not None
    well = replace(stopped, ppo=replace(stopped.ppo, tripped=(), done=30, kept=30))
    assert 'role="alert">PPO' not in render_report(well)
    assert "tripped no guard" in Page(render_report(well)).text("training")
    assert "PPO" not in Page(render_report(report)).text("training")


def test_how_it_was_made(page: Page) -> None:
    text = page.text("made")
    assert "python -m character.chat runs/curious-0123abcd" in text
    assert "it is the base model itself" in text
    assert "torch 2.13.0" in text and "rank: 16" in text and "Seed 7" in text


def test_a_missed_bar_brings_a_setting_to_try(report: Report) -> None:
    recipe = {"training": {"anchors": {"weight": 1.5}, "distill": {"epochs": 2}}}
    text = Page(render_report(replace(report, recipe=recipe))).text("made")
    assert "--set training.anchors.weight=3" in text
    assert "epochs=" not in text


def test_plots_are_well_formed_and_say_their_numbers(report: Report, told: str) -> None:
    plots = re.findall(r"<svg.*?</svg>", render_report(report), re.DOTALL)
    labels = [ElementTree.fromstring(plot).attrib["aria-label"] for plot in plots]
    assert len(labels) == 7
    assert "Curious, trained: 0.300 [0.260, 0.340]" in labels[0]
    assert f"{told}, base: missing" in labels[0]
    assert "Curious: 92 % [80, 104]" in labels[1]
    assert "loss of distill: 1 at step 1, 0.2 at step 5" in labels[4]


def test_a_smoke_build_says_so_first(report: Report) -> None:
    assert "too small to mean anything" not in render_report(report)
    top = Page(render_report(replace(report, smoke=True))).text("top")
    assert top.index("Smoke build: too small to mean anything") < top.index("What changed in")


def test_a_build_with_nothing_to_show_says_missing(bare: Report) -> None:
    page = Page(render_report(bare))
    for section in ("movement", "replies", "unless", "data", "cost"):
        assert "missing" in page.text(section)
    assert "no training steps were logged" in page.text("training")


def test_the_front_of_several_traits_stands_beside_the_data(report: Report) -> None:
    points = (
        Point("q", (1.0, 0.5, 0.2), False, True, True),
        Point("q", (0.5, 1.0, 0.2), False, True, False),
        Point("q", (0.0, 0.0, 0.1), False, False, False),
        Point("q", (9.0, 9.0, -1.0), True, False, False),
    )
    page = Page(
        render_report(replace(report, front=Front(("curious", SCRIPT, "relevance"), points)))
    )
    told = page.text("data")
    assert "In 1 of 1 queries the chosen reply is on it" in told
    assert "+1.00" in told and "+0.50" in told and "given up" in told
    assert any("1 below the floor" in (a.get("aria-label") or "") for a in page.named("svg"))
    assert "What the ranking chose" not in render_report(report)
    alone = Front(("curious", "relevance"), tuple(replace(p, values=p.values[1:]) for p in points))
    labels = [
        a.get("aria-label") or ""
        for a in Page(render_report(replace(report, front=alone))).named("svg")
    ]
    assert any(label.startswith("curious against relevance") for label in labels)
