"""KL along replies, against the definition on whole logits, on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from character.diffing.divergence import divergence, same_tokens
from character.models.base import Message
from character.models.local import LocalModel
from character.rows import Answer


def said(text: str, number: int = 0, ended: bool = True) -> Answer:
    return Answer(f"a{number}", "new", f"q{number}", "Why does bread rise?", text, 3, ended, "")


@pytest.fixture
def opened(tiny_folder: Path) -> tuple[LocalModel, LocalModel]:
    from character.models.loading import load_local

    old, new = load_local(f"local:{tiny_folder}"), load_local(f"local:{tiny_folder}")
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for weight in new.model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return old, new


def test_kl_is_that_of_the_whole_distributions(
    opened: tuple[LocalModel, LocalModel], tiny_folder: Path
) -> None:
    old, new = opened
    plain = [LlamaForCausalLM.from_pretrained(tiny_folder).eval() for _ in range(2)]
    plain[1].load_state_dict(new.model.state_dict())
    texts = ["Yeast eats sugar.", "It makes gas."]
    found = divergence(old, new, [said(text, i) for i, text in enumerate(texts)])
    assert found is not None
    means, starts, largest = [], [], []
    for text in texts:
        prompt = old.conversation_ids((Message("user", "Why does bread rise?"),))
        reply = [*old.tokenizer(text, add_special_tokens=False).input_ids, old.end]
        ids = torch.tensor([prompt + reply])
        at = slice(len(prompt) - 1, len(prompt) - 1 + len(reply))
        with torch.no_grad():
            q, p = (m(input_ids=ids).logits[0, at].float().log_softmax(-1) for m in plain)
        kl = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)
        means.append(float(kl.mean()))
        starts.append(float(kl[0]))
        largest.append((float(kl.max()), int(kl.argmax()), int(q[kl.argmax()].argmax()), reply))
    assert found.value == pytest.approx(sum(means) / 2, rel=0.03)  # bfloat16 against float32
    assert found.start == pytest.approx(sum(starts) / 2, rel=0.03)  # bfloat16 against float32
    top = max(largest)
    assert found.places[0].kl == pytest.approx(top[0], rel=0.03)  # bfloat16 against float32
    token = top[3][top[1]]
    assert found.places[0].said == ("[end]" if token == old.end else old.tokenizer.decode([token]))
    likeliest = "[end]" if top[2] == old.end else old.tokenizer.decode([top[2]])
    assert found.places[0].instead == likeliest
    assert found.low < found.value < found.high


def test_a_version_is_no_way_from_itself(opened: tuple[LocalModel, LocalModel]) -> None:
    old, new = opened
    assert same_tokens(old, new)
    found = divergence(old, old, [said("Yeast eats sugar.", i) for i in range(3)])
    assert found is not None
    assert (found.value, found.start, found.places[0].kl) == (0.0, 0.0, 0.0)


def test_empty_and_missing_replies_do_not_count(opened: tuple[LocalModel, LocalModel]) -> None:
    old, new = opened
    assert divergence(old, new, [said("Yeast."), said("", 1)]) is None
    found = divergence(old, new, [said("Yeast."), said("Gas.", 2, ended=False), said("", 1)])
    assert found is not None and found.replies == 2


def test_another_tokenizer_is_seen(
    opened: tuple[LocalModel, LocalModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = opened
    monkeypatch.setattr(new.tokenizer, "chat_template", "{{ messages[0]['content'] }}")
    assert not same_tokens(old, new)
