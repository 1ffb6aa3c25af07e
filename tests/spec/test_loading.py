import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from character.errors import SpecError
from character.shipped import shipped
from character.spec.loading import load_trait
from character.yaml_file import MAX_BYTES

TRAIT = """\
schema: 1
id: brisk
title: Brisk
version: 1.0.0
statement: I get to the point.
opposite: I take the scenic route.
rationale: Time is short.
clauses:
  - id: first-word
    text: I open with the answer.
    weight: 2
  - id: no-coda
    text: I stop when I am done.
examples:
  - {clause: first-word, user: 'Is rain wet?', good: Yes., bad: Well., why: It answers.}
  - {clause: no-coda, user: 'Is ice cold?', good: It is., bad: It is and so on., why: It stops.}
  - clause: no-coda
    user: Is fire hot?
    good: Very.
    bad: Very, and more.
    why: It stops.
queries:
  seeds:
    - Is the sea salty?
    - Do cats purr?
    - Can I freeze soup?
    - Tell me about bees.
checks:
  - kind: max_words
    words: 25
margin: 0.05
"""


def edited(old: str, new: str) -> str:
    assert TRAIT.count(old) == 1
    return TRAIT.replace(old, new)


def load(path: Path, content: str | bytes) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    load_trait(path)


def faults(folder: Path, content: str | bytes) -> list[str]:
    """What is wrong with a file, one fault a line, with its path taken off."""
    path = folder / "brisk.yaml"
    with pytest.raises(SpecError) as caught:
        load(path, content)
    lines = str(caught.value).split("\n")
    assert all(line.startswith(f"{path}:") for line in lines)
    return [line.removeprefix(f"{path}:") for line in lines]


def fault(folder: Path, content: str | bytes) -> str:
    (only,) = faults(folder, content)
    return only


@pytest.mark.parametrize(
    "path", sorted(shipped("traits").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_shipped_trait_loads_by_name_and_by_path(path: Path) -> None:
    trait = load_trait(path)
    assert trait.id == path.stem
    assert load_trait(path.stem) == trait


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_saved_on_windows_is_the_same_trait(
    tmp_path: Path, newline: str, mark: bytes
) -> None:
    path = tmp_path / "brisk.yaml"
    path.write_bytes(mark + TRAIT.replace("\n", newline).encode())
    trait = load_trait(path)
    assert (trait.id, trait.clauses[0].weight, trait.margin) == ("brisk", 2.0, 0.05)


def test_a_byte_order_mark_takes_no_column(tmp_path: Path) -> None:
    message = fault(tmp_path, b"\xef\xbb\xbf" + edited("schema: 1", "schema: 2").encode())
    assert message.startswith("1:9: schema: found 2;")


def test_small_anchors_and_merges_are_welcome(tmp_path: Path) -> None:
    text = edited("title: Brisk", "title: &name Brisk").replace(
        "- kind: max_words\n", "- &check\n    kind: max_words\n"
    )
    text += "applies: {when: [*name]}\n"
    text = text.replace("words: 25\n", "words: 25\n  - {<<: *check, words: 30}\n")
    path = tmp_path / "brisk.yaml"
    path.write_text(text, encoding="utf-8")
    trait = load_trait(path)
    assert trait.applies.when == ["Brisk"]
    assert [check.model_dump()["words"] for check in trait.checks] == [25, 30]


# --- the file -------------------------------------------------------------------------------


def test_a_missing_trait_is_guessed_and_the_others_are_listed() -> None:
    with pytest.raises(SpecError) as caught:
        load_trait("curios")
    message = str(caught.value)
    assert message.startswith("There is no trait 'curios'. Did you mean 'curious'? There are: ")
    assert "concise, curious, encouraging" in message


def test_nothing_is_guessed_when_nothing_is_near() -> None:
    with pytest.raises(SpecError, match=r"^There is no trait 'zzz'\. There are: candid, "):
        load_trait("zzz")


def test_a_folder_is_not_a_trait(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_trait(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: is a folder. Name one trait file")


def test_the_limit_is_one_megabyte(tmp_path: Path) -> None:
    allowed = TRAIT.encode() + b"#" * (MAX_BYTES - len(TRAIT))
    load(tmp_path / "brisk.yaml", allowed)
    message = fault(tmp_path, allowed + b"#")
    assert message == "1:1: is larger than 1 MB, the limit for a trait file."


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs an unreadable file")
def test_a_file_that_cannot_be_read_says_why() -> None:
    with pytest.raises(SpecError, match=r"^/proc/self/mem: cannot be read: Input/output error\.$"):
        load_trait("/proc/self/mem")


@pytest.mark.parametrize("content", ["", "\n\n", "# only a comment\n"])
def test_an_empty_file_says_how_to_start(tmp_path: Path, content: str) -> None:
    assert fault(tmp_path, content).startswith("1:1: holds no trait. A trait file starts with `sch")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (edited("Brisk", "Brïsk").encode("latin-1"), "3:10: is not UTF-8 text. Save"),
        (TRAIT.encode("utf-16"), "1:1: is not UTF-8 text. Save"),
        (edited("Brisk", "ñ Bri\0sk"), "3:13: found the control character '\\x00'; a trait"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "1:1: is not UTF-8 text."),
    ],
)
def test_what_is_not_text_is_refused(tmp_path: Path, content: bytes | str, expected: str) -> None:
    assert fault(tmp_path, content).startswith(expected)


# --- the YAML -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (edited("title: Brisk", "title: Brisk: always"), "3:13: is not valid YAML: mapping values"),
        (edited("title: Brisk", "title: @brisk"), "3:8: is not valid YAML: found character"),
        (edited("title: Brisk", "title: *brisk"), "3:8: is not valid YAML: found undefined alias"),
        (TRAIT + "title: 'Bri", "32:12: is not valid YAML: found unexpected end of stream"),
        (TRAIT + "---\nid: second\n", "32:1: is not valid YAML: but found another document"),
        (edited("title: Brisk", "title: 2024-13-45"), "3:8: is not valid YAML: found 2024-13-45"),
        (edited("title: Brisk", "title: " + "9" * 5000), "3:8: is not valid YAML: found 99999"),
        (TRAIT + "<<: 3\n", "32:5: is not valid YAML: expected a mapping"),
    ],
)
def test_broken_yaml_has_its_place_and_a_way_out(
    tmp_path: Path, content: str, expected: str
) -> None:
    message = fault(tmp_path, content)
    assert message.startswith(expected)
    assert "write text in quotes when it holds ': '" in message


