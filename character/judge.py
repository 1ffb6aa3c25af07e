"""`python -m character.judge card`: how far a judge can be trusted, from planted truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from character.commands import friendly
from character.errors import RecipeError
from character.judging.config import KINDS, MEMBERS, PANEL, NamedJudge, read_members
from character.models.names import BUNDLED_DEFAULT, has_weights

PLANTER = click.option(
    "--planter", default=BUNDLED_DEFAULT, show_default=True,
    help="The model that writes queries and planted replies.",
)  # fmt: skip
TRAITS = click.option(
    "--traits", "first", multiple=True, required=True, metavar="TRAIT...",
    help="Trait files or names.",
)  # fmt: skip
MAX_COST = click.option(
    "--max-cost", type=click.FloatRange(0, min_open=True), metavar="DOLLARS",
    help="What models behind APIs may cost in all.",
)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Try judges on replies whose order is known from how they were made."""


@main.command()
@click.option("--judge", "kind", type=click.Choice((*KINDS, PANEL)), default="likelihood",
              show_default=True)  # fmt: skip
@click.option("--member", "members", multiple=True, metavar="KIND[@MODEL]",
              help=f"Of a panel; give two or more [{', '.join(MEMBERS)}].")  # fmt: skip
@click.option("--model", default=BUNDLED_DEFAULT, show_default=True,
              help="The model that judges, where a member names no other.")  # fmt: skip
@PLANTER
@TRAITS
@click.argument("more", nargs=-1, metavar="")
@click.option("--queries", type=click.IntRange(10, 2000), default=100, show_default=True,
              help="Queries with planted replies.")  # fmt: skip
@click.option("--attacks", type=click.IntRange(0), default=40, show_default=True,
              help="Attacks tried, evenly from every kind.")  # fmt: skip
@click.option("--also", metavar="MODEL",
              help="A second writer, to see whether the judge prefers its own model.")  # fmt: skip
@click.option("--discriminant/--no-discriminant", default=None,
              help="Judge every trait on what each one planted [with several].")  # fmt: skip
@click.option("--again", is_flag=True, help="Do not use a card that was kept.")
@MAX_COST
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path),
              help="HTML page [judge-card.html]; the JSON stands beside it.")  # fmt: skip
@friendly
def card(
    kind: Any, members: tuple[str, ...], model: str, planter: str, first: tuple[str, ...],
    more: tuple[str, ...], queries: int, attacks: int, also: str | None, discriminant: bool | None,
    again: bool, max_cost: float | None, out: Path | None,
) -> None:  # fmt: skip
    """Plant replies at known doses of a trait, and see whether the judge finds their order.

    Exit code 1 when a trait's card refuses the judge.
    """
    from rich.console import Console

    from character.models.loading import check_name
    from character.spec.loading import read_trait

    read = [read_trait(reference).trait for reference in (*first, *more)]
    page = out or Path("judge-card.html")
    if not page.absolute().parent.is_dir():
        raise RecipeError(f"{page}: there is no folder {page.parent}")
    if members and kind != PANEL:
        raise RecipeError("--member is for a panel: --judge panel")
    judges = _named(members or MEMBERS, model) if kind == PANEL else (NamedJudge(kind, model),)
    for name in dict.fromkeys([*(judge.model for judge in judges), *([also] if also else [])]):
        check_name(name)
    _check_planter(planter)
    from character.quiet import hush_libraries

    hush_libraries()
    from character.judge_job import config_of, examined
    from character.progress import Reporter
    from character.report.judge_card import cards_page, cards_text

    console = Console()
    found = examined(
        read, judges, planter, config_of(queries, attacks), Reporter(console),
        also=also, again=again, cap=max_cost,
        matrix=len(read) > 1 if discriminant is None else discriminant,
    )  # fmt: skip
    page.write_text(cards_page(found.cards, found.discriminant), encoding="utf-8")
    data = page.with_suffix(".json")
    data.write_text(json.dumps(found.told(), ensure_ascii=False, indent=1), encoding="utf-8")
    console.print(cards_text(found.cards, found.discriminant))
    console.print(f"Page  {page}\nJSON  {data}", markup=False)
    if any(one.refusals for one in found.cards):
        raise click.exceptions.Exit(1)


@main.command()
@click.option(
    "--judge", "named", multiple=True, required=True, metavar="KIND[@MODEL]",
    help="Two of them, for example --judge likelihood --judge verdict@openai:gpt-5-mini",
)  # fmt: skip
@PLANTER
@TRAITS
@click.argument("more", nargs=-1, metavar="")
@click.option("--queries", type=click.IntRange(10, 2000), default=60, show_default=True,
              help="Queries with planted replies.")  # fmt: skip
@MAX_COST
@friendly
def agree(
    named: tuple[str, ...], planter: str, first: tuple[str, ...], more: tuple[str, ...],
    queries: int, max_cost: float | None,
) -> None:  # fmt: skip
    """Find clauses on which two judges differ: they are probably ambiguous.

    Their replies come as YAML, ready for the trait file once somebody has said which is better.
    """
    from rich.console import Console

    from character.models.loading import check_name
    from character.spec.loading import read_trait

    if len(named) != 2:
        raise RecipeError("name two judges, for example --judge likelihood --judge rubric")
    judges = _named(named, BUNDLED_DEFAULT)
    read = [read_trait(reference).trait for reference in (*first, *more)]
    for judge in judges:
        check_name(judge.model)
    _check_planter(planter)
    from character.quiet import hush_libraries

    hush_libraries()
    from character.judge_job import compared
    from character.progress import Reporter
    from character.report.judge_card import agreement_text

    console = Console()
    for found in compared(read, judges, planter, queries, Reporter(console), max_cost):
        console.print(agreement_text(found))


def _named(names: Sequence[str], model: str) -> tuple[NamedJudge, ...]:
    try:
        return read_members(names, model)
    except ValueError as error:
        raise RecipeError(str(error)) from None


def _check_planter(planter: str) -> None:
    from character.models.loading import check_name

    check_name(planter)
    if not has_weights(planter):
        raise RecipeError(
            f"--planter {planter}: replies are planted by a model whose weights are here, for"
            f" example {BUNDLED_DEFAULT}"
        )


if __name__ == "__main__":
    main()
