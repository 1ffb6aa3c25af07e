"""The kinds of judge by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from character.errors import RecipeError
from character.judging import listwise, rubric, verdict
from character.judging.checks import ChecksJudge
from character.judging.embedding import EmbeddingJudge, Embeds
from character.judging.judge import ByValue, Judge
from character.judging.likelihood import LikelihoodJudge
from character.judging.listwise import ListwiseJudge
from character.judging.rubric import RubricJudge
from character.judging.verdict import VerdictJudge
from character.models.base import ChatModel

Kind = Literal[
    "likelihood", "likelihood-plain", "verdict", "verdict-reasons", "listwise", "rubric", "checks",
    "embedding",
]  # fmt: skip
KINDS: tuple[str, ...] = get_args(Kind)
NEED_NO_MODEL = ("checks", "embedding")
TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "verdict": verdict.TEMPLATES,
    "verdict-reasons": verdict.TEMPLATES,
    "listwise": listwise.TEMPLATES,
    "rubric": rubric.TEMPLATES,
}
# how far apart two values are when the judge is sure by e to 1, before it is calibrated
UNITS = {"likelihood": 0.1, "rubric": 0.5, "embedding": 0.05, "checks": 0.0}


def judge_of(kind: Kind, model: ChatModel | None = None, embedder: Embeds | None = None) -> Judge:
    """A judge by its kind. Raises RecipeError when the model cannot do what it takes."""
    if kind == "checks":
        return ByValue(ChecksJudge(), UNITS["checks"])
    if kind == "embedding":
        if embedder is None:
            raise RecipeError("The embedding judge needs an embedder.")
        return ByValue(EmbeddingJudge(embedder), UNITS["embedding"])
    if model is None:
        raise RecipeError(
            f"The {kind} judge needs a model, for example --model bundled:smollm2-135m"
        )
    if kind in ("likelihood", "likelihood-plain"):
        if not model.can_score:
            raise RecipeError(
                f"{model.name!r} does not tell how likely a given reply is, and a likelihood judge"
                " lives on that. Take a local model, or another judge: --judge verdict"
            )
        plain = kind == "likelihood-plain"
        return ByValue(
            LikelihoodJudge(model, "plain" if plain else "opposite"), UNITS["likelihood"]
        )
    if kind == "rubric":
        return ByValue(RubricJudge(model), UNITS["rubric"])
    if kind == "listwise":
        return ListwiseJudge(model)
    return VerdictJudge(model, reasons=kind == "verdict-reasons")
