"""Whether each training step fits the memory a recipe names, said before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from character.models.bundled import cache_folder, find_bundled
from character.models.names import is_hub_id, path_of, split_name
from character.plan import PROMPT
from character.recipe import Recipe
from character.training.memory import Shape, read_shape, step_memory

STAGES = {"distill": "Distillation", "reward": "Reward model", "dpo": "DPO", "ppo": "PPO"}
ROWS = {"distill": 1, "reward": 2, "dpo": 3, "ppo": 1}  # sequences a row of a micro-batch: a pair
# is two, and DPO adds an anchor to each
KEEPS = ("distill", "reward", "dpo")  # can trade time for memory; our PPO cannot


def fitted(recipe: Recipe) -> Recipe:
    """With gradient checkpointing in those stages that would not fit `training.memory_gb` without.

    As it is when no memory is named. A model whose size is not known here is held to be large.
    """
    training = recipe.training
    if training.memory_gb is None:
        return recipe
    shape, changes = shape_here(recipe.roles.policy), {}
    for stage in KEEPS:
        config = getattr(training, stage)
        needed = shape is None or _gigabytes(recipe, shape, stage, False) > training.memory_gb
        changes[stage] = config.model_copy(
            update={"gradient_checkpointing": config.gradient_checkpointing or needed}
        )
    return recipe.model_copy(update={"training": training.model_copy(update=changes)})


def memory_told(recipe: Recipe) -> Iterator[str]:
    """What each stage's step needs, for --dry-run."""
    shape = shape_here(recipe.roles.policy)
    if shape is None:
        yield (
            f"Memory: the size of {recipe.roles.policy} is not known before it is fetched, so"
            " nothing can be said."
        )
        return
    limit = recipe.training.memory_gb
    for stage, title in STAGES.items():
        config = getattr(recipe.training, stage)
        if stage == "ppo" and not config.updates:
            continue
        saves = stage in KEEPS and config.gradient_checkpointing
        needed = _gigabytes(recipe, shape, stage, saves)
        how = ", with gradient checkpointing" if saves else ""
        over = f": more than {limit:g} GB, so lower micro_batch" if limit and needed > limit else ""
        yield f"Memory: {title} about {needed:.1f} GB a step{how}{over}"


def shape_here(name: str) -> Shape | None:
    """The model's shape, from files that are here already."""
    kind, rest = split_name(name)
    if kind == "bundled":
        return read_shape(cache_folder() / find_bundled(rest).folder_name)
    if not is_hub_id(rest):
        return read_shape(path_of(rest))
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(rest, "config.json")
    return read_shape(Path(found).parent) if isinstance(found, str) else None


def _gigabytes(recipe: Recipe, shape: Shape, stage: str, checkpointing: bool) -> float:
    config, lora = getattr(recipe.training, stage), recipe.training.lora
    longest = config.max_tokens if stage == "ppo" else recipe.replies.sampling.max_tokens
    tokens = min(config.micro_batch, config.batch) * ROWS[stage] * (PROMPT + longest)
    return step_memory(shape, tokens, lora.rank, checkpointing).total / 1e9
