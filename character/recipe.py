"""A recipe: models per role and the settings of every stage, from one YAML page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rapidfuzz import process

from character import shipped
from character.data.pairs import PairsConfig
from character.data.queries import QueriesConfig
from character.data.replies import RepliesConfig
from character.diffing.config import MeasureConfig
from character.errors import RecipeError
from character.judging.config import RankingConfig
from character.training.config import TrainingConfig

SUFFIX = ".yaml"


class Roles(BaseModel):
    """Which model plays which part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    writer: str = "bundled:smollm2-135m"
    policy: str = "bundled:smollm2-135m"
    judge: str = "bundled:smollm2-135m"


class Recipe(BaseModel):
    """Everything a build is told besides the traits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    smoke: bool = Field(default=False, description="A build too small to mean anything; says so.")
    seed: int = Field(default=0, ge=0, lt=2**31)
    roles: Roles = Roles()
    queries: QueriesConfig = QueriesConfig()
    replies: RepliesConfig = RepliesConfig()
    ranking: RankingConfig = RankingConfig()
    pairs: PairsConfig = PairsConfig()
    training: TrainingConfig = TrainingConfig()
    measure: MeasureConfig = MeasureConfig()


def load_recipe(reference: str, settings: Iterable[str] = ()) -> Recipe:
    """The recipe by name or path, with `key.key=value` settings on top.

    Raises RecipeError for an unknown name, a key that does not exist or a wrong value.
    """
    path = shipped.find("pipelines", reference, SUFFIX)
    if path is None:
        known = shipped.names("pipelines", SUFFIX)
        raise RecipeError(
            f"no recipe {reference!r}{_meant(reference, known)}. There are: {', '.join(known)}; "
            "or give the path of a YAML file, for example --recipe pipelines/default.yaml"
        )
    values = _read(path)
    for setting in settings:
        _set(values, setting)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_explain(path, error)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, OSError) as error:  # ValueError: 2024-13-45
        raise RecipeError(f"{path}: cannot be read as YAML: {error}") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a mapping, for example `title: My recipe`")
    return values


def _set(values: dict[str, Any], setting: str) -> None:
    key, separator, text = setting.partition("=")
    if not separator or not key:
        raise RecipeError(
            f"--set {setting!r} is not key=value; for example --set replies.steered=4"
        )
    *path, last = key.strip().split(".")
    place = values
    for part in path:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise RecipeError(f"--set {setting!r}: {part!r} holds a value, not further keys")
    try:
        place[last] = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        raise RecipeError(f"--set {setting!r}: the value is not YAML; quote it") from None


def _explain(path: Path, error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        place = [part for part in problem["loc"] if isinstance(part, str)]
        name = ".".join(place)
        if problem["type"] == "extra_forbidden":
            known = _keys(place[:-1])
            lines.append(
                f"{path}: there is no setting {name!r}{_meant(place[-1], known)}. "
                f"{'.'.join(place[:-1]) or 'A recipe'} has: {', '.join(known)}"
            )
        else:
            lines.append(f"{path}: {name} = {problem['input']!r}: {problem['msg'].lower()}")
    return "\n".join(lines)


def _keys(place: list[str]) -> list[str]:
    model: Any = Recipe
    for part in place:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


def _meant(word: str, known: Iterable[str]) -> str:
    match = process.extractOne(word, list(known), score_cutoff=60)
    return f" (did you mean {match[0]!r}?)" if match else ""
