"""`python -m character.new NAME`: start a trait file."""

from __future__ import annotations

from pathlib import Path

import click

from character.commands import friendly


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name")
@click.option("--about", default="", help="The trait in one line.")
@click.option("--model", default="", help="Let this model draft it, for example openai:gpt-5-mini.")
@click.option("--out", type=click.Path(dir_okay=False), help="The file [traits/NAME.yaml].")
@friendly
def main(name: str, about: str, model: str, out: str | None) -> None:
    """Start the trait NAME: a skeleton with a comment for every field, or a model's draft.

    Every text to be written or read by a person starts with DRAFT; character.check lists them.
    """
    from character.spec.drafts import skeleton
    from character.spec.json_schema import json_schema_text
    from character.spec.loading import check_id

    check_id(name)
    file = Path(out or f"traits/{name}.yaml")
    if file.exists():
        raise click.UsageError(f"{file} exists. Choose another name, or --out")
    if model and not about:
        raise click.UsageError("A model needs to know what to draft: --about 'thrifty with money'")
    if model:
        from character.data.traits import drafted_by
        from character.models.loading import load_model

        text = drafted_by(load_model(model, click.echo), name, about)
    else:
        text = skeleton(name, about)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    schema = file.parent / "trait.schema.json"  # which the first line names, for editors
    if not schema.exists():
        schema.write_text(json_schema_text(), encoding="utf-8")
    click.echo(f"Wrote {file}. What to do: python -m character.check {file}")


if __name__ == "__main__":
    main()
