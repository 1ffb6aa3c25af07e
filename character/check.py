"""`python -m character.check FILE...`: say everything that is wrong with trait files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from character.commands import USER_ERROR, friendly
from character.errors import RecipeError
from character.models.names import BUNDLED_DEFAULT, has_weights

if TYPE_CHECKING:
    from character.judging.measures import Measured
    from character.spec.lint import Checked

WARNED = 1


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("traits", nargs=-1, metavar="FILE...")
@click.option("--strict", is_flag=True, help="Exit with 1 when there are warnings.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option(
    "--against",
    multiple=True,
    metavar="OLD",
    help="Say what changed in meaning since OLD, and what data stays.",
)
@click.option(
    "--run",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="With --against: the run whose data is meant [the newest of these traits in runs].",
)
@click.option("--rules", is_flag=True, help="List every rule with its reason, and leave.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a trait, and leave.")
@click.option("--measure", is_flag=True, help="Also try the traits on a model, a minute or two "
              "each: what the text alone cannot tell.")  # fmt: skip
@click.option("--model", help=f"The model to measure on [{BUNDLED_DEFAULT}]; says --measure too.")
@friendly
def main(
    traits: tuple[str, ...], strict: bool, as_json: bool, against: tuple[str, ...],
    run: Path | None, rules: bool, schema: bool, measure: bool, model: str | None,
) -> None:  # fmt: skip
    """Read trait files (paths or names) and report every mistake, by line and column.

    Several files are also checked as one constitution. Exits with 2 when there are errors.
    """
    from character.judging.checks import passes
    from character.report.findings import findings_json, findings_text, rules_text
    from character.spec.json_schema import json_schema_text
    from character.spec.lint import check_files

    if schema:
        click.echo(json_schema_text(), nl=False)
    elif rules:
        click.echo(rules_text())
    elif not traits:
        raise click.UsageError("Name one trait or more, for example traits/curious.yaml")
    elif run and not against:
        raise click.UsageError("--run is about data that stays: name the old trait with --against")
    else:
        name = model or BUNDLED_DEFAULT
        if measure or model:
            _check_model(name)
        checked = check_files(traits, passes)
        measured, more = None, {}
        if against and checked.worst != "error":
            more["against"] = _against(against, traits, run, as_json)
        if (measure or model) and checked.sources:
            checked, measured = _measured(checked, name)
        found = findings_json(checked, measured, **more) if as_json else findings_text(checked)
        click.echo(found)
        if measured and not as_json:
            from rich.console import Console

            from character.report.measures import measured_text

            Console().print(measured_text(measured))
        if more and not as_json:
            click.echo(f"\n{more['against']}")
        if checked.worst == "error":
            sys.exit(USER_ERROR)
        if strict and checked.worst == "warning":
            sys.exit(WARNED)


def _against(
    old: tuple[str, ...], new: tuple[str, ...], run: Path | None, as_json: bool
) -> str | dict[str, Any]:
    """What changed and what stays, as text or for JSON."""
    from character.report.changes import changes_plain, changes_text
    from character.spec.comparing import compare
    from character.spec.constitution import load_constitution
    from character.validity import what_holds

    before, after = load_constitution(old), load_constitution(new)
    valid = what_holds(before, after, run)
    tell = changes_plain if as_json else changes_text
    return tell(" ".join(old), " ".join(new), compare(before, after), valid)


def _check_model(name: str) -> None:
    from character.models.loading import check_name

    check_name(name)
    if not has_weights(name):
        raise RecipeError(
            f"--model {name}: traits are measured on a model whose weights are here, for example"
            f" {BUNDLED_DEFAULT}"
        )


def _measured(checked: Checked, name: str) -> tuple[Checked, Measured]:
    """The findings with what a model adds to them; progress goes to stderr."""
    from character.quiet import hush_libraries

    hush_libraries()
    from rich.console import Console

    from character.check_pipeline import measure, with_measures
    from character.models.loading import load_local
    from character.progress import Reporter

    reporter = Reporter(Console(stderr=True))
    measured = measure(checked.sources, load_local(name, reporter.say), reporter)
    return with_measures(checked, measured), measured


if __name__ == "__main__":
    main()
