from __future__ import annotations

from pathlib import Path

import pytest

from character.fitting import fitted, memory_told, shape_here
from character.plan import PROMPT
from character.recipe import Recipe, load_recipe
from character.training.memory import Shape, step_memory

SMALL = Shape(1_543_714_304, 28, 1536, 151_936, 26_112)  # Qwen2.5-1.5B without its biases
LARGE = Shape(7_615_616_512, 28, 3584, 152_064, 76_800)


def recipe_of(folder: Path, memory_gb: float | None) -> Recipe:
    return Recipe.model_validate(
        {
            "title": "Tiny",
            "roles": dict.fromkeys(("writer", "policy", "judge"), f"local:{folder}"),
            "training": {"memory_gb": memory_gb},
        }
    )


def checkpoints(recipe: Recipe) -> set[str]:
    stages = ("distill", "reward", "dpo")
    return {s for s in stages if getattr(recipe.training, s).gradient_checkpointing}


def test_memory_decides_who_computes_again(tiny_folder: Path) -> None:
    assert fitted(recipe_of(tiny_folder, None)) == recipe_of(tiny_folder, None)
    assert checkpoints(fitted(recipe_of(tiny_folder, 24.0))) == set()
    assert checkpoints(fitted(recipe_of(tiny_folder, 0.5))) == {"distill", "reward", "dpo"}


def test_a_dry_run_says_what_each_step_needs(tiny_folder: Path) -> None:
    recipe = recipe_of(tiny_folder, 0.5)
    shape = shape_here(recipe.roles.policy)
    assert shape is not None
    told = list(memory_told(fitted(recipe)))
    assert [line.split(" about ")[0] for line in told] == [
        "Memory: Distillation", "Memory: Reward model", "Memory: DPO",
    ]  # fmt: skip
    tokens = 4 * 3 * (PROMPT + recipe.replies.sampling.max_tokens)
    needed = step_memory(shape, tokens, 16, True).total / 1e9
    assert told[2] == (
        f"Memory: DPO about {needed:.1f} GB a step, with gradient checkpointing: more than 0.5 GB,"
        " so lower micro_batch"
    )


def test_a_model_that_is_not_here_is_held_to_be_large() -> None:
    recipe = load_recipe("gpu-24gb")
    assert checkpoints(fitted(recipe)) == {"distill", "reward", "dpo"}
    (told,) = memory_told(recipe)
    assert "not known before it is fetched" in told


@pytest.mark.parametrize(("name", "shape"), [("gpu-24gb", SMALL), ("gpu-80gb", LARGE)])
def test_the_shipped_recipes_fit_what_they_are_for(name: str, shape: Shape) -> None:
    training, longest = load_recipe(name).training, load_recipe(name).replies.sampling.max_tokens
    assert training.memory_gb is not None
    for rows, stage in ((1, training.distill), (2, training.reward), (3, training.dpo),
                        (1, training.ppo)):  # fmt: skip
        tokens = stage.micro_batch * rows * (PROMPT + longest)
        checkpointing = stage is not training.ppo
        needed = step_memory(shape, tokens, training.lora.rank, checkpointing).total / 1e9
        assert needed < training.memory_gb, (stage, needed)
