"""The kinds of judge by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from character import prompts
from character.errors import RecipeError
from character.judging import listwise, rubric, verdict
from character.judging.checks import ChecksJudge
from character.judging.config import Kind, RankingConfig
from character.judging.embedding import EmbeddingJudge, Embeds
from character.judging.judge import ByValue, Judge, Valuer
from character.judging.judgements import COMPARING
from character.judging.likelihood import LikelihoodJudge
from character.judging.listwise import ListwiseJudge
from character.judging.rubric import RubricJudge
from character.judging.verdict import VerdictJudge
from character.models.base import ChatModel

NEED_NO_MODEL = ("checks", "embedding")
NEED_WEIGHTS = ("likelihood", "likelihood-plain")  # or a server that scores replies
PAIRWISE = ("verdict", "verdict-reasons", "listwise")
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
    if valuer := valuer_of(kind, model, embedder):
        return ByValue(valuer, unit_of(kind))
    if model is None:
        raise RecipeError(_no_model(kind))
    if kind == "listwise":
        return ListwiseJudge(model)
    return VerdictJudge(model, reasons=kind == "verdict-reasons")


def unit_of(kind: str) -> float:
    """What one log-odds of a verdict is in the values that replies are ranked by."""
    return UNITS.get(kind.partition("-")[0], 1.0)


def valuer_of(
    kind: Kind, model: ChatModel | None = None, embedder: Embeds | None = None
) -> Valuer | None:
    """The judge that values each reply alone; None where the kind compares two.

    Raises RecipeError when the model cannot do what it takes.
    """
    if kind == "checks":
        return ChecksJudge()
    if kind == "embedding":
        if embedder is None:
            raise RecipeError("The embedding judge needs an embedder.")
        return EmbeddingJudge(embedder)
    if kind in PAIRWISE:
        return None
    if model is None:
        raise RecipeError(_no_model(kind))
    if kind == "rubric":
        return RubricJudge(model)
    if not model.can_score:
        raise RecipeError(
            f"{model.name!r} does not tell how likely a given reply is, and a likelihood judge"
            " lives on that. Take a local model, or another judge: --judge verdict in a card,"
            " --set ranking.judge=verdict in a build"
        )
    return LikelihoodJudge(model, "plain" if kind == "likelihood-plain" else "opposite")


def all_at_once(kinds: Sequence[Kind]) -> bool:
    """Whether every pair is best asked for at once: a list is one call however many pairs it has,
    and where each reply is valued alone a comparison costs nothing more."""
    return "listwise" in kinds or not set(kinds) & set(PAIRWISE)


def decided_by(
    ranking: RankingConfig,
    judge: str,
    scorer: str,
    bands: Mapping[str, float] | None = None,
    seats: object = None,
) -> tuple[object, ...]:
    """All of a build's judge that decides its judgements, for their ids.

    `judge` is its name, that of a likelihood judge its model's; `scorer` the model that says how
    relevant a reply is. Where replies are compared, so do the `bands` within which it abstains, by
    trait, and how the members of a panel are seated.
    """
    kinds = [named.kind for named in ranking.judges("")]
    templates = [prompts.digest(name) for kind in kinds for name in TEMPLATES.get(kind, ())]
    if ranking.judge not in COMPARING:
        return judge, scorer, templates
    return judge, scorer, templates, ranking.comparisons, dict(bands or {}), seats


def _no_model(kind: Kind) -> str:
    return f"The {kind} judge needs a model, for example --model bundled:smollm2-135m"
