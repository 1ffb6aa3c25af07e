"""`python -m character.suite make|show|lock`: what versions are asked, frozen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from character.commands import friendly
from character.errors import SuiteError
from character.models.names import BUNDLED_DEFAULT

FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Make, show and lock the suite that versions are compared on."""


@main.command()
@click.argument("file", type=FILE)
@click.option("--traits", multiple=True, required=True, help="A trait; may be repeated.")
@click.option("--apart-from", multiple=True, metavar="RUN", help="Repeat nothing it trained on.")
@click.option(
    "--writer", default=BUNDLED_DEFAULT, show_default=True, help="Who writes the queries."
)
@click.option("--queries", type=click.IntRange(20), help="Queries for each trait [100].")
@friendly
def make(
    file: Path,
    traits: tuple[str, ...],
    apart_from: tuple[str, ...],
    writer: str,
    queries: int | None,
) -> None:
    """Write a new suite for these traits: the shipped questions, and new ones for each trait."""
    from rich.console import Console

    from character.diff_job import version_of
    from character.diffing.config import SuiteConfig
    from character.models.loading import check_name
    from character.spec.constitution import load_constitution

    if file.exists():
        raise SuiteError(f"{file} is there already. Choose another name, or remove it.")
    if not file.absolute().parent.is_dir():
        raise SuiteError(f"{file}: there is no folder {file.parent}.")
    read = load_constitution(traits).traits
    versions = [version_of(reference) for reference in apart_from]
    check_name(writer)
    config = SuiteConfig(**({"on_trait": queries} if queries else {}))
    console = Console()
    from character.quiet import hush_libraries

    hush_libraries()
    from character.diff_pipeline import drafts_for, new_suite, trained_on
    from character.diffing.suite import write_suite
    from character.models.loading import load_model
    from character.progress import Reporter

    reporter = Reporter(console)
    with reporter.bar("Queries", drafts_for(read, config), "drafts") as bar:
        model = load_model(writer, reporter.say)
        suite = new_suite(read, model, trained_on(versions), config, bar.add)
    write_suite(suite, file)
    console.print(f"{file}: {len(suite.items)} items, {suite.digest}", markup=False)
    console.print(f"Next: python -m character.diff OLD NEW --suite {file}", markup=False)


@main.command()
@click.argument("file", type=FILE)
@click.option("--jsonl", is_flag=True, help="Every turn with its id, a line each, to be answered.")
@friendly
def show(file: Path, jsonl: bool) -> None:
    """Say what a suite asks, and whether it is as it was locked."""
    from character.diffing.suite import counts, read_suite

    suite = read_suite(file)
    if jsonl:
        for item in suite.items:
            earlier = [{"role": role, "content": content} for role, content in item.opening]
            for turn, text in enumerate(item.turns):
                row: dict[str, Any] = {
                    "id": item.turn_id(turn),
                    "query": text,
                    "stratum": item.stratum,
                }
                if item.opening or turn:
                    row |= {"opening": earlier, "earlier": list(item.turns[:turn])}
                click.echo(json.dumps(row, ensure_ascii=False))
        return
    click.echo(f"{file}: {len(suite.items)} items, {suite.digest}")
    for (stratum, trait), count in counts(suite).items():
        click.echo(f"  {stratum:<16} {trait:<20} {count:>5}")


@main.command()
@click.argument("file", type=FILE)
@friendly
def lock(file: Path) -> None:
    """Lock a suite again after it was edited: from then on it is another suite."""
    from character.diffing.suite import read_suite, write_suite

    suite = read_suite(file, locked=False)
    write_suite(suite, file)
    click.echo(f"{file}: {len(suite.items)} items, {suite.digest}")


if __name__ == "__main__":
    main()
