"""Pairs as a `datasets` dataset in TRL's words: the one place where they are spoken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datasets import Dataset, DatasetDict

from character.rows import Pair, Query, Reply


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
            "probability": pair.probability,
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
