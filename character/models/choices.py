"""Choosing among a few short answers: which options are fair, and what a model thinks of each.

An option is said when the model's next words begin with it. Options of which none begins another
exclude each other, so their probabilities add up to a share of all that might have been said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from character.models.base import Choice, Generation, TokenLogprobs

UNCLEAR = 0.01  # share of the options' mass that may lie on tokens which begin several of them
VERDICTS = ("refusal", "content filter")  # of the provider, which says no word of its own then
NONE_LIKELY = (
    "none of the options is among the likeliest first tokens: {likeliest}. The conversation must"
    " ask for one of them, alone and first; a model that thinks before it answers cannot be asked."
)


def check_options(options: Sequence[str]) -> None:
    """Raise ValueError unless at least two options are given and none begins another."""
    if len(options) < 2:
        raise ValueError(f"{list(options)} are no options to choose from: give two or more.")
    for option in options:
        if not option or option != option.strip():
            raise ValueError(f"the option {option!r} is empty or has white space around it.")
    ordered = sorted(options)  # whatever begins another comes right before one that it begins
    for one, other in pairwise(ordered):
        if other.startswith(one):
            raise ValueError(
                f"the option {one!r} begins the option {other!r}, so that saying the second says"
                " the first. Name them otherwise, for example 'A' and 'B'."
            )


def choice_of(logprobs: Mapping[str, float]) -> Choice:
    """p(option) / sum of p over the options, from the log-probability of each; -inf is never."""
    highest = max(logprobs.values())
    if highest == -math.inf:
        return failed_choice("none of the options can be said")
    weights = {option: math.exp(logprob - highest) for option, logprob in logprobs.items()}
    total = sum(weights.values())
    mass = min(1.0, math.exp(highest) * total)  # rounding may lift it a little above
    return Choice({option: weight / total for option, weight in weights.items()}, mass)


def failed_choice(why: str) -> Choice:
    return Choice({}, 0.0, why)


def choice_in(generation: Generation, options: Sequence[str]) -> Choice:
    """What an answer says of the options that was asked for its likeliest first tokens."""
    if generation.failure or generation.finish in VERDICTS:
        return failed_choice(generation.failure or generation.finish)
    if generation.logprobs is not None:
        return choice_from(generation.logprobs, options)
    if generation.text:
        said = generation.text.partition("\n")[0]
        return failed_choice(f"the server gives no log-probabilities; it said {said!r}")
    cut = generation.finish == "length"
    return failed_choice("cut off before the first word" if cut else "said nothing")


def choice_from(tokens: TokenLogprobs, options: Sequence[str]) -> Choice:
    """What the likeliest first tokens of an answer say of the options.

    A token counts for the option that it is, white space aside, or the only one that it begins: of
    an option of several tokens that is an upper bound. What is not listed counts as never said.
    """
    found = dict.fromkeys(options, 0.0)
    unclear: dict[str, float] = {}
    for token, logprob in tokens:
        word = token.strip()
        begun = [option for option in options if option.startswith(word)] if word else []
        if word in found:
            begun = [word]
        if len(begun) == 1:
            found[begun[0]] += math.exp(logprob)
        elif begun:
            unclear[word] = unclear.get(word, 0.0) + math.exp(logprob)
    if sum(unclear.values()) > UNCLEAR * sum(found.values()):
        word = max(unclear, key=unclear.__getitem__)
        both = [option for option in options if option.startswith(word)]
        return failed_choice(f"the first token {word!r} begins several options: {_quoted(both)}")
    if not any(found.values()):
        likeliest = [token for token, _ in sorted(tokens, key=lambda pair: -pair[1])[:3]]
        return failed_choice(NONE_LIKELY.format(likeliest=_quoted(likeliest)))
    return choice_of({option: math.log(p) if p else -math.inf for option, p in found.items()})


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(map(repr, words))
