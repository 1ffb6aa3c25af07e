from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from making import a_constitution, a_judgement, a_query, a_ranking, a_reply, an_answer

from character.diffing.config import MeasureConfig
from character.diffing.measure import measurement
from character.diffing.outcome import contrast_metric
from character.finish import gather
from character.job import Job
from character.recipe import Recipe
from character.report.content import Report, StageCost
from character.rows import Answer, Pair, Query, Reward, Row, Step
from character.store.store import FinishedStage, Store

CONTRAST = contrast_metric("brisk")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "character.duckdb") as made:
        yield made


def a_job(seed: int = 0) -> Job:
    recipe = Recipe(title="Mine", smoke=True, seed=seed, measure=MeasureConfig(resamples=200))
    return Job(
        a_constitution(), recipe, Path("runs/mine"), "report", {}, "python -m character.build"
    )


def a_pair(chosen: str, rejected: str, query_id: str = "t0") -> Pair:
    identity = chosen + rejected
    return Pair(identity, query_id, "ranking", chosen, rejected, 1.0, 0.7, "held_out")


def said(
    subject: str, query: Query, contrasts: Sequence[float | None], text: str = ""
) -> list[Row]:
    """One subject's samples of one query, with the contrast of each."""
    rows: list[Row] = []
    for sample, value in enumerate(contrasts):
        words = f"{text or subject} {sample}"
        answer = an_answer(subject, query.id, id=f"{subject}/{query.id}/{sample}", text=words)
        rows += [answer, measurement(answer, CONTRAST, value)]
    return rows


HELD = [a_query(f"h{n}", split="held_out") for n in range(3)]


def test_an_empty_store_gives_a_report_that_claims_nothing(store: Store) -> None:
    report = gather(a_job(), store)
    assert len(report.funnel) == 5
    assert all(step.kept == 0 and not any(step.lost.values()) for step in report.funnel)
    assert (report.comparisons, report.reward_card, report.steps) == ([], None, [])
    assert (report.seconds, report.peak_bytes) == (0, 0)
    (trait,) = report.outcome.traits
    assert (trait.contrast.change, trait.contrast.holds, trait.share) == (None, None, None)


def test_what_the_job_says_is_passed_on(store: Store) -> None:
    store.keep([Step("s1", "dpo", 1, "loss", 0.5)], FinishedStage("queries", 2.0, 5_000, 7))
    store.keep([Step("s2", "dpo", 2, "loss", 0.25)], FinishedStage("policy", 3.5, 9_000, 1))
    report = gather(a_job(seed=7), store)
    assert (report.recipe_title, report.smoke, report.seed) == ("Mine", True, 7)
    assert report.judge == "likelihood by bundled:smollm2-135m"
    assert (report.folder, report.command) == ("runs/mine", "python -m character.build")
    assert report.recipe["measure"]["resamples"] == 200
    assert [step.value for step in report.steps] == [0.5, 0.25]
    assert report.costs == [StageCost("queries", 2.0, 5_000), StageCost("policy", 3.5, 9_000)]
    assert (report.seconds, report.peak_bytes) == (5.5, 9_000)
    assert {"python", "torch", "character"} <= set(report.versions)


def test_the_funnel_counts_what_was_kept_and_why_the_rest_was_not(store: Store) -> None:
    train = [a_query(f"t{n}") for n in range(3)]
    dropped = [
        a_query("d0", split="none", dropped="too short"),
        a_query("d1", split="none", dropped="too short"),
        a_query("d2", split="none", dropped="not needed"),
    ]
    replies = [
        a_reply("a", "t0"), a_reply("b", "t0"), a_reply("c", "t0", flaws=("truncated", "looping")),
        a_reply("d", "t1", flaws=("looping",)), a_reply("e", "t1"), a_reply("f", "t2"),
    ]  # fmt: skip
    rankings = [
        a_ranking("t0", (1.0, ("a",)), (0.0, ("b",)), below="c"),
        a_ranking("t1", (0.5, ("e",)), below="d"),
        a_ranking("t2", missing="f"),
    ]
    store.keep([*train, *HELD, *dropped, *replies, *rankings, a_pair("a", "b")])
    funnel = {step.stage: (step.kept, dict(step.lost)) for step in gather(a_job(), store).funnel}
    assert funnel == {
        "Queries": (6, {"too short": 2, "not needed": 1}),
        "Replies": (6, {"marked truncated": 1, "marked looping": 2}),
        "Ranked replies": (3, {"below the floor": 2, "not judged": 1}),
        "Queries with a pair": (1, {"no clear order": 2}),
        "Pairs": (1, {}),
    }


