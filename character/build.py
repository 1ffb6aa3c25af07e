"""`python -m character.build --traits traits/curious.yaml`: traits in, a trained model out."""

from __future__ import annotations

from pathlib import Path

import click

from character.commands import friendly
from character.errors import RecipeError

DEFAULT, QUICK = "default", "quick"
TARGET = 0.85  # of the way to the prompted replies, with --beta auto


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--traits",
    "first",
    multiple=True,
    required=True,
    metavar="TRAIT...",
    help="Trait files or names; NAME:0.5 gives a weight.",
)
@click.argument("more", nargs=-1, metavar="")
@click.option(
    "--leave-out", multiple=True, metavar="TRAIT", help="Build without this trait of them."
)
@click.option("--recipe", default=DEFAULT, show_default=True, help="A recipe's name or file.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one setting.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Seed of every draw.")
@click.option("--rounds", type=click.IntRange(0), help="Further rounds on its own new replies.")
@click.option("--out", type=click.Path(file_okay=False), help="Run folder [runs/<trait>-<hash>].")
@click.option("--until", metavar="STAGE", default="report", help="Stop after this stage.")
@click.option("--quick", is_flag=True, help="A smoke build in about a minute.")
@click.option(
    "--max-cost",
    type=click.FloatRange(0, min_open=True),
    metavar="DOLLARS",
    help="What models behind APIs may cost in all.",
)
@click.option(
    "--beta",
    metavar="auto|NUMBER",
    help="DPO's beta; auto: the weakest training that is enough (training.settle).",
)
@click.option(
    "--optimizer",
    type=click.Choice(("ppo", "grpo", "rloo")),
    help="What goes on from DPO, in a recipe that has updates: --recipe ppo.",
)
@click.option("--batch", is_flag=True, help="Ask models behind APIs in batches, at half the price.")
@click.option(
    "--accept-judge", is_flag=True, help="Build with a judge that is below the bars of its card."
)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Take over what this run made and still holds [the newest of these traits beside it].",
)
@click.option("--fresh", is_flag=True, help="Take nothing over from an earlier run.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@friendly
def main(
    first: tuple[str, ...],
    more: tuple[str, ...],
    leave_out: tuple[str, ...],
    recipe: str,
    settings: tuple[str, ...],
    seed: int | None,
    rounds: int | None,
    out: str | None,
    until: str,
    quick: bool,
    max_cost: float | None,
    beta: str | None,
    optimizer: str | None,
    batch: bool,
    accept_judge: bool,
    source: Path | None,
    fresh: bool,
    dry_run: bool,
) -> None:
    """Build a character. The same command again goes on where it was stopped."""
    from rich.console import Console

    from character.job import prepare, run_job
    from character.report.terminal import plan_table

    if quick and recipe != DEFAULT:
        raise RecipeError("--quick is a recipe of its own; leave out --quick or --recipe")
    if fresh and source:
        raise RecipeError("--from takes over from a run, and --fresh from none; leave out one")
    console = Console()
    if seed is not None:
        settings = (*settings, f"seed={seed}")
    if rounds is not None:
        settings = (*settings, f"rounds={rounds}")
    if batch:
        settings = (*settings, "requests.batch=true")
    if beta:
        chosen = (
            f"training.settle.target={TARGET}" if beta == "auto" else f"training.dpo.beta={beta}"
        )
        settings = (*settings, chosen)
    if optimizer:
        settings = (*settings, f"training.ppo.optimizer={optimizer}")
    job = prepare((*first, *more), QUICK if quick else recipe, settings, out, until, leave_out)
    if optimizer and not job.recipe.training.ppo.updates:
        raise RecipeError(
            f"--optimizer {optimizer} goes on from DPO, and this recipe makes no updates. Add"
            " --recipe ppo, or --set training.ppo.updates=30"
        )
    if dry_run:
        from character.earlier import find_earlier
        from character.spec.constitution_file import HELPLESS

        if not job.constitution.helpfulness_first:
            click.echo(HELPLESS)
        console.print(plan_table(job.planned(), str(job.folder), notes=job.memory()))
        beside = find_earlier(job.folder, job.constitution, job.identity)
        if found := None if fresh else source or next(beside, None):
            click.echo(f"What {found} made and still holds is taken over, so it takes less.")
    else:
        run_job(job, console, max_cost, accept_judge, source, fresh)


if __name__ == "__main__":
    main()
