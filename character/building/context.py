"""What every stage of a build is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from character.earlier import Earlier
from character.language import language_of
from character.models.local import LocalModel
from character.models.names import has_weights
from character.opened import Models
from character.recipe import Recipe
from character.rows import Reward, Row, Step, Taught, content_id
from character.run import Run
from character.spec.constitution import Constitution

ROUND = 1_000_003  # between the seeds of two rounds


@dataclass(frozen=True, slots=True)
class Build:
    """What every stage is given."""

    constitution: Constitution
    recipe: Recipe
    run: Run
    models: Models
    accept_judge: bool = False
    round: int = 0
    """0 is the build's own training; later rounds go on from what it came to."""
    earlier: Earlier | None = None
    """What there is to take over; nothing in a later round."""

    @property
    def seed(self) -> int:
        """Of every draw of this round."""
        return (self.recipe.seed + ROUND * self.round) % 2**31

    def stage(self, name: str) -> str:
        """A stage of this round, as the store and the run folder know it."""
        return f"{name}-{self.round}" if self.round else name

    def title(self, name: str) -> str:
        return f"{name}, round {self.round}" if self.round else name

    def own(self, rows: Sequence[Row]) -> Sequence[Row]:
        """What a training learned and logged, told from the same of other rounds."""
        if not self.round:
            return rows
        found: list[Row] = []
        for row in rows:
            if isinstance(row, Step | Taught | Reward):
                row = replace(row, id=content_id("round", self.round, row.id))
            if isinstance(row, Step | Taught):
                row = replace(row, stage=self.stage(row.stage))
            found.append(row)
        return found

    @property
    def scorer(self) -> LocalModel:
        return self.models[self.scored_by]

    @property
    def scored_by(self) -> str:
        """Whose log-probabilities are read: the judge where its weights are here, or the policy."""
        roles = self.recipe.roles
        return roles.judge if has_weights(roles.judge) else roles.policy

    @property
    def language(self) -> str:
        """The language that the traits' examples are written in."""
        examples = (e for trait in self.constitution.traits for e in trait.examples)
        return language_of(" ".join(f"{e.user} {e.good}" for e in examples))
