"""Pairs as a `datasets` dataset in TRL's words: the one place where they are spoken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset, DatasetDict

from character.errors import RecipeError
from character.rows import Pair, Query, Reply

PROBABILITY = "probability"
WEIGHT = "pair_weight"


def trl_rows(
    pairs: Sequence[Pair], queries: Mapping[str, Query], replies: Mapping[str, Reply]
) -> Dataset:
    """query -> prompt, chosen and rejected reply -> chosen and rejected, as messages.

    Columns beside TRL's own keep the lineage.
    """
    rows = [
        {
            "prompt": [{"role": "user", "content": queries[pair.query_id].text}],
            "chosen": [{"role": "assistant", "content": replies[pair.chosen_id].shown}],
            "rejected": [{"role": "assistant", "content": replies[pair.rejected_id].shown}],
            "pair_id": pair.id,
            "trait": queries[pair.query_id].trait,
            "clause": queries[pair.query_id].clause,
            PROBABILITY: pair.probability,
            "gap": pair.margin,  # not "margin": TRL's RewardTrainer would put that into its loss
            "ranking_id": pair.ranking_id,
            "chosen_id": pair.chosen_id,
            "rejected_id": pair.rejected_id,
        }
        for pair in pairs
    ]
    return Dataset.from_list(rows)


def dataset_of(
    pairs: Sequence[Pair], queries: Mapping[str, Query], replies: Mapping[str, Reply]
) -> DatasetDict:
    """Splits `train` and `test`; one without pairs is left out, as it could not be read again."""
    splits = {"train": "train", "test": "held_out"}
    found = {
        name: [pair for pair in pairs if pair.split == split] for name, split in splits.items()
    }
    return DatasetDict(
        {name: trl_rows(own, queries, replies) for name, own in found.items() if own}
    )


def counted(pairs: Dataset, weights: str) -> Dataset:
    """The pairs with what DpoConfig.weights counts them by: a weight each, when by probability.

    Raises RecipeError when their probabilities do not allow it.
    """
    if weights == "none":
        return pairs
    if PROBABILITY not in pairs.column_names:
        raise RecipeError(
            f"training.dpo.weights={weights} needs each pair's probability, and the pairs have no"
            f" column {PROBABILITY!r}. Add it, or set weights=none."
        )
    if weights == "soft":
        _in_range(pairs[PROBABILITY], 0, "soft")
        return pairs
    return pairs.add_column(WEIGHT, pair_weights(pairs[PROBABILITY]))


def pair_weights(probabilities: Sequence[float]) -> list[float]:
    """2p - 1 for each pair, divided by their mean: a coin flip counts nothing.

    Raises RecipeError for a pair ranked the other way round, and when every pair is a coin flip.
    """
    _in_range(probabilities, 0.5, "probability")
    sure = [2 * p - 1 for p in probabilities]
    if not any(sure):
        raise RecipeError(
            "With training.dpo.weights=probability every pair weighs 0: the ranking calls each of"
            " them even. Set weights=none, or rank with a surer judge."
        )
    mean = fmean(sure)
    return [each / mean for each in sure]


def _in_range(probabilities: Sequence[float], least: float, weights: str) -> None:
    for row, probability in enumerate(probabilities):
        if probability is None or not least <= probability <= 1:
            raise RecipeError(
                f"training.dpo.weights={weights} needs probabilities from {least:g} to 1, and pair"
                f" {row} has {probability}. Mend or drop it (below 0.5: swap its replies), or set"
                " weights=none."
            )


class CarryingCollator:
    """A collator's batch, and beside it these columns of the pairs as floats, each (pairs,)."""

    def __init__(self, collate: Any, columns: Sequence[str]) -> None:
        self.collate, self.columns = collate, columns

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        carried = {name: torch.tensor([float(row[name]) for row in rows]) for name in self.columns}
        return {**self.collate(rows), **carried}
