"""Ask a subject what a build asks its policy, and measure it in the same way."""

from __future__ import annotations

from collections.abc import Sequence

from character.diffing.measure import Subject, ask, count, measurement
from character.diffing.outcome import contrast_metric
from character.judging.judge import Said
from character.judging.likelihood import contrast
from character.models.local import LocalModel
from character.recipe import Recipe
from character.rows import Measurement, Query
from character.spec.schema import Trait


def held_out(queries: Sequence[Query]) -> list[Query]:
    """Those that a build measures on."""
    return [q for q in queries if q.split == "held_out" and q.kind in ("on_trait", "unless")]


def measured(
    subject: Subject,
    queries: Sequence[Query],
    traits: Sequence[Trait],
    judge: LocalModel,
    recipe: Recipe,
) -> list[Measurement]:
    """What code counts, and each trait's contrast, of the subject's answers to these queries."""
    answers = ask(subject, queries, recipe.measure, recipe.seed)
    rows = count(answers, recipe.measure)
    known = {query.id for query in queries}
    said = [answer for answer in answers if answer.query_id in known]
    for trait in traits:
        values = contrast(judge, trait, [Said(a.prompt, a.text, a.ended) for a in said])
        metric = contrast_metric(trait.id)
        rows += [measurement(a, metric, v) for a, v in zip(said, values, strict=True)]
    return rows
