from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import a_query

from character.data.anchors import KINDS, NEUTRAL, anchor_queries
from character.diffing.config import SuiteConfig
from character.diffing.suite import (
    BRIEF,
    STRATA,
    Item,
    Stratum,
    Suite,
    counts,
    make_suite,
    near,
    read_suite,
    strata,
    without,
    write_suite,
)
from character.errors import SuiteError
from character.models.base import Message
from character.rows import Kind, Query
from character.text import accepted

SMALL = SuiteConfig(
    on_trait=20, unless=4, neutral=5, off_format=6, break_character=3, watched=2, multi_turn=5,
    capability=7, framed_facts=4,
)  # fmt: skip
ALL = SuiteConfig(
    neutral=999, off_format=999, multi_turn=999, capability=999, framed_facts=999
)  # fmt: skip
BREAD = "Why does bread rise in a warm oven?"


def queries(trait: str, count: int = 25) -> list[Query]:
    kinds: tuple[Kind, ...] = ("on_trait", "unless")
    return [
        a_query(f"{trait} {kind} {n}", trait=trait, kind=kind)
        for kind in kinds
        for n in range(count)
    ]


def written(*traits: str) -> dict[str, list[Query]]:
    return {trait: queries(trait) for trait in traits}


def made(config: SuiteConfig = SMALL, *traits: str) -> Suite:
    return make_suite(written(*traits or ("brisk", "warm")), config)


def an_item(identity: str = "a", *turns: str, **changes: Any) -> Item:
    fields = {"id": identity, "stratum": "neutral", "turns": turns or (BREAD,)}
    return Item.model_validate(fields | changes)


def each(items: list[Item], kind: str) -> Counter[str]:
    return Counter(getattr(item, kind) for item in items)


def is_even(found: Counter[str]) -> bool:
    return not found or max(found.values()) - min(found.values()) <= 1


# --- making ---


def test_the_sizes_are_those_of_the_config() -> None:
    assert counts(made()) == {
        ("on_trait", "brisk"): 20, ("on_trait", "warm"): 20,
        ("unless", "brisk"): 4, ("unless", "warm"): 4,
        ("neutral", ""): 5, ("off_format", ""): 6, ("multi_turn", ""): 5, ("capability", ""): 7,
        ("framed_facts", ""): 4 * 3,  # neutral, sad, with a wrong belief
        ("break_character", "brisk"): 21, ("break_character", "warm"): 21,  # 14 x 3
        ("watched", "brisk"): 1 * 12, ("watched", "warm"): 1 * 12,
    }  # fmt: skip


def test_zero_leaves_a_stratum_out_and_too_many_takes_what_there_is() -> None:
    none = dict.fromkeys(SuiteConfig.model_fields, 0) | {"on_trait": 20}
    assert counts(made(SuiteConfig(**none), "brisk")) == {("on_trait", "brisk"): 20}
    plenty = counts(made(SuiteConfig(**dict.fromkeys(none, 999)), "brisk"))
    assert (plenty["on_trait", "brisk"], plenty["unless", "brisk"]) == (25, 25)
    assert plenty["capability", ""] == 150
    assert {stratum for stratum, _ in plenty} == set(STRATA)


@settings(deadline=None, max_examples=40)
@given(
    st.builds(
        SuiteConfig,
        **{name: st.integers(0, 60) for name in SuiteConfig.model_fields if name != "on_trait"},
        on_trait=st.integers(20, 30),
    )
)
def test_every_stratum_is_as_even_over_kinds_as_can_be(config: SuiteConfig) -> None:
    suite = made(config, "brisk", "warm", "wry")
    formats, scripts = suite.of("off_format"), suite.of("multi_turn")
    assert (len(formats), len(scripts)) == (min(config.off_format, 44), min(config.multi_turn, 42))
    for items, kind in ((formats, "format"), (scripts, "variant"), (suite.of("watched"), "variant"),
                        (suite.of("break_character"), "variant"),
                        (suite.of("framed_facts"), "variant")):  # fmt: skip
        assert is_even(each(items, kind))
    for stratum in ("watched", "break_character"):
        items = suite.of(stratum)
        for variant in each(items, "variant"):
            assert is_even(each([item for item in items if item.variant == variant], "trait"))
    assert len({item.id for item in suite.items}) == len(suite.items)


def test_a_variant_names_the_plain_item_that_it_varies() -> None:
    suite = made()
    by_id = {item.id: item for item in suite.items}
    varied = [item for item in suite.items if item.of]
    assert each(varied, "stratum") == {"break_character": 42, "watched": 24, "framed_facts": 8}
    for item in varied:
        plain = by_id[item.of]
        assert item.variant and not plain.of
        assert (item.trait, item.clause, item.accept) == (plain.trait, plain.clause, plain.accept)
        if item.stratum != "framed_facts":
            assert plain.stratum == "on_trait"
            assert plain.turns[0] in item.turns[0]


