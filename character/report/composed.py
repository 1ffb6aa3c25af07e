"""The card of adapters that were added up, and the table of what each did to the whole."""

from __future__ import annotations

from collections.abc import Sequence

from huggingface_hub import ModelCardData
from rich.table import Table

from character.diffing.left_out import WHOLE, LeftOut
from character.diffing.statistics import Estimate
from character.report.cards import hub_id, licence_of
from character.report.forms import NATS, POINT, told
from character.report.markdown import code, document, escaped, fence, table
from character.report.terminal import change_text, level_text, simple_table


def composed_card(base: str, weights: Sequence[tuple[str, float]], found: Sequence[LeftOut]) -> str:
    known = hub_id(base)
    data = ModelCardData(
        base_model=known,
        base_model_relation="adapter" if known else None,
        library_name="peft",
        license=licence_of(base),
        pipeline_tag="text-generation",
        tags=["character", "lora", "composed"],
    )
    names = " + ".join(label for label, _ in weights)
    return document(
        data.to_yaml(),
        f"# {escaped(names)}",
        f"The weighted sum of adapters on {code(base)}. It is exact: the ranks of the parts lie"
        " side by side, and nothing was trained. The cards of the parts say what each of them was"
        " measured to do; what they do together was measured only where a table below says so.",
        table(("adapter", "weight"), [(code(label), f"{w:g}") for label, w in weights]),
        "## What each part does to the whole",
        *(_effects(found) if found else ("This was not measured.",)),
        "## How to load",
        fence(
            "from peft import AutoPeftModelForCausalLM\n\n"
            'model = AutoPeftModelForCausalLM.from_pretrained(".")\n\n'
            "# or merged, which is complete in itself\n"
            "from transformers import AutoModelForCausalLM\n\n"
            'model = AutoModelForCausalLM.from_pretrained("merged")',
            "python",
        ),
    )


def left_out_table(found: Sequence[LeftOut]) -> Table:
    """For the terminal."""
    head, rows = _cells(found)
    made = simple_table(*head)
    for row in rows:
        made.add_row(*row)
    return made


def _effects(found: Sequence[LeftOut]) -> tuple[str, ...]:
    head, rows = _cells(found)
    return (
        "The whole beside itself with one part left out, on held-out queries of each trait;"
        " *did* is the whole minus that. Contrast in nats a token, 95 % intervals over queries.",
        table(head, [[escaped(cell) for cell in row] for row in rows]),
    )


def _cells(found: Sequence[LeftOut]) -> tuple[list[str], list[list[str]]]:
    traits = [effect.trait for effect in found[0].traits]
    head = ["subject", *(f"{what} {trait}" for trait in traits for what in ("contrast", "did to"))]
    head += ["short questions right", "did to them"]
    rows = []
    for line in found:
        cells = [line.subject]
        for effect in line.traits:
            cells += [told(effect.contrast, NATS, change_text), _did(line, effect.did)]
        short = told(line.short, POINT, level_text)
        did = "" if line.subject == WHOLE else told(line.short_did, POINT, change_text)
        rows.append([*cells, short, did])
    return head, rows


def _did(line: LeftOut, did: Estimate | None) -> str:
    return "" if line.subject == WHOLE else told(did, NATS, change_text)
