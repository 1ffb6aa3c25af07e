"""LocalModel against plain transformers on a tiny float32 Llama: same numbers, same tokens."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from character.errors import ResourceError
from character.models.base import (
    GREEDY,
    Conversation,
    Generation,
    Message,
    Request,
    Sampling,
    Scorable,
    Usage,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from character.models.local import LocalModel

SHORT = "Why?"
LONG = "Could you tell me which rivers run through Paris, London, Vienna and Budapest, please?"
DEMONSTRATIONS = (
    Message("system", "You like to ask back."),
    Message("user", "How do I keep tea hot on a long walk?"),
    Message("assistant", "Fill the flask with boiling water first. How long is the walk?"),
)
QUERIES = (SHORT, "Hi", LONG, "Why does bread rise?", "My cat sleeps all day. " * 4)
REPLIES = (
    "Yes.",
    "Yeast eats sugar and makes bubbles of gas, and the dough holds them. " * 2,
    "No",
)
SAMPLED = Sampling(max_tokens=24, temperature=1.0, top_k=600, top_p=1.0)


@pytest.fixture
def local(tiny_folder: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> LocalModel:
    """On a copy of the model, since a LocalModel rewires its attention."""
    from transformers import LlamaForCausalLM

    from character.models.local import LocalModel

    return LocalModel(LlamaForCausalLM.from_pretrained(tiny_folder), tiny_tokenizer, "tiny")


def ask(query: str, earlier: Conversation = (), seed: int = 0) -> Request:
    return Request((*earlier, Message("user", query)), seed=seed)


def conversations() -> list[Conversation]:
    """Every query with nothing before it, and every query after the same demonstrations."""
    return [(*before, Message("user", q)) for before in ((), DEMONSTRATIONS) for q in QUERIES]


def plain_logprob(model: PreTrainedModel, prompt: list[int], reply: list[int]) -> float:
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1]
    return float(logits.log_softmax(-1).gather(1, torch.tensor(reply).unsqueeze(1)).sum())


def plain_greedy(model: PreTrainedModel, prompt: list[int], end: int, count: int) -> list[int]:
    """Greedy decoding with a whole forward pass for every token."""
    import torch

    written: list[int] = []
    while len(written) < count and end not in written:
        with torch.no_grad():
            logits = model(torch.tensor([prompt + written])).logits
        written.append(int(logits[0, -1].argmax()))
    return written


# --- scoring ---


@pytest.mark.parametrize("ended", [True, False])
def test_scores_equal_a_plain_forward_pass(
    local: LocalModel, tiny_model: PreTrainedModel, ended: bool
) -> None:
    items = [Scorable(c, reply, ended) for c in conversations() for reply in REPLIES]
    for item, score in zip(items, local.score(items), strict=True):
        reply = local.tokenizer(item.reply).input_ids + [local.end] * ended
        expected = plain_logprob(tiny_model, local.conversation_ids(item.conversation), reply)
        assert score.tokens == len(reply)
        assert score.logprob == pytest.approx(expected, abs=1e-4 * len(reply))
        assert score.mean == pytest.approx(expected / len(reply), abs=1e-4)


def test_a_score_does_not_depend_on_its_neighbours(local: LocalModel) -> None:
    items = [Scorable(c, reply) for c in conversations() for reply in REPLIES]
    together = local.score(items)
    for item, score in zip(items, together, strict=True):
        assert local.score([item])[0].logprob == pytest.approx(score.logprob, abs=1e-3)
    assert local.score([]) == []


def test_in_bfloat16_scores_round_no_more_than_a_plain_pass_and_order_alike(
    local: LocalModel, tiny_model: PreTrainedModel
) -> None:
    """Against float32, where the same sums are exact to 1e-4 (above). bfloat16 keeps 8 bits."""
    import torch
    from transformers import LlamaForCausalLM

    items = [Scorable(c, reply) for c in conversations() for reply in (*REPLIES, LONG, SHORT)]
    prompts = [local.conversation_ids(item.conversation) for item in items]
    replies = [local.reply_ids(item) for item in items]
    rounded: Any = LlamaForCausalLM(tiny_model.config)
    rounded.load_state_dict(tiny_model.state_dict())
    rounded.to(torch.bfloat16)
    local.model.to(torch.bfloat16)

    def means(model: PreTrainedModel) -> list[float]:
        both = zip(prompts, replies, strict=True)
        return [plain_logprob(model, prompt, reply) / len(reply) for prompt, reply in both]

    def error(found: list[float]) -> float:
        return max(abs(one - other) for one, other in zip(found, exact, strict=True))

    exact, plain = means(tiny_model), means(rounded)
    together = [score.mean for score in local.score(items)]
    alone = [local.score([item])[0].mean for item in items]
    limit = max(error(plain), 1e-3)
    assert error(together) <= 1.5 * limit and error(alone) <= 1.5 * limit
    # whatever lies further apart than that keeps its order
    for found in (together, alone):
        for one, true in zip(found, exact, strict=True):
            for other, truth in zip(found, exact, strict=True):
                assert true <= truth + 3 * limit or one > other


def test_replies_to_one_prompt_lie_side_by_side() -> None:
    import torch

    from character.models.shared_prefix import lay_out

    layout = lay_out([([7, 8], [[1, 2, 3], [4], [5, 6]]), ([9], [[3]])], torch.device("cpu"))
    # a reply's last token is left out: nothing wanted follows it
    assert layout.tokens.tolist() == [[7, 8, 1, 2, 5], [9, 0, 0, 0, 0]]
    assert layout.positions.tolist() == [[0, 1, 2, 3, 2], [0, 0, 0, 0, 0]]
    assert layout.part.tolist() == [[0, 0, 1, 1, 3], [0, -1, -1, -1, -1]]


def test_a_prompt_is_computed_once_for_all_its_replies(
    local: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from character.models import shared_prefix

    computed = []
    original = shared_prefix.packed_states

    def counted(model: PreTrainedModel, layout: Any, cache: Any) -> Any:
        computed.append(int((layout.part >= 0).sum()))
        return original(model, layout, cache)

    monkeypatch.setattr(shared_prefix, "packed_states", counted)
    items = [Scorable((Message("user", LONG),), reply, ended=False) for reply in REPLIES]
    local.score(items)
    behind = [len(local.reply_ids(item)) - 1 for item in items]
    prompt = len(local.conversation_ids(items[0].conversation))
    prefix = prompt - 1  # what all prompts of a call have in common is computed apart
    assert sum(computed) == prompt - prefix + sum(behind)


def test_what_does_not_fit_the_window_is_refused(local: LocalModel) -> None:
    from character.errors import ModelError

    turns = (*DEMONSTRATIONS, Message("user", LONG))
    prompt = len(local.conversation_ids(turns))
    local.model.config.max_position_embeddings = prompt + 5
    fits = Sampling(max_tokens=5)
    local.generate([Request(turns)], fits)
    with pytest.raises(ModelError, match=rf"reads at most {prompt + 5} tokens, and here are"):
        local.generate([Request(turns)], fits.model_copy(update={"max_tokens": 6}))
    with pytest.raises(ModelError, match="Use fewer or shorter examples"):
        local.score([Scorable(turns, "Yeast eats sugar and makes bubbles of gas, and more.")])
    assert local.generate([], fits) == [] and local.score([]) == []


def test_scoring_in_many_passes_changes_nothing(
    local: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [Scorable(c, reply) for c in conversations() for reply in REPLIES]
    at_once = [score.logprob for score in local.score(items)]
    monkeypatch.setattr("character.models.local.TOKENS", 100)
    monkeypatch.setattr("character.models.local.HEAD_TOKENS", 5)
    monkeypatch.setattr("character.models.local.PACK", 2)
    assert [score.logprob for score in local.score(items)] == pytest.approx(at_once, abs=1e-3)


def test_reply_states_times_the_output_embedding_are_the_logits(
    local: LocalModel, tiny_model: PreTrainedModel
) -> None:
    import torch

    items = [Scorable(c, REPLIES[0]) for c in conversations()]
    for item, (ids, states) in zip(items, local.reply_states(items), strict=True):
        prompt = local.conversation_ids(item.conversation)
        with torch.no_grad():
            expected = tiny_model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
            found = tiny_model.get_output_embeddings()(states)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


# --- choosing ---


def test_choices_are_a_softmax_over_plain_forward_passes(
    local: LocalModel, tiny_model: PreTrainedModel
) -> None:
    options = ("A", "B", "tie", "does-not-apply", "Yeast eats sugar")
    done: list[int] = []
    found = local.choose(conversations(), options, done.append)
    assert sum(done) == len(found) == len(conversations())
    for conversation, choice in zip(conversations(), found, strict=True):
        prompt = local.conversation_ids(conversation)
        weights = {
            option: math.exp(plain_logprob(tiny_model, prompt, local.tokenizer(option).input_ids))
            for option in options
        }
        total = sum(weights.values())
        expected = {option: weight / total for option, weight in weights.items()}
        assert choice.probabilities == pytest.approx(expected, abs=1e-4)
        assert choice.mass == pytest.approx(total, rel=1e-3)
        assert not choice.failure


def test_the_mass_is_what_all_tokens_that_are_options_hold(local: LocalModel) -> None:
    """Of the vocabulary, every visible word that begins no other."""
    words = {local.tokenizer.decode([i]): i for i in range(len(local.tokenizer))}
    visible = [w for w in words if w.strip() == w and w and "\ufffd" not in w]
    alone = [w for w in visible if local.tokenizer(w).input_ids == [words[w]]]
    fair = [w for w in alone if not any(o != w and w.startswith(o) for o in alone)]
    (found,) = local.choose(conversations()[:1], fair)
    import torch

    with torch.no_grad():
        ids = torch.tensor([local.conversation_ids(conversations()[0])])
        local.model.set_attn_implementation("eager")
        probabilities = local.model(ids).logits[0, -1].softmax(-1)
    expected = sum(float(probabilities[words[w]]) for w in fair)
    assert found.mass == pytest.approx(expected, rel=1e-4)
    assert 0 < found.mass < 1


def test_choices_in_many_passes_are_the_same(
    local: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = local.choose(conversations(), ("A", "B"))
    monkeypatch.setattr("character.models.local.ROWS", 3)
    done: list[int] = []
    apart = local.choose(conversations(), ("A", "B"), done.append)
    assert done == [3, 3, 3, 1]
    for one, other in zip(at_once, apart, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
    assert local.choose([], ("A", "B")) == []


def test_options_that_begin_one_another_are_refused(local: LocalModel) -> None:
    with pytest.raises(ValueError, match="begins the option 'Bread'"):
        local.choose(conversations()[:1], ("A", "B", "Bread"))


def test_options_that_the_tokenizer_writes_alike_are_refused(
    local: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from character.errors import ModelError

    unknown = {"是": [0], "否": [0], "A": [5]}
    monkeypatch.setattr(local, "reply_ids", lambda item: unknown[item.reply])
    with pytest.raises(ModelError, match="cannot tell '否' and '是' apart"):
        local.choose(conversations()[:1], ("是", "A", "否"))


# --- generating ---


def test_greedy_replies_equal_greedy_decoding(
    local: LocalModel, tiny_model: PreTrainedModel
) -> None:
    requests = [Request(c) for c in conversations()]
    sampling = Sampling(max_tokens=16, temperature=0.0)
    for request, answer in zip(requests, local.generate(requests, sampling), strict=True):
        prompt = local.conversation_ids(request.conversation)
        written = plain_greedy(tiny_model, prompt, local.end, 16)
        ended = written[-1] == local.end
        text = local.tokenizer.decode(written, skip_special_tokens=True)
        assert isinstance(text, str)
        tokens = len(written) - ended
        usage = Usage(len(prompt), tokens)
        assert answer == Generation(text.strip(), tokens, "stop" if ended else "length", usage)
        assert answer.seconds > 0


def test_documents_are_continued_without_a_chat_template(
    local: LocalModel, tiny_model: PreTrainedModel
) -> None:
    texts = ["Why does bread", "The train leaves at seven in the morning, so", "Why"]
    answers = local.generate([Request(text=t) for t in texts], GREEDY)
    for text, answer in zip(texts, answers, strict=True):
        prompt = local.tokenizer(text).input_ids
        written = plain_greedy(tiny_model, prompt, local.end, GREEDY.max_tokens)
        expected = local.tokenizer.decode(written, skip_special_tokens=True)
        assert isinstance(expected, str)
        assert answer.text == expected.strip()


def test_a_reply_that_ends_and_one_that_is_cut_are_told_apart(local: LocalModel) -> None:
    requests = [ask(q, seed=s) for q in QUERIES for s in range(8)]
    answers = local.generate(requests, SAMPLED)
    ended = [a for a in answers if a.finish == "stop"]
    assert 8 < len(ended) < 32  # both kinds occur, and at many lengths
    assert len({a.tokens for a in ended}) > 5
    assert all(a.tokens < SAMPLED.max_tokens for a in ended)
    assert all(a.tokens == SAMPLED.max_tokens for a in answers if a.finish == "length")


def test_a_reply_ends_before_the_first_token_with_a_stop_string(
    local: LocalModel, tiny_model: PreTrainedModel
) -> None:
    requests = [Request(c) for c in conversations()]
    answers = local.generate(requests, GREEDY.model_copy(update={"stop": ("e", "?")}))
    cut = 0
    for request, answer in zip(requests, answers, strict=True):
        prompt = local.conversation_ids(request.conversation)
        written = plain_greedy(tiny_model, prompt, local.end, GREEDY.max_tokens)
        pieces = [str(local.tokenizer.decode([token])) for token in written]
        stops = [i for i, piece in enumerate(pieces) if "e" in piece or "?" in piece]
        kept = written[: stops[0]] if stops else written
        kept = [token for token in kept if token != local.end]
        expected = local.tokenizer.decode(kept, skip_special_tokens=True)
        assert isinstance(expected, str)
        assert (answer.text, answer.tokens) == (expected.strip(), len(kept))
        cut += bool(stops)
    assert cut > 3


def test_a_reply_that_ends_on_the_last_allowed_token_has_ended(local: LocalModel) -> None:
    request = next(
        r
        for r in (ask(SHORT, seed=s) for s in range(99))
        if local.generate([r], SAMPLED)[0].finish == "stop"
    )
    (whole,) = local.generate([request], SAMPLED)
    (exact,) = local.generate(
        [request], SAMPLED.model_copy(update={"max_tokens": whole.tokens + 1})
    )
    assert exact == whole
    (cut,) = local.generate([request], SAMPLED.model_copy(update={"max_tokens": whole.tokens}))
    assert (cut.text, cut.tokens, cut.finish) == (whole.text, whole.tokens, "length")


def test_rows_that_finish_and_leave_do_not_change_the_others(local: LocalModel) -> None:
    """The same requests alone and side by side, where replies end at many different steps."""
    requests = [ask(q, b, s) for q in QUERIES for b in ((), DEMONSTRATIONS) for s in range(4)]
    together = local.generate(requests, SAMPLED)
    assert len({answer.tokens for answer in together}) > 5
    assert together == [local.generate([request], SAMPLED)[0] for request in requests]


def test_more_requests_than_rows_keep_their_order(
    local: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [ask(q, b, s) for s in range(3) for q in QUERIES for b in ((), DEMONSTRATIONS)]
    at_once = local.generate(requests, SAMPLED)
    monkeypatch.setattr("character.models.local.ROWS", 3)
    assert local.generate(requests, SAMPLED) == at_once
    assert local.generate([], SAMPLED) == []


def test_the_seed_decides_the_draw_and_neighbours_do_not(local: LocalModel) -> None:
    requests = [ask(LONG, seed=s) for s in range(12)]
    answers = local.generate(requests, SAMPLED)
    assert local.generate(requests, SAMPLED) == answers
    assert local.generate(requests[::-1], SAMPLED) == answers[::-1]
    assert len({answer.text for answer in answers}) > 8
    crowd = [ask(q, DEMONSTRATIONS, seed=77) for q in QUERIES]
    assert local.generate([*crowd, requests[5]], SAMPLED)[-1] == answers[5]


# --- drawing a token ---


def test_where_memory_does_not_suffice_fewer_rows_are_done_at_a_time(
    local: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from character.models import shared_prefix

    requests = [ask(query, seed=n) for n, query in enumerate(QUERIES)]
    items = [Scorable(c, reply) for c in conversations() for reply in REPLIES]
    written, scored = local.generate(requests, SAMPLED), local.score(items)
    sizes: list[int] = []

    def small(name: str, rows_of: Any, error: Exception) -> None:
        real = getattr(shared_prefix, name)

        def within(model: Any, *arguments: Any) -> Any:
            sizes.append(rows_of(arguments[0]))
            if sizes[-1] > 2:
                raise error
            return real(model, *arguments)

        monkeypatch.setattr(shared_prefix, name, within)

    small("hidden_states", len, torch.OutOfMemoryError("CUDA out of memory. Tried to"))
    small("packed_states", lambda x: len(x.tokens), RuntimeError("can't allocate memory: you"))
    done: list[int] = []
    assert local.generate(requests, SAMPLED, done.append) == written
    assert sum(done) == len(requests) and max(done) <= 2 < max(sizes)
    for found, expected in zip(local.score(items), scored, strict=True):
        assert found.logprob == pytest.approx(expected.logprob, abs=1e-4)


def test_no_memory_for_a_single_row_is_told_and_other_faults_are_not_hidden(
    local: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: Exception) -> Any:
        def write(*arguments: Any) -> Any:
            raise error

        return write

    monkeypatch.setattr(local, "_write", fail(MemoryError()))
    with pytest.raises(ResourceError, match="not enough memory for a single reply"):
        local.generate([ask(SHORT), ask(LONG)], SAMPLED)
    monkeypatch.setattr(local, "_write", fail(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        local.generate([ask(SHORT)], SAMPLED)


def drawn(probabilities: list[float], noise: float, **sampling: float) -> int:
    import torch

    from character.models.local import _choose

    nearly_all = 0.999999  # with 1 the tokens are not sorted
    settings = {"temperature": 1.0, "top_k": 50, "top_p": nearly_all, **sampling}
    logits = torch.tensor([probabilities]).log()
    return int(_choose(logits, torch.tensor([noise]), Sampling.model_validate(settings)))


@pytest.mark.parametrize(
    ("noise", "token"), [(0.0, 1), (0.49, 1), (0.51, 3), (0.79, 3), (0.81, 0), (0.94, 0), (0.96, 2)]
)
def test_tokens_share_the_unit_interval_by_probability(noise: float, token: int) -> None:
    """Most likely first: token 1 has [0, .5), 3 has [.5, .8), 0 has [.8, .95), 2 has [.95, 1)."""
    assert drawn([0.15, 0.5, 0.05, 0.3], noise) == token


@pytest.mark.parametrize(("noise", "token"), [(0.61, 1), (0.63, 3), (0.999, 3)])
def test_top_k_keeps_the_k_likeliest(noise: float, token: int) -> None:
    """Of .5 and .3, rescaled: token 1 has [0, .625), token 3 the rest."""
    assert drawn([0.15, 0.5, 0.05, 0.3], noise, top_k=2) == token


@pytest.mark.parametrize(
    ("top_p", "noise", "token"),
    [
        (0.45, 0.999, 1),  # the first alone reaches .45
        (0.6, 0.61, 1),  # .5 does not reach .6, .8 does: as with top_k=2
        (0.6, 0.63, 3),
        (0.9, 0.83, 3),  # .95 reaches .9: thirds end at .526, .842 and 1
        (0.9, 0.85, 0),
        (0.9, 0.999, 0),
        (1e-9, 0.999, 1),  # the likeliest always stays
    ],
)
def test_top_p_keeps_the_fewest_that_reach_it(top_p: float, noise: float, token: int) -> None:
    assert drawn([0.15, 0.5, 0.05, 0.3], noise, top_p=top_p) == token


@pytest.mark.parametrize(("noise", "token"), [(0.68, 1), (0.70, 3), (0.92, 3), (0.95, 0)])
def test_temperature_one_half_squares_the_odds(noise: float, token: int) -> None:
    """.25, .09, .0225 and .0025 of .365: shares .685, .247, .062, .007."""
    assert drawn([0.15, 0.5, 0.05, 0.3], noise, temperature=0.5) == token


@pytest.mark.parametrize(
    ("noise", "token"), [(0.0, 0), (0.14, 0), (0.16, 1), (0.64, 1), (0.66, 2), (0.69, 2), (0.71, 3)]
)
def test_the_whole_vocabulary_is_drawn_from_unsorted(noise: float, token: int) -> None:
    """In the vocabulary's order: token 0 has [0, .15), 1 [.15, .65), 2 [.65, .7), 3 the rest."""
    assert drawn([0.15, 0.5, 0.05, 0.3], noise, top_p=1.0) == token


