"""`python -m character`: lists the commands; `python -m character build` runs one."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = {
    "build": "Build a character: traits in, a trained model and a report out.",
    "cache": "Look at the answers kept from models behind APIs, and prune them.",
    "chat": "Talk to the base model and a trained one side by side.",
    "check": "Read trait files and say everything that is wrong with them.",
    "compose": "Add up trained characters into one, exactly.",
    "convert": "Import and export the trait formats of other projects.",
    "diff": "Say what changed between two versions, and whether it may ship.",
    "export": "Write a trained character in the forms other tools load.",
    "history": "Show the trend of each trait over blessed versions.",
    "judge": "Try judges on planted replies, and make their cards.",
    "new": "Start a trait file: a skeleton, or a model's draft.",
    "preview": "Show what a trait will do, before any training.",
    "suite": "Make, show and lock the suite that versions are compared on.",
    "trace": "Follow a clause to its effect, or a reply back to its clause.",
}


class Lazy(click.Group):
    """Imports a command only when it is run, so that help is instant."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"character.{name}").main
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="character", prog_name="character")
def main() -> None:
    """Compile a written character into a language model, and prove what changed.

    Start with:  python -m character.build --traits traits/curious.yaml
    """


if __name__ == "__main__":
    main()
