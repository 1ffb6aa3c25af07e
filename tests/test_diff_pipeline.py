"""The whole diff on tiny models: what it leaves, that nothing is done twice, and how it ends."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from rich.console import Console

from character import diff
from character.diff_finish import leaderboards, run_diff, run_many
from character.diff_job import DiffJob, Version, Without
from character.diff_pipeline import new_suite
from character.diffing.config import DiffConfig, SuiteConfig
from character.diffing.contributions import ATTRIBUTED
from character.diffing.subjects import built_without
from character.diffing.suite import Suite, make_suite, write_suite
from character.diffing.verdicts import Gate
from character.errors import ModelError
from character.judging.config import CardConfig
from character.judging.plants import PlantsConfig
from character.models.base import Choice, Conversation, Generation, OnDone, Request, Sampling
from character.models.fake import ScriptedModel
from character.models.served import Tally
from character.rows import Answer, Measurement, Query, content_id
from character.spec.constitution import Constitution, Member
from character.spec.schema import Trait
from character.store.store import Store

SIZES = SuiteConfig(
    on_trait=20, unless=3, neutral=4, off_format=4, break_character=1, watched=1, multi_turn=1,
    capability=3, framed_facts=1,
)  # fmt: skip
SHORT = Sampling(max_tokens=6)
CONFIG = DiffConfig(
    sampling=SHORT, brief=SHORT, permutations=100, resamples=100, planted=0.5, panel=2
)


@pytest.fixture(scope="module")
def suite(small_trait: Trait) -> Suite:
    queries = [
        Query(content_id(i), f"{i} bulbs: when do they want water?", kind, small_trait.id,
              ("answers", "asks")[i % 2], "", "", "writer", i, "held_out", "")
        for i, kind in enumerate(["on_trait"] * 20 + ["unless"] * 3)
    ]  # fmt: skip
    return make_suite({small_trait.id: queries}, SIZES)


@pytest.fixture(scope="module")
def other_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with other weights."""
    import torch
    from transformers import LlamaForCausalLM

    folder = tmp_path_factory.mktemp("other") / "other-llama"
    shutil.copytree(tiny_folder, folder)
    model = LlamaForCausalLM.from_pretrained(tiny_folder)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for weight in model.parameters():
            weight += 0.02 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return folder


def job_of(old: Path, new: Path, suite: Suite, trait: Trait, folder: Path) -> DiffJob:
    return DiffJob(
        old=Version(str(old), f"local:{old}"),
        new=Version(str(new), f"local:{new}"),
        constitution=Constitution((Member(trait),)),
        panel=(trait.model_copy(update={"id": "other", "title": "Other"}),),
        suite=suite,
        suite_config=SIZES,
        drop_overlap=False,
        gate=Gate(),
        config=CONFIG,
        writer=f"local:{old}",
        examiner=f"local:{old}",
        quick=False,
        folder=folder,
    )