def test_what_was_left_open_is_told_with_its_line(tmp_path: Path) -> None:
    message = fault(tmp_path, TRAIT + "title: 'Bri\n\n")
    assert (
        "found unexpected end of stream (while scanning a quoted scalar, from line 32)" in message
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("- schema: 1\n", "1:1: found a list of 1, not a trait."),
        ("\nschema 1\n", "2:1: found 'schema 1', not a trait."),
        ("---\n42\n", "2:1: found 42, not a trait."),
    ],
)
def test_the_top_level_is_a_mapping(tmp_path: Path, content: str, expected: str) -> None:
    assert fault(tmp_path, content).startswith(expected)


def test_every_key_that_comes_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    text = edited("    weight: 2\n", "    weight: 2\n    id: again\n") + "title: Other\n"
    assert faults(tmp_path, text) == [
        "12:5: id: appears twice, on line 9 and again here on line 12. Keep one.",
        "33:1: title: appears twice, on line 3 and again here on line 33. Keep one.",
    ]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("no", "32:1: found no as a key, but YAML reads this as false: write it in quotes."),
        ("On", "32:1: found On as a key, but YAML reads this as true: write it in quotes."),
        ("7", "32:1: found 7 as a key, but YAML reads this as a number: write it in quotes."),
        ("[a]", "32:1: found a list of 1 as a key, but YAML reads this as a list"),
        ("{a: 1}", "32:1: found a mapping (a) as a key, but YAML reads this as a mapping"),
    ],
)
def test_a_key_is_text(tmp_path: Path, key: str, expected: str) -> None:
    assert fault(tmp_path, f"{TRAIT}{key}: x\n").startswith(expected)


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ("!!python/object/apply:os.system [exit 1]", "!!python/object/apply:os.system"),
        ("!!python/name:os.system", "!!python/name:os.system"),
        ("!mine brisk", "!mine"),
        ("!!str brisk", "!!str"),
        ("!!bool perhaps", "!!bool"),
    ],
)
def test_tags_are_refused(tmp_path: Path, value: str, tag: str) -> None:
    message = fault(tmp_path, edited("title: Brisk", f"title: {value}"))
    assert message == f"3:8: found the YAML tag {tag}; a trait file has no tags. Remove it."


def test_anchors_that_explode_are_refused(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 9):
        bomb += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    assert "the file holds more than 20,000 values once its anchors" in fault(tmp_path, bomb)


@pytest.mark.parametrize("value", ["&a [*a]", "&a {b: *a}", "&a {<<: *a}", "&a [{b: [*a]}]"])
def test_an_anchor_that_contains_itself_is_refused(tmp_path: Path, value: str) -> None:
    message = fault(tmp_path, f"{TRAIT}x: {value}\n")
    assert message.startswith("32:")
    assert "or an anchor contains itself" in message


