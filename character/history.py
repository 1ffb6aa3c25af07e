"""`python -m character.history`: how every trait stood in each version that passed."""

from __future__ import annotations

from pathlib import Path

import click

from character.commands import friendly


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument(
    "file", type=click.Path(dir_okay=False, path_type=Path), default=Path("diffs/history.jsonl")
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@friendly
def main(file: Path, as_json: bool) -> None:
    """Show the trend of each trait over the versions that `character.diff --bless` recorded."""
    from rich.console import Console

    from character.blessed import read_history
    from character.report.history import history_table

    found = read_history(file)
    if as_json:
        for entry in found:
            click.echo(entry.model_dump_json())
    else:
        Console().print(history_table(found))


if __name__ == "__main__":
    main()
