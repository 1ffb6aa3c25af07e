"""Value replies by comparing those to one query with each other.

What a judge of pairs says has no zero, so the query's plain replies are it: a reply's worth is its
log-strength less their mean (where a query has none, the mean of all its replies). That makes
replies to different queries, and replies that are judged later beside the same plain ones,
comparable.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from character.judging.judge import Contest, Judge, NoVerdict, Said, Verdict
from character.judging.strengths import Search, compared
from character.spec.schema import Trait

FEW = 4  # replies of which every pair is compared


@dataclass(frozen=True, slots=True)
class Tournament:
    """`plain` and `beside` are replies by query text; both take part, and are not valued here.

    `share` of all pairs is asked for, where there are more than four replies; with `at_once` all
    are, in one go, for a judge that reads a whole list in one call.
    """

    judge: Judge
    share: float
    plain: Mapping[str, Sequence[Said]] = field(default_factory=dict)
    beside: Mapping[str, Sequence[Said]] = field(default_factory=dict)
    at_once: bool = False
    _apart: dict[tuple[str, Said], float] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def name(self) -> str:
        return self.judge.name

    def value(self, trait: Trait, said: Sequence[Said]) -> list[float | NoVerdict]:
        """Log-strength above the plain replies'; all queries are asked for side by side."""
        groups: dict[str, list[Said]] = defaultdict(list)
        for one in said:
            groups[one.query].append(one)
        for query, group in groups.items():
            everyone = (*group, *self.plain.get(query, ()), *self.beside.get(query, ()))
            groups[query] = list(dict.fromkeys(everyone))
        searches = {
            query: Search(len(group), budget(len(group), self.share))
            for query, group in groups.items()
        }
        if self.at_once:
            for search in searches.values():
                search.want_all()
        while asked := {q: pairs for q, search in searches.items() if (pairs := search.wanted())}:
            contests = [
                Contest(groups[query][i], groups[query][j])
                for query, pairs in asked.items()
                for i, j in pairs
            ]
            outcomes = self.judge.compare(trait, contests)
            for query, pairs in asked.items():
                searches[query].tell(outcomes[: len(pairs)])
                outcomes = outcomes[len(pairs) :]
        for query, search in searches.items():
            for number, one in enumerate(groups[query]):
                own = [
                    found.spread
                    for i, j, found in search.log
                    if number in (i, j) and isinstance(found, Verdict)
                ]
                if own:
                    self._apart[trait.id, one] = fmean(own)
        return [self._worth(one, groups[one.query], searches[one.query]) for one in said]

    def apart(self, trait: Trait, one: Said) -> float | None:
        """How far the judge's members were apart about a reply that was valued, on average over
        its comparisons; None where it had none."""
        return self._apart.get((trait.id, one))

    def _worth(self, one: Said, group: Sequence[Said], search: Search) -> float | NoVerdict:
        number = group.index(one)
        known = {k for i, j, found in search.log if compared(i, j, found) for k in (i, j)}
        if number not in known:
            own = [found for i, j, found in search.log if number in (i, j)]
            reasons = Counter(found.why for found in own if isinstance(found, NoVerdict))
            return NoVerdict(reasons.most_common(1)[0][0] if reasons else "nothing to compare with")
        values, plain = search.strengths.values, self.plain.get(one.query, ())
        zero = [values[k] for other in plain if (k := group.index(other)) in known]
        if plain and not zero:
            return NoVerdict("no plain reply could be compared, so there is no zero")
        return float(values[number] - (fmean(zero) if zero else 0.0))


def budget(count: int, share: float) -> int:
    """Comparisons for so many replies: all pairs of a few, and enough to link them all."""
    pairs = count * (count - 1) // 2
    return pairs if count <= FEW else max(count - 1, math.ceil(share * pairs))
