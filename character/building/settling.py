"""How far policies are from the base model, and the weakest one that is far enough."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from character.building.context import Build
from character.building.rewarding import evenly
from character.diffing.measure import Subject, mean_logprobs
from character.diffing.outcome import contrast_metric
from character.measuring import measured
from character.models.local import LocalModel
from character.plan import DISTANCE
from character.progress import Bar
from character.rows import Answer, Judgement, Measurement, Query, Reply, Row, content_id
from character.training.dose import Strength, weakest_strength
from character.training.policy import at_dose, save_policy

SETTLED = "settled"  # the artefact, and the fact of run.json that says how it came about


def measure_distances(
    this: Build, distilled: Path, queries: Sequence[Query], replies: Sequence[Reply]
) -> None:
    """The KL of each dose to the base model on its own replies, in nats a token (estimator k1)."""
    doses = this.recipe.training.dose.tried
    own = {(r.query_id, r.sample): r for r in replies if r.style == "own"}
    if not own:
        return
    known = {query_id for query_id, _ in own}
    asked = evenly([query for query in queries if query.id in known], DISTANCE)
    policy = this.recipe.roles.policy

    def make(bar: Bar) -> list[Measurement]:
        rows = []
        for sample, dose in enumerate(doses):
            said = [_as_answer(query, own[query.id, sample], dose_name(dose)) for query in asked]
            model = _strong(this, distilled, dose)
            rows += distances(model, this.models[policy], said)
            bar.add(1)
        return rows

    this.run.once("distances", "Distances", Measurement, make, len(doses), "doses")


def settle(
    this: Build,
    trained: Path,
    queries: Sequence[Query],
    replies: Sequence[Reply],
    judgements: Sequence[Judgement],
) -> Path:
    """The trained policy at the least strength that reaches `training.settle.target`.

    What an adapter adds is scaled down, which approximates a training held harder to its reference:
    scaling the deviation by 1/c is like multiplying beta by c (Liu et al. 2024, Decoding-time
    realignment, in logits; Rame et al. 2024, WARP, in weights). One training, and some replies.
    """
    config = this.recipe.training.settle
    if config.target is None:
        return trained
    on = [q for q in queries if q.kind == "on_trait" and q.split == "train"]
    asked = evenly(on, config.queries)

    def ask(bar: Bar) -> list[Measurement]:
        judge, rows = this.scorer, list[Measurement]()
        few = this.recipe.measure.model_copy(update={"questions": 0})
        recipe = this.recipe.model_copy(update={"measure": few})
        for strength in config.tried:
            subject = Subject(strength_name(strength), _strong(this, trained, strength))
            rows += measured(subject, asked, this.constitution.traits, judge, recipe)
            bar.add(1)
        return rows

    rows = this.run.once("strengths", "Strengths", Measurement, ask, len(config.tried), "strengths")
    traits = {query.id: query.trait for query in asked}
    plain, steered = (_judged(style, traits, replies, judgements) for style in ("plain", "steered"))
    found = [Strength(s, _contrast(strength_name(s), traits, rows)) for s in config.tried]
    chosen = weakest_strength(found, plain, steered, config.target)

    def make(checkpoints: Path, target: Path, bar: Bar) -> Sequence[Row]:
        base = this.models.folder(this.recipe.roles.policy)
        policy, tokenizer = at_dose(base, trained, chosen.strength)
        save_policy(policy, tokenizer, target)
        return []

    place = this.run.artefact(SETTLED, "Settling", make)
    this.run.record(**{SETTLED: {"strength": chosen.strength, "told": chosen.told}})
    this.run.reporter.say(chosen.told)
    return place


def distances(model: LocalModel, base: LocalModel, said: Sequence[Answer]) -> list[Measurement]:
    """How much likelier each answer is to the model than to the base, nats a token."""
    pairs = zip(said, mean_logprobs(model, said), mean_logprobs(base, said), strict=True)
    return [
        Measurement(
            content_id("measurement", answer.id, answer.subject, "kl"), answer.id, answer.subject,
            answer.query_id, "kl", None if own is None or there is None else own - there,
        )
        for answer, own, there in pairs
    ]  # fmt: skip


def dose_name(dose: float) -> str:
    return f"dose {dose:g}"


def strength_name(strength: float) -> str:
    return f"strength {strength:g}"


def _strong(this: Build, adapter: Path, strength: float) -> LocalModel:
    base = this.models.folder(this.recipe.roles.policy)
    policy, tokenizer = at_dose(base, adapter, strength)
    return LocalModel(policy.merge_and_unload(), tokenizer, f"{adapter.name} x{strength:g}")


def _as_answer(query: Query, reply: Reply, subject: str) -> Answer:
    return Answer(reply.id, subject, query.id, query.text, reply.text, reply.tokens, reply.ended)


def _contrast(subject: str, traits: Mapping[str, str], rows: Sequence[Measurement]) -> float | None:
    """Of each answer for the trait its query is about, on average."""
    found = [
        row.value
        for row in rows
        if row.subject == subject
        and row.value is not None
        and row.query_id in traits
        and row.metric == contrast_metric(traits[row.query_id])
    ]
    return fmean(found) if found else None


def _judged(
    style: str,
    traits: Mapping[str, str],
    replies: Sequence[Reply],
    judgements: Sequence[Judgement],
) -> float | None:
    """The base model's replies of a style to the same queries."""
    by: dict[tuple[str, str], float] = {
        (j.reply_id, j.trait): j.contrast for j in judgements if j.contrast is not None
    }
    means: dict[str, list[float]] = defaultdict(list)
    for reply in replies:
        if reply.style == style and reply.query_id in traits:
            value = by.get((reply.id, traits[reply.query_id]))
            if value is not None:
                means[reply.query_id].append(value)
    return fmean(fmean(values) for values in means.values()) if means else None
