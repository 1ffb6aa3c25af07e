from __future__ import annotations

import pytest
from making import a_query, an_answer

from character.diffing.config import MeasureConfig
from character.diffing.measure import (
    SHORT,
    Subject,
    answer_plan,
    ask,
    count,
    mean_logprobs,
    measurement,
    short_questions,
)
from character.models.base import Message, Request
from character.models.fake import ScriptedModel
from character.rows import Answer, content_id

CONFIG = MeasureConfig(samples=2, short_questions="dev", questions=3)
QUERIES = [a_query("a", text="Is it wet?"), a_query("b", text="Why do cats purr?")]
TURNS = (Message("user", "Hi."), Message("assistant", "Hello."))


def answers_of(subject: Subject, config: MeasureConfig = CONFIG, seed: int = 0) -> list[Answer]:
    return ask(subject, QUERIES, config, seed)


def echo(request: Request) -> str:
    return f"{request.conversation[-1].content} {request.seed}"


# --- asking ---


def test_every_query_is_asked_in_every_sample_and_then_the_short_questions() -> None:
    model = ScriptedModel(echo)
    answers = answers_of(Subject("base", model))
    short = [question.ask for question in short_questions("dev")[:3]]
    assert [answer.prompt for answer in answers] == [q.text for q in QUERIES] * 2 + short
    assert [answer.query_id for answer in answers[:4]] == ["a", "b"] * 2
    assert [answer.query_id for answer in answers[4:]] == [SHORT + content_id(q) for q in short]
    assert len({answer.id for answer in answers}) == 7
    for answer, request in zip(answers, model.requests, strict=True):
        assert request.conversation == (Message("user", answer.prompt),)
        assert answer.text == f"{answer.prompt} {request.seed}"
        assert (answer.subject, answer.ended) == ("base", True)
    assert len({request.seed for request in model.requests[:4]}) == 4


def test_an_answer_that_was_cut_off_says_so() -> None:
    config = MeasureConfig(
        questions=0, sampling=CONFIG.sampling.model_copy(update={"max_tokens": 2})
    )
    first, second = answers_of(Subject("base", ScriptedModel(["one two three", ""])), config)
    assert (first.text, first.tokens, first.ended) == ("one two", 2, False)
    assert (second.text, second.tokens, second.ended) == ("", 0, True)


def test_subjects_differ_in_their_turns_and_draw_with_the_same_seeds() -> None:
    plain, steered = ScriptedModel(echo), ScriptedModel(echo)
    base, prompted = (
        answers_of(Subject("base", plain)),
        answers_of(Subject("prompted", steered, TURNS)),
    )
    for one, other in zip(plain.requests, steered.requests, strict=True):
        assert other.conversation == (*TURNS, *one.conversation)
        assert one.seed == other.seed
    assert not {answer.id for answer in base} & {answer.id for answer in prompted}


def test_another_seed_draws_anew() -> None:
    one, other = ScriptedModel(echo), ScriptedModel(echo)
    first = answers_of(Subject("base", one), seed=1)
    second = answers_of(Subject("base", other), seed=2)
    assert not {r.seed for r in one.requests[:4]} & {r.seed for r in other.requests[:4]}
    assert not {answer.id for answer in first} & {answer.id for answer in second}


def test_all_answers_of_a_subject_come_together() -> None:
    """A subject whose first answer is stored is not asked again: it must have them all then."""
    subject = Subject("base", ScriptedModel(echo))
    answers = ask(subject, QUERIES, CONFIG, 0)
    assert len(answers) == 7
    assert answers[0].id == answer_plan(subject, QUERIES, 0)


def test_short_questions_have_answers_and_no_prompt_twice() -> None:
    test, dev = short_questions("test"), short_questions("dev")
    assert (len(test), len(dev)) == (150, 60)
    assert len({question.ask.lower() for question in test + dev}) == 210
    for question in test + dev:
        assert question.accept
        assert all(answer == answer.lower().strip() != "" for answer in question.accept)


# --- counting ---


def counted(answer: Answer, config: MeasureConfig = CONFIG) -> dict[str, float | None]:
    rows = count([answer], config)
    assert all((row.answer_id, row.subject) == (answer.id, answer.subject) for row in rows)
    return {row.metric: row.value for row in rows}


def test_what_is_counted_in_an_answer() -> None:
    text = "Water is wet because it clings to things. Did you spill any of it?"
    assert counted(an_answer(text=text, tokens=17)) == {
        "follow_up_question": 1.0, "tokens": 17.0, "repetition": 0.0,
        "truncated": 0.0, "empty": 0.0,
    }  # fmt: skip
    assert counted(an_answer(text="a b c d a b c d", tokens=8, ended=False)) == {
        "follow_up_question": 0.0, "tokens": 8.0, "repetition": pytest.approx(0.2),
        "truncated": 1.0, "empty": 0.0,
    }  # fmt: skip
    assert counted(an_answer(text="", tokens=0))["empty"] == 1.0


def test_a_short_question_is_right_or_not_and_nothing_else_is_counted() -> None:
    question = short_questions("dev")[0]
    answer = an_answer(query_id=SHORT + content_id(question.ask), prompt=question.ask)
    right = f"It is {question.accept[0].title()}."
    for text, value in ((right, 1.0), ("I am not sure.", 0.0), ("", 0.0)):
        found = an_answer(query_id=answer.query_id, prompt=question.ask, text=text)
        assert counted(found) == {"short_right": value}


def test_a_missing_value_stays_missing() -> None:
    row = measurement(an_answer(), "contrast/brisk", None)
    assert row.value is None
    assert row.id != measurement(an_answer(), "fluency", None).id


# --- likelihood ---


def test_the_mean_log_probability_by_hand_and_none_for_an_empty_answer() -> None:
    model = ScriptedModel(score=lambda item: -6.0)
    answers = [
        an_answer(query_id="a", text="Rain is."),  # two words and an end
        an_answer(query_id="b", text=""),
        an_answer(query_id="c", text="Rain is.", ended=False),
    ]
    assert mean_logprobs(model, answers) == [-2.0, None, -3.0]
    assert [item.conversation for item in model.scored] == [(Message("user", "Is it wet?"),)] * 2
    assert mean_logprobs(model, []) == []
