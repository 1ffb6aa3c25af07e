"""How often a whole diff of a model against itself raises an alarm, and how often it finds a dose.

    python tests/benchmarks/diff_null.py diff-null                     # the null: OLD against OLD
    python tests/benchmarks/diff_null.py diff-null --power runs/mine   # the run's adapter, scaled

Every query is answered many times in large batches, and each sample is counted and scored once,
one line of `pool-*.jsonl` a sample. A diff then takes one sample as OLD and another as NEW, on one
block of the queries. No reply is in two null diffs, so they are independent. A killed run goes on
where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from character.diff_job import load_panel
from character.diff_pipeline import new_suite
from character.diff_scoring import score_answering, score_contrast
from character.diffing.config import DiffConfig, SuiteConfig
from character.diffing.counting import count
from character.diffing.dialogue import converse
from character.diffing.difference import difference_of
from character.diffing.inference import movements, ratio
from character.diffing.measure import Subject
from character.diffing.outcome import contrast_metric
from character.diffing.results import Result
from character.diffing.subjects import NEW, OLD
from character.diffing.suite import Suite, read_suite, write_suite
from character.diffing.verdicts import Gate
from character.intervals import wilson
from character.models.folders import base_name, model_folder
from character.models.loading import load_local
from character.models.local import LocalModel
from character.models.names import BUNDLED_DEFAULT
from character.rows import Measurement
from character.spec.constitution import load_constitution
from character.spec.schema import Trait

TRAITS = ("curious", "warm", "concise")
SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)
SIZES = SuiteConfig(
    on_trait=100, unless=0, neutral=60, off_format=0, break_character=0, watched=0, multi_turn=0,
    capability=0, framed_facts=0,
)  # fmt: skip
FAMILIES: dict[str, Callable[[Result], bool]] = {
    "a declared trait moved (max-T)": lambda r: (
        r.group == "trait" and r.movement is not None and r.movement.significant
    ),
    "quality regressed (max-T)": lambda r: r.group == "quality" and r.verdict == "REGRESSED",
    "a count moved (false discovery)": lambda r: r.group == "style" and r.verdict == "MOVED",
    "another trait moved (false discovery)": lambda r: r.group == "panel" and r.verdict == "MOVED",
}


def suite_in(folder: Path, traits: Sequence[Trait], model: LocalModel) -> Suite:
    path = folder / "suite.lock"
    if not path.exists():
        write_suite(new_suite(traits, model, [], SIZES), path)
    return read_suite(path)


def blocks_of(suite: Suite, blocks: int) -> list[Suite]:
    """The suite's items dealt out, each block with its share of every trait and stratum."""
    kinds: dict[tuple[str, str], list[Any]] = {}
    for item in suite.items:
        kinds.setdefault((item.stratum, item.trait), []).append(item)
    return [
        Suite(tuple(item for items in kinds.values() for item in items[at::blocks]))
        for at in range(blocks)
    ]


