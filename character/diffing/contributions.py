"""Which trait caused what: NEW beside NEW built without one of its traits, paired by query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from character.diffing.columns import Columns, Wanted
from character.diffing.config import DiffConfig
from character.diffing.inference import ALPHA, Floats, discoveries, movements, ratio, t_test
from character.diffing.results import Contribution, Result
from character.diffing.subjects import NEW, OLD
from character.diffing.suite import Stratum
from character.diffing.verdicts import FEWEST, Verdict
from character.diffing.wanted import PREFERENCE

ATTRIBUTED: tuple[Stratum, ...] = (  # what the measures below are measured on
    "on_trait", "unless", "neutral", "off_format", "capability", "framed_facts",
)  # fmt: skip
MOVED: tuple[Verdict, ...] = ("INTENDED", "REGRESSED", "CONFOUNDED", "MOVED")


@dataclass(frozen=True, slots=True)
class _Cell:
    result: Result
    trait: str
    added: Floats  # NEW minus NEW without the trait, by query
    moved: Floats  # NEW minus OLD
    why: str

    @property
    def p(self) -> float:
        return 1.0 if self.why else t_test(self.added)


def contributions(
    columns: Columns,
    wanted: Sequence[Wanted],
    results: Sequence[Result],
    without: Mapping[str, str],
    config: DiffConfig,
) -> tuple[Contribution, ...]:
    """For each measure that moved, what each trait that was left out had added to it.

    `without` has the subject that was built without a trait, and `wanted` says how each result was
    measured. The false discovery rate is held over every measure, moved or not, times every trait
    left out (Benjamini & Hochberg 1995): what moved is known by NEW's replies, which are in both
    differences, so a family of what moved alone would be picked with the noise it is tested on.
    Traits interact, so that shares need not add up to 1.
    """
    cells = [
        _cell(columns, one, result, trait, subject, config)
        for one, result in zip(wanted, results, strict=True)
        for trait, subject in without.items()
    ]
    adjusted = discoveries([cell.p for cell in cells])
    return tuple(
        _contribution(cell, q, config)
        for cell, q in zip(cells, adjusted, strict=True)
        if cell.result.verdict in MOVED
    )


def _cell(
    columns: Columns, wanted: Wanted, result: Result, trait: str, subject: str, config: DiffConfig
) -> _Cell:
    added, moved = columns.change(NEW, subject, wanted), columns.change(NEW, OLD, wanted)
    if wanted.unit == PREFERENCE:
        # both shares are of comparisons with OLD, and a net preference is twice a share less one
        added = 2 * added
    return _Cell(result, trait, added, moved, _unknown(added, config))


def _unknown(added: Floats, config: DiffConfig) -> str:
    """Why these differences tell nothing; the same bounds as a verdict's."""
    known = int(np.isfinite(added).sum())
    if known < FEWEST:
        return f"{known} queries are fewer than {FEWEST}"
    if len(added) - known > config.missing * len(added):
        return f"{len(added) - known} queries are missing"
    return ""


def _contribution(cell: _Cell, q: float, config: DiffConfig) -> Contribution:
    (movement,) = movements(cell.added[:, None], config.permutations, config.seed)
    share = None if cell.why else ratio(cell.added, cell.moved, config.resamples, config.seed)
    discovered = not cell.why and q <= ALPHA
    return Contribution(
        cell.result.name, cell.trait, movement, q, discovered, share, cell.why
    )  # fmt: skip
