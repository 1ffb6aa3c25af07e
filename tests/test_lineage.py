"""Both ways along a made-up run: clause to effect, and back from a reply or pair."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from making import a_trait
from rich.console import Console

from character import trace
from character.errors import RunError
from character.lineage import Lineage
from character.models.served import Tally
from character.report.lineage import cost_text, thread_page
from character.rows import (
    Draft,
    Judgement,
    Measurement,
    Pair,
    Query,
    Ranking,
    Reply,
    Revision,
    Row,
    Taught,
    taught,
)
from character.run import DATABASE
from character.spec.constitution import Constitution, Member
from character.store.store import FinishedStage, Store

TRAIT = a_trait("brisk")
CONSTITUTION = Constitution((Member(TRAIT),))


def query(name: str, clause: str, split: str, dropped: str = "") -> Query:
    return Query(name, f"text of {name}", "on_trait", "brisk", clause, "tea", "terse", "writer", 0,
                 split, dropped)  # type: ignore[arg-type]  # fmt: skip


def reply(name: str, query_id: str, style: str = "steered") -> Reply:
    return Reply(name, query_id, style, "brisk", 0, 0, "m", f"said {name}\x1b[31m", 3, True, ())  # type: ignore[arg-type]


def rows() -> list[Row]:
    queries = [
        query("query-1", "first-word", "train"),
        query("query-2", "first-word", "train"),
        *(query(f"held-{i}", "first-word", "held_out") for i in range(4)),
        query("query-3", "no-coda", "train"),
        query("gone", "no-coda", "none", "not needed"),
    ]
    replies = [
        reply("reply-a", "query-1"), reply("reply-b", "query-1", "own"),
        reply("reply-c", "query-2"), reply("reply-d", "query-3"),
    ]  # fmt: skip
    return [
        *queries,
        *replies,
        Judgement("j-a", "reply-a", "brisk", "likelihood", 0.5, 1.0, 0.2),
        Judgement("j-b", "reply-b", "brisk", "likelihood", -0.1, None, 0.1),
        Ranking("rank-1", "query-1", "likelihood", (("reply-a",),), (1.0,), ("reply-b",), ()),
        Pair("pair-1", "query-1", "rank-1", "reply-a", "reply-b", 1.5, 0.8, "train"),
        taught("distilled", "reply-a", 2.0),
        taught("distilled", "reply-c", 1.0),
        taught("policy", "pair-1"),
        *(
            Measurement(f"{s}{i}", f"{s}{i}", s, f"held-{i}", "contrast/brisk", base + i / 10)
            for s, base in (("base", 0.0), ("trained", 0.5))
            for i in range(4)
        ),
    ]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    record = {
        "identity": {"recipe": {"roles": {"policy": "p"}}},
        "spec": CONSTITUTION.plain,
    }
    (folder / "run.json").write_text(json.dumps(record))
    with Store(folder / DATABASE) as store:
        store.keep(rows(), FinishedStage("replies", 40.0, 1, 4))
    return folder


@pytest.fixture
def lineage(run: Path) -> Lineage:
    with Store(run / DATABASE, read_only=True) as store:
        return Lineage(CONSTITUTION, store)


def test_a_clause_is_followed_to_its_effect(lineage: Lineage) -> None:
    first, second = lineage.coverage()
    assert (first.clause, first.queries, first.held_out, first.replies) == ("first-word", 2, 4, 3)
    assert (first.below_floor, first.pairs, first.distilled, first.preferred) == (1, 1, 2, 1)
    assert first.weight == 1.0 and first.seconds == pytest.approx(30.0)
    assert first.effect is not None
    assert (first.effect.value, first.effect.queries, first.gap) == (pytest.approx(0.5), 4, "")
    assert (second.queries, second.replies, second.weight, second.effect) == (1, 1, 0.0, None)
    assert second.gap == "no pairs"
    assert (first.judgements, second.judgements) == (2, 0)


def test_what_it_cost_is_shared_out_by_drafts_and_by_replies(run: Path) -> None:
    """By hand: 30 s of queries for 3 drafts, 40 s of replies for 4; $0.30 and $0.08 likewise."""
    asked = [Tally("api:w", {"stop": 3}, {}, 0.30, 0), Tally("api:j", {"stop": 4}, {}, 0.08, 0)]
    drafts = [
        Draft(f"d{n}", "g", "brisk", "on_trait", clause, "", "", "Why?", "stop")
        for n, clause in enumerate(("first-word", "first-word", "no-coda"))
    ]
    with Store(run / DATABASE) as store:
        store.keep(drafts, FinishedStage("queries", 30.0, 1, 3))
        lineage = Lineage(CONSTITUTION, store, asked, "api:w")
        unknown = Lineage(CONSTITUTION, store, [replace(asked[0], unpriced=1)], "api:w")
    first, second = lineage.coverage()
    assert (first.drafts, first.replies) == (2, 3) and (second.drafts, second.replies) == (1, 1)
    assert (first.seconds, second.seconds) == (pytest.approx(50.0), pytest.approx(20.0))
    assert (first.dollars, second.dollars) == (pytest.approx(0.26), pytest.approx(0.12))
    thread = lineage.thread("query-1")  # drafted once, answered twice
    assert (thread.seconds, thread.dollars) == (pytest.approx(30.0), pytest.approx(0.14))
    assert [clause.dollars for clause in unknown.coverage()] == [None, None]
    assert cost_text(50.0, 0.26) == "50 s, $0.2600" and cost_text(1.0, 0.0) == "1 s"
    assert cost_text(1.0, None) == "1 s, price unknown"


def test_the_cost_of_further_rounds_and_of_revisions_is_shared_out_too(run: Path) -> None:
    """By hand: 30 + 12 + 6 s and $0.24 for 4 texts by the writer, 40 + 8 s for 4 replies."""
    drafts = [
        Draft(f"d{n}", "g", "brisk", "on_trait", clause, "", "", "Why?", "stop", number)
        for n, (clause, number) in enumerate((("first-word", 0), ("first-word", 1), ("no-coda", 0)))
    ]
    with Store(run / DATABASE) as store:
        known = {stage.name for stage in store.finished().values()}
        assert known >= {"replies"} and not known & {"queries", "judgements-1"}
        store.keep(drafts, FinishedStage("queries", 30.0, 1, 2))
        store.keep([], FinishedStage("queries-1", 12.0, 1, 1))
        store.keep([], FinishedStage("judgements-1", 8.0, 1, 1))
        replied = next(r for r in store.all(Reply) if r.query_id == "query-1")
        revised = Revision("v", replied.id, "", "brisk", "first-word", "api:w", "No.", "", "empty")
        store.keep([revised], FinishedStage("revisions", 6.0, 1, 1))
        lineage = Lineage(CONSTITUTION, store, [Tally("api:w", {}, {}, 0.24, 0)], "api:w")
    first, second = lineage.coverage()
    assert (first.drafts, second.drafts) == (2, 1)
    # 12 s and $0.06 a text, 12 s a reply
    assert (first.seconds, first.dollars) == (pytest.approx(72.0), pytest.approx(0.18))
    assert (second.seconds, second.dollars) == (pytest.approx(24.0), pytest.approx(0.06))
    thread = lineage.thread("query-1")  # drafted, answered twice, and one of them revised
    assert (thread.seconds, thread.dollars) == (pytest.approx(48.0), pytest.approx(0.12))


def test_a_run_of_before_drafts_were_kept_gives_them_no_share(run: Path) -> None:
    with Store(run / DATABASE) as store:
        store.keep([], FinishedStage("queries", 30.0, 1, 3))
        thread = Lineage(CONSTITUTION, store).thread("query-1")
    assert thread.seconds == pytest.approx(20.0)  # its two replies


def test_what_a_run_does_not_say_is_missing(tmp_path: Path) -> None:
    with Store(tmp_path / DATABASE) as store:
        store.keep([row for row in rows() if not isinstance(row, Taught)])
        first, _ = Lineage(CONSTITUTION, store).coverage()
    assert (first.weight, first.gap) == (None, "")


@pytest.mark.parametrize("start", ["pair", "pair-1", "reply-a", "reply-b", "query-1"])
def test_a_row_leads_back_to_its_clause_and_on_to_what_was_learned(
    lineage: Lineage, start: str
) -> None:
    thread = lineage.thread(start)
    assert thread.query.id == "query-1" and thread.clause == "I open with the answer."
    assert [reply.id for reply in thread.replies] == ["reply-a", "reply-b"]
    assert [pair.id for pair in thread.pairs] == ["pair-1"]
    assert {key: [row.stage for row in found] for key, found in thread.taught.items()} == {
        "reply-a": ["distilled"], "pair-1": ["policy"],
    }  # fmt: skip
    assert thread.judgements["reply-a"].contrast == 0.5


def test_a_thread_is_told_in_the_judges_order(lineage: Lineage) -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(thread_page(lineage.thread("reply-b")))
    text = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert text.index("1.") < text.index("below the floor")
    for part in ("I open with the answer", "contrast +0.50", "learned in distilled (weight 2)",
                 "learned in policy", "margin 1.50"):  # fmt: skip
        assert part in text
    assert "\x1b[31m" not in text


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", "is neither a clause nor the start of an id"),
        ("rep", "is neither a clause"),
        ("reply", "is the start of 4 ids"),
        ("other/first-word", "is neither a clause"),
    ],
)
def test_what_is_not_there_says_what_is(lineage: Lineage, name: str, says: str) -> None:
    with pytest.raises(RunError, match=says):
        lineage.thread(name)


def told(*arguments: object) -> tuple[int, str]:
    found = CliRunner().invoke(trace.main, [str(argument) for argument in arguments])
    assert not isinstance(found.exception, Exception), found.exception
    return found.exit_code, found.output


def test_the_command_shows_all_clauses_one_clause_and_one_pair(run: Path) -> None:
    code, text = told(run)
    assert code == 0 and "first-word" in text and "no pairs" in text
    code, text = told(run, "first-word")
    assert code == 0 and "I open with the answer." in text and "pair-1" in text
    assert "said reply-a" in told(run, "pair-1")[1]
    coverage = json.loads(told(run, "--json")[1])
    assert [row["clause"] for row in coverage] == ["first-word", "no-coda"]
    assert json.loads(told(run, "pair-1", "--json")[1])["named"] == "pair-1"


def test_a_folder_that_is_no_run_says_so(tmp_path: Path, run: Path) -> None:
    assert told(tmp_path)[0] == 2
    (run / DATABASE).unlink()
    code, text = told(run)
    assert code == 2 and "Traceback" not in text
    (run / "run.json").write_text('{"identity": {"recipe": {"roles": {"policy": "p"}}}}')
    assert "--traits curious" in told(run)[1]