def run(job: DiffJob) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=100)
    code = run_diff(job, console)
    return code, console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def finished(
    tiny_folder: Path,
    other_folder: Path,
    suite: Suite,
    small_trait: Trait,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[DiffJob, int, str]:
    folder = tmp_path_factory.mktemp("diffs") / "one"
    job = job_of(tiny_folder, other_folder, suite, small_trait, folder)
    return job, *run(job)


def test_an_examiner_below_its_bars_decides_nothing_until_it_is_accepted(
    finished: tuple[DiffJob, int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARACTER_CACHE", str(tmp_path / "cache"))
    job, code, _ = finished
    plants = PlantsConfig(queries=10, dosed=10, sampling=Sampling(max_tokens=8))
    tried = replace(job, card=CardConfig(plants=plants, attacks=0), folder=tmp_path / "one")
    refused, told = run(tried)
    assert refused == 3 and "below the bars of its card" in told
    page = json.loads((tried.folder / "diff.json").read_text())
    assert any("planted order" in reason for reason in page["decision"]["reasons"])
    assert page["judge_cards"][0]["trait"] == "asking"
    assert "tried on planted replies" in (tried.folder / "report.html").read_text()
    accepted, told = run(replace(tried, accept_judge=True))
    assert accepted == code and "below the bars of its card" in told


def test_every_turn_is_answered_by_both_and_measured(
    finished: tuple[DiffJob, int, str], suite: Suite
) -> None:
    job, *_ = finished
    turns = {item.turn_id(turn) for item in suite.items for turn in range(len(item.turns))}
    with Store(job.folder / "character.duckdb", read_only=True) as store:
        answers, measured = store.all(Answer), store.all(Measurement)
    for side in ("old", "new"):
        assert {a.query_id for a in answers if a.subject == side} == turns
    assert len([a for a in answers if a.subject == "again"]) == 20 + 4
    planted = [a for a in answers if a.subject in ("good/asking", "bad/asking")]
    assert len(planted) == 2 * 20
    metrics = {row.metric for row in measured}
    assert {"contrast/asking", "contrast/other", "words", "right", "answers", "fluency"} <= metrics
    panel = {row.query_id for row in measured if row.metric == "contrast/other"}
    assert len(panel) == CONFIG.panel


def test_what_it_leaves_is_whole(finished: tuple[DiffJob, int, str]) -> None:
    job, code, told = finished
    page = json.loads((job.folder / "diff.json").read_text())
    assert page["decision"]["code"] == code
    names = {result["name"] for result in page["results"]}
    assert {"trait/asking", "unless/asking", "quality/capability", "panel/other"} <= names
    assert page["suite"] == job.suite.digest if job.suite else False
    tests = ElementTree.parse(job.folder / "junit.xml").getroot()
    assert int(tests.attrib["tests"]) >= 3
    html = (job.folder / "report.html").read_text()
    assert "http://" not in html.replace("http://www.w3.org", "") and page["word"] in html
    assert "trait" in (job.folder / "summary.md").read_text().lower()
    assert page["word"] in told


def test_a_second_diff_of_the_same_pair_opens_no_model(
    finished: tuple[DiffJob, int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("character.opened.load_local", None)  # none could be loaded
    job, code, _ = finished
    before = (job.folder / "report.html").read_text()
    # the gate may change afterwards: it decides on what was measured
    strict = replace(job, gate=Gate(critical=("style/*",)))
    assert run(job)[0] == code
    assert (job.folder / "report.html").read_text() == before
    assert "style/" in run(strict)[1]


def replied(path: Path, suite: Suite, reply: Callable[[int], str]) -> Path:
    turns = [item.turn_id(turn) for item in suite.items for turn in range(len(item.turns))]
    rows = [json.dumps({"id": t, "reply": reply(i)}) + "\n" for i, t in enumerate(turns)]
    path.write_text("".join(rows))
    return path


def test_the_command_says_which_trait_caused_which_side_effect(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Curiosity asks, warmth brings the emoji; all that is said is in files."""
    monkeypatch.chdir(tmp_path)
    written = {
        trait: [
            Query(content_id(trait, i), f"{trait} {i}: when do they want water?", "on_trait", trait,
                  "", "", "", "writer", i, "held_out", "")
            for i in range(20)
        ]
        for trait in ("curious", "warm")
    }  # fmt: skip
    none = dict.fromkeys(SuiteConfig.model_fields, 0)
    asked = make_suite(written, SuiteConfig(**none | {"on_trait": 20, "neutral": 24}))
    write_suite(asked, tmp_path / "suite.lock")
    plain, question = "Water them once in the spring.", " Which bulbs are yours?"
    smile = ("", " \N{SMILING FACE WITH OPEN MOUTH}", " \N{SMILING FACE WITH OPEN MOUTH}" * 2)
    for name, reply in (
        ("old", lambda i: plain),
        ("new", lambda i: plain + smile[1 + i % 2] + question),
        ("plain", lambda i: plain + smile[1 + i % 2]),
        ("cold", lambda i: plain + question),
    ):
        replied(tmp_path / f"{name}.jsonl", asked, reply)
    command = [
        "old.jsonl", "new.jsonl", "--traits", "curious", "--traits", "warm", "--suite",
        "suite.lock", "--examiner", f"local:{tiny_folder}", "--quick", "--out", "diff",
        "--no-embeddings", "--without", "curious=plain.jsonl", "--without", "warm=cold.jsonl",
    ]  # fmt: skip
    told = CliRunner().invoke(diff.main, command)
    assert told.exit_code in (1, 2, 3) and "Traceback" not in told.output
    page = json.loads((tmp_path / "diff" / "diff.json").read_text())
    cells = {(cell["measure"], cell["trait"]): cell for cell in page["contributions"]}
    emoji, asks = "style/emoji", "style/follow_up_question"
    assert {key: cells[key]["discovered"] for key in cells if key[0] in (emoji, asks)} == {
        (emoji, "curious"): False, (emoji, "warm"): True,
        (asks, "curious"): True, (asks, "warm"): False,
    }  # fmt: skip
    assert cells[emoji, "warm"]["movement"]["value"] == 1.5
    assert cells[emoji, "warm"]["share"]["value"] == cells[asks, "curious"]["share"]["value"] == 1
    assert cells[emoji, "curious"]["movement"]["value"] == 0
    assert page["without"]["warm"]["reference"] == "cold.jsonl"
    html = (tmp_path / "diff" / "report.html").read_text()
    assert "What each trait added to what moved" in html
    assert "Who caused what" in told.output
    assert "Emoji: Warm" in (tmp_path / "diff" / "summary.md").read_text()


def test_a_version_without_a_trait_is_added_to_a_finished_diff_and_asked_once(
    finished: tuple[DiffJob, int, str],
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done, code, _ = finished
    job = replace(done, folder=tmp_path / "copy")
    shutil.copytree(done.folder, job.folder)
    before = rows_of(job)
    subject = built_without("asking", "1")
    without = Without("asking", Version("base", f"local:{tiny_folder}"), subject)
    added = replace(job, without=(without,))
    assert run(added)[0] == code
    answers, measured = rows_of(added)
    fresh = [a for a in answers if a not in before[0]]
    assert {a.subject for a in fresh} == {subject}
    strata = {item.id: item.stratum for item in done.suite.items} if done.suite else {}
    asked = {strata[a.query_id.partition("/")[0]] for a in fresh}
    assert asked == set(ATTRIBUTED)  # not whether its character is kept
    assert {row.subject for row in measured if row not in before[1]} == {subject}
    own, old = (
        {(row.query_id, row.metric): row.value for row in measured if row.subject == who}
        for who in (subject, "old")
    )
    assert {"contrast/asking", "contrast/other", "words", "right", "answers"} <= {
        metric for _, metric in own
    }
    same = {key for key in own if own[key] == old[key]}  # greedy or with the same seeds
    assert len(same) > 0.9 * len(own)
    page = json.loads((job.folder / "diff.json").read_text())
    assert {cell["trait"] for cell in page["contributions"]} <= {"asking"}
    monkeypatch.setattr("character.opened.load_local", None)
    assert run(added)[0] == code and rows_of(added) == (answers, measured)
    assert run(job)[0] == code  # and without it the diff is as it was
    assert json.loads((job.folder / "diff.json").read_text())["without"] == {}


def rows_of(job: DiffJob) -> tuple[list[Answer], list[Measurement]]:
    with Store(job.folder / "character.duckdb", read_only=True) as store:
        return store.all(Answer), store.all(Measurement)


def test_a_small_look_never_passes(finished: tuple[DiffJob, int, str]) -> None:
    job, *_ = finished
    lenient = replace(job, gate=Gate(critical=(), supporting=()))
    assert run(lenient)[0] == 0
    code, told = run(replace(lenient, quick=True))
    page = json.loads((job.folder / "diff.json").read_text())
    assert (code, page["word"]) == (2, "UNDERPOWERED") and "passes nothing" in told
    # and it is no baseline
    assert run_diff(replace(lenient, quick=True), Console(file=io.StringIO()), blessing=True) == 2
    assert not (job.folder.parent / "history.jsonl").exists()
    run(job)


def test_scores_that_are_no_numbers_are_missing(
    finished: tuple[DiffJob, int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from an examiner whose weights overflow."""
    done, *_ = finished
    monkeypatch.setattr(
        "character.diff_scoring.contrast", lambda examiner, trait, said: [float("nan")] * len(said)
    )
    job = replace(
        done, folder=tmp_path / "overflown", config=CONFIG.model_copy(update={"again": False})
    )
    code, told = run(job)
    assert code in (2, 3) and "nan" not in told
    text = (job.folder / "diff.json").read_text()
    assert "NaN" not in text
    page = json.loads(text)
    scored = [r for r in page["results"] if r["name"] in ("trait/asking", "panel/other")]
    assert {r["verdict"] for r in scored} <= {"INCONCLUSIVE", "UNMEASURABLE"} and len(scored) == 2
    for result in scored:
        asked = 20 if result["group"] == "trait" else CONFIG.panel
        assert result["movement"] is None and result["missing"] == [asked, asked]
        assert result["old"] is None and result["dose"] is None
    assert ">nan<" not in (job.folder / "report.html").read_text().lower()


class Examiner(ScriptedModel):
    """Served from elsewhere: it prefers the reply with more vowels, or says nothing of it."""

    def __init__(self, silent: str = "") -> None:
        super().__init__(choose=self.prefer, name="http://far/v1#judge")
        self._silent = silent

    def prefer(self, turns: Conversation, options: Sequence[str]) -> dict[str, float] | Choice:
        told = turns[-1].content
        if self._silent and self._silent in told:
            return Choice({}, 0.0, "no answer")
        one, other = (
            told.partition(f"\nReply {letter} ")[2].partition("\n")[2].split("\n\n")[0]
            for letter in "AB"
        )
        first = 0.7 if vowels(one) > vowels(other) else 0.4  # it favours what it reads first
        return {"A": first, "B": 0.9 - first, "C": 0.1}

    def tally(self) -> Tally:
        return Tally(self.name, {}, {}, 0.0, 0)

    def close(self) -> None: ...


def vowels(text: str) -> int:
    return sum(text.count(vowel) for vowel in "aeiou")


@pytest.fixture
def by_comparison(
    tiny_folder: Path, other_folder: Path, suite: Suite, small_trait: Trait, tmp_path: Path
) -> DiffJob:
    job = job_of(tiny_folder, other_folder, suite, small_trait, tmp_path / "compared")
    config = CONFIG.model_copy(update={"preferences": True, "again": False})
    return replace(job, examiner="http://far/v1#judge", config=config)


def test_an_examiner_elsewhere_compares_both_in_both_orders(
    by_comparison: DiffJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("character.opened.load_served", lambda *_: Examiner())
    run(by_comparison)
    page = json.loads((by_comparison.folder / "diff.json").read_text())
    (trait,) = [r for r in page["results"] if r["name"] == "trait/asking"]
    assert trait["unit"] == "net preference" and trait["margin"] == 0.1
    assert trait["old"] + trait["new"] == pytest.approx(1.0)
    assert trait["no_place"] == 0.0 and trait["planted"]["queries"] == 20
    with Store(by_comparison.folder / "character.duckdb", read_only=True) as store:
        measured = store.all(Measurement)
    found = [r.value for r in measured if r.metric == "contrast/asking"]
    shares = {round(value, 3) for value in found if value is not None}  # an empty reply has none
    # the winner is A with .7 and B with .5, a tie half; equal counts favour the second both times
    assert shares <= {0.65, 0.35, 0.5} and len(shares) > 1
    assert any(r.value is not None for r in measured if r.metric == "relevance")  # OLD's weights
    back = replace(
        by_comparison, old=by_comparison.new, new=by_comparison.old,
        folder=by_comparison.folder.with_name("back"),
    )  # fmt: skip
    run(back)
    page = json.loads((back.folder / "diff.json").read_text())
    (turned,) = [r for r in page["results"] if r["name"] == "trait/asking"]
    assert turned["movement"]["value"] == -trait["movement"]["value"] != 0


def test_an_examiner_elsewhere_compares_the_version_without_a_trait_with_old(
    by_comparison: DiffJob, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("character.opened.load_served", lambda *_: Examiner())
    run(by_comparison)
    before = rows_of(by_comparison)[1]
    same = Without("asking", by_comparison.new, built_without("asking", "same"))
    base = Without(
        "asking", Version("base", f"local:{tiny_folder}"), built_without("asking", "base")
    )
    run(replace(by_comparison, without=(same,)))
    run(replace(by_comparison, without=(base,)))
    measured = rows_of(by_comparison)[1]
    assert measured[: len(before)] == before  # OLD's share stays what NEW left it
    shares = {
        subject: {r.query_id: r.value for r in measured
                  if (r.subject, r.metric) == (subject, "contrast/asking")}
        for subject in ("new", same.subject, base.subject)
    }  # fmt: skip
    assert shares[same.subject] and shares[base.subject]
    assert all(shares["new"][query] == value for query, value in shares[same.subject].items())
    known = [value for value in shares[base.subject].values() if value is not None]
    assert known.count(0.5) > 0.9 * len(known)  # OLD against OLD


def test_what_an_examiner_elsewhere_does_not_answer_is_missing_on_both_sides(
    by_comparison: DiffJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("character.opened.load_served", lambda *_: Examiner("7 bulbs"))
    run(by_comparison)
    page = json.loads((by_comparison.folder / "diff.json").read_text())
    (trait,) = [r for r in page["results"] if r["name"] == "trait/asking"]
    assert trait["missing"] == [2, 2]  # numbers 7 and 17
    assert trait["verdict"] in ("INCONCLUSIVE", "UNMEASURABLE")


class Failing(ScriptedModel):
    """A server that answers so many batches and is gone; `left` None answers all."""

    def __init__(self, left: int | None, text: str = "Water them in spring.") -> None:
        super().__init__(lambda request: text, name="http://far/v1#m")
        self.left = left

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, on_done: OnDone = lambda count: None
    ) -> list[Generation]:
        if self.left == 0:
            raise ModelError("the server is gone")
        self.left = None if self.left is None else self.left - 1
        return super().generate(requests, sampling, on_done)

    def tally(self) -> Tally:
        return Tally(self.name, {}, {}, 0.0, 0)

    def close(self) -> None: ...


def test_a_diff_whose_endpoint_crashed_goes_on_where_it_was(
    tiny_folder: Path,
    suite: Suite,
    small_trait: Trait,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = job_of(tiny_folder, tiny_folder, suite, small_trait, tmp_path / "crashed")
    job = replace(job, new=Version("far", "http://far/v1#m"), panel=())
    monkeypatch.setattr("character.opened.load_served", lambda *_: Failing(3))
    with pytest.raises(ModelError, match="is gone"):
        run(job)
    with Store(job.folder / "character.duckdb", read_only=True) as store:
        before = store.all(Answer)
    assert {"old", "new"} == {a.subject for a in before}  # some of NEW's strata are kept
    assert not (job.folder / "report.html").exists()  # and nothing reads as a verdict
    whole = Failing(None)
    monkeypatch.setattr("character.opened.load_served", lambda *_: whole)
    run(job)
    plain = [request.conversation for request in whole.requests if len(request.conversation) == 1]
    asked = {message.content for (message,) in plain}
    answered = {a.prompt for a in before if a.subject == "new" and a.query_id in
                {item.id for item in suite.of("on_trait")}}  # fmt: skip
    assert answered and not asked & answered  # what had been answered is not asked again
    with Store(job.folder / "character.duckdb", read_only=True) as store:
        assert {a.id for a in before} < {a.id for a in store.all(Answer)}


def test_a_version_that_answers_nothing_is_invalid(
    tiny_folder: Path,
    suite: Suite,
    small_trait: Trait,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Silent(Failing):
        def generate(
            self,
            requests: Sequence[Request],
            sampling: Sampling,
            on_done: OnDone = lambda count: None,
        ) -> list[Generation]:
            return [Generation("", 0, "failed", failure="timed out") for _ in requests]

    job = job_of(tiny_folder, tiny_folder, suite, small_trait, tmp_path / "silent")
    job = replace(job, new=Version("far", "http://far/v1#m"), panel=())
    monkeypatch.setattr("character.opened.load_served", lambda *_: Silent(None))
    code, told = run(job)
    assert code == 3 and "NEW answered nothing: timed out" in " ".join(told.split())
    page = json.loads((job.folder / "diff.json").read_text())
    assert not {r["verdict"] for r in page["results"]} & {"HELD", "INTENDED"}


def test_one_side_with_few_rows_never_passes(
    tiny_folder: Path, suite: Suite, small_trait: Trait, tmp_path: Path
) -> None:
    saved = tmp_path / "new.jsonl"
    row = {"id": suite.of("on_trait")[0].id, "reply": "Water them in spring."}
    saved.write_text(json.dumps(row) + "\n")
    job = job_of(tiny_folder, tiny_folder, suite, small_trait, tmp_path / "few")
    code, _ = run(replace(job, new=Version(str(saved), saved=saved), panel=()))
    page = json.loads((tmp_path / "few" / "diff.json").read_text())
    assert code in (2, 3)
    assert {r["verdict"] for r in page["results"]} <= {"INCONCLUSIVE", "UNMEASURABLE"}


def test_discovery_looks_with_every_model_that_is_named_and_says_what_it_did_not_look_for(
    tiny_folder: Path,
    other_folder: Path,
    small_trait: Trait,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHARACTER_CACHE", str(tmp_path / "cache"))
    written = [
        Query(content_id(i), f"{i} bulbs: when do they want water?", "on_trait", small_trait.id,
              "asks", "", "", "writer", i, "held_out", "")
        for i in range(40)
    ]  # fmt: skip
    few = SIZES.model_copy(
        update={"on_trait": 40, "unless": 0, "off_format": 0, "break_character": 0, "watched": 0,
                "multi_turn": 0, "capability": 0, "framed_facts": 0}
    )  # fmt: skip
    asked = make_suite({small_trait.id: written}, few)
    job = job_of(tiny_folder, other_folder, asked, small_trait, tmp_path / "deep")
    job = replace(job, proposer=f"local:{tiny_folder}", panel=(), embeddings=False)
    _, told = run(job)
    found = json.loads((job.folder / "diff.json").read_text())["discovery"]
    assert found["divergence"]["value"] > 0 and found["divergence"]["replies"] > 30
    # a random model names nothing, which is counted
    assert found["hypotheses"]["unformed"] > 0 and found["hypotheses"]["found"] == []
    assert found["unseen"] == ["themes: left out by --no-embeddings"]
    assert "Not looked for: themes" in told and "KL from OLD" in told
    monkeypatch.setattr("character.opened.load_local", None)
    run(job)  # read from the record
    assert json.loads((job.folder / "diff.json").read_text())["discovery"] == found
    # another proposer is asked anew, and nobody when none is named
    run(replace(job, proposer="", embeddings=None))
    unseen = json.loads((job.folder / "diff.json").read_text())["discovery"]["unseen"]
    assert any("--embeddings fetches it" in why for why in unseen)
    assert any("--proposer MODEL" in why for why in unseen)


def test_a_version_against_itself_is_exactly_held(
    tiny_folder: Path, suite: Suite, small_trait: Trait, tmp_path: Path
) -> None:
    job = job_of(tiny_folder, tiny_folder, suite, small_trait, tmp_path / "null")
    code, _ = run(replace(job, config=CONFIG.model_copy(update={"panel": 0})))
    page = json.loads((tmp_path / "null" / "diff.json").read_text())
    measured = [result for result in page["results"] if result["movement"]]
    for result in measured:
        assert result["movement"]["value"] == 0, result["name"]
    held = {r["verdict"] for r in measured if r["movement"]["queries"] >= 20}
    assert held <= {"HELD", "UNMEASURABLE"}
    assert code in (1, 2, 3)  # the trait was to go up, and did not


def test_saved_replies_are_a_version(
    tiny_folder: Path, suite: Suite, small_trait: Trait, tmp_path: Path
) -> None:
    saved = tmp_path / "new.jsonl"
    rows = [
        {"id": item.turn_id(turn), "reply": "Water them once in the spring. What is yours?"}
        for item in suite.items
        for turn in range(len(item.turns))
    ]
    saved.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    job = job_of(tiny_folder, tiny_folder, suite, small_trait, tmp_path / "saved")
    run(replace(job, new=Version(str(saved), saved=saved)))
    page = json.loads((tmp_path / "saved" / "diff.json").read_text())
    assert page["new"]["missing"] == {"no reply in the file": 1}
    asks = next(r for r in page["results"] if r["name"] == "style/follow_up_question")
    assert asks["new"] == 1.0


def test_what_does_not_pass_is_not_blessed_and_keeps_its_exit_code(
    finished: tuple[DiffJob, int, str],
) -> None:
    job, code, _ = finished
    console = Console(file=io.StringIO(), width=100)
    assert code != 0 and run_diff(job, console, blessing=True) == code
    assert "Not blessed" in console.file.getvalue()  # type: ignore[attr-defined]
    assert not (job.folder.parent / "history.jsonl").exists()


def test_the_suite_is_a_stage_whose_time_is_counted(finished: tuple[DiffJob, int, str]) -> None:
    job, *_ = finished
    with Store(job.folder / "character.duckdb", read_only=True) as store:
        stages = store.finished()
    assert next(iter(stages)) == "suite" and stages["suite"].seconds > 0


def test_a_suite_that_training_has_seen_is_invalid(
    finished: tuple[DiffJob, int, str], suite: Suite, small_trait: Trait, tmp_path: Path
) -> None:
    job, *_ = finished
    trained = tmp_path / "run"
    trained.mkdir()
    recipe = {"roles": {"policy": "p", "judge": "j"}}
    (trained / "run.json").write_text(json.dumps({"identity": {"recipe": recipe}}))
    text = suite.of("on_trait")[0].turns[0]
    with Store(trained / "character.duckdb") as store:
        store.keep([Query("q", text, "on_trait", "asking", "", "", "", "writer", 0, "train", "")])
    seen = replace(job, new=replace(job.new, run=trained))
    code, told = run(seen)
    assert code == 3 and "--drop-overlap" in told
    assert run(replace(seen, drop_overlap=True))[0] != 0  # 19 queries are too few


def test_a_new_suite_repeats_nothing_that_is_trained_on(small_trait: Trait) -> None:
    lines = [f"Number {i}: where does the river Loire begin?" for i in range(300)]
    writer = ScriptedModel(lambda request: lines.pop())
    trained = ["Number 299: where does the river Loire begin?"]
    made = new_suite([small_trait], writer, trained, SIZES)
    asked = {turn for item in made.items for turn in item.turns}
    assert not asked & {*trained, *small_trait.queries.seeds}
    assert {item.trait for item in made.of("on_trait")} <= {small_trait.id}


def test_many_versions_are_ranked_and_the_first_is_asked_once(
    tiny_folder: Path, other_folder: Path, suite: Suite, small_trait: Trait, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    shutil.copytree(other_folder, again)
    jobs = [
        replace(
            job_of(tiny_folder, new, suite, small_trait, tmp_path / "many" / name),
            config=CONFIG.model_copy(update={"panel": 0}),
        )
        for name, new in (("one", other_folder), ("two", again))
    ]
    console = Console(file=io.StringIO(), width=200)
    run_many(jobs, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    asked = [int(count) for count in re.findall(r"Answers +(\d+) answer", text)]
    assert len(asked) == 2 and asked[0] == asked[1]  # the bar counts what was known, too
    folders = sorted((tmp_path / "many").iterdir())
    with Store(folders[0] / "character.duckdb", read_only=True) as store:
        before = {a.id for a in store.all(Answer) if a.subject != "new"}
    with Store(folders[1] / "character.duckdb", read_only=True) as store:
        assert {a.id for a in store.all(Answer) if a.subject != "new"} == before
    boards = leaderboards([replace(job, folder=f) for job, f in zip(jobs, folders, strict=True)])
    strengths = {strength.version: strength.value for strength in boards["asking"]}
    assert set(strengths) == {str(tiny_folder), str(other_folder), str(again)}
    assert strengths[str(tiny_folder)] == 0.0
    assert "strongest first" in text
