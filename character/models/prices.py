"""What a model's tokens cost: a dated table, and the user's own on top of it.

A model that neither knows has an unknown price. That is never taken for free.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from character.errors import ModelError
from character.models.base import Usage
from character.yaml_file import FaultyFileError, at, descend, read_yaml

SHIPPED = Path(__file__).with_name("prices.yaml")
OWN = Path(platformdirs.user_config_dir("character")) / "prices.yaml"
MILLION = 1_000_000
EXAMPLE = """\
as_of: 2026-11-01
models:
  openai:my-model: {input: 1.25, output: 10.0}
  http://localhost:8000/v1#my-model: {input: 0, output: 0}"""


class Price(BaseModel):
    """Dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0, description="Read from a prompt cache.")
    written: float | None = Field(default=None, ge=0, description="Written to a prompt cache.")
    batch: float = Field(default=1.0, ge=0, le=1, description="Share of the price in a batch.")

    def cost(self, usage: Usage, batch: bool = False) -> float:
        """Dollars for what was used."""
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.written is None else self.written
        plain = usage.input - usage.cached - usage.written
        total = (
            plain * self.input
            + usage.cached * cached
            + usage.written * written
            + usage.output * self.output
        )
        return total / MILLION * (self.batch if batch else 1.0)

    def most(self, input_tokens: int, output_tokens: int, batch: bool = False) -> float:
        """Dollars at most, when so many tokens go in and at most so many come out."""
        dearest = max(self.input, self.cached or 0.0, self.written or 0.0)
        total = input_tokens * dearest + output_tokens * self.output
        return total / MILLION * (self.batch if batch else 1.0)


class PriceTable(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: date
    models: dict[str, Price]


@dataclass(frozen=True, slots=True)
class Quote:
    price: Price
    as_of: date


def price_of(name: str, own: Path = OWN) -> Quote | None:
    """What a model costs by the user's table, else by ours; None when neither knows it.

    `name` is a model name as in a recipe. A dated revision (`-2026-03-17`, `-20251101`) has the
    price of its model, and so has a name with an option behind it (`?api=responses`). Raises
    ModelError when a table is wrong.
    """
    names = {name, name.partition("?")[0]}
    for table in (_table(own), _table(SHIPPED)):
        if table is None:
            continue
        found = [known for known in table.models if any(_is(each, known) for each in names)]
        if found:
            return Quote(table.models[max(found, key=len)], table.as_of)
    return None


def _is(name: str, known: str) -> bool:
    if name == known:
        return True
    rest = name.removeprefix(known + "-")
    return rest != name and rest.replace("-", "").isdigit() and len(rest.replace("-", "")) == 8


@cache
def _table(path: Path) -> PriceTable | None:
    if not path.exists():
        return None
    try:
        root, values = read_yaml(path, "price table", EXAMPLE)
        return PriceTable.model_validate(values)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}.") from None
    except FaultyFileError as error:
        raise ModelError(error.lines(path)) from None
    except ValidationError as error:
        faults = FaultyFileError(
            at(descend(root, problem["loc"])[0].start_mark, _told(problem))
            for problem in error.errors()
        )
        raise ModelError(
            f"{faults.lines(path)}\nA price table looks like this:\n{EXAMPLE}"
        ) from None


def _told(problem: ErrorDetails) -> str:
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].lower()}"
