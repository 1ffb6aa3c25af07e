"""Habits of a judge that have nothing to do with the trait: places, cycles, length, form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np

from character.intervals import wilson
from character.judging.asked import Asked, share
from character.judging.card import Test
from character.judging.judge import Verdict
from character.judging.plants import Planted

REPEATS = 5


@dataclass(frozen=True, slots=True)
class Writer:
    """Whose of two replies at equal dose are by the judge's own model; None, and why not."""

    own: Literal["planter", "other"] | None = None
    why: str = "no second writer: --also MODEL"


ALONE = Writer()


def place(asked: Sequence[Asked]) -> Test:
    """What being read first was worth, as a share of the probability."""
    slots = [v.slot for a in asked for v in a.outcomes if isinstance(v, Verdict)]
    bar = "within 0.05"
    if not slots:
        return Test("place", None, bar=bar, note="no verdicts")
    value = fmean(slots)
    error = float(np.std(slots) / len(slots) ** 0.5)
    return Test(
        "place", value, value - 1.96 * error, value + 1.96 * error, len(slots), bar=bar,
        passed=abs(value) <= 0.05, required=True,
    )  # fmt: skip


def flips(asked: Sequence[Asked]) -> Test:
    """Share of contests whose two orders named different winners."""
    turned = [v.flipped for a in asked for v in a.outcomes if isinstance(v, Verdict)]
    bar = "<= 0.15"
    if not turned:
        return Test("flips", None, bar=bar, note="no verdicts")
    low, high = wilson(sum(turned), len(turned))
    value = fmean(turned)
    return Test(
        "flips", value, low, high, len(turned), bar=bar, passed=value <= 0.15,
        required=True,
    )  # fmt: skip


def repeats(rounds: Sequence[Sequence[float | None]]) -> Test:
    """The widest span of preferences over the same contest asked again."""
    spans = [
        max(known) - min(known)
        for each in zip(*rounds, strict=True)
        if len(known := [p for p in each if p is not None]) > 1
    ]
    if not spans:
        return Test("asked again", None, note="no verdicts")
    return Test(
        "asked again",
        max(spans),
        count=len(spans),
        note=f"widest span of {REPEATS}, with the same seeds",
    )


def cycles(planted: Sequence[Planted], strong: Asked, low: Asked, rest: Asked) -> Test:
    """Share of triads (full, plain, opposite) in which a beats b, b beats c and c beats a."""
    found: dict[tuple[str, str], float] = {}
    for asked in (strong, low, rest):
        for contest, p in zip(asked.contests, asked.preferences, strict=True):
            if p is not None:
                found[contest.first.reply, contest.second.reply] = p
    circular = []
    for each in planted:
        replies = [each.replies.get((dose, 0)) for dose in ("full", "plain", "opposite")]
        texts = [said.reply for said in replies if said]
        edges = [(a, b) for k, a in enumerate(texts) for b in texts[k + 1 :]]
        if len(texts) == 3 and all(edge in found for edge in edges):
            ab, ac, bc = (found[edge] for edge in edges)
            circular.append(
                (ab > 0.5 and bc > 0.5 and ac < 0.5) or (ab < 0.5 and bc < 0.5 and ac > 0.5)
            )
    if not circular:
        return Test("cycles", None, bar="<= 0.05", note="no complete triad")
    low_end, high = wilson(sum(circular), len(circular))
    value = fmean(circular)
    return Test(
        "cycles", value, low_end, high, len(circular), bar="<= 0.05",
        passed=value <= 0.05,
    )  # fmt: skip


def nuisance(before: Sequence[float | None], after: Sequence[float | None]) -> Test:
    """How far a preference moves when nothing changes but line breaks, emphasis or padding."""
    each = len(after) // len(before) if before else 0
    moved = [
        abs(now - was)
        for k, was in enumerate(before)
        for now in after[k * each : (k + 1) * each]
        if was is not None and now is not None
    ]
    if not moved:
        return Test("disguise", None, bar="<= 0.10", note="no verdicts")
    value = fmean(moved)
    return Test("disguise", value, count=len(moved), bar="<= 0.10", passed=value <= 0.1)


def null(same: Asked) -> Test:
    """Mean preference between two plain replies, less a half: there is nothing to find."""
    known = same.known
    if len(known) < 2:
        return Test("nothing to find", None, bar="interval holds 0", note="no verdicts")
    value = fmean(known) - 0.5
    error = float(np.std(known, ddof=1) / len(known) ** 0.5)
    low, high = value - 1.96 * error, value + 1.96 * error
    return Test(
        "nothing to find", value, low, high, len(known), bar="interval holds 0",
        passed=low <= 0 <= high,
    )  # fmt: skip


def apart(asked: Asked) -> Test:
    """How far a panel's members were apart: 0 where they agree, .5 where they are opposite."""
    spreads = [v.spread for v in asked.outcomes if isinstance(v, Verdict)]
    if not spreads:
        return Test("members apart", None, note="no verdicts")
    note = f"pairs of low dose; at most {max(spreads):.2f}"
    return Test("members apart", fmean(spreads), count=len(spreads), note=note)


def length(*asked: Asked) -> Test:
    """Of two replies of one query and dose, how often the longer one was preferred: .5 is fair."""
    longer = []
    for each in asked:
        for contest, p in zip(each.contests, each.preferences, strict=True):
            words = len(contest.first.reply.split()) - len(contest.second.reply.split())
            if p is not None and words:
                longer.append(p if words > 0 else 1 - p)
    return _preferred("longer preferred", longer, "equal dose; .5 is fair")


def verbosity(asked: Asked) -> Test:
    """How often a reply that says the same in more words was preferred to itself."""
    return _preferred("padding preferred", asked.known, "the same reply; .5 is fair")


def form(asked: Asked) -> Test:
    """How often sentences as a list, with bold words, were preferred to the same in prose."""
    return _preferred("lists preferred", asked.known, "the same words; .5 is fair")


def _preferred(name: str, known: Sequence[float], note: str) -> Test:
    if not known:
        return Test(name, None, note="no verdicts")
    value, low, high = share(known)
    return Test(name, value, low, high, len(known), note=note)


def self_preference(asked: Asked, writer: Writer) -> Test:
    """Mean preference for the judge's own model over another at equal dose, less a half.

    The first reply of each contest is the planter's. Its own model may also be the better one: that
    is in this number too, so a miss is a reason to look and not a proof.
    """
    name, bar = "self-preference", "within 0.05"
    known = asked.known if writer.own == "planter" else [1 - p for p in asked.known]
    if writer.own is None:
        return Test(name, None, bar=bar, note=f"not measured: {writer.why}")
    if len(known) < 2:
        return Test(name, None, bar=bar, note="not measured: no verdicts")
    value = fmean(known) - 0.5
    error = float(np.std(known, ddof=1) / len(known) ** 0.5)
    return Test(
        name, value, value - 1.96 * error, value + 1.96 * error, len(known),
        len(asked.contests) - len(known), bar, passed=abs(value) <= 0.05, note="equal dose",
    )  # fmt: skip
