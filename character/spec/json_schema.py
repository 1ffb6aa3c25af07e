"""The trait format as JSON Schema, so that editors complete and check a trait as it is written.

`python -m character.spec.json_schema` writes `traits/trait.schema.json` anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from character.shipped import shipped
from character.spec.schema import Trait


def trait_json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a trait file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Trait.model_json_schema(by_alias=True),
        "title": "Trait",
        "description": "One behaviour to train into a language model, with clauses and examples.",
    }


def json_schema_text() -> str:
    return json.dumps(trait_json_schema(), indent=2, ensure_ascii=False) + "\n"


def write_trait_json_schema(path: Path) -> None:
    path.write_text(json_schema_text(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write_trait_json_schema(shipped("traits") / "trait.schema.json")
