"""A recipe: models per role and the settings of every stage, from one YAML page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rapidfuzz import process

from character import shipped
from character.data.documents import DocumentsConfig
from character.data.introspection import IntrospectionConfig
from character.data.pairs import PairsConfig
from character.data.queries import QueriesConfig
from character.data.replies import RepliesConfig
from character.data.revisions import RevisionsConfig
from character.diffing.config import MeasureConfig
from character.errors import RecipeError
from character.judging.config import CardConfig, RankingConfig
from character.models.config import RequestsConfig
from character.models.names import BUNDLED_DEFAULT
from character.training.config import TrainingConfig
from character.yaml_file import FaultyFileError, at, descend, read_yaml

SUFFIX = ".yaml"
_START = "A recipe is a mapping, for example `title: My recipe`."

Given = tuple[tuple[str, ...], str]  # the keys a setting leads to, and the setting


class Roles(BaseModel):
    """Which model plays which part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    writer: str = BUNDLED_DEFAULT
    policy: str = BUNDLED_DEFAULT
    judge: str = BUNDLED_DEFAULT


class Recipe(BaseModel):
    """Everything a build is told besides the traits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    smoke: bool = Field(default=False, description="A build too small to mean anything; says so.")
    seed: int = Field(default=0, ge=0, lt=2**31)
    roles: Roles = Roles()
    queries: QueriesConfig = QueriesConfig()
    replies: RepliesConfig = RepliesConfig()
    revisions: RevisionsConfig = RevisionsConfig()
    documents: DocumentsConfig = DocumentsConfig()
    introspection: IntrospectionConfig = IntrospectionConfig()
    card: CardConfig = CardConfig()
    ranking: RankingConfig = RankingConfig()
    pairs: PairsConfig = PairsConfig()
    training: TrainingConfig = TrainingConfig()
    rounds: int = Field(
        default=0,
        ge=0,
        description="Further rounds: the trained policy answers fresh queries and learns again.",
    )
    measure: MeasureConfig = MeasureConfig()
    requests: RequestsConfig = RequestsConfig()


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
    try:
        root, values = read_yaml(path, "recipe", _START)
        given = [_set(values, setting) for setting in settings]
        return Recipe.model_validate(_over_defaults(Recipe, values))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}.") from None
    except FaultyFileError as error:
        raise RecipeError(error.lines(path)) from None
    except ValidationError as error:
        raise RecipeError(_explain(path, root, given, error)) from None


def _set(values: dict[str, Any], setting: str) -> Given:
    """Put a setting over the file's values."""
    key, separator, text = setting.partition("=")
    if not separator or not key:
        raise RecipeError(
            f"--set {setting!r} is not key=value; for example --set replies.steered=4"
        )
    *path, last = keys = tuple(key.strip().split("."))
    place = values
    for part in path:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise RecipeError(f"--set {setting!r}: {part!r} holds a value, not further keys")
    try:
        place[last] = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # RecursionError: thousands of brackets
        raise RecipeError(f"--set {setting!r}: the value is not YAML; quote it") from None
    return keys, setting


def _over_defaults(kind: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """Values with what a stage sets otherwise than its type: one changed leaves the others."""
    found = dict(values)
    for name, given in values.items():
        field = kind.model_fields.get(name)
        default = field.get_default(call_default_factory=True) if field else None
        if isinstance(default, BaseModel) and isinstance(given, dict):
            kept = default.model_dump(exclude_unset=True)
            found[name] = kept | _over_defaults(type(default), given)
    return found


def _explain(
    path: Path, root: yaml.MappingNode, given: Sequence[Given], error: ValidationError
) -> str:
    """Every mistake on a line of its own, with where it was made: in the file or in a setting."""
    lines = []
    for problem in error.errors():
        place = [part for part in problem["loc"] if isinstance(part, str)]
        name = ".".join(place)
        if problem["type"] == "extra_forbidden":
            known = _keys(place[:-1])
            message = (
                f"there is no setting {name!r}{_meant(place[-1], known)}. "
                f"{'.'.join(place[:-1]) or 'A recipe'} has: {', '.join(known)}"
            )
        elif problem["type"] == "missing":
            message = f"{name} is missing, for example `{name}: My recipe`"
        else:
            message = f"{name} = {problem['input']!r}: {problem['msg'].lower()}"
        lines.append(f"{_where(path, root, given, problem['loc'])}: {message}")
    return "\n".join(lines)


def _where(
    path: Path, root: yaml.MappingNode, given: Sequence[Given], location: tuple[int | str, ...]
) -> str:
    for keys, setting in reversed(given):
        if location[: len(keys)] == keys:
            return f"--set {setting}"
    key, _ = descend(root, location)
    fault = at(key.start_mark, "")
    return f"{path}:{fault.line}:{fault.column}"


def _keys(place: list[str]) -> list[str]:
    model: Any = Recipe
    for part in place:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


def _meant(word: str, known: Iterable[str]) -> str:
    match = process.extractOne(word, list(known), score_cutoff=60)
    return f" (did you mean {match[0]!r}?)" if match else ""
