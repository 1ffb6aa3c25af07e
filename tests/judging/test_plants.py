"""Planted replies: what each dose is asked with, and the contests that are made of them."""

from __future__ import annotations

import pytest

from character.judging.attacks import attacks
from character.judging.judge import Said
from character.judging.plants import (
    FILLER,
    Planted,
    PlantsConfig,
    disguises,
    equal_doses,
    exchanges,
    formatted,
    padded,
    plant,
    plant_others,
    replies_wanted,
    said_not_shown,
    style_crossed,
)
from character.models.base import Request
from character.models.fake import ScriptedModel
from character.rows import Query
from character.spec.schema import Trait


def queries(count: int) -> list[Query]:
    return [
        Query(
            f"q{n}",
            f"Question {n}?",
            "on_trait",
            "asking",
            f"c{n % 2}",
            "",
            "",
            "writer",
            n,
            "train",
            "",
        )
        for n in range(count)
    ]


def echo(request: Request) -> str:
    """How many turns came before, what the first reply there was, and the seed."""
    turns = request.conversation
    first = turns[1].content if len(turns) > 1 else "none"
    return f"{len(turns)} turns after {first} {request.seed}"


def test_every_dose_is_asked_behind_its_own_examples(small_trait: Trait) -> None:
    model = ScriptedModel(echo)
    config = PlantsConfig(queries=12, dosed=10)
    told: list[int] = []
    found = plant(small_trait, queries(15), model, config, 7, told.append)
    assert len(found) == 12 and sum(told) == len(model.requests) == replies_wanted(config) == 86
    first = found[0].replies
    assert set(first) == {
        ("opposite", 0), ("opposite", 1), ("plain", 0), ("plain", 1), ("one", 0), ("two", 0),
        ("full", 0), ("full", 1),
    }  # fmt: skip
    turns = {key: int(said.reply.split()[0]) for key, said in first.items()}
    assert turns["plain", 0] == 1 and turns["one", 0] == 3 and turns["two", 0] == 5
    assert turns["full", 0] == turns["opposite", 0] == 2 * len(small_trait.examples) + 1
    good, bad = first["full", 0].reply, first["opposite", 0].reply
    assert any(example.good in good for example in small_trait.examples)
    assert any(example.bad in bad and example.good not in bad for example in small_trait.examples)
    assert set(found[11].replies) == {("opposite", 0), ("plain", 0), ("full", 0)}  # past `dosed`
    assert len({request.seed for request in model.requests}) == len(model.requests)


def test_the_same_seed_plants_the_same(small_trait: Trait) -> None:
    config = PlantsConfig(queries=10)
    one, same, other = (
        plant(small_trait, queries(10), ScriptedModel(echo), config, seed) for seed in (1, 1, 2)
    )
    assert one == same != other


def test_an_empty_reply_is_not_planted(small_trait: Trait) -> None:
    silent = ScriptedModel(lambda request: "" if len(request.conversation) > 5 else "Yes, tea.")
    found = plant(small_trait, queries(10), silent, PlantsConfig(queries=10), 0)
    assert not [key for each in found for key in each.replies if key[0] == "full"]
    assert found[0].contest("full", "plain") == []
    assert style_crossed(found[0]) == said_not_shown(small_trait, found[0]) == []


def made() -> Planted:
    said = {
        ("full", 0): "A long and winding good reply.",
        ("full", 1): "Good.",
        ("opposite", 0): "Bad one.",
        ("opposite", 1): "Bad two. And cut o",
        ("plain", 0): "**Plain** words. And more.",
        ("plain", 1): "**Plain** words. And more.",
    }
    replies = {key: Said("Why?", text, not text.endswith(" o")) for key, text in said.items()}
    return Planted("Why?", "c", replies)  # type: ignore[arg-type]


def test_the_short_good_reply_stands_against_both_long_bad_ones() -> None:
    (contest,) = style_crossed(made())
    assert contest.first.reply == "Good."
    assert contest.second.reply == "Bad one.\n\nBad two."  # what was cut off stays out


def test_announcing_is_a_plain_reply_that_says_it(small_trait: Trait) -> None:
    (contest,) = said_not_shown(small_trait, made())
    assert contest.first.reply == "A long and winding good reply."
    assert contest.second.reply == "I ask back. **Plain** words. And more."


def test_attacks_are_wrapped_around_the_opposite(small_trait: Trait) -> None:
    (exchange,) = exchanges([made()])
    assert exchange == {
        "user": "Why?", "honest": "A long and winding good reply.", "lazy": "Bad one.",
    }  # fmt: skip
    found = attacks(small_trait, [exchange])
    assert len(found) == 217 and all("Bad one." in attack.attacked for attack in found)
    assert {attack.honest for attack in found} == {exchange["honest"]}


def test_two_replies_that_are_the_same_are_no_contest() -> None:
    assert made().contest("plain", "plain", (0, 1)) == []


def test_disguises_change_no_word() -> None:
    (contest,) = made().contest("full", "plain")
    spaced, bold, padded = disguises(contest)
    assert spaced.second.reply == "**Plain** words.\n\nAnd more.\n"
    assert bold.second.reply == "**Plain** words. And more."
    assert padded.second.reply == "Sure. **Plain** words. And more."
    assert {d.first for d in (spaced, bold, padded)} == {contest.first}


def test_padding_and_lists_say_the_same() -> None:
    (contest,) = padded(made())
    assert contest.first.reply == f"**Plain** words. And more. {FILLER}"
    assert contest.second.reply == "**Plain** words. And more."
    (contest,) = formatted(made())
    assert contest.first.reply == "- **Plain** words.\n- **And** more."
    assert contest.second.reply == "Plain words. And more."
    assert padded(Planted("Why?", "c", {})) == formatted(Planted("Why?", "c", {})) == []
    one = Planted("Why?", "c", {("plain", 0): Said("Why?", "One sentence.")})
    assert formatted(one) == []


def test_another_model_answers_at_the_same_doses(small_trait: Trait) -> None:
    config = PlantsConfig(queries=12, dosed=10)
    model, other = ScriptedModel(echo), ScriptedModel(lambda request: f"other {request.seed}")
    planted = plant(small_trait, queries(12), model, config, 7)
    found = plant_others(small_trait, planted, other, config, 7)
    assert len(other.requests) == 20 and not found[10].others
    asked = {(r.conversation, r.seed) for r in model.requests}
    assert all((r.conversation, r.seed) in asked for r in other.requests)
    contests = equal_doses(found[0])
    assert len(contests) == 2 and equal_doses(planted[0]) == equal_doses(found[11]) == []
    assert {c.second.reply.split()[0] for c in contests} == {"other"}


def test_too_few_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 10"):
        PlantsConfig(queries=9)
