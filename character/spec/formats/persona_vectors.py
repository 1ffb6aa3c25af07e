"""persona_vectors: opposed instructions, and questions; the file's name is the trait's."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter

from character.spec.drafts import marked
from character.spec.formats.imported import Foreign, Imported, Told, imported, read_json, unknown

EXPECTED = 'a JSON mapping {"instruction": [{"pos": ..., "neg": ...}], "questions": [...]}'


class Instruction(Foreign):
    pos: str
    neg: str = ""


class Artifact(Foreign):
    instruction: Annotated[tuple[Instruction, ...], Field(min_length=1)]
    questions: tuple[str, ...] = ()


_SHAPE = TypeAdapter(Artifact)


def read(text: str, name: str) -> list[Imported]:
    """One trait called `name`. Instructions address the model, so their words become drafts."""
    artifact: Artifact = read_json(_SHAPE, text, EXPECTED)
    pairs = artifact.instruction
    against = " ".join(pair.neg for pair in pairs).strip()
    told = Told(
        name.replace("_", " "),
        [(f"clause {n}", marked(pair.pos)) for n, pair in enumerate(pairs, start=1)],
        opposite=marked(against) if against else "",
        seeds=artifact.questions,
        dropped=[*unknown(artifact)],
    )
    return imported([told])
