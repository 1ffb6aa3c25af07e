"""`python -m character.trace RUN [CLAUSE|PAIR|REPLY|QUERY]`: clause to effect, and back."""

from __future__ import annotations

from pathlib import Path

import click

from character.commands import friendly


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("what", required=False)
@click.option("--traits", multiple=True, metavar="TRAIT", help="For runs that do not say.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@friendly
def main(run: Path, what: str | None, traits: tuple[str, ...], as_json: bool) -> None:
    """Say what every clause of a run gave rise to, or follow one clause, pair, reply or query.

    Rows are named by the first characters of their ids, as the tables print them.
    """
    from rich.console import Console

    from character.folder import constitution_of, database_of, record_of
    from character.lineage import Lineage
    from character.models.served import tallies
    from character.report.lineage import clause_page, coverage_table, json_text, thread_page
    from character.run import ASKED
    from character.store.store import Store

    constitution = constitution_of(run, traits)
    with Store(database_of(run)) as store:  # which brings an older run up to date
        record = record_of(run)
        asked = tallies(record.get(ASKED)).values()
        writer = record["identity"]["recipe"]["roles"].get("writer", "")
        lineage = Lineage(constitution, store, asked, writer)
    console = Console()
    if what is None:
        found = lineage.coverage()
        page = json_text(found) if as_json else coverage_table(found, str(run))
    elif lineage.has_clause(what):
        clause = lineage.of_clause(what)
        threads = [lineage.thread(pair.id) for pair in lineage.widest(clause, 5)]
        page = json_text((clause, threads)) if as_json else clause_page(clause, threads, str(run))
    else:
        thread = lineage.thread(what)
        page = json_text(thread) if as_json else thread_page(thread)
    if isinstance(page, str):
        click.echo(page)
    else:
        console.print(page)


if __name__ == "__main__":
    main()
