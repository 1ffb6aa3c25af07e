"""Model and dataset cards: Markdown with the front matter that Hugging Face reads.

What people and models wrote is escaped, so that it stays text wherever the card is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData, ModelCardData

from character.diffing.kept import Kept
from character.diffing.outcome import Line
from character.models.bundled import BUNDLED
from character.models.names import HUB_ID
from character.report.content import Report
from character.report.forms import FORMS, kept_table, loading
from character.report.markdown import as_yaml, bullets, code, document, escaped, fence, table
from character.report.printable import printable
from character.report.terminal import (
    MISSING,
    SMOKE,
    change_text,
    chat_command,
    headline,
    interval_text,
    known,
    level_text,
    lines_of,
    memory_text,
    minutes_text,
    seconds_text,
    share_text,
    spill_text,
    taken_text,
    unit_of,
    verdict_of,
)
from character.spec.constitution_file import HELPLESS
from character.spec.schema import Trait
from character.training.reward_card import RewardCard

BUNDLED_HUB_IDS = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))

ON_DISK = 'from datasets import load_from_disk\n\npairs = load_from_disk("dataset")'
PARQUET = 'from datasets import load_dataset\n\npairs = load_dataset(".")'

LINEAGE = {
    "prompt": "the query, as one user message",
    "chosen": "the better reply, as one assistant message",
    "rejected": "the other reply, as one assistant message",
    "pair_id": "the pair's id in the run's database, which leads to its ranking and its replies",
    "trait": "the trait that the query was written for",
    "clause": "the clause of that trait; empty where no clause was meant",
    "probability": "how sure the ranking is of the order",
    "gap": "by how much the ranking values the better reply more, in spreads of the contrast",
    "ranking_id": "the ranking that the pair is from, in the run's database",
    "chosen_id": "the better reply, in the run's database",
    "rejected_id": "the other reply, in the run's database",
}


def model_card(report: Report, form: str = "", kept: tuple[Kept, ...] = ()) -> str:
    """README.md of the policy in a form of `forms.FORMS`, with what was measured of it.

    Without a form that of a run's own folder: the adapter lies beside it, the merged model in
    `merged`.
    """
    base = hub_id(report.base_model)
    shipped = FORMS[form or "adapter"]
    data = ModelCardData(
        base_model=base,
        base_model_relation=shipped.relation if base else None,
        library_name=shipped.library,
        license=licence_of(report.base_model),
        pipeline_tag="text-generation",
        tags=["character", "lora", "trl", *(trait.id for trait in report.constitution.traits)],
    )
    return document(
        data.to_yaml(),
        f"# {_title(report)}",
        *_smoke(report),
        *([] if report.constitution.helpfulness_first else [f"**{escaped(HELPLESS)}**"]),
        escaped(headline(report)),
        "## Intended behaviour",
        *(_behaviour(trait) for trait in report.constitution.traits),
        "## Measured behaviour",
        "Means over held-out queries with 95 % bootstrap intervals. *base* is the model before "
        "training, *trained* is this model without any prompt, *prompted* and *opposite* are the "
        "base model with the traits' good and bad examples as earlier turns.",
        _measures(report),
        _shares(report),
        "## Side effects",
        _side_effects(report),
        *(kept_table(kept) if form else ()),
        *_reward_model(report.reward_card),
        "## Judge",
        _judge_status(report),
        "## Data",
        f"Queries were written by {code(_role(report, 'writer'))}, replies by "
        f"{code(report.base_model)}, and ranked by {code(report.judge)}. No person labelled "
        "anything. The generated data is CC0-1.0, like the traits.",
        _funnel(report),
        "## Training",
        f"Recipe “{escaped(report.recipe_title)}”, seed {report.seed}. Made with "
        f"{escaped(', '.join(f'{name} {version}' for name, version in report.versions.items()))}:",
        fence(report.command, "bash"),
        fence(as_yaml(report.recipe.get("training", {})), "yaml"),
        *(escaped(told) for told in (report.ppo.told if report.ppo else ())),
        "## Cost",
        _cost(report),
        "## How to load",
        loading(form) if form else _loading(report),
        "## Licences",
        _licences(report),
        "## Limitations",
        bullets(_limitations(report)),
    )


def dataset_card(
    report: Report, counts: Mapping[str, int], files: Mapping[str, str] | None = None
) -> str:
    """README.md of the pairs; `counts` holds the pairs of each split.

    `files` has the Parquet file of each split; without, they are as a run's own folder has them.
    """
    total = sum(counts.values())
    data = DatasetCardData(
        license="cc0-1.0",
        pretty_name=printable(f"Preference pairs for {_plain_title(report)}"),
        size_categories=[next((name for most, name in SIZES if total < most), "n>1M")],
        tags=["character", "dpo", "preference", "synthetic"],
        task_categories=["text-generation"],
        **({"configs": [_config(files)]} if files else {}),
    )
    return document(
        data.to_yaml(),
        f"# Preference pairs for {_title(report)}",
        *_smoke(report),
        f"{total:,} pairs of replies to the same query, in TRL's preference format.",
        table(("split", "pairs"), [(escaped(name), f"{n:,}") for name, n in counts.items()]),
        "## What the traits ask for",
        *(_behaviour(trait) for trait in report.constitution.traits),
        "## Columns",
        "The last four keep the lineage: from a pair back to the clause it was made for.",
        table(("column", "content"), [(code(name), told) for name, told in LINEAGE.items()]),
        "## How it was made",
        f"Queries were written by {code(_role(report, 'writer'))}, replies by "
        f"{code(report.base_model)}, some of them steered with the traits' examples, and ranked "
        f"by {code(report.judge)}. No person labelled anything. Queries that resemble each other "
        "are in the same split.",
        _funnel(report),
        fence(report.command, "bash"),
        "## How to load",
        fence(PARQUET if files else ON_DISK, "python"),
        "## Licence",
        "The pairs are generated text and are released as CC0-1.0, like the traits. The terms of "
        f"{code(report.base_model)} apply to what it wrote, where they claim to.",
        "## Limitations",
        bullets(_data_limitations(report)),
    )


def _config(files: Mapping[str, str]) -> dict[str, Any]:
    """Which files a Hub shows as which split."""
    parts = [{"split": split, "path": path} for split, path in files.items()]
    return {"config_name": "default", "data_files": parts}


def _behaviour(trait: Trait) -> str:
    parts = [f"### {escaped(trait.title)}", f"> {escaped(trait.statement)}"]
    parts.append(bullets(escaped(clause.text) for clause in trait.clauses))
    for title, places in (("Shows when", trait.applies.when), ("Unless", trait.applies.unless)):
        if places:
            parts += [f"{title}:", bullets(map(escaped, places))]
    return "\n\n".join(parts)


def _measures(report: Report) -> str:
    lines = [*(trait.contrast for trait in report.outcome.traits), *report.outcome.quality]
    rows = [
        (
            escaped(line.label) + ("" if line.unit == "share" else f" ({line.unit})"),
            *(_level(line, subject) for subject in report.outcome.subjects),
            _change(line),
            escaped(line.bar) or "none",
            verdict_of(line),
        )
        for line in lines
    ]
    return table(("measure", *report.outcome.subjects, "change", "bar", "holds?"), rows)


def _shares(report: Report) -> str:
    return "Share of the way from plain to prompted:\n\n" + bullets(
        f"{escaped(trait.title)}: {share_text(trait)}" for trait in report.outcome.traits
    )


def _side_effects(report: Report) -> str:
    """Every bar that was missed or could not be measured, and where a trait spills over."""
    found = [
        f"**{verdict_of(line)}**: {escaped(line.label)}, {_level(line, 'base')} to "
        f"{_level(line, 'trained')}, change {_change(line)} (bar: {escaped(line.bar)})"
        for line in (*lines_of(report, "missed"), *lines_of(report, "missing"))
    ]
    for trait in report.outcome.traits:
        found.append(
            f"{escaped(trait.title)} where it must not show: {spill_text(trait.unless)}, "
            f"change {_change(trait.unless)}"
        )
    held = "" if lines_of(report, "missed") else "Every bar that could be measured holds.\n\n"
    return held + bullets(found)


def _reward_model(card: RewardCard | None) -> list[str]:
    """The card of the reward model that was trained beside the policy; nothing without tests."""
    if not card or not card.tests:
        return []
    told = "Every required test holds: it may drive PPO."
    if not card.may_drive:
        told = f"It may not drive PPO: {escaped('; '.join(card.refusals))}."
    rows = [
        (
            escaped(test.name) + (f" ({escaped(test.note)})" if test.note else ""),
            f"{test.shown} {test.interval}".strip() or test.verdict,
            str(test.count or ""),
            escaped(test.bar) + (", required" if test.required else ""),
            test.verdict,
        )
        for test in card.tests
    ]
    return [
        "## Reward model",
        f"Tried on {card.pairs} pairs of held-out queries. {told}",
        table(("test", "value", "of", "bar", "holds?"), rows),
    ]


def _funnel(report: Report) -> str:
    rows = []
    for step in report.funnel:
        lost = [f"{escaped(reason)}: {count:,}" for reason, count in step.lost.items() if count]
        rows.append((escaped(step.stage), f"{step.kept:,}", "; ".join(lost) or "none"))
    return table(("stage", "kept", "lost or marked, and why"), rows)


def _cost(report: Report) -> str:
    if not report.costs:
        return f"{MISSING}."
    stages = [f"{escaped(cost.stage)}: {seconds_text(cost.seconds)}" for cost in report.costs]
    return (
        f"{minutes_text(report.seconds)} in all, peak memory {memory_text(report.peak_bytes)}.\n\n"
        + bullets(stages)
        + (f"\n\n{escaped(taken)}" if (taken := taken_text(report)) else "")
    )


def _loading(report: Report) -> str:
    merged = (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{report.policy}/merged")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{report.policy}/merged")'
    )
    adapter = (
        "from peft import AutoPeftModelForCausalLM\n\n"
        f'model = AutoPeftModelForCausalLM.from_pretrained("{report.policy}")'
    )
    return "\n\n".join(
        (
            "Merged, which is complete in itself:",
            fence(merged, "python"),
            "As an adapter on the base model that `adapter_config.json` names:",
            fence(adapter, "python"),
            "Beside the base model, in a terminal:",
            fence(chat_command(report), "bash"),
        )
    )


def _licences(report: Report) -> str:
    base, licence = code(report.base_model), licence_of(report.base_model)
    weights = f"{licence.capitalize()}, as {base}" if licence else f"the licence of {base} applies"
    return bullets((f"Weights: {weights}.", "Traits, queries, replies and pairs: CC0-1.0."))


def _judge_status(report: Report) -> str:
    """Whether the judge earned its place, trait by trait."""
    judge = code(report.judge)
    if not report.judge_cards:
        return f"No card was made of {judge}: how far its rankings can be trusted is not known."
    rows = []
    for card in report.judge_cards:
        verdict = "below its bars, accepted by hand" if card.refusals else "above its bars"
        missed = ", ".join(test.name for test in card.tests if test.passed is False)
        rows.append((code(card.trait), verdict, escaped(missed) or "none"))
    tried = f"{judge} was tried on planted replies, whose order is known from how they were made."
    return f"{tried}\n\n" + table(("trait", "judge", "tests it missed"), rows)


def _limitations(report: Report) -> list[str]:
    found = [_judged(report)]
    if _bundled(report.base_model):
        found += [
            "This is a very small model. It states falsehoods, computes badly and must not be "
            "relied on for facts or advice.",
            "Its base weights were unpacked from a 4-bit file, so they differ a little from those "
            "on the Hub; use the merged model to get exactly what was measured.",
        ]
    else:
        found.append(f"Every limit of {code(report.base_model)} remains.")
    return [
        *found,
        "Replies were measured at first turns and in the languages of the queries. Longer "
        "conversations, other formats and attempts to talk it out of character were not measured.",
        "Nothing here was tested for safety.",
    ]


def _data_limitations(report: Report) -> list[str]:
    return [
        _judged(report),
        "Replies come from a model and were checked by no person: they hold errors, and a chosen "
        "reply is only the better of two.",
    ]


def _judged(report: Report) -> str:
    if report.measured_by:
        circular = (
            f"{code(report.judge)} ranked the training pairs, and {code(report.measured_by)} "
            "measured the movement."
        )
    elif report.base_model in report.judge:
        circular = (
            f"It is judged by itself: {code(report.judge)} is the base model, it ranked the "
            "training pairs and it measured the movement. That is circular; the quality measures "
            "and the replies in the report are the check on it."
        )
    else:
        circular = (
            f"{code(report.judge)} ranked the training pairs and also measured the movement, so "
            "what it overrates is overrated twice."
        )
    return " ".join([circular, *_tried(report)])


def _tried(report: Report) -> Iterator[str]:
    """What the judge's cards say of it, in one sentence a trait."""
    for card in report.judge_cards:
        required = [test for test in card.tests if test.required and test.interval]
        told = ", ".join(f"{test.name} {test.shown} {test.interval}" for test in required)
        yield f"On planted replies of {code(card.trait)}: {told}."
    if report.judge_refused:
        yield "**The judge is below the bars of its card and was accepted by hand.**"