def test_each_variant_has_queries_of_its_own() -> None:
    suite = made(SuiteConfig(on_trait=30, break_character=4), "brisk")
    varied = [item.of for item in suite.of("break_character")]
    assert len(varied) == 14 * 4 and len(set(varied)) == 25  # all that were written, in turn
    assert max(Counter(varied).values()) == 3


def test_both_sides_of_a_framing_are_of_the_same_queries() -> None:
    found: dict[str, dict[str, list[str]]] = {}
    for item in made().of("watched"):
        framing, _, side = item.variant.partition("/")
        found.setdefault(framing, {}).setdefault(side, []).append(item.of)
    assert len(found) == 6
    assert all(sides["watched"] == sides["alone"] for sides in found.values())


def test_a_prefilled_variant_asks_the_same_after_the_assistant_agreed() -> None:
    prefilled = [item for item in made().of("break_character") if item.opening]
    by_id = {item.id: item for item in made().items}
    assert len(prefilled) == 4 * 3
    for item in prefilled:
        assert [message.role for message in item.messages] == ["user", "assistant"]
        assert item.turns == by_id[item.of].turns


def test_only_a_traits_own_queries_that_were_not_dropped_are_asked() -> None:
    own = [a_query("a"), a_query("b", dropped="near duplicate"), a_query("c", trait="warm")]
    found = make_suite({"brisk": [*own, a_query("d", kind="neutral")]}, SMALL)
    assert [item.turns for item in found.of("on_trait")] == [("What about a?",)]
    assert found.traits == ["brisk"]
    assert make_suite({}, SMALL).traits == []


def test_two_traits_may_ask_the_same() -> None:
    """Each of them is measured on it, so each has an item of its own."""
    both = {name: [a_query("bread", trait=name)] for name in ("brisk", "warm")}
    suite = make_suite(both, SMALL)
    assert len(suite.of("on_trait")) == 2
    assert len({item.id for item in suite.items}) == len(suite.items)


def test_a_turn_is_known_by_its_item_and_its_number_where_there_are_several() -> None:
    assert an_item("a", "Hi.").turn_id(0) == "a"
    talk = an_item("a", "Hi.", "And?", opening=(("system", "Be brief."),))
    assert [talk.turn_id(turn) for turn in (0, 1)] == ["a/1", "a/2"]
    assert talk.messages == (Message("system", "Be brief."),)


# --- the digest ---


def test_the_same_queries_give_the_same_digest() -> None:
    assert made().digest == made().digest
    ids = [item.id for item in made().items]
    assert ids == [item.id for item in made().items]


@pytest.mark.parametrize(
    "change",
    [
        {"id": "b"}, {"turns": (BREAD + " ",)}, {"turns": (BREAD, "And why?")},
        {"opening": (("user", "Hi."), ("assistant", "Hello."))}, {"accept": ("yeast",)},
        {"wrong": ("salt",)}, {"format": "json"}, {"stratum": "on_trait"}, {"trait": "brisk"},
        {"clause": "c"}, {"of": "b"}, {"variant": "sad"},
    ],
)  # fmt: skip
def test_any_change_gives_another_digest(change: dict[str, Any]) -> None:
    first, last = an_item(), an_item("z", "Is it wet?")
    assert Suite((an_item(**change), last)).digest != Suite((first, last)).digest


def test_another_order_is_another_suite() -> None:
    one, other = an_item("a"), an_item("b")
    assert Suite((one, other)).digest != Suite((other, one)).digest
    again = [*queries("brisk")[1:], queries("brisk")[0]]
    assert make_suite({"brisk": again}, SMALL).digest != made(SMALL, "brisk").digest


# --- what was trained on ---


@pytest.mark.parametrize(
    "trained",
    [BREAD, BREAD.upper(), "In a warm oven, why does bread rise?"],
)  # fmt: skip
@pytest.mark.parametrize("turn", [0, 1, 2])
def test_a_near_duplicate_is_found_in_any_turn(trained: str, turn: int) -> None:
    turns = ["I bake on Sundays.", "It is cold here.", "My aunt sings."]
    turns[turn] = BREAD
    asked = [an_item("a", *turns), an_item("b", "Is it wet?")]
    assert near(asked, ["Do cats purr at night?", trained]) == {"a": trained}


def test_part_of_a_message_is_not_that_message() -> None:
    longer = f"{BREAD} My grandmother asked me at the market, and I could not tell her."
    assert near([an_item("a", BREAD)], [longer]) == {}
    assert near([an_item("a", longer)], [BREAD]) == {}
    assert near([an_item("a", BREAD)], []) == {}


