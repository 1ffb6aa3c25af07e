"""`python -m character.check FILE...`: say everything that is wrong with trait files."""

from __future__ import annotations

import sys

import click

from character.commands import USER_ERROR, friendly

WARNED = 1


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("traits", nargs=-1, metavar="FILE...")
@click.option("--strict", is_flag=True, help="Exit with 1 when there are warnings.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option("--rules", is_flag=True, help="List every rule with its reason, and leave.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a trait, and leave.")
@friendly
def main(traits: tuple[str, ...], strict: bool, as_json: bool, rules: bool, schema: bool) -> None:
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
    else:
        checked = check_files(traits, passes)
        click.echo(findings_json(checked) if as_json else findings_text(checked))
        if checked.worst == "error":
            sys.exit(USER_ERROR)
        if strict and checked.worst == "warning":
            sys.exit(WARNED)


if __name__ == "__main__":
    main()
