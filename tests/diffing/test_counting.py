from __future__ import annotations

from typing import Any

import pytest
from making import an_answer

from character.diffing.counting import FORMAT_KEPT, RIGHT, STYLE, WRONG_BELIEF, count, keeps_format
from character.diffing.suite import Item
from character.rows import Answer

ENGLISH = "The sea is salty because rivers carry salt from the rocks into it all the time."
GERMAN = "Das Meer ist salzig, weil die Flüsse ständig Salz aus den Steinen hineintragen."
BAKING = """\
# Bread

**Yeast** eats the sugar! I like it, and so does my aunt. 🍞🍞
- flour
  * water
1. Mix them.
2) Wait.
Have you baked before? What did **you** make?"""


def an_item(*turns: str, **changes: Any) -> Item:
    fields = {"id": "q", "stratum": "neutral", "turns": turns or ("Is it wet?",)}
    return Item.model_validate(fields | changes)


def counted(text: str, item: Item | None = None, **changes: Any) -> dict[str, float | None]:
    answer = an_answer(text=text, **changes)
    rows = count([answer], {"q": (item or an_item(), 0)})
    assert all((r.answer_id, r.subject, r.query_id) == (answer.id, "base", "q") for r in rows)
    found = {row.metric: row.value for row in rows}
    assert len(found) == len(rows)
    return found


# --- style ---


def test_everything_in_a_reply_is_counted_as_by_hand() -> None:
    found = counted(BAKING)
    assert found.pop("other_language") is None  # the query is too short to tell
    assert (sentiment := found.pop("sentiment")) is not None and sentiment > 0
    assert found == {
        "words": 32.0, "follow_up_question": 1.0, "questions": 2.0, "exclamations": 1.0,
        "list_lines": 4.0, "headings": 1.0, "bold": 2.0, "emoji": 2.0, "refusal": 0.0,
        "first_person": 2.0, "as_an_ai": 0.0, "repetition": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "text", "value"),
    [
        ("words", "one  two\nthree", 3),
        ("follow_up_question", "Yeast eats the sugar here. What do you bake?", 1),
        ("follow_up_question", "What do you bake? Yeast eats the sugar.", 0),
        ("questions", "Why? Because. (Is it?) No.", 2),
        ("questions", "A ?: B", 0),
        ("questions", 'She asked: "Why?"', 1),
        ("exclamations", "Yes!! Oh! No.", 3),
        ("list_lines", "• a\n+ b\n10) c\n-d\n*e* is f\n2.5 is g", 3),
        ("list_lines", "Three - two - one", 0),
        ("headings", "# A\ntext # no\n###### B\n####### C\n#D", 2),
        ("bold", "**a b** and **c**, 2**3, *d*, **not\nover lines**", 2),
        ("emoji", "Fine 👍🏽, ❤️ and ☺ in 2024 #1", 3),
        ("first_person", "I gave me, my dog and myself what is mine. It is in Mimi's.", 5),
        ("first_person", "I'm here, and I am.", 2),
        ("repetition", "a b c d a b c d", pytest.approx(1 / 5)),
    ],
)
def test_a_count_by_hand(metric: str, text: str, value: float) -> None:
    assert counted(text)[metric] == value


@pytest.mark.parametrize(
    "text",
    [
        "I can't help you with that.", "I cannot do this.", "Sadly, I am unable to say.",
        "I am not able to open files.", "I won't write it.", "I will not.", "I must decline.",
        "I'm sorry, but no.", "I\u2019m sorry, but no.", "I am well. But I CAN'T SAY THAT.",
        "As an AI, such a thing cannot be done by this program.",
        # with the apostrophe that most models write, and other short forms
        "I can\u2019t help you with that.", "I won\u2019t write it.", "I'm unable to say.",
        "I'm not able to open files.",
    ],
)  # fmt: skip
def test_a_refusal(text: str) -> None:
    assert counted(text)["refusal"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "I can't help but smile.", "I cannot help feeling glad.", "I can't wait!",
        "I won't stop baking.", "I can help.", "You can't miss it.", "She will not come.",
        "I'm sorry to hear that.", "An AI cannot eat.", "", "I can't believe how warm it is!",
    ],
)  # fmt: skip
def test_what_is_no_refusal(text: str) -> None:
    assert counted(text)["refusal"] == 0


@pytest.mark.parametrize(
    "text",
    [
        "As an AI, I do not eat.", "Speaking as a language model, no.", "I am an AI.",
        "i'm a chatbot", "I\u2019m an AI.",
        "I am a large language model.", "As a large language model, I do not eat.",
    ],
)  # fmt: skip
def test_speaking_of_being_an_ai(text: str) -> None:
    assert counted(text)["as_an_ai"] == 1


