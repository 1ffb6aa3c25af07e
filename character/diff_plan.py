"""What a diff will ask, before it asks: calls, tokens and minutes."""

from __future__ import annotations

import math

from scipy import stats

from character.diff_job import DiffJob
from character.diffing.inference import ALPHA, POWER
from character.diffing.suite import MEASURED_TURNS, Item, Suite, make_suite
from character.models.names import has_weights
from character.models.prices import price_of
from character.plan import LATENCY, PROMPT, SCORES, WRITES, PlannedStage, tried
from character.rows import Kind, Query, content_id

TYPICAL_SD = 0.19  # of a query's difference, nats a token: curious against its base


def plan(job: DiffJob) -> list[PlannedStage]:
    """An upper estimate: every query found, every reply as long as it may be."""
    suite = job.suite or _as_large(job)
    long = sum(_turns(item) for item in suite.items if not item.accept)
    brief = sum(_turns(item) for item in suite.items if item.accept)
    config, samples = job.config, job.config.samples
    stages = tried(len(job.traits), job.card) if job.card else []
    for name, version in (("old", job.old), ("new", job.new)):
        if version.saved is None:
            for what, calls, length in (
                (f"{name}'s replies", long, config.sampling.max_tokens),
                (f"{name}'s short answers", brief, config.brief.max_tokens),
            ):
                stages.append(_asked(version.model, what, calls * samples, length))
    own = len(suite.of("on_trait"))
    if config.again and job.old.saved is None:
        talk = len(suite.of("on_trait", "neutral")) * samples
        stages.append(
            _asked(job.old.model, "old's replies, again", talk, config.sampling.max_tokens)
        )
    length = PROMPT + config.sampling.max_tokens
    stages.append(
        _asked(job.planter, "planted replies", 2 * own * samples, config.sampling.max_tokens)
    )
    looked_at = 2 * samples * sum(_looked_at(item) for item in suite.items if not item.accept)
    panel = 2 * samples * min(config.panel, len(suite.of("neutral"))) * len(job.panel)
    stages.append(
        _scored("relevance and fluency", 4 * samples * len(suite.of("on_trait", "neutral")), length)
    )
    stages.append(_scored("contrast", 2 * (looked_at + 2 * own * samples), length))
    if panel:
        stages.append(_scored("off-target panel", 2 * panel, length))
    return stages


def detectable(job: DiffJob) -> float:
    """About the smallest movement of a trait that this many queries find in 80 % of cases.

    Nats a token; with several traits the interval widens as Bonferroni's would, at most.
    """
    suite = job.suite or _as_large(job)
    counts = [sum(i.trait == t.id for i in suite.of("on_trait")) for t in job.traits]
    level = ALPHA / (2 * len(job.traits))
    reach = float(stats.norm.ppf(1 - level) + stats.norm.ppf(POWER))
    return reach * TYPICAL_SD / math.sqrt(max(1, min(counts)))


def _as_large(job: DiffJob) -> Suite:
    """A suite of the size the real one will have at most."""
    config = job.suite_config
    written = {}
    for trait in job.traits:
        kinds: list[Kind] = ["on_trait"] * config.on_trait
        kinds += ["unless"] * config.unless
        written[trait.id] = [
            Query(
                id=content_id(trait.id, number), text=f"{trait.id} {number}", kind=kind,
                trait=trait.id, clause="", topic="", register="", source="writer", cluster=0,
                split="held_out", dropped="",
            )
            for number, kind in enumerate(kinds)
        ]  # fmt: skip
    return make_suite(written, config)


def _turns(item: Item) -> int:
    return len(item.turns)


def _looked_at(item: Item) -> int:
    return len(MEASURED_TURNS) if item.stratum == "multi_turn" else 1


def _asked(model: str, what: str, calls: int, length: int) -> PlannedStage:
    if has_weights(model):
        return PlannedStage("answers", what, calls, calls * length, calls * length / WRITES)
    quote = price_of(model)
    dollars = calls * quote.price.most(PROMPT, length) if quote else None
    return PlannedStage(
        "answers", f"{what}, by {model}", calls, calls * length, calls * LATENCY / 64, dollars
    )


def _scored(what: str, calls: int, length: int) -> PlannedStage:
    return PlannedStage("examiner", what, calls, calls * length, calls * length / SCORES)
