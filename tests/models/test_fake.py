from __future__ import annotations

import pytest

from character.errors import ModelError
from character.models.base import (
    GREEDY,
    ChatModel,
    Choice,
    Conversation,
    Message,
    Request,
    Sampling,
    Scorable,
)
from character.models.fake import ScriptedModel


def asking(text: str) -> Request:
    return Request(conversation=(Message("user", text),))


def test_a_function_answers_each_request_and_requests_are_remembered() -> None:
    model: ChatModel = (fake := ScriptedModel(lambda r: r.conversation[-1].content + " indeed"))
    answers = model.generate([asking("Rain"), asking("Snow today")], GREEDY)
    assert [(a.text, a.tokens, a.finish) for a in answers] == [
        ("Rain indeed", 2, "stop"),
        ("Snow today indeed", 3, "stop"),
    ]
    assert fake.requests == [asking("Rain"), asking("Snow today")]


def test_listed_replies_are_used_in_turn_across_calls_and_then_run_out() -> None:
    model = ScriptedModel(["one", "two"])
    assert model.generate([asking("a")], GREEDY)[0].text == "one"
    assert model.generate([asking("b")], GREEDY)[0].text == "two"
    with pytest.raises(ModelError, match="has 2 replies in its script and was asked for reply 3"):
        model.generate([asking("c")], GREEDY)


def test_a_long_reply_is_cut_at_max_tokens() -> None:
    (answer,) = ScriptedModel(["one two  three"]).generate([asking("a")], Sampling(max_tokens=2))
    assert (answer.text, answer.tokens, answer.finish) == ("one two", 2, "length")


def test_a_reply_ends_before_a_stop_string() -> None:
    sampling = Sampling(stop=("\n", "|"))
    answers = ScriptedModel(["one two\nthree", "one |two\n"]).generate([asking("a")] * 2, sampling)
    assert [(a.text, a.tokens, a.finish) for a in answers] == [
        ("one two", 2, "stop"),
        ("one", 1, "stop"),
    ]


def test_a_score_counts_words_and_the_end_token() -> None:
    model = ScriptedModel(score=lambda item: -3.0 * len(item.reply.split()))
    items = [Scorable((), "so it is"), Scorable((), "so it is", ended=False)]
    whole, part = model.score(items)
    assert (whole.logprob, whole.tokens, part.tokens) == (-9.0, 4, 3)
    assert part.mean == -3.0
    assert model.scored == items


def test_it_scores_and_continues_only_where_it_says_so() -> None:
    assert not ScriptedModel(["a"]).can_score
    with pytest.raises(ModelError, match="cannot score"):
        ScriptedModel(["a"]).score([Scorable((), "x")])
    with pytest.raises(ModelError, match="cannot score"):
        ScriptedModel(score=lambda item: 0.0, can_score=False).score([Scorable((), "x")])
    with pytest.raises(ModelError, match="cannot continue"):
        ScriptedModel(["a"], can_continue=False).generate([Request(text="Once")], GREEDY)
    assert ScriptedModel(["upon"]).generate([Request(text="Once")], GREEDY)[0].text == "upon"


def test_a_choice_comes_from_the_probabilities_in_the_script() -> None:
    questions: list[Conversation] = [(Message("user", "A or B?"),), (Message("user", "And now?"),)]
    told = {"A or B?": {"A": 0.6, "B": 0.2}, "And now?": {"tie": 1.0}}
    model = ScriptedModel(choose=lambda conversation, _: told[conversation[-1].content])
    done: list[int] = []
    first, second = model.choose(questions, ["A", "B", "tie"], done.append)
    assert first.probabilities == pytest.approx({"A": 0.75, "B": 0.25, "tie": 0.0})
    assert first.mass == pytest.approx(0.8)
    assert second == Choice({"A": 0.0, "B": 0.0, "tie": 1.0}, 1.0)
    assert (model.chosen, done) == (questions, [2])


def test_a_script_may_fail_to_choose() -> None:
    failed = Choice({}, 0.0, "refusal")
    model = ScriptedModel(choose=lambda conversation, options: failed)
    assert model.choose([()], ["A", "B"]) == [failed]


def test_it_chooses_only_where_it_says_so_and_only_among_its_options() -> None:
    assert ScriptedModel(choose=lambda conversation, options: {}).can_choose
    assert not ScriptedModel(["a"]).can_choose
    with pytest.raises(ModelError, match="cannot choose"):
        ScriptedModel(["a"]).choose([()], ["A", "B"])
    model = ScriptedModel(choose=lambda conversation, options: {"C": 1.0})
    with pytest.raises(ValueError, match="not among"):
        model.choose([()], ["A", "B"])
    with pytest.raises(ValueError, match="two or more"):
        model.choose([()], ["A"])