def test_temperature_zero_takes_the_likeliest() -> None:
    assert drawn([0.15, 0.5, 0.05, 0.3], 0.999, temperature=0) == 1


def test_no_draw_falls_outside_what_is_kept() -> None:
    """The largest float32 below 1 must not round up to a token that top-p cut off."""
    import torch

    most = float(torch.nextafter(torch.tensor(1.0), torch.tensor(0.0)))
    probabilities = torch.full((300,), 1 / 300).tolist()
    kept = {drawn(probabilities, n, top_k=300, top_p=0.1) for n in (0.0, 0.5, 0.9, most)}
    assert len(kept) > 2 and all(0 <= token < 300 for token in kept)
    assert drawn([0.6, 0.4, 1e-9], most, top_p=0.9) == 1


# --- devices ---


def test_a_gpu_gives_what_the_cpu_gives(local: LocalModel, tiny_folder: Path) -> None:
    import torch
    from transformers import LlamaForCausalLM

    from character.models.local import LocalModel

    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    model = LlamaForCausalLM.from_pretrained(tiny_folder).to("cuda")
    on_gpu = LocalModel(model, local.tokenizer, "tiny")
    items = [Scorable(c, reply) for c in conversations() for reply in REPLIES]
    here, there = local.score(items), on_gpu.score(items)
    assert [s.mean for s in there] == pytest.approx([s.mean for s in here], abs=1e-3)
    requests = [Request(c) for c in conversations()]
    assert on_gpu.generate(requests, GREEDY) == local.generate(requests, GREEDY)
