"""`python -m character.preview FILE`: what a trait will do, before any training."""

from __future__ import annotations

import time
from pathlib import Path

import click

from character.commands import friendly
from character.errors import RecipeError, SpecError
from character.models.names import BUNDLED_DEFAULT

LOOK = 0.5  # seconds between looks at a watched file


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("trait")
@click.option(
    "--model", default=BUNDLED_DEFAULT, show_default=True, help="Writer, policy and judge."
)
@click.option("--queries", type=click.IntRange(1, 50), default=3, show_default=True,
              help="Queries for each clause.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="HTML page "
              "[preview-<trait>.html].")  # fmt: skip
@click.option("--watch", is_flag=True, help="Do it again whenever the file is saved.")
@friendly
def main(trait: str, model: str, queries: int, seed: int, out: Path | None, watch: bool) -> None:
    """Write a few queries for each clause, plain and steered replies, and rank them.

    TRAIT is a file or a name. Shown here and as one HTML page.
    """
    from rich.console import Console

    from character.models.folders import check_weights
    from character.spec.drafts import drafts_of
    from character.spec.loading import read_trait

    source = read_trait(trait)  # before a model is loaded
    page = out or Path(f"preview-{source.trait.id}.html")
    if not page.absolute().parent.is_dir():
        raise RecipeError(f"{page}: there is no folder {page.parent}")
    check_weights(model)
    from character.quiet import hush_libraries

    hush_libraries()
    from character.models.loading import load_local
    from character.preview_pipeline import SEED, Sizes, preview
    from character.progress import Reporter
    from character.report.preview import preview_page, preview_text

    console = Console()
    reporter = Reporter(console)
    local = load_local(model, reporter.say)
    while True:
        try:
            seen = source.path.stat().st_mtime_ns
            read = read_trait(str(source.path)).trait
            if drafts := list(drafts_of(read)):
                reporter.say(f"{len(drafts)} texts are still drafts: python -m character.check")
            found = preview(read, local, Sizes(queries), reporter, SEED + seed)
        except SpecError as error:
            if not watch:
                raise
            console.print(f"Error: {error}", markup=False)
        else:
            page.write_text(preview_page(found, str(source.path)), encoding="utf-8")
            console.print(preview_text(found))
            console.print(f"\nPage  {page}", markup=False)
        if not watch:
            return
        console.print(f"Watching {source.path}; Ctrl-C ends.", markup=False)
        while not _saved_since(source.path, seen):
            time.sleep(LOOK)


def _saved_since(path: Path, seen: int) -> bool:
    try:
        return path.stat().st_mtime_ns != seen
    except FileNotFoundError:  # while an editor replaces it
        return False


if __name__ == "__main__":
    main()
