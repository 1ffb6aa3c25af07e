"""What each kind of judge costs: calls, tokens and seconds to rank one query's replies.

    python tests/benchmarks/judge_costs.py [--judges KIND ...] [--queries N] [--model NAME]
    python tests/benchmarks/judge_costs.py --rank

Replies are sampled from the model to the seed messages of `curious`, at most 64 tokens, and ranked
by a tournament as a build does: every pair of four, two fifths of more, and all pairs where that
costs nothing more. A call is one request to the model: a scored reply, a choice or an answer.
Tokens are all that it reads and says. `--rank` times what a build does most: 300 replies of 64
tokens under two contexts, bar 45 s on two cores. Run either with nothing beside it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from character.judging.config import KINDS, Kind
from character.judging.judge import Said
from character.judging.kinds import NEED_NO_MODEL, all_at_once, judge_of
from character.judging.likelihood import contrast
from character.judging.tournament import Tournament
from character.models.base import (
    ChatModel,
    Choice,
    Conversation,
    Generation,
    Message,
    OnDone,
    Request,
    Sampling,
    Scorable,
    Score,
)
from character.models.loading import load_local
from character.models.local import LocalModel
from character.models.names import BUNDLED_DEFAULT
from character.spec.loading import load_trait

COUNTS = (4, 8, 16)
SHARE = 0.4  # of all pairs, as a recipe has it
REPLIES, LENGTH, BAR = 300, 64, 45.0


class Counted:
    """The model, with every call and token counted."""

    def __init__(self, model: LocalModel) -> None:
        self.model, self.name = model, model.name
        self.can_score = self.can_choose = True
        self.can_continue, self.can_structure = model.can_continue, model.can_structure
        self.calls = self.tokens = 0

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, on_done: OnDone = lambda count: None
    ) -> list[Generation]:
        found = self.model.generate(requests, sampling, on_done)
        self._read([request.conversation for request in requests])
        self.tokens += sum(one.tokens for one in found)
        return found

    def score(self, items: Sequence[Scorable]) -> list[Score]:
        found = self.model.score(items)
        self._read([item.conversation for item in items])
        self.tokens += sum(one.tokens for one in found)
        return found

    def choose(
        self,
        conversations: Sequence[Conversation],
        options: Sequence[str],
        on_done: OnDone = lambda count: None,
    ) -> list[Choice]:
        self._read(conversations)
        return self.model.choose(conversations, options, on_done)

    def _read(self, conversations: Sequence[Conversation]) -> None:
        self.calls += len(conversations)
        self.tokens += sum(len(self.model.conversation_ids(turns)) for turns in conversations)


def main(kinds: Sequence[Kind], queries: int, name: str) -> None:
    model, trait = load_local(name), load_trait("curious")
    said = replies(model, trait.queries.seeds[:queries], max(COUNTS))
    print("| judge | replies | calls | tokens | seconds | without a verdict |")
    print("|---" * 6 + "|")
    for kind in kinds:
        for count in COUNTS:
            counted = Counted(model)
            judge = judge_of(kind, None if kind in NEED_NO_MODEL else counted, embedder(kind))
            tournament = Tournament(judge, SHARE, at_once=all_at_once([kind]))
            asked = [one for own in said.values() for one in own[:count]]
            started = time.monotonic()
            found = tournament.value(trait, asked)
            seconds = (time.monotonic() - started) / len(said)
            silent = sum(not isinstance(value, float) for value in found)
            print(
                f"| {kind} | {count} | {counted.calls / len(said):.0f} |"
                f" {counted.tokens / len(said):.0f} | {seconds:.2f} | {silent / len(found):.0%} |",
                flush=True,
            )


def rank(name: str) -> None:
    """300 replies, each of exactly 64 tokens, under the good and the bad examples."""
    model, trait = load_local(name), load_trait("curious")
    seeds = trait.queries.seeds
    sampling = Sampling(max_tokens=LENGTH)
    asked = [Request((Message("user", seeds[n % len(seeds)]),), seed=n) for n in range(2 * REPLIES)]
    drawn = zip(asked, model.generate(asked, sampling), strict=True)
    full = [
        Said(request.conversation[-1].content, one.text, ended=False)
        for request, one in drawn
        if one.tokens == LENGTH
    ][:REPLIES]
    started = time.monotonic()
    contrast(model, trait, full)
    seconds = time.monotonic() - started
    print(
        f"{len(full)} replies of {LENGTH} tokens under two contexts: {seconds:.1f} s, bar {BAR:.0f}"
    )


def replies(model: ChatModel, queries: Sequence[str], count: int) -> dict[str, list[Said]]:
    asked = [(q, Request((Message("user", q),), seed=n)) for q in queries for n in range(count)]
    drawn = model.generate([request for _, request in asked], Sampling(max_tokens=LENGTH))
    found: dict[str, list[Said]] = {query: [] for query in queries}
    for (query, _), one in zip(asked, drawn, strict=True):
        found[query].append(Said(query, one.text, one.finish == "stop"))
    return found


def embedder(kind: Kind) -> Any:
    if kind != "embedding":
        return None
    from character.models.embedder import embedder as opened

    return opened()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judges", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--queries", type=int, default=4)
    parser.add_argument("--model", default=BUNDLED_DEFAULT)
    parser.add_argument("--rank", action="store_true")
    given = parser.parse_args()
    if given.rank:
        rank(given.model)
    else:
        main(given.judges, given.queries, given.model)
