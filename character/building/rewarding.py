"""PPO after DPO, and what its guards look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from character.building.context import Build
from character.diffing.measure import (
    short_questions,
)
from character.judging.checks import CheckError, check_reply
from character.judging.judge import Said
from character.judging.likelihood import (
    contrast,
)
from character.models.base import Message, Request
from character.models.local import LocalModel
from character.progress import Bar
from character.rows import (
    Query,
    Row,
)
from character.run import plain
from character.spec.schema import Trait
from character.text import accepted
from character.training.guards import GUARDED
from character.training.policy import (
    rewarded_adapter,
)
from character.training.ppo import Watch
from character.training.ppo_reward import disagreement_of, ppo_reward
from character.training.reward_card import (
    read_card,
)
from character.training.reward_ensemble import RewardModel, load_reward_model
from character.training.rollouts import Rollout


def train_with_ppo(this: Build, preferred: Path, queries: Sequence[Query]) -> Path:
    """PPO on the reward model and the traits' checks, watched on held-out queries; without
    updates the policy as DPO left it.
    """
    recipe, models, config = this.recipe, this.models, this.recipe.training.ppo
    if not config.updates:
        return preferred
    traits = {trait.id: trait for trait in this.constitution.traits}
    used = [q for q in queries if q.kind == "on_trait" and q.split != "none"]
    asked = {query.text: traits[query.trait] for query in used}

    def checked(rollouts: Sequence[Rollout]) -> list[float | None]:
        return [_checked(asked[r.query], r.query, r.text) for r in rollouts]

    def make(checkpoints: Path, target: Path, bar: Bar) -> Sequence[Row]:
        folder = this.run.folder / this.stage("reward_model")
        base, tokenizer = models.folder(recipe.roles.policy), models[recipe.roles.policy].tokenizer
        model = load_reward_model(folder, base, tokenizer, recipe.training.reward.pessimism)
        reward = ppo_reward(
            model,
            read_card(folder),
            checked if any(trait.checks for trait in traits.values()) else None,
            config.checks,
            config.floor,
            recipe.replies.looping,
            this.language,
        )
        steps, guarded = rewarded_adapter(
            base,
            preferred,
            [query.text for query in used if query.split == "train"],
            reward,
            _watch(this, [query for query in used if query.split == "held_out"], model),
            config,
            this.seed,
            checkpoints,
            target,
            bar.to,
        )
        this.run.record(**{GUARDED: plain(guarded)})
        return this.own(steps)

    return this.run.artefact(this.stage("ppo"), this.title("PPO"), make)


def _watch(this: Build, held: Sequence[Query], model: RewardModel) -> Watch:
    """What the guards of PPO look at: contrasts, short questions, where reward models differ."""
    config, sampling = this.recipe.training.ppo.guards, this.recipe.measure.short_sampling
    watched = evenly(held, config.queries)
    asked = {query.text: query.trait for query in watched}
    questions = short_questions("dev")[: config.questions]  # the others are reported

    def independent(rollouts: Sequence[Rollout]) -> list[float | None]:
        found: dict[int, float | None] = {}
        for trait in this.constitution.traits:
            own = [i for i, r in enumerate(rollouts) if asked[r.query] == trait.id]
            said = [Said(rollouts[i].query, rollouts[i].text, rollouts[i].ended) for i in own]
            found |= dict(zip(own, contrast(this.scorer, trait, said), strict=True))
        return [found[i] for i in range(len(rollouts))]

    def others(rollouts: Sequence[Rollout]) -> dict[str, list[float | None]]:
        found = {}
        for trait in this.constitution.traits:
            said = [Said(r.query, r.text, r.ended) for r in rollouts if asked[r.query] != trait.id]
            if said:
                found[trait.id] = contrast(this.scorer, trait, said)
        return found

    def short(policy: LocalModel) -> float | None:
        requests = [Request((Message("user", question.ask),)) for question in questions]
        right = [
            accepted(reply.text, list(question.accept))
            for question, reply in zip(questions, policy.generate(requests, sampling), strict=True)
        ]
        return sum(right) / len(right) if right else None

    return Watch(
        [query.text for query in watched],
        [query.trait for query in watched],
        independent,
        others,
        short,
        disagreement_of(model),
        this.run.reporter.say,
    )


def evenly(queries: Sequence[Query], count: int) -> list[Query]:
    """At most so many of them, of each trait as many as of the others where there are enough."""
    place: dict[str, int] = defaultdict(int)
    turns: list[tuple[int, int, Query]] = []
    for query in queries:
        turns.append((place[query.trait], len(turns), query))
        place[query.trait] += 1
    return [query for *_, query in sorted(turns, key=lambda turn: turn[:2])[:count]]


def _checked(trait: Trait, query: str, reply: str) -> float | None:
    """The share of its checks that a reply passes; None when it cannot be found out.

    Where none applies, none applies to any reply to the query, and all have the same.
    """
    try:
        return check_reply(trait, query, reply) or 0.0
    except CheckError:
        return None