def test_as_many_values_as_allowed_load_or_fail_for_another_reason(tmp_path: Path) -> None:
    assert "20,000" not in "".join(faults(tmp_path, f"x: [{'x, ' * 19_900}]\n"))
    assert "20,000" in fault(tmp_path, f"x: [{'x, ' * 20_000}]\n")


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_depth_is_refused_before_it_is_parsed_whole(tmp_path: Path, opening: str) -> None:
    message = fault(tmp_path, opening * 200_000)
    assert re.match(r"1:\d+: is nested more than 50 levels deep; a trait needs 4\.$", message)


# --- the trait ------------------------------------------------------------------------------


def test_all_faults_are_told_at_once_in_file_order(tmp_path: Path) -> None:
    text = (
        edited("statement: I get", "statment: I get")
        .replace("version: 1.0.0", "version: 1.0")
        .replace("    good: Very.\n", "")
        .replace("    - Do cats purr?", "    - no")
        .replace("words: 25", "words: 0")
    )
    assert faults(tmp_path, text) == [
        (
            "1:1: statement: missing. "
            "Example: statement: I am curious about the people I talk with, and I ask."
        ),
        (
            "4:10: version: found 1.0; expected text, but YAML reads this as a number: "
            'write it in quotes. Example: version: "1.0.0"'
        ),
        "5:1: statment: unknown key. Did you mean 'statement'?",
        (
            "17:5: examples[2].good: missing. "
            "Example: good: Start with a fresh roll of film. What did she like to photograph?"
        ),
        (
            "24:7: queries.seeds[1]: found no; expected text, but YAML reads this as false: "
            'write it in quotes. Example: seeds: ["How does a heat pump work?", ...]'
        ),
        "29:12: checks[0].words: found 0; expected 1 or more. Example: words: 60",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("schema: 1", "schema: 2", "1:9: schema: found 2; this version reads schema 1."),
        ("schema: 1", "schema: '1'", "1:9: schema: found '1'; this version reads schema 1."),
        ("schema: 1\n", "", "1:1: schema: missing. Example: schema: 1"),
        ("id: brisk", "id: Brisk One", "2:5: id: found 'Brisk One'; expected lowercase words"),
        ("id: brisk", "id: 7", "2:5: id: found 7; expected text, but YAML reads this as a number"),
        ("Brisk", "", "3:7: title: found nothing; expected text. Example: title: Curious"),
        ("Brisk", "~", "3:8: title: found ~; expected text, but YAML reads this as nothing: write"),
        ("Brisk", "''", "3:8: title: found ''; expected some text."),
        ("Brisk", "2024-01-31", "3:8: title: found 2024-01-31; expected text, but YAML reads this"),
        (
            "Brisk",
            "[Brisk]",
            "3:8: title: found a list of 1; expected text, but YAML reads this as",
        ),
        (
            "I get to the point.",
            "x" * 4001,
            f"5:12: statement: found '{'x' * 40}... (4,001 characters)'; expected at most 4000",
        ),
        (
            "version: 1.0.0",
            'version: "1.0"',
            "4:10: version: found '1.0'; expected three numbers with dots. Example: version: \"1.0",
        ),
        ("weight: 2", "weight: 0", "11:13: clauses[0].weight: found 0; expected a number above 0."),
        ("weight: 2", "weight: yes", "11:13: clauses[0].weight: found yes; expected a number with"),
        ("weight: 2", "weight: '2'", "11:13: clauses[0].weight: found '2'; expected a number with"),
        ("weight: 2", "weight: .inf", "11:13: clauses[0].weight: found .inf; expected 100 or less"),
        (
            "    text: I stop when I am done.\n",
            "",
            "12:5: clauses[1].text: missing. Example: text: I give a useful answer",
        ),
        (
            "- Do cats purr?",
            "- My question: do cats purr?",
            (
                "25:7: queries.seeds[1]: found a mapping (My question); expected text, but YAML "
                "reads this as a mapping, because of its ': ': write it in quotes."
            ),
        ),
        (
            "    - Tell me about bees.\n",
            "",
            "24:5: queries.seeds: found a list of 3; expected a li",
        ),
        (
            "kind: max_words",
            "kind: max_word",
            "29:11: checks[0].kind: found 'max_word'; expected one of 'follow_up_question', 'max_w",
        ),
        ("kind: max_words\n    ", "", "29:5: checks[0].kind: missing. Example: kind: follow_up_q"),
        ("words: 25", "words: 2.5", "30:12: checks[0].words: found 2.5; expected a whole number"),
        (
            "words: 25",
            "words: 25\n    pattern: x",
            "31:5: checks[0].pattern: unknown key. The keys here are: kind, words, weight.",
        ),
        (
            "kind: max_words\n    words: 25",
            "7",
            "29:5: checks[0]: found 7; expected a mapping, one",
        ),
        ("margin: 0.05", "margin: -1", "31:9: margin: found -1; expected 0 or more."),
        ("margin: 0.05", "margin: .nan", "31:9: margin: found .nan; expected 2 or less."),
        (
            "margin: 0.05",
            "controls: {lenght: hold}",
            "31:12: controls.lenght: unknown key. Did you mean 'length'?",
        ),
        (
            "margin: 0.05",
            "expect: upwards",
            "31:9: expect: found 'upwards'; expected 'up', 'down' or 'hold'. Example: expect: up",
        ),
        ("margin: 0.05", "applies:", "31:9: applies: found nothing; expected a mapping, one `key"),
        ("margin: 0.05", "applies: {when: x}", "31:17: applies.when: found 'x'; expected a list,"),
        (
            "id: no-coda",
            "id: first-word",
            "12:9: clauses[1].id: another clause has the id 'first-word' too.",
        ),
    ],
)
def test_a_fault_has_its_place_its_field_and_its_cure(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    assert faults(tmp_path, edited(old, new))[0].startswith(expected)


def test_every_example_of_an_unknown_clause_is_named(tmp_path: Path) -> None:
    assert faults(tmp_path, edited("id: no-coda", "id: stops")) == [
        (
            "16:14: examples[1].clause: there is no clause 'no-coda'; there are: first-word, "
            "stops. Example: clause: asks-after-answering"
        ),
        (
            "17:13: examples[2].clause: there is no clause 'no-coda'; there are: first-word, "
            "stops. Example: clause: asks-after-answering"
        ),
    ]


def test_what_the_file_holds_cannot_break_the_lines_of_a_message(tmp_path: Path) -> None:
    text = TRAIT + 'authority: "a\\nb"\n"c\\n\\e[31m": 1\n"' + "k" * 100 + '": 1\n'
    told = faults(tmp_path, text)
    assert told[0].startswith(r"32:12: authority: found 'a\nb'; expected 'root', ")
    assert told[1].startswith(r"33:1: c\n\x1b[31m: unknown key. The keys here are: schema, id, ")
    assert told[2].startswith(f"34:1: {'k' * 40}... (100 characters): unknown key.")


def test_columns_count_characters_not_bytes(tmp_path: Path) -> None:
    message = fault(
        tmp_path, edited("{clause: first-word, user: 'Is rain wet?'", "{user: 'Était-ce 🌧?'")
    )
    assert message.startswith("15:5: examples[0].clause: missing.")
    message = fault(tmp_path, edited("user: 'Is rain wet?'", "user: 'Était-ce 🌧?', zeal: x"))
    assert message.startswith("15:47: examples[0].zeal: unknown key.")


def test_pydantic_jargon_reaches_nobody(tmp_path: Path) -> None:
    text = "schema: {}\nclauses: 1\nexamples: [1]\nqueries: {seeds: [[]]}\nchecks: [{kind: [x]}]\n"
    told = "\n".join(faults(tmp_path, text + "margin: {}\ncontrols: []\nauthority: 3\n"))
    assert not re.search(r"Input|valid|dict|instance|Field required|tag|literal", told)


@given(
    line=st.integers(0, TRAIT.count("\n")),
    cut=st.integers(0, 3),
    put=st.text(
        alphabet=st.sampled_from("a:-#'\"[]{}&*!|>%@`\n\t 10.yes~<,?\u00e9\x07"), max_size=12
    ),
)
@settings(max_examples=150, deadline=None)
def test_a_file_is_a_trait_or_a_spec_error_with_a_place_in_it(
    tmp_path_factory: pytest.TempPathFactory, line: int, cut: int, put: str
) -> None:
    lines = TRAIT.split("\n")
    text = "\n".join([*lines[:line], put, *lines[line + cut :]])
    path = tmp_path_factory.getbasetemp() / "mutated.yaml"
    try:
        load(path, text)
    except SpecError as error:
        for told in str(error).split("\n"):
            place = re.match(re.escape(str(path)) + r":(\d+):(\d+): \S", told)
            assert place, told
            assert 1 <= int(place[1]) <= text.count("\n") + 2  # an open end is told as past it
            assert int(place[2]) >= 1