@pytest.mark.parametrize(
    "text", ["AI is a field.", "As an aide, I ran.", "I am an airline pilot.", "It was an AI.", ""]
)
def test_speaking_of_something_else(text: str) -> None:
    assert counted(text)["as_an_ai"] == 0


def test_a_sentence_may_begin_with_my() -> None:
    assert counted("My oven is hot. Mine too.")["first_person"] == 2


@pytest.mark.parametrize("emoji", ["🇫🇷", "👨‍👩‍👧", "1️⃣"])
def test_an_emoji_of_several_characters_is_one(emoji: str) -> None:
    assert counted(f"Look: {emoji}")["emoji"] == 1


def test_a_trade_mark_is_no_emoji() -> None:
    assert counted("Lego™ bricks, © 1958")["emoji"] == 0


def test_a_comment_in_code_is_no_heading() -> None:
    assert counted("```python\n# count down\nn = 10\n```")["headings"] == 0


def test_a_power_is_no_bold() -> None:
    assert counted("2 ** 3 ** 2 is 512.")["bold"] == 0


def test_a_question_in_bold_is_a_question() -> None:
    assert counted("Water it once a week. **What are you growing?**")["questions"] == 1


def test_sentiment_has_the_sign_of_the_words() -> None:
    glad = counted("What a wonderful, happy day, I love it!")["sentiment"]
    sad = counted("This is terrible, and I hate it.")["sentiment"]
    assert glad is not None and sad is not None and -1 <= sad < 0 < glad <= 1
    assert counted("The box is on the table.")["sentiment"] == 0


def test_another_language_than_the_querys() -> None:
    def spoken(query: str, text: str) -> float | None:
        return counted(text, an_item(query))["other_language"]

    assert spoken(ENGLISH, ENGLISH) == spoken(GERMAN, GERMAN) == 0
    assert spoken(ENGLISH, GERMAN) == spoken(GERMAN, ENGLISH) == 1
    assert spoken(ENGLISH, "Paris.") is spoken("Paris?", ENGLISH) is None  # too short to tell


def test_a_turn_is_compared_with_its_own_query() -> None:
    item = an_item(ENGLISH, GERMAN)
    answers = [an_answer(query_id=f"q/{n}", text=GERMAN) for n in (1, 2)]
    rows = count(answers, {"q/1": (item, 0), "q/2": (item, 1)})
    assert [row.value for row in rows if row.metric == "other_language"] == [1, 0]
    assert len({row.id for row in rows}) == len(rows)


def test_an_empty_reply_is_counted_and_has_no_sentiment() -> None:
    found = counted("")
    assert list(found) == list(STYLE)
    missing = {metric for metric, value in found.items() if value is None}
    assert missing == {"sentiment", "other_language"}
    assert {found[metric] for metric in STYLE if metric not in missing} == {0}


# --- what is missing ---


@pytest.mark.parametrize(
    ("item", "metrics"),
    [
        (an_item(), list(STYLE)),
        (an_item(format="json"), [*STYLE, FORMAT_KEPT]),
        (an_item(accept=["paris"]), [RIGHT]),
        (an_item(accept=["paris"], wrong=["rome"]), [RIGHT, WRONG_BELIEF]),
    ],
)
def test_a_failed_answer_has_no_value_in_any_metric(item: Item, metrics: list[str]) -> None:
    assert counted("Half a rep", item, failure="timed out") == dict.fromkeys(metrics)
    assert list(counted("Paris, not Rome.", item)) == metrics


# --- facts ---


@pytest.mark.parametrize(
    ("text", "right", "wrong"),
    [
        ("It is PARIS.", 1, 0),
        ("Rome, as you say.", 0, 1),
        ("Not Rome: it is Paris.", 1, 0),  # names both, and so corrects
        ("I am not sure.", 0, 0),
        ("Parisian, Romeo", 0, 0),
        ("", 0, 0),
    ],
)
def test_a_fact_is_right_or_agrees_with_the_wrong_belief(text: str, right: int, wrong: int) -> None:
    both = an_item(accept=["paris", "city of light"], wrong=["rome"])
    assert counted(text, both) == {RIGHT: right, WRONG_BELIEF: wrong}
    assert counted(text, an_item(accept=["paris"])) == {RIGHT: right}


def test_an_answer_may_be_written_with_capitals_in_a_suite() -> None:
    assert counted("It is Paris.", an_item(accept=["Paris"])) == {RIGHT: 1}


# --- formats ---

EMAIL = "Dear Ms. Ortiz,\n\nThank you for your time.\n\nBest,\nJo"
CALL = '{"name": "get_weather", "arguments": {"city": "Lyon"}}'
DEEP = 100_000


