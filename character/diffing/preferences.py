"""Values from an examiner that compares two replies, where it cannot value one alone.

Each of two replies gets the share of their comparison that it wins, so that NEW's less OLD's is the
net preference, -1 to 1, and the other way round exactly the negative.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from character.diffing.measure import measurement
from character.diffing.outcome import contrast_metric
from character.rows import Answer, Measurement

NO_PLACE = "no_place/"  # 1 where the examiner says that the trait has no place in an answer


@dataclass(frozen=True, slots=True)
class Preference:
    """How probable it is that the first of two answers shows more of a trait, ties half.

    Both are None where the examiner gave no verdict; where the trait has no place neither wins.
    """

    first: float | None
    no_place: bool | None


Compare = Callable[[Sequence[tuple[Answer, Answer]]], Sequence[Preference]]


def win_shares(
    trait: str, answers: Sequence[Answer], sides: Mapping[str, str], compare: Compare
) -> list[Measurement]:
    """Both answers' shares, for every query and sample that two opposing subjects answered.

    `sides` has each first subject's opponent.
    """
    by: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for answer in answers:
        by[answer.subject, answer.query_id].append(answer)
    pairs = [
        pair
        for (subject, query), own in by.items()
        if subject in sides
        for pair in zip(own, by.get((sides[subject], query), []), strict=False)
    ]
    rows = []
    for (one, other), found in zip(pairs, compare(pairs), strict=True):
        share = found.first
        rows.append(measurement(one, contrast_metric(trait), share))
        rows.append(
            measurement(other, contrast_metric(trait), None if share is None else 1 - share)
        )
        if found.no_place is not None:
            rows.append(measurement(one, NO_PLACE + trait, float(found.no_place)))
    return rows
