"""`python -m character.convert FILE`: traits from other projects' formats, and into them."""

from __future__ import annotations

from pathlib import Path

import click

from character.commands import friendly
from character.errors import SpecError

TARGETS = ("open-character", "markdown")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file")
@click.option("--from", "source", metavar="FORMAT", help="FILE's format [by its structure].")
@click.option("--to", "target", type=click.Choice(TARGETS), help="Export the trait FILE.")
@click.option("--out", type=click.Path(), help="The folder [traits]; with --to the file [stdout].")
@friendly
def main(file: str, source: str | None, target: str | None, out: str | None) -> None:
    """Import FILE: write a trait file for each trait in it, and say what is still to be written.

    With --to, export the trait FILE instead. Nothing is overwritten.
    """
    if source and target:
        raise click.UsageError("--from imports and --to exports: give one of them")
    if target:
        _export(file, target, Path(out) if out else None)
    else:
        _import(Path(file), source, Path(out or "traits"))


def _import(file: Path, source: str | None, folder: Path) -> None:
    from character.report.printable import printable
    from character.spec.formats.reading import read_foreign
    from character.spec.formats.trait_yaml import trait_yaml

    text = _text_of(file)
    try:
        found = read_foreign(text, file.stem, source)
        written = {folder / f"{each.fields['id']}.yaml": trait_yaml(each) for each in found}
    except SpecError as error:
        raise SpecError(printable(f"{file}: {error}")) from None
    _refuse_existing(*written)
    if folder.exists() and not folder.is_dir():
        raise SpecError(
            f"{folder} is a file. Traits are written into a folder: name one with --out."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for (path, content), each in zip(written.items(), found, strict=True):
        path.write_text(content, encoding="utf-8")
        told = [f"{path}: {each.fields['title']}", f"  carried: {', '.join(each.carried)}"]
        told += [f"  to write: {', '.join(each.missing)}"]
        told += [f"  left out: {what}" for what in each.dropped]
        click.echo(printable("\n".join(told)))
    click.echo(f"What is still a draft: python -m character.check {next(iter(written))}")


def _export(reference: str, target: str, out: Path | None) -> None:
    from character.report.printable import printable
    from character.spec.drafts import drafts_of
    from character.spec.formats import to_markdown, to_open_character
    from character.spec.loading import load_trait

    trait = load_trait(reference)
    if drafts := len(list(drafts_of(trait))):
        raise SpecError(
            f"{reference}: {drafts} texts are still drafts. To list them:"
            f" python -m character.check {reference}"
        )
    if target == "markdown":
        text, left_out = to_markdown.to_markdown(trait), to_markdown.LEFT_OUT
    else:
        text, left_out = to_open_character.to_open_character(trait), to_open_character.LEFT_OUT
    if out:
        _refuse_existing(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(printable(text), encoding="utf-8")
    else:
        click.echo(printable(text), nl=False)
    click.echo(f"Left out: {left_out}.", err=True)


def _text_of(file: Path) -> str:
    from character.yaml_file import MAX_BYTES

    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise SpecError(f"{file}: cannot be read: {error.strerror}.") from None
    except ValueError:
        raise SpecError(f"{file}: is not UTF-8 text; expected JSON or Markdown.") from None
    if len(raw) > MAX_BYTES:
        raise SpecError(f"{file}: is larger than 1 MB, the limit; expected one constitution.")
    if not text.strip():
        raise SpecError(f"{file}: is empty; expected JSON or Markdown.")
    return text


def _refuse_existing(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise SpecError(f"{path} exists. Move it away, or choose another place with --out.")


if __name__ == "__main__":
    main()
