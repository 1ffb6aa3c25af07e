"""What the trained policy says, beside the model it came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from character.building.context import Build
from character.diffing.measure import (
    Subject,
    answer_plan,
    answers_each,
    ask,
    count,
    mean_logprobs,
    measurement,
)
from character.diffing.outcome import BASE, BEST, OPPOSITE, PROMPTED, TRAINED, contrast_metric
from character.errors import RunError
from character.folder import newest
from character.judging.judge import Said
from character.judging.likelihood import (
    contrast,
    foils,
    relevance,
)
from character.judging.ranking import quality_floor
from character.models.base import Generation, Request
from character.models.best_of import BestOf
from character.models.local import LocalModel
from character.progress import Bar
from character.rows import (
    Answer,
    Judgement,
    Measurement,
    Query,
    Reply,
)
from character.run import Chunk
from character.spec.demonstrations import demonstrations
from character.text import whole_sentences
from character.training.reward_ensemble import load_reward_model
from character.training.reward_model import conversation


def measure(
    this: Build,
    trained: Path,
    queries: Sequence[Query],
    replies: Sequence[Reply],
    judgements: Sequence[Judgement],
) -> None:
    """Ask every subject the held-out queries, then count and score what it said."""
    if "measure" in this.run.store.finished():
        return
    constitution, recipe, models = this.constitution, this.recipe, this.models
    config, seed = recipe.measure, recipe.seed
    base = models[recipe.roles.policy]
    new = models[f"local:{trained / 'merged'}"]
    held = [q for q in queries if q.split == "held_out" and q.kind in ("on_trait", "unless")]
    good = tuple(turn for t in constitution.traits for turn in demonstrations(t, "good"))
    bad = tuple(turn for t in constitution.traits for turn in demonstrations(t, "bad"))
    subjects = [
        Subject(BASE, base),
        Subject(TRAINED, new),
        Subject(PROMPTED, base, good),
        Subject(OPPOSITE, base, bad),
    ]
    if config.best_of:
        subjects.append(Subject(BEST, _best_of(this, base)))
    each = answers_each(held, config)
    answers = this.run.each(
        "answers",
        "Answers",
        Answer,
        [Chunk(answer_plan(subject, held, seed), each, subject) for subject in subjects],
        lambda todo: (ask(subject, held, config, seed) for subject in todo),
    )
    floor = quality_floor(replies, judgements, recipe.ranking.floor)

    def score(bar: Bar) -> list[Measurement]:
        judge = this.scorer
        at_queries = [a for a in answers if a.query_id in {q.id for q in held}]
        said = [Said(a.prompt, a.text, a.ended) for a in at_queries]
        rows = count(answers, config)
        for trait in constitution.traits:
            values = contrast(judge, trait, said)
            metric = contrast_metric(trait.id)
            rows += [measurement(a, metric, v) for a, v in zip(at_queries, values, strict=True)]
            bar.add(1)
        foil = foils(query.text for query in held)
        fluency = mean_logprobs(base, at_queries)
        bar.add(1)
        relevant = relevance(judge, said, foil, fluency if judge is base else None)
        bar.add(1)
        for answer, value in zip(at_queries, relevant, strict=True):
            answered = floor.answers(value) if answer.text else False  # silence answers nothing
            rows.append(measurement(answer, "relevance", value))
            rows.append(
                measurement(answer, "answers", None if answered is None else float(answered))
            )
        rows += [measurement(a, "fluency", v) for a, v in zip(at_queries, fluency, strict=True)]
        own = [(a, v) for a, v in zip(at_queries, fluency, strict=True) if a.subject == TRAINED]
        likely = mean_logprobs(new, [answer for answer, _ in own])
        bar.add(1)
        for (answer, under_base), under_new in zip(own, likely, strict=True):
            gap = None if under_base is None or under_new is None else under_new - under_base
            rows.append(measurement(answer, "kl", gap))
        return rows

    passes = len(constitution.traits) + 3  # contrast for each trait, fluency, relevance, KL
    this.run.once("measure", "Measurements", Measurement, score, passes, "passes")


def _best_of(this: Build, base: LocalModel) -> BestOf:
    """The base model, which says the best of its plain replies by the newest reward model."""
    folder = newest(this.run.folder, "reward_model")
    if folder is None:
        raise RunError(
            f"{this.run.folder} has no reward model to take the best of n by. Leave out"
            " measure.best_of, or build again elsewhere."
        )
    policy, pessimism = this.recipe.roles.policy, this.recipe.training.reward.pessimism
    model = load_reward_model(folder, this.models.folder(policy), base.tokenizer, pessimism)

    def rate(said: Sequence[tuple[Request, Generation]]) -> list[float]:
        return model.rewards(
            [
                conversation(
                    request.conversation[-1].content,
                    reply.text if reply.finish == "stop" else whole_sentences(reply.text),
                )
                for request, reply in said
            ]
        )

    return BestOf(base, this.recipe.measure.best_of, rate, folder.name)