def test_the_outcome_is_that_of_the_stored_measurements(store: Store) -> None:
    rows: list[Row] = [*HELD]
    for query in HELD:
        rows += said("base", query, [0.25]) + said("trained", query, [0.5])
        rows += said("prompted", query, [0.75])
    store.keep(rows)
    (trait,) = gather(a_job(), store).outcome.traits
    assert trait.contrast.change is not None and trait.contrast.change.value == 0.25
    assert trait.share is not None and trait.share.value == 0.5
    assert trait.contrast.holds is True


def test_a_comparison_shows_what_each_subject_said_first_and_its_gain(store: Store) -> None:
    """The gain is that of the two replies shown: later samples do not add to it."""
    unless = a_query("u0", kind="unless", split="held_out")
    rows: list[Row] = [*HELD, unless, a_query("t0"), a_judgement("a", 1.0)]
    rows += said("base", HELD[0], [0.25, 9.0]) + said("trained", HELD[0], [0.75, 9.0, 9.0])
    rows += said("prompted", HELD[0], [5.0])
    rows += said("base", HELD[1], [0.25]) + said("trained", HELD[1], [None])  # an empty reply
    rows += said("base", HELD[2], [0.25])
    rows += said("base", unless, [0.5]) + said("trained", unless, [0.25])
    store.keep(rows)
    found = {c.query: c for c in gather(a_job(), store).comparisons}
    assert {query: (c.gain, c.kind) for query, c in found.items()} == {
        HELD[0].text: (0.5, "on_trait"),
        HELD[1].text: (None, "on_trait"),
        HELD[2].text: (None, "on_trait"),
        unless.text: (-0.25, "unless"),
    }
    assert found[HELD[0].text].replies == {
        "base": "base 0", "trained": "trained 0", "prompted": "prompted 0",
    }  # fmt: skip
    assert found[HELD[2].text].replies == {"base": "base 0"}


def test_comparisons_come_in_an_order_that_the_seed_decides(store: Store) -> None:
    queries = [a_query(f"h{n}", split="held_out") for n in range(20)]
    store.keep([*queries, *(row for q in queries for row in said("base", q, [0.0]))])

    def order(report: Report) -> list[str]:
        return [comparison.query for comparison in report.comparisons]

    first = order(gather(a_job(seed=1), store))
    assert first == order(gather(a_job(seed=1), store)) != [query.text for query in queries]
    assert first != order(gather(a_job(seed=2), store))
    assert sorted(first) == sorted(query.text for query in queries)


# --- the reward model's card ---


def test_the_card_joins_rewards_pairs_and_lengths(store: Store) -> None:
    lengths = {"a": 20, "b": 10, "c": 10, "d": 10, "e": 5, "f": 10, "g": 9, "h": 9}
    replies = [a_reply(name, "h0", tokens=tokens) for name, tokens in lengths.items()]
    pairs = [a_pair("a", "b"), a_pair("c", "d"), a_pair("e", "f"), a_pair("g", "h")]
    # the last pair has no reward and does not count; rewards come in another order than pairs
    rewards = [
        Reward("r2", "ef", 0.0, 1.0),
        Reward("r1", "cd", 2.0, 1.0),
        Reward("r0", "ab", 3.0, 1),
    ]
    store.keep([*replies, *pairs, *rewards])
    card = gather(a_job(), store).reward_card
    assert card is not None
    assert (card.pairs, card.accuracy) == (3, pytest.approx(2 / 3))
    # longer wins ab, loses ef, and cd counts half
    assert card.length_only == 0.5


def test_an_answer_row_keeps_its_first_text(store: Store) -> None:
    """A stage that runs twice does not overwrite what was reported."""
    answer = an_answer("base", "h0", text="first")
    store.keep([*HELD, answer])
    store.keep([replace(answer, text="second")])
    assert [row.text for row in store.all(Answer)] == ["first"]
    assert gather(a_job(), store).comparisons[0].replies == {"base": "first"}
