"""`python -m character.cache`: the answers that models behind APIs have given."""

from __future__ import annotations

import click

from character.commands import friendly


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
@friendly
def main(context: click.Context) -> None:
    """Answers already paid for, shared by all runs. Without a command: a summary by model."""
    if context.invoked_subcommand:
        return
    from rich.console import Console

    from character.models.cache import shared_cache, summary
    from character.report.terminal import cache_table

    cache = shared_cache()
    Console().print(cache_table(summary(cache.listed()), str(cache.folder)))


@main.command("list")
@click.option("--model", default="", help="Only this model's.")
@friendly
def list_entries(model: str) -> None:
    """One line an answer: key, date, model, finish reason and the last message."""
    from character.models.cache import shared_cache
    from character.report.printable import printable

    for listed in shared_cache().listed():
        if (entry := listed.entry) is None:
            click.echo(f"{listed.key}  corrupt, {listed.bytes} bytes")
        elif not model or entry.model == model:
            line = f"{listed.key}  {entry.at}  {entry.model}  {entry.answer.finish}  {entry.asked}"
            click.echo(printable(line.replace("\n", " "))[:200])


@main.command()
@click.argument("key")
@friendly
def show(key: str) -> None:
    """What was asked and answered, as JSON; a KEY may be shortened."""
    from character.models.cache import as_json, shared_cache

    found = [each for each in shared_cache().listed() if each.key.startswith(key)]
    if len(found) != 1:
        raise click.UsageError(f"{len(found)} keys start with {key!r}. See character.cache list")
    click.echo(as_json(found[0].entry) if found[0].entry else "corrupt")


@main.command()
@click.option("--days", type=click.FloatRange(0), help="Only answers older than so many days.")
@click.option("--model", default="", help="Only this model's.")
@click.option("--corrupt", is_flag=True, help="Only entries that cannot be read.")
@click.option("--all", "everything", is_flag=True, help="Everything.")
@friendly
def prune(days: float | None, model: str, corrupt: bool, everything: bool) -> None:
    """Delete answers; they will be asked, and paid, again."""
    if days is None and not model and not corrupt and not everything:
        raise click.UsageError("Say what to delete: --days 30, --model NAME, --corrupt or --all")
    from character.models.cache import chosen, shared_cache

    cache = shared_cache()
    keys = [each.key for each in chosen(cache.listed(), days, model, corrupt)]
    cache.remove(keys)
    click.echo(f"Deleted {len(keys)} answers from {cache.folder}.")


if __name__ == "__main__":
    main()
