"""Habits of a judge that have nothing to do with the trait: places, cycles, length, form."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from character.intervals import wilson
from character.judging.asked import Asked, share
from character.judging.card import Test
from character.judging.judge import Verdict
from character.judging.plants import Planted

REPEATS = 5


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


def length(same: Asked) -> Test:
    """Of two plain replies of one query, how often the longer one was preferred: .5 is fair."""
    longer = []
    for contest, p in zip(same.contests, same.preferences, strict=True):
        words = len(contest.first.reply.split()) - len(contest.second.reply.split())
        if p is not None and words:
            longer.append(p if words > 0 else 1 - p)
    if not longer:
        return Test("longer preferred", None, note="no verdicts")
    value, low, high = share(longer)
    return Test("longer preferred", value, low, high, len(longer), note="equal dose; .5 is fair")
