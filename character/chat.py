"""`python -m character.chat RUN`: the base model and the trained one, side by side."""

from __future__ import annotations

from pathlib import Path

import click

from character.commands import friendly
from character.folder import policy_of, role_of

LEAVE = {"/quit", "/exit", "quit", "exit"}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--message", "-m", multiple=True, help="Ask this and leave; may be repeated.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Seed of the draws.",
)
@click.option(
    "--max-tokens", type=click.IntRange(1), default=96, show_default=True, help="Longest reply."
)
@friendly
def main(run: Path, message: tuple[str, ...], seed: int, max_tokens: int) -> None:
    """Talk to the base model and to a run's trained model. Leave with /quit or Ctrl-D."""
    base_name, trained = role_of(run, "policy"), policy_of(run)
    from rich.columns import Columns
    from rich.console import Console
    from rich.panel import Panel
    from rich.text import Text

    from character.models.base import Message, Request, Sampling
    from character.models.loading import load_model
    from character.report.printable import printable

    console = Console(markup=False)
    sides = {
        "base": load_model(base_name, console.print),
        "trained": load_model(f"local:{trained}", console.print),
    }
    histories: dict[str, tuple[Message, ...]] = dict.fromkeys(sides, ())
    sampling = Sampling(max_tokens=max_tokens)

    def turn(text: str, number: int) -> None:
        panels = []
        for side, model in sides.items():
            conversation = (*histories[side], Message("user", text))
            reply = model.generate([Request(conversation, seed=seed + number)], sampling)[0].text
            histories[side] = (*conversation, Message("assistant", reply))
            panels.append(Panel(Text(printable(reply)), title=side, width=(console.width - 2) // 2))
        console.print(Columns(panels, expand=True))

    for number, text in enumerate(message):
        console.print(Text(f"You: {text}"))
        turn(text, number)
    number = len(message)
    while not message:
        try:
            text = console.input("You: ").strip()
        except (EOFError, KeyboardInterrupt):
            break
        if text in LEAVE:
            break
        if text:
            turn(text, number)
            number += 1


if __name__ == "__main__":
    main()