@pytest.mark.parametrize("stratum", BRIEF)
def test_a_question_for_a_fact_is_repeated_only_by_the_same_question(stratum: Stratum) -> None:
    ask, other = "What is the capital of Cuba?", "What is the capital of Chad?"
    asked = [an_item("a", ask, stratum=stratum, accept=("havana",))]
    assert near(asked, [other]) == {}
    assert near(asked, [other, ask.lower()]) == {"a": ask.lower()}
    assert near([an_item("a", ask)], [other]) == {"a": other}


def test_messages_without_words_are_not_all_the_same() -> None:
    assert near([an_item("a", "???")], ["!!!"]) == {}


def test_variants_go_with_the_item_they_vary() -> None:
    suite = made()
    plain = suite.of("on_trait")[0]
    left = without(suite, [plain.id])
    gone = {item.id for item in suite.items} - {item.id for item in left.items}
    assert gone == {plain.id} | {item.id for item in suite.items if item.of == plain.id}
    assert len(gone) > 1
    fact = suite.of("framed_facts")[0]
    assert len(without(suite, [fact.id]).of("framed_facts")) == 4 * 3 - 3


def test_a_variant_goes_alone() -> None:
    suite = made()
    variant = suite.of("watched")[0]
    assert without(suite, [variant.id]).items == tuple(
        item for item in suite.items if item is not variant
    )
    assert without(suite, []) == suite


# --- the file ---


def page(*items: dict[str, Any], **changes: Any) -> dict[str, Any]:
    plain = {"id": "a", "stratum": "neutral", "turns": [BREAD]}
    found = [plain | item for item in items or ({},)]
    suite = {"schema": 1, "digest": "", "items": found} | changes
    return {key: value for key, value in suite.items() if value is not None}


def refused(path: Path, content: str | bytes, locked: bool = False) -> str:
    """Why a file is not read; the path is named first."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SuiteError) as caught:
        read_suite(path, locked)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "suite.lock"
    odd = an_item(
        "ö",
        "Pourquoi\nça?",
        "«\u2028»",
        stratum="framed_facts",
        wrong=("é",),
        opening=(("system", "Sois bref."),),
    )
    suite = Suite((*made().items, odd))
    write_suite(suite, path)
    assert read_suite(path) == suite
    assert read_suite(path).digest == suite.digest
    first = path.read_bytes()
    write_suite(read_suite(path), path)
    assert path.read_bytes() == first


def test_a_file_that_was_edited_says_how_to_lock_it(tmp_path: Path) -> None:
    path = tmp_path / "suite.lock"
    write_suite(Suite((an_item(),)), path)
    edited = path.read_text().replace("bread", "dough")
    told = refused(path, edited, locked=True)
    assert "was edited after it was locked" in told
    assert told.endswith(f"python -m character.suite lock {path}")
    assert read_suite(path, locked=False).items[0].turns == (BREAD.replace("bread", "dough"),)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (page(schema=2), "schema: Input should be 1"),
        (page(schema=None), "schema: Field required"),
        (page(digest=None), "digest: Field required"),
        (page(items=[]), "items: Tuple should have at least 1 item"),
        (page(items=None), "items: Field required"),
        (page(notes="mine"), "notes: Extra inputs are not permitted"),
        (page({"weight": 2}), "items.0.weight: Extra inputs are not permitted"),
        (page({"stratum": "odd"}), "items.0.stratum: Input should be 'on_trait'"),
        (page({"turns": [BREAD, ""]}), "items.0.turns.1: String should have at least 1 char"),
        (page({"turns": []}), "items.0.turns: Tuple should have at least 1 item"),
        (page({"turns": BREAD}), "items.0.turns: Input should be a valid "),
        (page({"opening": [["robot", "Hi."]]}), "items.0.opening.0.0: Input should be 'system'"),
        (page({"id": ""}), "items.0.id: String should have at least 1 char"),
        (page({}, {}), "two items have the id 'a'; give each its own."),
        ([], "the file: Input should be an object"),
    ],
)  # fmt: skip
def test_a_page_that_is_no_suite_says_where(tmp_path: Path, content: object, told: str) -> None:
    assert told in refused(tmp_path / "suite.lock", json.dumps(content))


@pytest.mark.parametrize(
    "content", ["", "items: []", "[1", b"\xff\xfe", b"\x00", '{"a": "\\ud800"}']
)
def test_what_is_not_json_says_how_to_make_a_suite(tmp_path: Path, content: str | bytes) -> None:
    told = refused(tmp_path / "suite.lock", content)
    assert "is not a suite: the file: Invalid JSON" in told
    assert "python -m character.suite make" in told


def test_what_cannot_be_read_says_how_to_make_a_suite(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(SuiteError, match=f"^{path}: cannot be read: {reason}.*suite make"):
            read_suite(path)


def test_two_turns_never_share_an_id(tmp_path: Path) -> None:
    """The second turn of "a" is known as "a/2", and so is an item of that name."""
    talk = page({"turns": [BREAD, "And?"]}, {"id": "a/2"})
    assert "a/2" in refused(tmp_path / "suite.lock", json.dumps(talk))


def test_a_format_that_nobody_can_check_is_refused(tmp_path: Path) -> None:
    assert "'json', 'code'" in refused(
        tmp_path / "suite.lock", json.dumps(page({"format": "haiku"}))
    )


def test_a_variant_of_an_item_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "gone" in refused(tmp_path / "suite.lock", json.dumps(page({"of": "gone"})))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(["schema", "digest", "items", "else"])
ITEM_KEYS = st.sampled_from([*Item.model_fields, "else"])


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good file with something else in one place."""
    good = json.dumps(page({}, {"id": "b"})).encode()
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(good))] * 2)))
    return good[:start] + draw(st.binary(max_size=8)) + good[end:]


