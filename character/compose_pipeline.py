"""Join the adapters, merge the sum, and measure what each part did to the whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from character.compose_job import RECORD, ComposeJob, Part
from character.diffing.left_out import WHOLE, LeftOut, left_out
from character.diffing.measure import Subject, answers_each
from character.diffing.outcome import BASE
from character.folder import database_of
from character.job import Job
from character.measuring import held_out, measured
from character.models.folders import model_folder
from character.models.loading import load_local
from character.models.local import LocalModel
from character.placing import placed
from character.progress import Reporter
from character.report.composed import composed_card, left_out_table
from character.rows import Measurement, Query
from character.run import plain, versions
from character.spec.schema import Trait
from character.store.store import Store
from character.training.compose import compose, read_adapter
from character.training.policy import at_dose, save_policy


def compose_runs(job: ComposeJob, reporter: Reporter) -> None:
    """Write the sum as an adapter and merged, with its card, whole or not at all."""
    base = model_folder(job.base, reporter.say)
    with placed(job.folder) as part:
        _compose(job.parts, part)
        policy, tokenizer = at_dose(base, part, 1.0)
        save_policy(policy, tokenizer, part)
        del policy
        found = _leave_one_out(job, base, reporter) if job.leave_one_out else ()
        weights = [(each.label, each.weight) for each in job.parts]
        (part / "README.md").write_text(composed_card(job.base, weights, found), encoding="utf-8")
        record = {**job.facts, "base": job.base, "made_with": versions()}
        record["left_out"] = [plain(each) for each in found]
        (part / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if found:
        reporter.console.print(left_out_table(found))
    reporter.say(f"The sum of {len(job.parts)} adapters is in {job.folder}.")


def _compose(parts: Sequence[Part], into: Path) -> None:
    compose([(read_adapter(part.adapter), part.weight) for part in parts], into)


def _leave_one_out(job: ComposeJob, base: Path, reporter: Reporter) -> tuple[LeftOut, ...]:
    """Every subject answers the held-out queries of all runs, and is judged on all their traits.

    Nothing is trained again: a part is left out of the sum, and not of a training. Where traits
    were trained together only a second build can tell (`build --leave-out`).
    """
    jobs = [part.job for part in job.parts if part.job]
    recipe = jobs[0].recipe
    traits: dict[str, Trait] = {t.id: t for each in jobs for t in each.constitution.traits}
    queries = _queries(jobs)
    judge = load_local(job.base, reporter.say)
    subjects: dict[str, Sequence[Part]] = {WHOLE: job.parts}
    for part in job.parts:
        subjects[f"without {part.label}"] = [p for p in job.parts if p is not part]
    rows: list[Measurement] = []
    for name in (BASE, *subjects):
        with reporter.bar(f"Asking {name}", answers_each(queries, recipe.measure), "answers"):
            model = judge if name == BASE else _sum_of(subjects[name], base, name)
            rows += measured(Subject(name, model), queries, list(traits.values()), judge, recipe)
    return left_out((BASE, *subjects), list(traits), queries, rows, recipe.measure, recipe.seed)


def _sum_of(parts: Sequence[Part], base: Path, name: str) -> LocalModel:
    with TemporaryDirectory() as folder:
        _compose(parts, Path(folder))
        policy, tokenizer = at_dose(base, Path(folder), 1.0)
    return LocalModel(policy.merge_and_unload(), tokenizer, name)


def _queries(jobs: Sequence[Job]) -> list[Query]:
    """The held-out queries of all runs, each text once, except those that a run learned from."""
    found: dict[str, Query] = {}
    learned: set[str] = set()
    for job in jobs:
        with Store(database_of(job.folder)) as store:
            queries = store.all(Query)
        learned |= {query.text for query in queries if query.split == "train"}
        found |= {q.text: q for q in held_out(queries) if q.text not in found}
    return [query for text, query in found.items() if text not in learned]
