"""What a diff will ask, before it asks: calls, tokens and minutes."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import replace

from scipy import stats

from character.diff_job import DiffJob, own_folder
from character.diffing.config import SuiteConfig
from character.diffing.contributions import ATTRIBUTED
from character.diffing.inference import ALPHA, POWER
from character.diffing.proposals import BATCHES, MOST, TRIED
from character.diffing.suite import MEASURED_TURNS, Item, Suite, make_suite
from character.diffing.verdicts import FEWEST
from character.errors import RecipeError
from character.models.names import has_weights
from character.models.prices import price_of
from character.plan import (
    ANSWERED,
    ASKED,
    LATENCY,
    PROMPT,
    SAMPLES,
    SCORES,
    WRITES,
    PlannedStage,
    tried,
)
from character.rows import Kind, Query, content_id

TYPICAL_SD = 0.19  # of a query's difference, nats a token: curious against its base
TYPICAL_PREFERENCE_SD = 0.5  # of a query's net preference, which lies between -1 and 1
SAMPLED = 0.5  # share of that variance that is between samples of one query
LARGEST = 4  # times the default suite, before a query is answered more than once
CONCURRENT = 64  # requests at once


def plan(job: DiffJob) -> list[PlannedStage]:
    """An upper estimate: every query found, every reply as long as it may be."""
    suite = job.suite or _as_large(job)
    fewer = tuple(suite.of(*ATTRIBUTED))
    config, samples = job.config, job.config.samples
    stages = tried(len(job.traits), job.card) if job.card else []
    sides = [("old", job.old, suite.items), ("new", job.new, suite.items)]
    sides += [(f"without {each.trait}", each.version, fewer) for each in job.without]
    for name, version, items in sides:
        long = sum(_turns(item) for item in items if not item.accept)
        brief = sum(_turns(item) for item in items if item.accept)
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
    # a comparison is with OLD, whose share comes with it; a value is of one reply alone
    more = samples * len(job.without) * (2 if job.compares else 1)
    looked_at = 2 * samples * sum(_looked_at(item) for item in suite.items if not item.accept)
    looked_at += more * sum(_looked_at(item) for item in fewer if not item.accept)
    panel = (2 * samples + more) * min(config.panel, len(suite.of("neutral"))) * len(job.panel)
    talk = samples * (2 + len(job.without)) * len(suite.of("on_trait", "neutral"))
    stages.append(_read("relevance and fluency", 2 * talk, length))
    stages.append(_examined(job, "contrast", looked_at + 2 * own * samples, length))
    if panel:
        stages.append(_examined(job, "off-target panel", panel, length))
    if job.proposer:
        stages.append(_proposed(job))
    return stages


def detectable(job: DiffJob) -> dict[str, float]:
    """About the smallest movement of each trait that so many queries find in 80 % of cases.

    Nats a token, or net preference; with several traits the interval widens as Bonferroni's would,
    at most.
    """
    suite = job.suite or _as_large(job)
    level = ALPHA / (2 * len(job.traits))
    reach = float(stats.norm.ppf(1 - level) + stats.norm.ppf(POWER))
    spread = TYPICAL_PREFERENCE_SD if job.compares else TYPICAL_SD
    spread *= math.sqrt(1 - SAMPLED + SAMPLED / job.config.samples)
    counts = {t.id: sum(i.trait == t.id for i in suite.of("on_trait")) for t in job.traits}
    return {trait: reach * spread / math.sqrt(max(1, n)) for trait, n in counts.items()}


def within(job: DiffJob, budget: int) -> DiffJob:
    """The same diff with at most so many replies written in all: queries before samples.

    A smaller or larger suite first, and more replies to each query only when it is as large as it
    gets. A suite that was given keeps its queries; replies that were saved are what they are.
    Raises RecipeError when the smallest diff takes more.
    """
    sampled = job.old.saved is None and job.new.saved is None

    def at(share: float, samples: int = 1) -> DiffJob:
        sizes = job.suite_config if job.suite else _scaled(job.suite_config, share)
        config = job.config.model_copy(update={"samples": samples})
        return replace(job, suite_config=sizes, config=config)

    least = _replies(at(0))
    if least > budget:
        hint = "a smaller suite" if job.suite else "fewer traits, or --quick"
        raise RecipeError(f"--budget {budget}: at least {least} replies are needed. Take {hint}")
    shares = [percent / 100 for percent in range(1, 100 * LARGEST + 1)]
    share = shares[max(0, bisect_right(shares, budget, key=lambda each: _replies(at(each))) - 1)]
    if _replies(at(share)) > budget:
        share = 0
    full = job.suite is not None or share == LARGEST
    samples = budget // _replies(at(share)) if full and sampled else 1
    fitted = replace(at(share, samples), command=f"{job.command} --budget {budget}")
    named = job.folder == own_folder(job)
    return replace(fitted, folder=own_folder(fitted)) if named else fitted


def _replies(job: DiffJob) -> int:
    return sum(stage.calls for stage in plan(job) if stage.stage == "answers")


def _scaled(config: SuiteConfig, share: float) -> SuiteConfig:
    """Every stratum's share of its size; a trait never has fewer queries than say anything."""
    sizes = {name: round(share * size) for name, size in config.model_dump().items()}
    return SuiteConfig(**sizes | {"on_trait": max(FEWEST, sizes["on_trait"])})


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
    return _told("answers", f"{what}, by {model}", model, calls, PROMPT, length)


def _examined(job: DiffJob, what: str, answers: int, length: int) -> PlannedStage:
    """Two contexts an answer, or where the examiner compares two orders a pair."""
    if not job.compares:
        return _read(what, 2 * answers, length)
    asks = answers * (1 if job.examiner.startswith("openai") else SAMPLES)
    return _told("examiner", f"{what}, by {job.examiner}", job.examiner, asks, ASKED, ANSWERED)


def _proposed(job: DiffJob) -> PlannedStage:
    """OLD against NEW, and OLD against itself: lists, then every statement of every reply."""
    times = 2 if job.config.again and job.old.saved is None else 1
    calls = times * (BATCHES + 2 * MOST * TRIED)
    told = f"statements, by {job.proposer}"
    if has_weights(job.proposer):
        return _read(told, calls, ASKED)
    return _told("proposer", told, job.proposer, calls, ASKED, ANSWERED)


def _told(stage: str, what: str, model: str, calls: int, read: int, written: int) -> PlannedStage:
    quote = price_of(model)
    dollars = calls * quote.price.most(read, written) if quote else None
    return PlannedStage(
        stage, what, calls, calls * (read + written), calls * LATENCY / CONCURRENT, dollars
    )


def _read(what: str, calls: int, length: int) -> PlannedStage:
    return PlannedStage("examiner", what, calls, calls * length, calls * length / SCORES)