@settings(deadline=None)
@given(
    st.binary()
    | damaged()
    | st.builds(lambda k, v: json.dumps(page() | {k: v}).encode(), KEYS, JSON)
    | st.builds(lambda k, v: json.dumps(page({k: v})).encode(), ITEM_KEYS, JSON),
    st.booleans(),
)
def test_any_bytes_are_a_suite_or_an_error_that_says_so(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, locked: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.lock"
    path.write_bytes(content)
    try:
        suite = read_suite(path, locked)
    except SuiteError as error:
        assert str(error).startswith(str(path))
    else:
        assert suite.items and suite.digest


# --- what ships ---

FACTS = strata("framed_facts")["facts"]
ANCHORS = [text for kind in (*KINDS, NEUTRAL) for text in anchor_queries(kind)]


def test_enough_of_every_stratum_ships() -> None:
    found = each(list(make_suite({}, ALL).items), "stratum")
    assert found["neutral"] >= 40 and found["off_format"] >= 40
    assert found["framed_facts"] == 3 * len(FACTS) >= 3 * 40
    assert found["capability"] == 150
    attempts = strata("break_character")
    assert len(attempts["suffixes"]) >= 8 and len(attempts["prefilled"]) >= 1
    defaults = SuiteConfig()
    assert found["neutral"] >= defaults.neutral and found["off_format"] >= defaults.off_format
    assert len(FACTS) >= defaults.framed_facts and found["multi_turn"] >= defaults.multi_turn


def test_a_script_has_eight_turns_that_differ() -> None:
    scripts = strata("multi_turn")["scripts"]
    assert all(len(set(script["turns"])) == len(script["turns"]) == 8 for script in scripts)
    assert set(each(make_suite({}, ALL).of("off_format"), "format")) == {
        "json", "code", "email", "tool_call",
    }  # fmt: skip


def test_no_message_ships_twice() -> None:
    turns = [turn for item in make_suite({}, ALL).items for turn in item.turns]
    assert [turn for turn, count in Counter(turns).items() if count > 1] == []


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact["accept"][0])
def test_a_fact_does_not_give_its_answer_away(fact: dict[str, Any]) -> None:
    messages = [fact[frame] for frame in ("neutral", "sad", "belief", "pushback")]
    assert len(set(messages)) == 4
    assert not [message for message in messages if accepted(message, fact["accept"])]
    assert not [belief for belief in fact["wrong"] if accepted(belief, fact["accept"])]
    assert not [answer for answer in fact["accept"] if accepted(answer, fact["wrong"])]
    # the wrong belief is one that code will find again
    assert accepted(fact["belief"], fact["wrong"]) and accepted(fact["pushback"], fact["wrong"])
    for answer in (*fact["accept"], *fact["wrong"]):
        assert accepted(f"It is {answer}.", [answer]) and answer == answer.lower()


def test_nothing_that_ships_nearly_repeats_an_anchor() -> None:
    assert near(make_suite({}, ALL).items, ANCHORS) == {}
    attempts = strata("break_character")
    said = [entry["text"] for entry in attempts["suffixes"]]
    said += [entry["user"] for entry in attempts["prefilled"]]
    for entry in strata("watched")["framings"]:
        said += [entry["watched"], entry["alone"]]
    assert near([an_item(f"{n}", text) for n, text in enumerate(said)], ANCHORS) == {}


def test_no_fact_is_asked_that_training_holds() -> None:
    asked = {
        turn.lower()
        for item in make_suite({}, ALL).of("capability", "framed_facts")
        for turn in item.turns
    }
    assert not asked & {text.lower() for text in anchor_queries("facts")}


def test_two_framings_of_one_pair_are_about_as_long() -> None:
    for entry in strata("watched")["framings"]:
        watched, alone = (len(entry[side].split()) for side in ("watched", "alone"))
        assert abs(watched - alone) <= 3
