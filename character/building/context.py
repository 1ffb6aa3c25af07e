"""What every stage of a build is given."""

from __future__ import annotations

from dataclasses import dataclass

from character.language import language_of
from character.models.local import LocalModel
from character.models.names import has_weights
from character.opened import Models
from character.recipe import Recipe
from character.run import Run
from character.spec.constitution import Constitution


@dataclass(frozen=True, slots=True)
class Build:
    """What every stage is given."""

    constitution: Constitution
    recipe: Recipe
    run: Run
    models: Models
    accept_judge: bool = False

    @property
    def scorer(self) -> LocalModel:
        """Whose log-probabilities are read: the judge where its weights are here, or the policy."""
        roles = self.recipe.roles
        return self.models[roles.judge if has_weights(roles.judge) else roles.policy]

    @property
    def language(self) -> str:
        """The language that the traits' examples are written in."""
        examples = (e for trait in self.constitution.traits for e in trait.examples)
        return language_of(" ".join(f"{e.user} {e.good}" for e in examples))
