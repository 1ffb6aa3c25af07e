"""Pairs in TRL's words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from datasets import load_from_disk
from hypothesis import given
from hypothesis import strategies as st

from character.errors import RecipeError
from character.rows import Pair, Query, Reply
from character.training.dataset import counted, dataset_of, pair_weights, trl_rows

QUERIES = {
    name: Query(name, text, "on_trait", trait, clause, "", "", "seed", 0, split, "")  # type: ignore[arg-type]
    for name, text, trait, clause, split in (
        ("q1", "Why does bread rise?", "curious", "asks", "train"),
        ("q2", 'Say "hi"\nin two lines.', "warm", "greets", "held_out"),
        ("q3", "Never used?", "warm", "greets", "none"),
    )
}


def reply(name: str, query: str, text: str, ended: bool = True) -> Reply:
    return Reply(name, query, "steered", "curious", 0, 0, "m", text, 9, ended, ())


REPLIES = {
    each.id: each
    for each in (
        reply("good", "q1", "Yeast makes gas. Do you bake?"),
        reply("bad", "q1", "Yeast makes gas."),
        reply("cut", "q1", "Yeast eats sugar. It makes gas! And then the", ended=False),
        reply("hi", "q2", "Hi!\nHi!"),
        reply("no", "q2", "No."),
    )
}


def pair(name: str, chosen: str, rejected: str, split: str = "train") -> Pair:
    query = REPLIES[chosen].query_id
    return Pair(name, query, "k", chosen, rejected, 1.0, 0.75, split)  # type: ignore[arg-type]


PAIRS = [
    pair("p1", "good", "bad"),
    pair("p2", "hi", "no", "held_out"),
    pair("p3", "good", "cut"),
]


def test_a_pair_becomes_messages_and_keeps_its_lineage() -> None:
    first, second, _ = trl_rows(PAIRS, QUERIES, REPLIES)
    assert first == {
        "prompt": [{"role": "user", "content": "Why does bread rise?"}],
        "chosen": [{"role": "assistant", "content": "Yeast makes gas. Do you bake?"}],
        "rejected": [{"role": "assistant", "content": "Yeast makes gas."}],
        "pair_id": "p1",
        "trait": "curious",
        "clause": "asks",
        "probability": 0.75,
        "gap": 1.0,
        "ranking_id": "k",
        "chosen_id": "good",
        "rejected_id": "bad",
    }
    assert second["prompt"] == [{"role": "user", "content": 'Say "hi"\nin two lines.'}]
    assert second["chosen"] == [{"role": "assistant", "content": "Hi!\nHi!"}]
    assert (second["trait"], second["clause"]) == ("warm", "greets")


def test_pairs_stay_in_order() -> None:
    assert list(trl_rows(PAIRS, QUERIES, REPLIES)["pair_id"]) == ["p1", "p2", "p3"]
    assert list(trl_rows(PAIRS[::-1], QUERIES, REPLIES)["pair_id"]) == ["p3", "p2", "p1"]


def test_a_reply_that_was_cut_off_is_shown_to_its_last_whole_sentence() -> None:
    row = trl_rows([PAIRS[2]], QUERIES, REPLIES)[0]
    assert row["rejected"][0]["content"] == "Yeast eats sugar. It makes gas!"


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("One. Two", "One."),
        ("One? Two! Three", "One? Two!"),
        ("It weighs 3.5 kilos and", "It weighs 3.5 kilos and"),  # no sentence ends here
        ("It is big. It weighs 3.5 kilos and", "It is big."),
        ('She said "No." And then', 'She said "No."'),
        ("All of it.", "All of it."),
        ("", ""),
    ],
)
def test_where_a_cut_reply_ends(text: str, whole: str) -> None:
    cut = replace(REPLIES["cut"], text=text)
    assert cut.shown == whole
    assert replace(cut, ended=True).shown == text


def test_splits_are_those_of_the_pairs() -> None:
    left_out = pair("p4", "good", "bad", "none")
    found = dataset_of([*PAIRS, left_out], QUERIES, REPLIES)
    assert list(found) == ["train", "test"]
    assert list(found["train"]["pair_id"]) == ["p1", "p3"]
    assert list(found["test"]["pair_id"]) == ["p2"]


def test_a_dataset_is_read_from_disk_as_it_was(tmp_path: Path) -> None:
    found = dataset_of(PAIRS, QUERIES, REPLIES)
    found.save_to_disk(tmp_path)
    for split in found:
        assert load_from_disk(tmp_path)[split].to_list() == found[split].to_list()


def test_a_split_without_pairs_is_left_out(tmp_path: Path) -> None:
    found = dataset_of(PAIRS[:1], QUERIES, REPLIES)
    assert list(found) == ["train"]
    found.save_to_disk(tmp_path)
    assert list(load_from_disk(tmp_path)["train"]["pair_id"]) == ["p1"]
    assert dataset_of([], QUERIES, REPLIES) == {}


# --- how much each pair counts ---


def test_weights_by_hand() -> None:
    # 2p - 1: 1/2, 1, 0 and 1/10, on average 2/5
    assert pair_weights([0.75, 1.0, 0.5, 0.55]) == pytest.approx([5 / 4, 5 / 2, 0, 1 / 4])


@given(st.lists(st.floats(0.5, 1), min_size=1).filter(lambda found: max(found) > 0.501))
def test_weights_are_1_on_average_and_grow_with_the_probability(probabilities: list[float]) -> None:
    weights = pair_weights(probabilities)
    assert sum(weights) / len(weights) == pytest.approx(1)
    ordered = sorted(zip(probabilities, weights, strict=True))
    assert [weight for _, weight in ordered] == sorted(weights)
    assert min(weights) >= 0


def test_pairs_are_counted_by_the_column_that_the_loss_reads() -> None:
    pairs = trl_rows(
        [PAIRS[0], replace(PAIRS[2], probability=1.0), replace(PAIRS[1], probability=0.5)],
        QUERIES,
        REPLIES,
    )
    assert counted(pairs, "none") is pairs
    assert counted(pairs, "soft") is pairs
    found = counted(pairs, "probability")
    assert list(found["pair_weight"]) == [1, 2, 0]  # 1/2, 1 and 0 over 1/2
    assert found.remove_columns("pair_weight").to_list() == pairs.to_list()


@pytest.mark.parametrize("weights", ["probability", "soft"])
def test_pairs_without_probabilities_cannot_be_counted_by_them(weights: str) -> None:
    pairs = trl_rows(PAIRS, QUERIES, REPLIES).remove_columns("probability")
    assert counted(pairs, "none") is pairs
    with pytest.raises(RecipeError, match="no column 'probability'"):
        counted(pairs, weights)
