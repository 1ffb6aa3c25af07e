"""What each piece of advice in traits/README.md is worth: replies and verdicts with and without it.

    python tests/benchmarks/advice.py KEPT [--queries 24] [--only seeds steering judging unless]

Runs on the bundled model and the two development traits with seed 1000, keeps every finished part
in the folder KEPT, goes on from there, and prints the table. Of a trait's six examples three
steer and the other three measure, and the other way round for the other half of the queries: no
example measures what it steered. Intervals are 95 %, over queries; of a difference, paired.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import stats

from character.data.queries import QueriesConfig, write_queries, yield_of
from character.intervals import wilson
from character.judging.asked import preference_of
from character.judging.checks import check_reply
from character.judging.judge import ByValue, Contest, Said
from character.judging.kinds import UNITS
from character.judging.likelihood import LikelihoodJudge, contrast, foils, relevance
from character.judging.plants import Planted, PlantsConfig, plant, said_not_shown, style_crossed
from character.models.base import Conversation, Message, Request, Sampling
from character.models.loading import load_local
from character.models.local import LocalModel
from character.models.names import BUNDLED_DEFAULT
from character.rows import Query, content_id
from character.spec.constitution import Constitution, Member
from character.spec.demonstrations import demonstrations
from character.spec.loading import load_trait
from character.spec.schema import Example, Trait
from character.text import sentences

HERE = Path(__file__).parent
TRAITS = ("orderly", "sensory")
SEED = 1000  # apart from the seeds of everything that is reported
HALF = 3  # examples that steer; as many measure
ANSWERS = 0.2  # nats a token of relevance, from which a reply answers its query
BUILD = (
    "--until", "distilled", "--set", "card.enabled=false", "--set", "queries.train=60",
    "--set", "queries.held_out=12", "--set", "queries.unless=60",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One measure with the advice and without it; a difference is advice minus none."""

    advice: str
    measure: str
    without: str
    following: str
    difference: str
    count: int


@dataclass(frozen=True, slots=True)
class Fold:
    """Half of a trait's queries: `steers` and `measures` have three examples each."""

    steers: Trait
    measures: Trait
    queries: tuple[Query, ...]


def main(folder: Path, count: int, wanted: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Callable[[], list[Row]]] = {
        "seeds": seeds,
        "steering": lambda: steering(count),
        "judging": lambda: judging(count),
        "unless": lambda: unless(folder),
    }
    print("| advice | measure | without | with | difference | n |\n" + "|---" * 6 + "|")
    for name in wanted:
        path = folder / f"{name}-{count}.json"
        if not path.exists():
            rows = [asdict(row) for row in parts[name]()]
            path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        for row in json.loads(path.read_text(encoding="utf-8")):
            print(f"| {' | '.join(map(str, row.values()))} |", flush=True)


# --- what messages the writer is given ---


def seeds() -> list[Row]:
    """How many usable queries come of a hundred drafts, by the seed messages there are."""
    kept = {few: [_usable_share(trait, few) for trait in _traits()] for few in (4, 8, 16)}
    rows = []
    for few in (4, 8):
        low, high = (_summed(kept[n]) for n in (few, 16))
        both = [_share(*found) for found in (low, high)]
        gap = high[0] / high[1] - low[0] / low[1]
        error = sum(k / n * (1 - k / n) / n for k, n in (low, high)) ** 0.5
        change = f"{gap:+.2f} [{gap - 1.96 * error:+.2f}, {gap + 1.96 * error:+.2f}]"
        name = f"16 seed messages, not {few}"
        rows.append(Row(name, "usable share of drafts", *both, change, high[1]))
    return rows


def _usable_share(trait: Trait, few: int) -> tuple[int, int]:
    held = trait.queries.model_copy(update={"seeds": trait.queries.seeds[:few], "unless": []})
    config = QueriesConfig(train=100 + few, held_out=4, unless=0, neutral=0, spare=1.0)
    written = _written(trait.model_copy(update={"queries": held}), config)
    drafts = [query for query in written if query.source == "writer"]
    fates = yield_of(drafts)
    return fates["train"] + fates["held_out"], len(drafts)


