"""Write the forms that a policy ships in, ask each what the build asked, and write its card."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from character.diffing.kept import MERGED, SHIFT, Kept, kept
from character.diffing.measure import Subject, answers_each, mean_logprobs, measurement
from character.diffing.outcome import BASE, TRAINED
from character.errors import ModelError
from character.export_job import RECORD, WEIGHTS, ExportJob
from character.finish import report_of
from character.folder import database_of
from character.measuring import held_out, measured
from character.models.checkpoint import hardware, open_checkpoint
from character.models.folders import model_folder
from character.models.gguf_file import Precision, read_gguf, write_gguf
from character.models.int8 import write_int8
from character.models.loading import load_local
from character.models.local import LocalModel
from character.models.names import has_weights
from character.placing import placed
from character.progress import Reporter
from character.report.cards import dataset_card, hub_id, model_card
from character.report.content import Report
from character.report.forms import GGUF_FILE
from character.rows import Answer, Measurement, Query
from character.run import plain, versions
from character.store.store import Store
from character.training.policy import at_dose

CARD = "README.md"
SPLITS = "data"  # as the Hub looks for them


@dataclass(frozen=True, slots=True)
class Asked:
    """What the run asked, and what the base model and the merged policy said to it."""

    queries: list[Query]
    answers: list[Answer]
    measurements: list[Measurement]


def export(job: ExportJob, reporter: Reporter) -> None:
    """Make every form beside its place, measure, and move them there when all are whole."""
    with Store(database_of(job.run)) as store:  # which brings an older run up to date
        report = report_of(job.job, store)
        asked = Asked(store.all(Query), store.all(Answer), store.all(Measurement))
    with ExitStack() as places:
        parts = {form: places.enter_context(placed(folder)) for form, folder in job.folders.items()}
        for form, part in parts.items():
            with reporter.bar(f"Writing {form}", None, "files"):
                _write(form, job, part, report)
        shipped = {form: part for form, part in parts.items() if form in WEIGHTS}
        found: tuple[Kept, ...] = ()
        if job.measure and (shipped or "hub-folder" in parts):
            found = _measure(job, shipped, asked, reporter)
        for form, part in parts.items():
            _finish(form, job, part, report, found)
    for form, folder in job.folders.items():
        reporter.say(f"{form}: {folder}")
    if "hub-folder" in job.folders:
        for line in _uploads(job.folders["hub-folder"]):
            reporter.say(line)


# --- writing ---


def _write(form: str, job: ExportJob, part: Path, report: Report) -> None:
    if form == "merged":
        _copy(job.merged, part)
    elif form == "adapter":
        _copy_adapter(job, part, report)
    elif form == "int8":
        write_int8(job.merged, part)
    elif form in GGUF_FILE:
        precision: Precision = "f16" if form == "gguf-f16" else "q8_0"
        write_gguf(job.merged, part / GGUF_FILE[form], precision, job.job.constitution.name)
    elif form == "dataset":
        _write_dataset(job.run / "dataset", part, report)
    else:
        _copy(job.merged, part / "model")
        _copy_adapter(job, part / "model" / "adapter", report)
        _write_dataset(job.run / "dataset", part / "dataset", report)


def _copy(source: Path, into: Path) -> None:
    """The files of a folder, without its card and what lies deeper."""
    into.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name != CARD:
            shutil.copyfile(file, into / file.name)


def _copy_adapter(job: ExportJob, into: Path, report: Report) -> None:
    """The adapter, which names its base as the Hub does instead of by a folder of this machine."""
    _copy(job.adapter, into)
    known = hub_id(report.base_model)
    if known:
        path = into / "adapter_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        text = json.dumps(config | {"base_model_name_or_path": known}, indent=2)
        path.write_text(text + "\n", encoding="utf-8")


def _write_dataset(source: Path, into: Path, report: Report) -> None:
    from datasets import load_from_disk

    splits = load_from_disk(source)
    files = {split: f"{SPLITS}/{split}-00000-of-00001.parquet" for split in splits}
    (into / SPLITS).mkdir(parents=True)
    for split, file in files.items():
        splits[split].to_parquet(into / file)
    counts = Counter({split: len(rows) for split, rows in splits.items()})
    (into / CARD).write_text(dataset_card(report, counts, files), encoding="utf-8")


def _finish(form: str, job: ExportJob, part: Path, report: Report, found: tuple[Kept, ...]) -> None:
    """The card of a model, and the record of what this folder is."""
    if form in WEIGHTS:
        (part / CARD).write_text(model_card(report, form, found), encoding="utf-8")
    elif form == "hub-folder":
        card = model_card(report, "merged", found)
        (part / "model" / CARD).write_text(card, encoding="utf-8")
    record = {
        **job.facts(form),
        "base": report.base_model,
        "made_with": versions(),
        "kept": [plain(each) for each in found],
    }
    text = json.dumps(record, indent=2, default=str)
    (part / RECORD).write_text(text + "\n", encoding="utf-8")


def _uploads(folder: Path) -> list[str]:
    return [
        "To upload it, under a name of yours:",
        f"  hf upload NAME/MODEL {folder / 'model'}",
        f"  hf upload NAME/PAIRS {folder / 'dataset'} --repo-type dataset",
    ]


# --- what is left of the character ---


def _measure(
    job: ExportJob, parts: Mapping[str, Path], asked: Asked, reporter: Reporter
) -> tuple[Kept, ...]:
    """The merged policy as the build measured it, the adapter on its base, and each other form."""
    recipe = job.job.recipe
    named = {TRAINED: MERGED, BASE: BASE}
    rows = [
        replace(row, subject=named[row.subject])
        for row in asked.measurements
        if row.subject in named
    ]
    judge_name = recipe.roles.judge if has_weights(recipe.roles.judge) else recipe.roles.policy
    judge = load_local(judge_name, reporter.say)
    sizes = {MERGED: _megabytes(job.merged)}
    held = held_out(asked.queries)
    theirs = [
        a
        for a in asked.answers
        if a.subject == TRAINED and a.query_id in {query.id for query in held}
    ]
    merged = load_local(f"local:{job.merged}", reporter.say)
    before = list(zip(theirs, mean_logprobs(merged, theirs), strict=True))
    copies = {form: part for form, part in parts.items() if form not in (MERGED, "adapter")}
    for form in ("adapter", *copies):
        sizes[form] = _megabytes(copies.get(form, job.adapter))
        answers = answers_each(held, recipe.measure)
        with reporter.bar(f"Asking {form}", answers, "answers") as bar:
            model = _open(form, job, copies.get(form), reporter)
            rows += _measured(job, Subject(form, model), judge, held, before)
            bar.add(answers)
            del model
    traits = [trait.id for trait in job.job.constitution.traits]
    return kept(sizes, traits, asked.queries, rows, recipe.measure, recipe.seed)


def _measured(
    job: ExportJob,
    subject: Subject,
    judge: LocalModel,
    held: Sequence[Query],
    before: Sequence[tuple[Answer, float | None]],
) -> list[Measurement]:
    """As the build measures; and how far its likelihoods of the merged policy's answers are from
    what they were there, `before`.
    """
    rows = measured(subject, held, job.job.constitution.traits, judge, job.job.recipe)
    after = mean_logprobs(subject.model, [answer for answer, _ in before])
    for (answer, there), here in zip(before, after, strict=True):
        gap = None if there is None or here is None else abs(here - there)
        rows.append(measurement(replace(answer, subject=subject.name), SHIFT, gap))
    return rows


def _open(form: str, job: ExportJob, part: Path | None, reporter: Reporter) -> LocalModel:
    """The form as one would use it: the adapter is not merged, and eight bits stay eight bits."""
    if part is None:
        base = model_folder(job.job.recipe.roles.policy, reporter.say)
        policy, tokenizer = at_dose(base, job.adapter, 1.0)
        return LocalModel(policy.get_base_model(), tokenizer, form)
    if form not in GGUF_FILE:
        model, tokenizer = open_checkpoint(part, reporter.say)
        return LocalModel(model, tokenizer, form)
    device, dtype = hardware()
    _, tokenizer = open_checkpoint(job.merged, reporter.say)
    packed = read_gguf(part / GGUF_FILE[form], dtype).to(device)
    _check_tokens(part / GGUF_FILE[form], tokenizer)
    return LocalModel(packed, tokenizer, form)


def _check_tokens(file: Path, tokenizer: Any) -> None:
    """Raise ModelError unless the file's own tokenizer reads a chat as the policy's does."""
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    chat = [{"role": "user", "content": "It's 12,345 °C; naïve  me?\n\n\tOK"}]

    def read(by: Any) -> Any:
        return by.apply_chat_template(chat, tokenize=True, return_dict=False)

    if read(own) != read(tokenizer):
        raise ModelError(f"The tokenizer written to {file.name} reads text in another way.")


def _megabytes(folder: Path) -> float:
    """Of the weights."""
    files = [*folder.glob("*.safetensors"), *folder.glob("*.gguf")]
    return sum(file.stat().st_size for file in files) / 1e6
