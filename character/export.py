"""`python -m character.export RUN --to merged`: the forms that a trained character ships in."""

from __future__ import annotations

from pathlib import Path

import click

from character.commands import friendly
from character.export_job import TO


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--to", "forms", multiple=True, required=True, type=click.Choice(TO), help="May be repeated."
)
@click.option("--out", type=click.Path(file_okay=False), help="The folder [exports/<run>/<form>].")
@click.option(
    "--measure/--no-measure",
    default=True,
    show_default=True,
    help="Ask each form what the build asked the policy, for its card.",
)
@friendly
def main(run: Path, forms: tuple[str, ...], out: str | None, measure: bool) -> None:
    """Write RUN's trained policy, or its pairs, as folders that stock libraries load.

    adapter, merged, int8 and GGUF copies come with a model card, which says what is left of the
    character in that form; dataset is Parquet with a card; hub-folder is a model (merged, with the
    adapter) and a dataset, ready to be uploaded. Each is written whole or not at all.
    """
    from rich.console import Console

    from character.export_job import prepare_export
    from character.progress import Reporter

    job = prepare_export(run, forms, out, measure)
    from character.quiet import hush_libraries

    hush_libraries()
    from character.export_pipeline import export

    export(job, Reporter(Console()))


if __name__ == "__main__":
    main()
