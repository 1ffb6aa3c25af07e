"""`python -m character.diff OLD NEW`: what changed, what was meant to, and whether it may ship."""

from __future__ import annotations

import sys

import click

from character.commands import friendly_as
from character.errors import RecipeError
from character.models.names import BUNDLED_DEFAULT

INVALID = 3  # as diffing.verdicts has it: neither a mistake nor a crash may read as a verdict


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("versions", nargs=-1, metavar="OLD NEW...")
@click.option("--traits", "traits", multiple=True, metavar="TRAIT", help="A trait file or name; "
              "may be repeated [those NEW was built from].")  # fmt: skip
@click.option(
    "--suite", type=click.Path(dir_okay=False), help="A locked suite [made for the traits]."
)
@click.option("--gate", type=click.Path(dir_okay=False), help="Which results decide, as YAML.")
@click.option("--expect", multiple=True, metavar="[TRAIT=]up|down|hold", help="What the gate asks.")
@click.option(
    "--examiner", default=BUNDLED_DEFAULT, show_default=True, help="The model that judges both."
)
@click.option(
    "--panel/--no-panel", default=True, show_default=True, help="Look for 40 other traits."
)
@click.option(
    "--accept-judge", is_flag=True, help="Decide with an examiner below the bars of its card."
)
@click.option("--proposer", metavar="MODEL", help="A model that reads replies of both and names "
              "what differs; tested blinded.")  # fmt: skip
@click.option("--embeddings/--no-embeddings", default=None, help="Compare meanings, too; fetches a "
              "91 MB embedder once [where it is here].")  # fmt: skip
@click.option("--without", multiple=True, metavar="TRAIT=VERSION", help="NEW built without one "
              "of its traits, to tell which trait caused what; may be repeated.")  # fmt: skip
@click.option("--drop-overlap", is_flag=True, help="Leave out of the suite what training has seen.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option("--out", type=click.Path(file_okay=False), help="Folder [diffs/<old>-<new>-<hash>].")
@click.option(
    "--max-cost",
    type=click.FloatRange(0, min_open=True),
    metavar="DOLLARS",
    help="What models behind APIs may cost in all.",
)
@click.option(
    "--budget", type=click.IntRange(1), metavar="REPLIES",
    help="Write at most so many replies: more queries first, then more replies to each.",
)  # fmt: skip
@click.option("--bless", is_flag=True, help="Record a diff that passes as a baseline.")
@click.option("--quick", is_flag=True, help="A small look; it can find a regression, never pass.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of diff.json.")
@friendly_as(INVALID)
def main(
    versions: tuple[str, ...],
    traits: tuple[str, ...],
    suite: str | None,
    gate: str | None,
    expect: tuple[str, ...],
    examiner: str,
    panel: bool,
    accept_judge: bool,
    proposer: str | None,
    embeddings: bool | None,
    without: tuple[str, ...],
    drop_overlap: bool,
    seed: int,
    out: str | None,
    max_cost: float | None,
    budget: int | None,
    bless: bool,
    quick: bool,
    dry_run: bool,
    schema: bool,
) -> None:
    """Diff two model versions. Exit codes: 0 pass, 1 regression, 2 underpowered, 3 invalid, which
    a mistake on the command line is, too.

    A version is a model name, a run folder, a checkpoint or adapter folder, or a .jsonl file of
    saved replies. One run folder alone is diffed against the model it was trained from. Of more
    than two, each is diffed against the first, all are ranked, and the last decides.
    """
    if schema:
        from character.report.diff_exports import json_schema

        click.echo(json_schema(), nl=False)
        return
    if not versions:
        raise RecipeError("name two versions or more, or one run folder")
    from rich.console import Console

    from character.diff_job import prepare_diff

    pairs: list[tuple[str, ...]] = [(versions[0], other) for other in versions[1:]] or [versions]
    if out and len(pairs) > 1:
        raise RecipeError("--out is for two versions; more get a folder for each pair")
    if bless and len(pairs) > 1:
        raise RecipeError("--bless is for two versions")
    if without and len(pairs) > 1:
        raise RecipeError("--without is for two versions")
    jobs = [
        prepare_diff(
            pair,
            traits,
            suite,
            gate,
            expect,
            examiner,
            out,
            quick,
            panel,
            drop_overlap,
            seed,
            accept_judge,
            proposer or "",
            embeddings,
            without,
        )
        for pair in pairs
    ]
    console = Console()
    if budget:
        from character.diff_plan import within

        jobs = [within(job, budget) for job in jobs]
    if dry_run:
        from character.diff_plan import detectable, plan
        from character.report.terminal import plan_table

        for job in jobs:
            console.print(plan_table(plan(job), str(job.folder), "diff"))
        unit = "net preference" if jobs[0].compares else "nats a token"
        for trait, least in detectable(jobs[0]).items():
            console.print(f"Detects a movement of {trait} of about {least:.3f} {unit}.")
        return
    from character.diff_finish import run_diff, run_many

    if len(jobs) > 1:
        sys.exit(run_many(jobs, console, max_cost))
    sys.exit(run_diff(jobs[0], console, max_cost, blessing=bless))


if __name__ == "__main__":
    main()
