"""`python -m character.compose RUN[:WEIGHT]... --out DIR`: several trained characters as one."""

from __future__ import annotations

import click

from character.commands import friendly


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("runs", nargs=-1, required=True, metavar="RUN[:WEIGHT]...")
@click.option("--out", required=True, type=click.Path(file_okay=False), help="The new folder.")
@click.option(
    "--leave-one-out",
    is_flag=True,
    help="Measure the whole, and the whole without each part, on every trait.",
)
@friendly
def main(runs: tuple[str, ...], out: str, leave_one_out: bool) -> None:
    """Add up the adapters of several runs, or adapter folders, on one base model.

    The sum is exact: an adapter whose ranks are those of all parts side by side, and the same
    model merged. Nothing is trained. Compare it with a run whose traits were trained together:
    python -m character.diff RUN DIR
    """
    from rich.console import Console

    from character.compose_job import prepare_compose
    from character.progress import Reporter

    job = prepare_compose(runs, out, leave_one_out)
    from character.quiet import hush_libraries

    hush_libraries()
    from character.compose_pipeline import compose_runs

    compose_runs(job, Reporter(Console()))


if __name__ == "__main__":
    main()