def _summed(found: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(hits for hits, _ in found), sum(count for _, count in found)


# --- how replies are steered ---


def steering(count: int) -> list[Row]:
    """Replies to the same queries behind different parts of the same trait."""
    ways: dict[str, Callable[[Trait], Conversation]] = {
        "plain": lambda trait: (),
        "described": _described,
        "opposite described": lambda trait: (Message("system", trait.opposite),),
        "one": lambda trait: demonstrations(trait, "good")[:2],
        "two": lambda trait: demonstrations(trait, "good")[:4],
        "three": lambda trait: demonstrations(trait, "good"),
        "bad": lambda trait: demonstrations(trait, "bad"),
        "announced": lambda trait: demonstrations(_announced(trait), "good"),
        "one sentence": lambda trait: demonstrations(_shortened(trait, "good"), "good"),
        "described and three": lambda trait: (
            *_described(trait), *demonstrations(trait, "good")
        ),
    }  # fmt: skip
    found: dict[str, dict[str, list[float | None]]] = {way: {} for way in ways}
    for fold in _folds(count):
        for way, turns in ways.items():
            for metric, values in _steered(fold, turns(fold.steers), way).items():
                found[way].setdefault(metric, []).extend(values)
    listed = [
        ("a description, not nothing", "plain", "described", ("contrast", "checks")),
        ("examples, not a description", "described", "three", ("contrast", "checks", "answers")),
        ("a description too", "three", "described and three", ("contrast", "checks", "answers")),
        ("two examples, not one", "one", "two", ("contrast", "checks")),
        ("three examples, not two", "two", "three", ("contrast", "checks")),
        ("shown, not announced", "announced", "three", ("contrast", "checks", "announces")),
        ("whole good replies, not one sentence", "one sentence", "three",
         ("contrast", "answers", "words")),
        ("bad examples pull away", "plain", "bad", ("contrast",)),
        ("the opposite described pulls away", "plain", "opposite described", ("contrast",)),
    ]  # fmt: skip
    return [
        _row(advice, metric, found[before][metric], found[after][metric])
        for advice, before, after, metrics in listed
        for metric in metrics
    ]


def _steered(fold: Fold, turns: Conversation, way: str) -> dict[str, list[float | None]]:
    """What replies behind these turns come to, measured by the other examples."""
    requests = [
        Request(
            (*turns, Message("user", query.text)),
            seed=int(content_id("advice", query.text, SEED)[:7], 16),
        )
        for query in fold.queries
    ]
    answers = _model().generate(requests, Sampling())
    said = [
        Said(query.text, answer.text, answer.finish == "stop")
        for query, answer in zip(fold.queries, answers, strict=True)
    ]
    shown = contrast(_model(), fold.measures, said)
    relevant = relevance(_model(), said, foils(query.text for query in fold.queries))
    start = " ".join(fold.steers.statement.split()[:4])
    print(f"{fold.steers.id}, {way}: {said[0].reply[:100]!r}", file=sys.stderr, flush=True)
    return {
        "contrast": shown,
        "checks": [check_reply(fold.steers, one.query, one.reply) for one in said],
        "answers": [None if r is None else float(r > ANSWERS) for r in relevant],
        "announces": [float(start in one.reply) for one in said],
        "words": [float(len(one.reply.split())) for one in said],
    }


def _described(trait: Trait) -> Conversation:
    return (Message("system", " ".join([trait.statement, *(c.text for c in trait.clauses)])),)


# --- how replies are judged ---


def judging(count: int) -> list[Row]:
    """Verdicts on the same planted replies by judges that were shown different examples."""
    judges: dict[str, tuple[Callable[[Trait], Trait], bool]] = {
        "as they are": (lambda trait: trait, True),
        "no bad replies": (lambda trait: trait, False),
        "one example": (lambda trait: _with(trait, trait.examples[:1]), True),
        "bad cut short": (lambda trait: _shortened(trait, "bad"), True),
        "bad of another message": (_swapped, True),
        "announced": (_announced, True),
    }
    right: dict[str, dict[str, list[float | None]]] = {name: {} for name in judges}
    for fold in _folds(count):
        config = PlantsConfig(queries=len(fold.queries), dosed=len(fold.queries))
        planted = plant(fold.steers, fold.queries, _model(), config, SEED)
        for name, (change, opposed) in judges.items():
            judge = LikelihoodJudge(_model(), "opposite" if opposed else "plain")
            by_value = ByValue(judge, UNITS["likelihood"])
            for test, contests in _tests(fold.steers, planted).items():
                values = _right(by_value, change(fold.measures), contests)
                right[name].setdefault(test, []).extend(values)
            print(f"{fold.steers.id}, judge: {name}", file=sys.stderr, flush=True)
    tests = ("full over opposite", "full over plain", "short full over long opposite",
             "full over announced")  # fmt: skip
    listed = [
        ("bad replies, not good ones alone", "no bad replies", tests),
        ("three examples, not one", "one example", tests[:3]),
        ("good and bad about as long", "bad cut short", tests[:3]),
        ("bad replies to the same message", "bad of another message", tests[:3]),
        ("shown, not announced", "announced", tests),
    ]
    return [
        _row(advice, test, right[without][test], right["as they are"][test])
        for advice, without, shown in listed
        for test in shown
    ]


def _tests(trait: Trait, planted: Sequence[Planted]) -> dict[str, list[Contest | None]]:
    """Contests whose first reply is the better one; None where a query has no such replies."""
    made: dict[str, Callable[[Planted], list[Contest]]] = {
        "full over opposite": lambda p: p.contest("full", "opposite"),
        "full over plain": lambda p: p.contest("full", "plain"),
        "short full over long opposite": style_crossed,
        "full over announced": lambda p: said_not_shown(trait, p),
    }
    return {
        name: [found[0] if (found := make(each)) else None for each in planted]
        for name, make in made.items()
    }


def _right(judge: ByValue, trait: Trait, contests: Sequence[Contest | None]) -> list[float | None]:
    """1 where the better reply won, .5 where they tied, None where there was no verdict."""
    asked = [contest for contest in contests if contest]
    told = iter([preference_of(outcome) for outcome in judge.compare(trait, asked)])
    found = [next(told) if contest else None for contest in contests]
    return [None if p is None else float(np.heaviside(p - 0.5, 0.5)) for p in found]


# --- where the trait must not show ---


def unless(folder: Path) -> list[Row]:
    """Two short builds, with `queries.unless` and without, on the same messages of that kind."""
    given, without = folder / "unless-given", folder / "unless-without"
    source = HERE / "dev_traits" / "orderly.yaml"
    bare = folder / "without" / "orderly.yaml"
    content = yaml.safe_load(source.read_text(encoding="utf-8"))
    content["queries"]["unless"] = []
    bare.parent.mkdir(exist_ok=True)
    bare.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    for run, trait in ((given, source), (without, bare)):
        _built(run, trait)
    trait = load_trait(source)
    config = QueriesConfig(train=60, held_out=12, unless=60)
    written = [q for q in _written(trait, config) if q.split == "held_out"]
    rows = []
    for kind in ("unless", "on_trait"):
        asked = [q.text for q in written if q.kind == kind]
        base, *trained = (
            _moved(model, trait, asked)
            for model in (_model(), *(load_local(_adapter(run)) for run in (without, given)))
        )
        moved = [
            [None if a is None or b is None else a - b for a, b in zip(one, base, strict=True)]
            for one in trained
        ]
        measure = "spill" if kind == "unless" else "movement where it should show"
        rows.append(_row("messages under unless", f"{measure}, nats a token", *moved))
    return rows


def _built(run: Path, trait: Path) -> None:
    command = [sys.executable, "-m", "character.build", "--traits", str(trait), *BUILD]
    command += ["--seed", str(SEED), "--out", str(run)]
    subprocess.run(command, check=True, stdout=sys.stderr)  # goes on where it stopped


def _adapter(run: Path) -> str:
    return f"local:{run / 'distilled'}"


def _moved(model: LocalModel, trait: Trait, queries: Sequence[str]) -> list[float | None]:
    """The contrast of a model's own replies, by the bundled model."""
    requests = [Request((Message("user", text),), seed=SEED) for text in queries]
    answers = model.generate(requests, Sampling())
    said = [
        Said(text, answer.text, answer.finish == "stop")
        for text, answer in zip(queries, answers, strict=True)
    ]
    return contrast(_model(), trait, said)


# --- traits with something changed ---


def _with(trait: Trait, examples: Sequence[Example]) -> Trait:
    return trait.model_copy(update={"examples": list(examples)})


def _announced(trait: Trait) -> Trait:
    """Every good reply says the statement, and then what the bad one says."""
    said = (e.model_copy(update={"good": f"{trait.statement} {e.bad}"}) for e in trait.examples)
    return _with(trait, list(said))


def _shortened(trait: Trait, pole: str) -> Trait:
    """The good or the bad replies end after their first sentence."""
    cut = (e.model_copy(update={pole: sentences(getattr(e, pole))[0]}) for e in trait.examples)
    return _with(trait, list(cut))


def _swapped(trait: Trait) -> Trait:
    """Every bad reply answers another message than the good one beside it."""
    bad = [e.bad for e in trait.examples]
    others = zip(trait.examples, [*bad[1:], *bad[:1]], strict=True)
    return _with(trait, [e.model_copy(update={"bad": other}) for e, other in others])


# --- traits, queries, the model ---


def _traits() -> list[Trait]:
    return [load_trait(HERE / "dev_traits" / f"{name}.yaml") for name in TRAITS]


def _folds(count: int) -> Iterator[Fold]:
    for trait in _traits():
        config = QueriesConfig(train=round(1.5 * count), held_out=4, unless=0, neutral=0)
        usable = [q for q in _written(trait, config) if q.kind == "on_trait" and not q.dropped]
        halves = (trait.examples[:HALF], trait.examples[HALF:])
        for number in (0, 1):
            steers, measures = halves[number], halves[1 - number]
            own = tuple(usable[:count][number::2])
            yield Fold(_with(trait, steers), _with(trait, measures), own)


def _written(trait: Trait, config: QueriesConfig) -> list[Query]:
    return write_queries(Constitution((Member(trait),)), _model(), config, SEED)


@cache
def _model() -> LocalModel:
    return load_local(BUNDLED_DEFAULT, lambda text: None)


# --- numbers ---


def _row(
    advice: str, measure: str, before: Sequence[float | None], after: Sequence[float | None]
) -> Row:
    both = [(a, b) for a, b in zip(before, after, strict=True) if a is not None and b is not None]
    columns = np.array(both, dtype=float).reshape(-1, 2)
    gap = columns[:, 1] - columns[:, 0]
    without, following = (_mean(columns[:, side]) for side in (0, 1))
    return Row(advice, measure, without, following, _mean(gap, "+.2f"), len(gap))


def _mean(values: Any, form: str = ".2f") -> str:
    """Mean with its interval: Wilson's for shares, Student's for everything else."""
    if len(values) < 2:
        return "missing"
    if set(values) <= {0.0, 0.5, 1.0} and form == ".2f":
        return _share(float(sum(values)), len(values))
    mean, error = float(np.mean(values)), float(stats.sem(values))
    reach = error * float(stats.t.ppf(0.975, len(values) - 1))
    return f"{mean:{form}} [{mean - reach:{form}}, {mean + reach:{form}}]"


def _share(hits: float, count: int) -> str:
    low, high = wilson(hits, count)
    return f"{hits / count:.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kept", type=Path)
    parser.add_argument("--queries", type=int, default=24)
    parser.add_argument(
        "--only", nargs="*", default=["seeds", "steering", "judging", "unless"]
    )  # fmt: skip
    given = parser.parse_args()
    main(given.kept, given.queries, given.only)