def pool(
    path: Path,
    suite: Suite,
    subject: LocalModel,
    examiner: LocalModel,
    traits: Sequence[Trait],
    samples: int,
) -> list[dict[str, Any]]:
    """Of every sample what was measured, [query id, metric, value], and the replies."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []  # a cut-off line is no line
    path.write_text("".join(line + "\n" for line in lines))
    known = [json.loads(line) for line in lines]
    turns = {item.id: (item, 0) for item in suite.items}
    for sample in range(len(known), samples):
        config = DiffConfig(seed=sample)
        answers = converse(Subject("pool", subject), list(suite.items), config)
        rows = [*count(answers, turns), *score_answering(examiner, answers, _Silent())]  # type: ignore[arg-type]
        for trait in traits:
            own = [a for a in answers if turns[a.query_id][0].trait in ("", trait.id)]
            rows += score_contrast(examiner, trait, own)
        found = {
            "sample": sample,
            "rows": [[row.query_id, row.metric, row.value] for row in rows],
            "said": {answer.query_id: answer.text for answer in answers},
        }
        with path.open("a") as file:
            file.write(json.dumps(found) + "\n")
        known.append(found)
        print(f"{path.name}: sample {sample + 1} of {samples}", flush=True)
    return known[:samples]


def measured(sample: dict[str, Any], side: str, ids: set[str]) -> Iterator[Measurement]:
    for query_id, metric, value in sample["rows"]:
        if query_id in ids:
            yield Measurement("", "", side, query_id, metric, value)


def null(folder: Path, runs: int, blocks: int, panel: int) -> None:
    traits = load_constitution(list(TRAITS)).traits
    besides = [t for t in load_panel() if t.id not in TRAITS][:panel]
    model = load_local(BUNDLED_DEFAULT)
    suite = suite_in(folder, traits, model)
    samples = 2 * -(-runs // blocks)
    found = pool(folder / "pool-null.jsonl", suite, model, model, (*traits, *besides), samples)
    hold = Gate(expect={f"trait/{trait.id}": "hold" for trait in traits})
    alarms = dict.fromkeys([*FAMILIES, "any of these"], 0)
    done = 0
    with (folder / "null.jsonl").open("w") as file:
        for pair in range(samples // 2):
            old, new = found[2 * pair], found[2 * pair + 1]
            for number, block in enumerate(blocks_of(suite, blocks)):
                ids = {item.id for item in block.items}
                rows = [*measured(old, OLD, ids), *measured(new, NEW, ids)]
                same = {i for i in ids if old["said"][i] == new["said"][i]}
                config = DiffConfig(permutations=2000, resamples=200)
                results = difference_of(block, traits, besides, rows, hold, config, same).results
                raised = {
                    name: [r.name for r in results if alarm(r)] for name, alarm in FAMILIES.items()
                }
                for name, names in raised.items():
                    alarms[name] += bool(names)
                alarms["any of these"] += any(raised.values())
                done += 1
                told = {"pair": pair, "block": number, "raised": raised}
                file.write(json.dumps(told) + "\n")
    queries = len(suite.items) // blocks
    print(f"\n| {done} diffs of OLD against OLD, {queries} queries each | rate | 95 % |")
    print("|---|---|---|")
    for name, hits in alarms.items():
        low, high = wilson(hits, done)
        print(f"| {name} | {hits / done:.3f} | [{low:.3f}, {high:.3f}] |")


def power(folder: Path, run: Path, samples: int, sizes: Sequence[int]) -> None:
    """The contrast of one trait on its own queries, at each scale of the run's adapter."""
    from character.folder import constitution_of
    from character.training.policy import at_dose

    traits = constitution_of(run).traits[:1]
    examiner = load_local(BUNDLED_DEFAULT)
    suite = suite_in(folder / "power", traits, examiner)
    own = Suite(tuple(suite.of("on_trait")))
    ids = [item.id for item in own.items]
    metric = contrast_metric(traits[0].id)
    base = model_folder(base_name(run / "policy"))
    values: dict[float, np.ndarray] = {}
    for scale in SCALES:
        model, tokenizer = at_dose(base, run / "policy", scale)
        scaled = LocalModel(model.merge_and_unload(), tokenizer, f"scale {scale}")  # type: ignore[operator]
        path = folder / "power" / f"pool-{scale}.jsonl"
        found = pool(path, own, scaled, examiner, traits, samples)
        values[scale] = np.array([_column(sample, metric, ids) for sample in found])
    base_pool = values[0.0]
    print("\n| LoRA scale | NEW minus OLD | of the whole way | queries | detectable | found |")
    print("|---|---|---|---|---|---|")
    for scale in SCALES:
        moved = values[scale].mean(axis=0) - base_pool.mean(axis=0)
        way = ratio(moved, values[1.0].mean(axis=0) - base_pool.mean(axis=0))
        share = f"{way.value:.2f} [{way.low:.2f}, {way.high:.2f}]" if way else "missing"
        for size in sizes:
            hits, least = _detected(base_pool, values[scale], size)
            low, high = wilson(hits, DRAWS)
            print(
                f"| {scale} | {np.nanmean(moved):+.4f} | {share} | {size} | {least:.4f} "
                f"| {hits / DRAWS:.2f} [{low:.2f}, {high:.2f}] |"
            )


DRAWS = 200


def _detected(old: np.ndarray, new: np.ndarray, size: int) -> tuple[int, float]:
    """In how many of so many small diffs the movement is significant, and the mean detectable."""
    hits, least = 0, []
    for seed in range(DRAWS):
        draw = np.random.default_rng(seed)
        queries = draw.choice(old.shape[1], size=min(size, old.shape[1]), replace=False)
        one, other = draw.integers(len(old), size=size), draw.integers(len(new), size=size)
        if old is new:  # a version against itself needs two samples
            other = (one + draw.integers(1, len(new), size=size)) % len(new)
        at = np.arange(len(queries))
        gap = new[other[at], queries] - old[one[at], queries]
        (found,) = movements(gap[:, None], 999, seed)
        if found is not None:
            hits += found.significant
            least.append(found.detectable)
    return hits, float(np.mean(least))


def _column(sample: dict[str, Any], metric: str, ids: Sequence[str]) -> list[float]:
    known = {query: value for query, name, value in sample["rows"] if name == metric}
    return [np.nan if known.get(query) is None else known[query] for query in ids]


class _Silent:
    def add(self, count: int) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--power", type=Path, metavar="RUN", help="a run folder with an adapter")
    parser.add_argument("--runs", type=int, default=60, help="null diffs [60]")
    parser.add_argument("--blocks", type=int, default=4, help="blocks of queries [4]")
    parser.add_argument("--panel", type=int, default=9, help="other traits that are looked at [9]")
    parser.add_argument("--samples", type=int, default=6, help="samples at each scale [6]")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 20, 40, 80])
    given = parser.parse_args()
    (given.folder / "power").mkdir(parents=True, exist_ok=True)
    if given.power:
        power(given.folder, given.power, given.samples, given.sizes)
    else:
        null(given.folder, given.runs, given.blocks, given.panel)


if __name__ == "__main__":
    main()
