"""`python -m character.check FILE...`: say everything that is wrong with trait files."""

from __future__ import annotations

import sys

import click

from character.commands import USER_ERROR
from character.errors import CharacterError
from character.spec.loading import load_trait


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("traits", nargs=-1, required=True)
def main(traits: tuple[str, ...]) -> None:
    """Read trait files (paths or names) and report every mistake, by line and column."""
    wrong = 0
    for reference in traits:
        try:
            trait = load_trait(reference)
        except CharacterError as error:
            click.echo(str(error), err=True)
            wrong += 1
        else:
            clauses, examples = len(trait.clauses), len(trait.examples)
            click.echo(f"{reference}: {trait.title}, {clauses} clauses, {examples} examples: fine")
    sys.exit(USER_ERROR if wrong else 0)


if __name__ == "__main__":
    main()