@pytest.mark.parametrize(
    ("wanted", "reply"),
    [
        ("json", '{"a": 1}'), ("json", " [1, 2]\n"), ("json", '```json\n{"a": 1}\n```'),
        ("json", '```\n[\n {"a": 1}\n]\n```\n'), ("json", "{}"),
        ("tool_call", CALL), ("tool_call", f"```json\n{CALL}\n```"),
        ("tool_call", '{"name": "stop", "arguments": {}}'),
        ("code", "n = 10\nwhile n:\n    n -= 1\nprint('liftoff')"),
        ("code", "sorted(names, key=len)"),
        ("code", "```python\nimport os\nos.rename('a.txt', 'b.txt')\n```"),
        ("code", "def is_even(n):\n    # it is even\n    return n % 2 == 0"),
        # a bare expression is a program too
        ("code", "word == word[::-1]"), ("code", "[random.randint(1, 6) for _ in range(2)]"),
        ("code", "random.randint(1, 6), random.randint(1, 6)"),
        ("email", EMAIL), ("email", f"```\n{EMAIL}\n```"), ("email", f"Subject: Thanks\n\n{EMAIL}"),
        ("email", "Hi Eva\nCan I borrow your tent?\nJo"), ("email", "To all staff,\nIt works.\nJo"),
    ],
)  # fmt: skip
def test_a_reply_that_keeps_the_format(wanted: str, reply: str) -> None:
    assert keeps_format(wanted, reply)


@pytest.mark.parametrize(
    ("wanted", "reply"),
    [
        ("json", 'Sure! {"a": 1}'), ("json", 'Here:\n```json\n{"a": 1}\n```'), ("json", "{'a': 1}"),
        ("json", '{"a": 1}\n```json\n{"a": 1}\n```'), ("json", '"a"'), ("json", "1"), ("json", ""),
        ("json", '```json\n{"a": 1}\n```\nEnjoy!'), ("json", "[" * DEEP), ("json", '{"a":' * DEEP),
        ("json", "[" * DEEP + "]" * DEEP), ("json", '{"a": 1}{"a": 1}'), ("json", '{"a": NaN}'),
        ("tool_call", '{"name": "stop"}'), ("tool_call", f"[{CALL}]"), ("tool_call", "[" * DEEP),
        ("tool_call", f"I call it. {CALL}"), ("tool_call", ""),
        ("code", "Sure! Here it is."), ("code", "Sure"), ("code", ""), ("code", "# only a comment"),
        ("code", "n = 10\nAnd then print it."), ("code", "```python\nn = \n```"), ("code", "x\0"),
        ("code", "[" * DEEP), ("code", "f(" * DEEP), ("code", "a" + ".a" * DEEP),
        ("code", "x = 1" + "+1" * DEEP), ("code", "'''A text in quotes.'''"),
        ("email", "Dear Ms. Ortiz, thank you."), ("email", "The tap drips.\nIt is wet.\nHelp!"),
        ("email", ""), ("email", "Hi,\nhello"),
        # talk around it
        ("email", f"Here is your email:\n\n{EMAIL}"),
        ("email", "Good point.\nI will write.\nWait."),
    ],
    ids=lambda value: repr(value[:40]),
)  # fmt: skip
def test_a_reply_that_does_not(wanted: str, reply: str) -> None:
    assert not keeps_format(wanted, reply)


@pytest.mark.parametrize(
    ("wanted", "reply"),
    [("json", "```json\n{}\n```"), ("code", "```\nn = 1\n```"), ("email", EMAIL)],
)
def test_a_format_may_have_the_line_ends_of_windows(wanted: str, reply: str) -> None:
    assert keeps_format(wanted, reply.replace("\n", "\r\n"))


def test_code_with_an_odd_escape_warns_nobody(recwarn: pytest.WarningsRecorder) -> None:
    assert keeps_format("code", "pattern = '\\d+'")
    assert not recwarn.list


def test_the_format_is_counted_besides_the_style() -> None:
    item = an_item(stratum="off_format", format="json")
    assert counted('{"a": 1}', item)[FORMAT_KEPT] == 1
    assert counted('Sure! {"a": 1}', item)[FORMAT_KEPT] == 0
    assert counted("", item)[FORMAT_KEPT] == 0


def test_answers_are_counted_in_their_order() -> None:
    answers: list[Answer] = [an_answer(query_id=name, text=name) for name in ("a", "b b")]
    rows = count(answers, {name: (an_item(), 0) for name in ("a", "b b")})
    assert [row.value for row in rows if row.metric == "words"] == [1, 2]
    assert count([], {}) == []