def _level(line: Line, subject: str) -> str:
    estimate, unit = known(line.subjects.get(subject)), unit_of(line)
    return f"{level_text(estimate, unit)} {interval_text(estimate, unit)}".rstrip()


def _change(line: Line) -> str:
    estimate, unit = known(line.change), unit_of(line)
    return f"{change_text(estimate, unit)} {interval_text(estimate, unit)}".rstrip()


def _smoke(report: Report) -> list[str]:
    return [f"> **{SMOKE}**"] if report.smoke else []


def _plain_title(report: Report) -> str:
    return " + ".join(trait.title for trait in report.constitution.traits)


def _title(report: Report) -> str:
    return escaped(_plain_title(report))


def _role(report: Report, role: str) -> str:
    return str(report.recipe.get("roles", {}).get(role, MISSING))


def _bundled(model: str) -> str | None:
    """The bundled model's own name; None when it is not one."""
    kind, _, name = model.partition(":")
    return name if kind == "bundled" and name in BUNDLED else None


def hub_id(model: str) -> str | None:
    """The model's id on the Hub; None when it has none, as a folder has."""
    bundled = _bundled(model)
    if bundled:
        return BUNDLED_HUB_IDS.get(bundled)
    kind, _, name = model.partition(":")
    local = Path(name).exists() or Path(name).parent.is_dir()
    return name if kind == "local" and HUB_ID.fullmatch(name) and not local else None


def licence_of(model: str) -> str | None:
    """The bundled model's licence; None elsewhere, where only its maker can say."""
    bundled = _bundled(model)
    return BUNDLED[bundled].licence.lower() if bundled else None
