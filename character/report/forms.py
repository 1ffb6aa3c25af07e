"""How each form that a policy ships in is told about in its card: what it is, how it loads, what
is left of the character in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from character.diffing.kept import MERGED, Kept
from character.diffing.statistics import Estimate
from character.report.markdown import code, fence, table
from character.report.terminal import UNITS, WAY, Unit, change_text, interval_text, level_text

POINT = UNITS["share"]
NATS = Unit()


@dataclass(frozen=True, slots=True)
class Form:
    """One form: what the Hub calls its relation to the base model, its library, how it loads."""

    relation: str
    library: str
    loading: str


_STOCK = (
    "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
    'model = AutoModelForCausalLM.from_pretrained("FOLDER")\n'
    'tokenizer = AutoTokenizer.from_pretrained("FOLDER")'
)
_GGUF = (
    "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
    'model = AutoModelForCausalLM.from_pretrained("FOLDER", gguf_file="FILE")\n'
    'tokenizer = AutoTokenizer.from_pretrained("FOLDER", gguf_file="FILE")'
)
GGUF_FILE = {"gguf-f16": "model-f16.gguf", "gguf-q8_0": "model-q8_0.gguf"}
FORMS: Mapping[str, Form] = {
    "adapter": Form(
        "adapter",
        "peft",
        "from peft import AutoPeftModelForCausalLM\n\n"
        'model = AutoPeftModelForCausalLM.from_pretrained("FOLDER")',
    ),
    "merged": Form("finetune", "transformers", _STOCK),
    "int8": Form("quantized", "transformers", "# pip install torchao\n" + _STOCK),
    **{
        form: Form("quantized", "gguf", _GGUF.replace("FILE", file))
        for form, file in GGUF_FILE.items()
    },
}


def loading(form: str, folder: str = ".") -> str:
    """The snippet that opens a form with stock libraries."""
    return fence(FORMS[form].loading.replace("FOLDER", folder), "python")


def kept_table(kept: tuple[Kept, ...]) -> list[str]:
    """What was measured of the forms, one line each; says so when nothing was."""
    title = "## Kept in this form"
    if not kept:
        return [title, "Whether the character is kept in this form was not measured."]
    traits = [moved.trait for moved in kept[0].traits]
    head = ["form", "MB"]
    head += [f"{what}: {code(trait)}" for trait in traits for what in ("contrast", "kept")]
    head += ["short questions right", "beside merged", "shift", "tokens"]
    return [
        title,
        "Each form answered the same held-out queries. *Kept* is the share of the merged policy's "
        "movement that is left; *shift* the mean absolute difference of a token's log-probability "
        "on the merged policy's own replies, in nats. 95 % intervals over queries. Replies are "
        "drawn, so levels differ by chance too; the shift does not.",
        table(head, [_row(each) for each in kept]),
    ]


def _row(kept: Kept) -> list[str]:
    first = kept.form == MERGED  # with which the others are compared
    cells = [kept.form, f"{kept.megabytes:.0f}"]
    for moved in kept.traits:
        cells.append(told(moved.contrast, NATS, change_text))
        cells.append("" if first else told(moved.share, WAY))
    return [
        *cells,
        told(kept.short, POINT),
        "" if first else told(kept.short_change, POINT, change_text),
        "" if first else told(kept.shift, NATS),
        told(kept.tokens, UNITS["tokens"]),
    ]


def told(
    found: Estimate | None,
    unit: Unit,
    text: Callable[[Estimate | None, Unit], str] = level_text,
) -> str:
    """A value, or with `change_text` a change, and its interval."""
    return f"{text(found, unit)} {interval_text(found, unit)}".rstrip()
