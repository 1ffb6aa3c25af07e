"""Foreign formats: what is carried, what is a draft, what is left out, and that nothing breaks.

The files are written for these tests, in the structure their projects publish.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from character.errors import SpecError
from character.spec.drafts import MARK, drafts_of
from character.spec.formats.imported import Imported, Told, imported, unique_ids
from character.spec.formats.reading import FORMATS, detect, read_foreign
from character.spec.formats.to_markdown import to_markdown
from character.spec.formats.to_open_character import to_open_character
from character.spec.formats.trait_yaml import trait_yaml
from character.spec.loading import check_id, load_trait, read_trait
from character.spec.schema import Trait
from tests.making import a_trait

CONSTITUTION = [
    {
        "trait": "I stay calm when somebody is upset.",
        "questions": ["My train left without me.", "The oven is on fire!"],
        "additional_questions": ["I dropped the cake."],
        "clarification": "calm, not cold",
    },
    {"trait": "I never hurry people.", "questions": ["Quick, which door?"]},
]
CRITERIA: dict[str, Any] = {
    "schema_version": "1.2",
    "id": "gentleness",
    "title": "Gentleness",
    "version": "2.0.1",
    "role": "anchor",
    "overview": "Gentleness holds that\nforce is rarely needed.",
    "criteria": [
        {
            "comparative": "Prefer the response that lowers the temperature.",
            "reasoning": "Heat spreads.",
            "scenarios": ["My brother shouted at me.", "My boss shouts at everybody."],
        },
        "Prefer the response that asks before it advises.",
    ],
    "voices": {
        "first_person": ["I lower the temperature.", "I ask before I advise."],
        "third_person": ["The model lowers the temperature.", "The model asks first."],
    },
    "guidelines": ["When somebody is in danger, be quick."],
}
VECTOR: dict[str, Any] = {
    "instruction": [
        {"pos": "Answer as if you had all day.", "neg": "Answer in a hurry."},
        {"pos": "Leave room in every reply.", "neg": "Press for a decision."},
    ],
    "questions": ["How do I learn to knit?", "Which tea is best at night?"],
    "eval_prompt": "Rate {answer} from 0 to 100.",
}
PRINCIPLES = {
    "constitutions": [
        {"critic": "Say where the reply is cold.", "revision": "Rewrite it with warmth."},
        {"critic": "Say where the reply is rude.", "revision": "Rewrite it politely."},
    ],
    "system_chat": [
        [
            {"role": "user", "content": "I failed my exam."},
            {"role": "assistant", "content": "You should have studied."},
            {"role": "user", "content": "Say where the reply is rude."},
            {"role": "assistant", "content": "It blames: and it stops there."},
            {"role": "user", "content": "Rewrite it politely."},
            {"role": "assistant", "content": "I am sorry. When can you take it again?"},
        ],
        [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}],
    ],
}
SPEC = """\
# Overview {#overview}

What this document is for.

# Answers {#answers}

## Keep it short {#keep_it_short authority=guideline tags=voice}

The assistant should be brief[^ab12]. It never repeats itself[^9xyz].

By default, it should:

- answer first
- stop then

!!! meta "Commentary"
    Long answers cost *time*.

    They do.

**Example**: a plain question

~~~xml
<user>
How far is the moon, in km &amp; miles?
</user>
<comparison>
<assistant> <!-- BAD: rambles -->
# No heading {#trap authority=root}
Let me think.
</assistant>
<assistant> <!-- GOOD: only the number -->
384,400 km.

