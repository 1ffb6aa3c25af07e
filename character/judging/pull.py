"""How strongly traits pull on each other: what replies planted in one show of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from character.judging.judge import NoVerdict, Said, Valuer
from character.judging.nearness import t_interval
from character.judging.plants import Planted
from character.spec.schema import Trait


@dataclass(frozen=True, slots=True)
class Pull:
    """Replies planted in one trait, over plain ones to the same queries, valued by another.

    In the judge's unit (nats a token for likelihood), with Student's 95 % interval over queries.
    `value` None: no query had both values, or just one had.
    """

    planted: str
    judged: str
    value: float | None
    low: float | None
    high: float | None
    count: int
    missing: int

    def apart(self, margin: float) -> bool:
        """Whether it certainly goes down, and by as much as counts."""
        return (
            self.value is not None
            and self.high is not None
            and self.high < 0
            and self.value <= -margin
        )


def pull(valuer: Valuer, judged: Trait, planted: str, replies: Sequence[Planted]) -> Pull:
    """What planting the trait `planted` did to these replies in the eyes of `judged`."""
    both = [
        (each.replies[("full", 0)], each.replies[("plain", 0)])
        for each in replies
        if ("full", 0) in each.replies and ("plain", 0) in each.replies
    ]
    said = list(dict.fromkeys(one for pair in both for one in pair))
    worth: Mapping[Said, float | NoVerdict] = dict(
        zip(said, valuer.value(judged, said), strict=True)
    )
    gaps = [
        full - plain
        for first, second in both
        if not isinstance(full := worth[first], NoVerdict)
        and not isinstance(plain := worth[second], NoVerdict)
    ]
    missing = len(replies) - len(gaps)
    interval = t_interval(gaps)
    if interval is None:
        return Pull(planted, judged.id, None, None, None, len(gaps), missing)
    return Pull(planted, judged.id, fmean(gaps), *interval, len(gaps), missing)
