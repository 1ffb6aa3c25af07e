"""Ask a model to put all replies to a query in order, in one call, and again with others first.

A judge favours a place in the list, and what it reads first, so the list is turned: over N calls
every reply stands once in every place, and before each other one in half of the calls, or as near
as an odd N allows (Williams 1949). That one reply shows more than another is as probable as the
share of the calls that put it before the other: of those that listed it first and of those that
listed it second, averaged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from pydantic import BaseModel, ConfigDict, Field

from character import prompts
from character.judging.judge import (
    Contest,
    NoVerdict,
    Outcome,
    Verdict,
    in_both_orders,
    unreadable,
)
from character.models.base import ChatModel, Conversation, Message, Request, Sampling
from character.models.structured import Formed, ask_formed
from character.quoting import fence, quoted
from character.rows import content_id
from character.spec.schema import Trait

(TEMPLATE,) = TEMPLATES = ("judge_order",)
MOST = 16  # replies in one list; longer lists are judged in pairs
LEAST = 0.5  # share of the turned lists that must come back in order

Order = list[int]  # numbers of the replies, the one that shows most first


class Ordered(BaseModel):
    model_config = ConfigDict(extra="forbid")

    order: list[int] = Field(description="Every number once, best first.")


@dataclass(frozen=True, slots=True)
class ListwiseJudge:
    """Contests over the same query are judged in one list of all their replies."""

    model: ChatModel

    @property
    def name(self) -> str:
        return f"listwise by {self.model.name}"

    def compare(self, trait: Trait, contests: Sequence[Contest]) -> list[Outcome]:
        lists: dict[str, list[str]] = defaultdict(list)
        for contest in contests:
            for said in (contest.first, contest.second):
                known = lists[said.query]
                if said.reply not in known and not unreadable(said.reply):
                    known.append(said.reply)
        found = {
            query: orders
            for query, orders in zip(lists, self._orders(trait, lists), strict=True)
            if orders is not None
        }
        return [_outcome(contest, lists, found) for contest in contests]

    def _orders(
        self, trait: Trait, lists: dict[str, list[str]]
    ) -> list[list[Order | NoVerdict] | None]:
        """For each list what every turn of it came back as; None when it is too long to ask."""
        asked: list[tuple[Conversation, int, int]] = []  # conversation, turn, length
        for query, replies in lists.items():
            if 1 < len(replies) <= MOST:
                asked += [
                    (_question(trait, query, _turned(replies, turn)), turn, len(replies))
                    for turn in range(len(replies))
                ]
        sampling = Sampling(max_tokens=16 + 6 * MOST, temperature=0)
        requests = [
            Request(turns, seed=int(content_id("order", turns)[:7], 16)) for turns, *_ in asked
        ]
        answers = iter(ask_formed(self.model, requests, sampling, Ordered))
        turns = iter(asked)
        return [
            [_read(next(answers), *next(turns)[1:]) for _ in replies]
            if 1 < len(replies) <= MOST
            else None
            for replies in lists.values()
        ]


def _turned(replies: Sequence[str], turn: int) -> list[str]:
    return [replies[number] for number in _numbers(turn, len(replies))]


def _numbers(turn: int, length: int) -> Order:
    """Who stands where: 0, N-1, 1, N-2, ... moved on by `turn`. A plain rotation of the list would
    leave neighbours in the order they came in, in all calls but one."""
    zigzag = [length - 1 - i // 2 if i % 2 else i // 2 for i in range(length)]
    return [(number + turn) % length for number in zigzag]


def _read(answer: Formed[Ordered], turn: int, length: int) -> Order | NoVerdict:
    """The order in the numbers of the list before it was turned, from 0."""
    if answer.value is None:
        assert answer.failure
        return NoVerdict(answer.failure.reason, answer.failure.raw)
    if sorted(answer.value.order) != list(range(1, length + 1)):
        return NoVerdict("not every number once", str(answer.value.order))
    numbers = _numbers(turn, length)
    return [numbers[number - 1] for number in answer.value.order]


def _outcome(
    contest: Contest,
    lists: dict[str, list[str]],
    orders: dict[str, list[Order | NoVerdict]],
) -> Outcome:
    query, first, second = contest.first.query, contest.first.reply, contest.second.reply
    if why := unreadable(first) or unreadable(second):
        return NoVerdict(why)
    if first == second:
        return Verdict(0.0, 0.0, tie=1.0)
    if query not in orders:
        return NoVerdict(f"{len(lists[query])} replies; a list holds at most {MOST}")
    failures = [order for order in orders[query] if isinstance(order, NoVerdict)]
    if len(failures) > (1 - LEAST) * len(orders[query]):
        return failures[0]
    a, b = lists[query].index(first), lists[query].index(second)
    ahead: dict[bool, list[bool]] = {True: [], False: []}  # by whether the first was listed first
    for turn, order in enumerate(orders[query]):
        if not isinstance(order, NoVerdict):
            numbers = _numbers(turn, len(order))
            ahead[numbers.index(a) < numbers.index(b)].append(order.index(a) < order.index(b))
    if not ahead[True] or not ahead[False]:
        return failures[0]
    there, back = fmean(ahead[True]), fmean(ahead[False])
    return in_both_orders(Verdict(there, 1 - there), Verdict(1 - back, back))


def _question(trait: Trait, query: str, replies: Sequence[str]) -> Conversation:
    told = prompts.render(
        TEMPLATE,
        statement=trait.statement,
        opposite=trait.opposite,
        clauses=[clause.text for clause in trait.clauses],
        fence=fence(query, *sorted(replies)),
        query=quoted(query),
        replies=[quoted(reply) for reply in replies],
    )
    return (Message("user", told),)