239,000 miles.
</assistant>
<assistant> <!-- BAD[#other] -->
No.
</assistant>
</comparison>
<user>
And Mars?
</user>
~~~

**Example**: a developer speaks first

~~~xml
<developer>
Be a pirate.
</developer>
<user>
Hi
</user>
<comparison>
<assistant> <!-- GOOD -->
Arr.
</assistant>
</comparison>
~~~

**Example**: only what is wanted

~~~xml
<user>
Is it raining?
</user>
<comparison>
<assistant> <!-- GOOD: one word -->
Yes.
</assistant>
</comparison>
~~~

### Keep it short {#keep_it_short authority=platform}

Do.
"""
FILES = {
    "open-character": json.dumps(CONSTITUTION),
    "constitutional-evals": json.dumps(CRITERIA),
    "persona-vectors": json.dumps(VECTOR),
    "constitutional-ai": json.dumps(PRINCIPLES),
    "model-spec": SPEC,
}


def only(form: str, text: str = "", name: str = "calm") -> Imported:
    (found,) = read_foreign(text or FILES[form], name, form)
    return found


def reread(found: Imported, folder: Path) -> Trait:
    """The trait that stands in the file an import writes."""
    path = folder / f"{found.fields['id']}.yaml"
    path.write_text(trait_yaml(found), encoding="utf-8")
    return read_trait(path).trait


# --- every format ---


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_is_known_by_its_structure_and_loads_as_traits_full_of_drafts(
    form: str, tmp_path: Path
) -> None:
    assert detect(FILES[form]) == form
    for found in read_foreign(FILES[form], "calm"):
        trait = reread(found, tmp_path)
        written = trait.model_dump(by_alias=True, exclude_unset=True)
        assert {**found.fields, "checks": []} == written
        assert trait.statement == MARK  # no format has one sentence in the first person
        assert found.missing[0] == "statement"
        assert len(trait.examples) >= 3 and len(trait.queries.seeds) >= 4


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "7", "null", '"trait"', '[{"trait": 7}]', "[" * 100_000, '{"a":' * 9999,
     '{"criteria": []}', '{"criteria": [7]}', '{"instruction": []}', '{"constitutions": [[]]}',
     '{"instruction": {"pos": "x"}}', '[{"critic": "x"}]', "# A {#a}\n\ntext", "\x00\x01\x02",
     '[{"trait": "\\ud800", "questions": []}]', '[{"trait": "x", "questions": "y"}]'],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_what_is_no_such_file_is_refused_with_what_was_expected(form: str, text: str) -> None:
    with pytest.raises(SpecError, match=r"^expected ") as refusal:
        read_foreign(text, "calm", form)
    assert FORMATS[form].EXPECTED in str(refusal.value)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 300


def test_a_file_in_no_known_format_is_told_all_of_them() -> None:
    with pytest.raises(SpecError, match="is in none of the formats") as refusal:
        read_foreign("# Shopping\n\n- milk", "list")
    assert all(
        f"{form}: {module.EXPECTED}" in str(refusal.value) for form, module in FORMATS.items()
    )
    with pytest.raises(SpecError, match="no format 'yaml'; expected one of open-character, "):
        read_foreign("", "list", "yaml")


TEXTS = st.text(max_size=40) | st.sampled_from(
    ["", " ", "DRAFT", "a: b # c", "x\x85y\u2028z\r\x07"]
)
VALUES = st.recursive(
    TEXTS | st.integers() | st.none(),
    lambda held: (
        st.lists(held, max_size=3)
        | st.dictionaries(
            st.sampled_from([*"abc", "pos", "neg", "critic", "trait"]), held, max_size=3
        )
    ),
    max_leaves=8,
)


def maybe(shape: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional=shape) | VALUES


TALK = st.lists(
    maybe({"role": st.sampled_from(["user", "assistant"]), "content": TEXTS}), max_size=7
)
SHAPES: dict[str, st.SearchStrategy[Any]] = {
    "open-character": st.lists(
        maybe({"trait": TEXTS, "questions": st.lists(TEXTS, max_size=6), "x": VALUES}), max_size=4
    ),
    "constitutional-evals": maybe(
        {
            "id": TEXTS,
            "title": TEXTS,
            "version": TEXTS | st.just("1.2.3"),
            "overview": TEXTS,
            "criteria": st.lists(
                TEXTS | maybe({"comparative": TEXTS, "scenarios": st.lists(TEXTS)}), max_size=4
            ),
            "voices": maybe({"first_person": st.lists(TEXTS, max_size=3)}),
        }
    ),
    "persona-vectors": maybe(
        {
            "instruction": st.lists(maybe({"pos": TEXTS, "neg": TEXTS}), max_size=4),
            "questions": st.lists(TEXTS, max_size=5),
        }
    ),
    "constitutional-ai": maybe(
        {
            "constitutions": st.lists(maybe({"critic": TEXTS, "revision": TEXTS}), max_size=4),
            "system_chat": st.lists(TALK, max_size=2),
        }
    ),
}
LINES = st.sampled_from(
    [*SPEC.splitlines(), "~~~", "```", "!!!", "<user>", "</user>", "# {#}", "}"]
)
PAGES = st.lists(LINES | st.text(max_size=30), max_size=25).map("\n".join)


@pytest.mark.parametrize("form", FORMATS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_text_gives_traits_that_load_or_an_error(
    form: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shaped = PAGES if form == "model-spec" else SHAPES[form].map(json.dumps)
    text = data.draw(shaped | st.text() | st.just(FILES[form]).map(lambda t: t[: len(t) // 2]))
    name = data.draw(TEXTS)
    try:
        found = read_foreign(text, name, data.draw(st.sampled_from([form, None])))
    except SpecError:
        return
    folder = tmp_path_factory.mktemp("traits")
    for each in found:
        check_id(each.fields["id"])
        assert list(drafts_of(reread(each, folder)))
    assert len({each.fields["id"] for each in found}) == len(found)


# --- format by format ---


def test_a_constitutions_assertions_are_clauses_and_its_questions_seeds() -> None:
    found = only("open-character", name="Calm, Always!")
    assert (found.fields["id"], found.fields["title"]) == ("calm-always", "Calm always")
    assert found.fields["clauses"] == [
        {"id": "i-stay-calm-when-somebody-is", "text": "I stay calm when somebody is upset."},
        {"id": "i-never-hurry-people", "text": "I never hurry people."},
    ]
    assert found.fields["queries"]["seeds"] == [
        "My train left without me.", "The oven is on fire!", "I dropped the cake.",
        "Quick, which door?",
    ]  # fmt: skip
    assert found.carried == ("title", "clauses.text (2)", "queries.seeds (4)")
    assert "opposite" in found.missing and "examples.good (3)" in found.missing
    assert found.dropped == ("clarification", "which trait each question was written for")


def test_assertions_may_stand_one_a_line() -> None:
    lines = "\n".join(map(json.dumps, CONSTITUTION)) + "\n\n"
    assert detect(lines) == "open-character"
    assert only("open-character", lines) == only("open-character")
    with pytest.raises(SpecError, match=r"^expected a JSON list"):
        only("open-character", lines + "{")


def test_criteria_speak_in_the_first_person_where_the_file_does() -> None:
    found = only("constitutional-evals")
    fields = found.fields
    assert (fields["id"], fields["title"], fields["version"]) == (
        "gentleness",
        "Gentleness",
        "2.0.1",
    )
    assert [clause["text"] for clause in fields["clauses"]] == CRITERIA["voices"]["first_person"]
    assert fields["rationale"] == f"{MARK} Gentleness holds that force is rarely needed."
    assert fields["queries"]["seeds"][:2] == [
        "My brother shouted at me.", "My boss shouts at everybody."
    ]  # fmt: skip
    assert found.dropped == (
        "schema_version", "role", "guidelines", "criteria.reasoning", "voices.third_person",
        "criteria.comparative: the first person stands in its place",
        "which criterion each scenario was written for",
    )  # fmt: skip


def test_criteria_without_a_matching_voice_are_drafts() -> None:
    changed = CRITERIA | {"voices": {"first_person": ["I am one."]}, "version": "v2"}
    found = only("constitutional-evals", json.dumps(changed))
    assert [clause["text"] for clause in found.fields["clauses"]] == [
        f"{MARK} Prefer the response that lowers the temperature.",
        f"{MARK} Prefer the response that asks before it advises.",
    ]
    assert "clauses.text (2): words kept as a draft" in found.missing
    assert "voices.first_person: 1 for 2 criteria" in found.dropped
    assert "version v2: not three numbers" in found.dropped and "version" not in found.fields


def test_instructions_to_the_model_are_drafts_of_clauses_and_opposite() -> None:
    found = only("persona-vectors", name="slow_paced")
    assert (found.fields["id"], found.fields["title"]) == ("slow-paced", "Slow paced")
    assert [clause["text"] for clause in found.fields["clauses"]] == [
        f"{MARK} Answer as if you had all day.",
        f"{MARK} Leave room in every reply.",
    ]
    assert found.fields["opposite"] == f"{MARK} Answer in a hurry. Press for a decision."
    assert found.fields["queries"]["seeds"] == [*VECTOR["questions"], MARK, MARK]
    assert found.dropped == ("eval_prompt",)


def test_a_few_shot_talk_is_an_example_of_its_principle() -> None:
    found = only("constitutional-ai")
    assert found.fields["examples"][0] == {
        "clause": "principle-2",
        "user": "I failed my exam.",
        "good": "I am sorry. When can you take it again?",
        "bad": "You should have studied.",
        "why": "It blames: and it stops there.",
    }
    assert [example["clause"] for example in found.fields["examples"]] == [
        "principle-2", "principle-1", "principle-1"
    ]  # fmt: skip
    assert "critic (2)" in found.dropped
    assert any(what.startswith("system_chat 2: ") for what in found.dropped)


def test_principles_may_stand_in_a_list_alone() -> None:
    alone = json.dumps(PRINCIPLES["constitutions"])
    assert detect(alone) == "constitutional-ai"
    found = only("constitutional-ai", alone)
    assert found.fields["clauses"][0]["text"] == f"{MARK} Rewrite it with warmth."


def test_a_section_with_an_authority_is_a_trait() -> None:
    first, second = read_foreign(SPEC, "spec")
    fields = first.fields
    assert (fields["id"], fields["title"], fields["authority"]) == (
        "keep-it-short", "Keep it short", "guideline"
    )  # fmt: skip
    assert fields["clauses"] == [
        {
            "id": "claim-ab12-9xyz",
            "text": f"{MARK} The assistant should be brief. It never repeats itself.",
        },
        {"id": "claim", "text": f"{MARK} By default, it should: - answer first - stop then"},
    ]
    assert fields["rationale"] == f"{MARK} Long answers cost *time*. They do."
    assert second.fields["id"] == "keep-it-short-2"
    assert "authority" not in second.fields  # `platform`, of an older release, is none of ours
    assert any(what.startswith("authority=platform: set `authority`") for what in second.dropped)


def test_a_comparison_gives_an_example_for_every_bad_reply() -> None:
    first, _ = read_foreign(SPEC, "spec")
    shared = {
        "clause": "claim",
        "user": "How far is the moon, in km & miles?",
        "good": "384,400 km.\n\n239,000 miles.",
    }
    assert first.fields["examples"] == [
        shared | {
            "bad": "# No heading {#trap authority=root}\nLet me think.",
            "why": "Good: only the number. Bad: rambles.",
        },
        shared | {"bad": "No.", "why": "Good: only the number."},
        {
            "clause": "claim", "user": "Is it raining?", "good": "Yes.", "bad": MARK,
            "why": "Good: one word.",
        },
    ]  # fmt: skip


def test_a_message_that_the_spec_shortens_is_a_draft() -> None:
    first, _ = read_foreign(SPEC.replace("Let me think.", "Let me\nthink [... at length]"), "spec")
    bad = first.fields["examples"][0]["bad"]
    assert bad.startswith(f"{MARK} # No heading") and bad.endswith("me\nthink [... at length]")
    assert "examples.bad: words kept as a draft" in first.missing


def test_messages_and_code_without_an_end_are_not_lost_in_silence() -> None:
    torn = SPEC.replace("And Mars?\n</user>", "And Mars?")
    first, _ = read_foreign(torn, "spec")
    assert "example a plain question: 1 of its messages" in first.dropped
    assert len(first.fields["examples"]) == 3
    with pytest.raises(SpecError, match="Found: a code block, ~~~, without its end"):
        read_foreign(SPEC.replace("Yes.\n</assistant>\n</comparison>\n~~~", "Yes."), "spec")


@pytest.mark.parametrize("role", ["assistant", "developer", "system", "tool"])
def test_a_comparison_after_anything_but_a_user_message_is_listed(role: str) -> None:
    first, _ = read_foreign(SPEC.replace("user>", f"{role}>"), "spec")
    assert [example["good"] for example in first.fields["examples"]] == [MARK] * 3
    assert sum("not a comparison right after" in what for what in first.dropped) == 3


def test_what_a_section_has_no_place_for_is_listed() -> None:
    first, _ = read_foreign(SPEC, "spec")
    assert first.dropped == (
        "section Overview: it has no authority, so it instructs nothing",
        "section Answers: it has no authority, so it instructs nothing",
        "tags=voice",
        "footnote ab12: its prompts are not in this file",
        "footnote 9xyz: its prompts are not in this file",
        "example a plain question: 1 of its messages",
        "example a developer speaks first: not a comparison right after one user message",
    )


# --- what they share ---


def test_a_text_that_is_too_long_is_a_draft_and_listed_never_cut() -> None:
    (found,) = imported([Told("x", [("one", "a" * 4001)], seeds=["b" * 4000, "c" * 4001])])
    assert found.fields["clauses"][0]["text"] == MARK
    assert found.fields["queries"]["seeds"] == ["b" * 4000, MARK, MARK, MARK]
    assert found.dropped == (
        "queries.seeds: 4,001 characters, at most 4,000 fit",
        "clause one: 4,001 characters, at most 4,000 fit",
    )


def test_a_trait_that_would_be_too_large_to_read_is_refused() -> None:
    many = json.dumps([{"trait": "I am.", "questions": ["Why?"] * 30_000}])
    with pytest.raises(SpecError, match="trait 'calm' does not fit into a trait file"):
        trait_yaml(only("open-character", many))
    long = json.dumps([{"trait": "I am.", "questions": ["\u0007" * 3000] * 200}])
    with pytest.raises(SpecError, match="does not fit"):
        trait_yaml(only("open-character", long))


@given(st.lists(st.text(max_size=90) | st.sampled_from(["a", "A!", "a-2", "9", "é", "世界"])))
@settings(deadline=None)
def test_ids_are_valid_and_each_its_own(labels: list[str]) -> None:
    ids = unique_ids(labels, "trait")
    for identity in ids:
        check_id(identity)
    assert len(set(ids)) == len(ids) == len(labels)


def test_ids_are_made_of_words() -> None:
    assert unique_ids(["Été à Paris!", "2 much", "a", "a", "a-2", "", "世界"], "trait") == [
        "ete-a-paris", "much", "a", "a-2", "a-2-2", "trait", "trait-2"
    ]  # fmt: skip
    assert unique_ids(["a-2", "a", "a"], "trait") == ["a-2", "a", "a-3"]
    (long,) = unique_ids(["word " * 30], "trait")
    assert long == "-".join(["word"] * 10)


def test_a_file_of_very_many_sections_is_refused() -> None:
    with pytest.raises(SpecError, match="holds 501 traits, of at most 500"):
        read_foreign("# A {#a authority=user}\n" * 501, "spec")


@pytest.mark.parametrize(
    "unit",
    ["- a\n\n", "~~~\n", "~~~a\n", "`" * 9 + "\n", "[^", "[^a", "<user>", "<user ", "!!!\n",
     "# ", " ", "{#", "**Example**\n", "<!--", "- ", "\t", "1"],
)  # fmt: skip
def test_reading_takes_no_longer_than_the_file_is_long(unit: str) -> None:
    head = "# A {#a authority=user}\n"
    started = perf_counter()
    for start in ("", "~~~\n<user>\n", "~~~\n<user>\nx\n</user>\n"):
        text = start + unit * (500_000 // len(unit))
        with suppress(SpecError):
            for found in read_foreign(f"{head}{text}\n\n{text}x\n~~~", "spec"):
                trait_yaml(found)
    assert perf_counter() - started < 30


# --- exports ---


def test_an_exported_constitution_has_the_statement_and_every_clause_with_its_messages() -> None:
    trait = load_trait("curious")
    exported = json.loads(to_open_character(trait))
    assert exported[0] == {"trait": trait.statement, "questions": trait.queries.seeds}
    assert [each["trait"] for each in exported[1:]] == [clause.text for clause in trait.clauses]
    assert sorted(q for each in exported[1:] for q in each["questions"]) == sorted(
        example.user for example in trait.examples
    )
    again = only("open-character", to_open_character(trait), "curious")
    assert [clause["text"] for clause in again.fields["clauses"]] == [
        trait.statement, *(clause.text for clause in trait.clauses)
    ]  # fmt: skip


def shown(markdown: str, trait: Trait) -> str:
    """What a reader of the rendered page sees; fails when a text became Markdown or HTML."""
    rendering = pytest.importorskip("markdown_it").MarkdownIt("gfm-like", {"linkify": False})
    tokens = rendering.parse(markdown)
    inline = [child for token in tokens for child in token.children or ()]
    kinds = {token.type for token in (*tokens, *inline)}
    assert not kinds & {"html_block", "html_inline", "code_block", "fence", "link_open", "image"}
    assert not kinds & {"em_open", "table_open", "ordered_list_open", "hr", "s_open"}
    blocks = Counter(token.type for token in tokens)
    cases = [*filter(None, (trait.applies.when, trait.applies.unless))]
    assert blocks["heading_open"] == 1 + 2 + len(cases) + 1 + len(trait.clauses)
    assert blocks["bullet_list_open"] == len(cases)
    assert blocks["list_item_open"] == sum(map(len, cases))
    assert blocks["blockquote_open"] == 3 * len(trait.examples)
    seen = "".join(
        "\n" if token.type in ("hardbreak", "softbreak") else token.content
        for token in [child for token in tokens for child in (*(token.children or ()), token)]
        if token.type != "inline"
    )
    return seen.replace("\xa0", " ")


def test_a_document_has_everything_a_reader_needs() -> None:
    trait = load_trait("curious")
    document = to_markdown(trait)
    seen = shown(document, trait)
    for said in (
        trait.title, trait.id, trait.authority, trait.statement, trait.opposite, trait.rationale,
        *trait.applies.when, *trait.applies.unless,
        *(text for clause in trait.clauses for text in (clause.id, clause.text)),
        *(text for e in trait.examples for text in (e.user, e.good, e.bad, e.why)),
    ):  # fmt: skip
        assert said in seen
    assert document.startswith("# Curious\n\n") and document.endswith("\n")
    assert trait.queries.seeds[0] not in document


HOSTILE = st.lists(
    st.sampled_from(
        ["<script>alert(1)</script>", "# no", "- no", "1. no", "2) no", "+ no", "> no", "===",
         "---", "    code", "\tcode", "```", "~~~", "*no* _no_ **no**", "[no](http://x)", "![x](y)",
         "&lt;", "`no`", "| a | b |", "|---|---|", "~~no~~", "<!-- no -->", "\\", "a\\", "",
         "words", "$x$", "[no]: http://x", "\r# no",
         "a\u2028# no", "<b", "***", "- - -", "10. no", "www.x.org"]
    )
)  # fmt: skip


@given(HOSTILE.map("\n".join).filter(str.strip))
@example("words\n\n    code")
@example("words\n===")
@example("words\n---")
@example("words\r# no")
@example("words\n\n10. no")
@settings(deadline=None)
def test_no_text_becomes_markdown_or_html(text: str) -> None:
    shows = {"clause": "no-coda", "user": text, "good": text, "bad": text, "why": text}
    clauses = [{"id": "no-coda", "text": text}]
    changes: dict[str, Any] = dict.fromkeys(("title", "statement", "opposite", "rationale"), text)
    cases = {"when": [text], "unless": [text]}
    trait = a_trait(**changes, clauses=clauses, examples=[shows] * 3, applies=cases)
    seen = shown(to_markdown(trait), trait)
    words = [line.strip() for line in text.splitlines() if line.strip()]
    assert all(seen.count(word) >= 4 + 1 + 2 + 3 * 4 for word in words)
