"""Build one dev trait with each source of training on and off, and print what each is worth.

    python tests/benchmarks/ablation.py runs/ablation         # every cell; goes on where it was
    python tests/benchmarks/ablation.py runs/ablation --only none distillation
    python tests/benchmarks/ablation.py runs/ablation --whole # with own replies, DPO and all

All cells share queries, replies, judgements, the distilled policy, and the answers of everybody who
is not trained: they are made once and copied. A cell is a run of its own, so a killed one goes on
where it was, and one that is done is only read. Unless `--whole` is given a cell is measured as the
fine-tuning left it, without own replies and DPO, which hide what a source did. Dev questions; dev
traits and seeds from 1000 up, as LOG.md has it.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from character.diffing.outcome import BASE, TRAINED, Outcome, outcome_of
from character.job import Job, prepare
from character.pipeline import build
from character.progress import Reporter
from character.quiet import hush_libraries
from character.rows import Answer, Judgement, Measurement, Query, Reply, Step, Taught
from character.run import Run

TRAIT = Path(__file__).parent / "dev_traits" / "sensory.yaml"
BARE = {  # nothing after the fine-tuning
    "training.dose.tried": [],
    "training.dpo.epochs": 0,
    "training.reward.epochs": 0,
}
SOURCES: dict[str, dict[str, Any]] = {
    "demonstrations": {"training.sft.demonstrations": 1},
    "revisions": {"revisions.replies": 60},
    "introspection": {"introspection.reflections": 30, "introspection.dialogues": 20},
    "documents": {"documents.count": 72, "documents.name": "SmolLM"},
}
OFF = {"training.distill.epochs": 0}
CELLS: dict[str, dict[str, Any]] = {
    "none": OFF,
    "distillation": {},
    **{f"only {name}": OFF | told for name, told in SOURCES.items()},
    **{f"distillation, {name}": told for name, told in SOURCES.items()},
    "all": {key: value for told in SOURCES.values() for key, value in told.items()},
    "distillation, demonstrations, no anchors": {
        **SOURCES["demonstrations"],
        "training.sft.anchors": 0,
    },
}
HEAD = (
    "sources", "share of the way", "moved", "facts", "answers", "fluency", "repeats", "tokens",
    "asks", "KL", "texts", "minutes",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--trait", default=str(TRAIT))
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument(
        "--only", nargs="*", default=list(CELLS), choices=list(CELLS), metavar="CELL"
    )
    parser.add_argument(
        "--whole", action="store_true", help="with own replies, reward model and DPO"
    )
    parser.add_argument("--set", dest="settings", nargs="*", default=[], metavar="KEY=VALUE")
    told = parser.parse_args()
    hush_libraries()
    reporter = Reporter(Console())
    given = {} if told.whole else BARE
    shared: dict[bool, Path] = {}
    rows = []
    for name in told.only:
        off = CELLS[name].get("training.distill.epochs") == 0
        if off not in shared:
            label = "undistilled" if off else "distilled"
            job = job_of(told, given | (OFF if off else {}), label)
            make(job, reporter, "distilled")
            shared[off] = job.folder
        job = job_of(told, given | CELLS[name], name.replace(", ", "+").replace(" ", "-"))
        make(job, reporter, "measure", [shared[off], *job.folder.parent.glob("*/")])
        rows.append(row(name, job))
        table(rows, job.folder.parent / "table.md")


def job_of(told: argparse.Namespace, settings: Mapping[str, Any], name: str) -> Job:
    """A build of the trait with these settings, in a folder of its own."""
    every = {"seed": told.seed, "measure.short_questions": "dev"} | dict(settings)
    lines = [f"{key}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}"
             for key, value in every.items()]  # fmt: skip
    stem = Path(told.trait).stem
    folder = told.out / f"{stem}-{told.seed}{'-whole' * told.whole}" / name
    return prepare([told.trait], "default", [*lines, *told.settings], str(folder), "measure")


def make(job: Job, reporter: Reporter, until: str, before: Sequence[Path] = ()) -> None:
    reporter.say(f"{job.folder.name}:")
    with Run.open(job.folder, job.identity, reporter) as run:
        for other in before:
            if other != job.folder:
                take_over(run, other)
        build(job.constitution, job.recipe, run, until, accept_judge=True)


def take_over(run: Run, other: Path) -> None:
    """Copy what the other run made that this one would make alike; ids say what is alike."""
    from character.store.store import Store

    if not (other / "character.duckdb").exists():
        return
    with Store(other / "character.duckdb", read_only=True) as store:
        finished, mine = store.finished(), run.store.finished()
        run.store.keep([answer for answer in store.all(Answer) if answer.subject != TRAINED])
        untrained = not run_recipe(run)["training"]["reward"]["epochs"]
        if untrained and "reward_model" in finished and "reward_model" not in mine:
            copy(other / "reward_model", run)  # nothing is measured by it; its card takes minutes
            run.store.keep([], finished["reward_model"])
        if other.name not in ("distilled", "undistilled") or "distilled" not in finished:
            return
        kinds: dict[str, type[Any]] = {"queries": Query, "replies": Reply, "judgements": Judgement}
        for stage, kind in kinds.items():
            if stage not in mine:
                run.store.keep(store.all(kind), finished[stage])
        if "distilled" not in mine:
            copy(other / "distilled", run)
            logged = [step for step in store.all(Step) if step.stage == "distill"]
            learned = [row for row in store.all(Taught) if row.stage == "distilled"]
            run.store.keep([*logged, *learned], finished["distilled"])


def copy(folder: Path, run: Run) -> None:
    shutil.copytree(folder, run.folder / folder.name, dirs_exist_ok=True)


def run_recipe(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = run.recorded("identity")["recipe"]
    return found


def row(name: str, job: Job) -> list[str]:
    from character.store.store import Store

    with Store(job.folder / "character.duckdb", read_only=True) as store:
        queries, found = store.all(Query), store.all(Measurement)
        outcome = outcome_of(job.constitution, queries, found, job.recipe.measure, job.recipe.seed)
        texts = sum(taught.stage == "sft" for taught in store.all(Taught))
        seconds = sum(stage.seconds for stage in store.finished().values())
    return [name, *numbers(outcome), str(texts), f"{seconds / 60:.1f}"]


def numbers(outcome: Outcome) -> Iterator[str]:
    (trait,) = outcome.traits
    share, change = trait.share, trait.contrast.change
    yield f"{share.value:.2f} [{share.low:.2f}, {share.high:.2f}]" if share else "missing"
    yield f"{change.value:+.3f}" if change else "missing"
    lines = {line.metric: line for line in outcome.quality}
    for metric, form in (
        ("short_right", ".3f"), ("answers", ".2f"), ("fluency", ".2f"), ("repetition", ".3f"),
        ("tokens", ".0f"), ("follow_up_question", ".2f"),
    ):  # fmt: skip
        of = lines[metric].subjects
        star = "*" if lines[metric].holds is False else ""
        levels = [format(of[s].value, form) if s in of else "missing" for s in (BASE, TRAINED)]
        yield " -> ".join(levels) + star
    kl = lines["kl"].subjects.get(TRAINED)
    yield f"{kl.value:.3f}" if kl else "missing"


def table(rows: Sequence[Sequence[str]], path: Path) -> None:
    """Printed and kept; a quality bar that is missed has a *."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
