"""Everything a diff found, from the measurements of two versions on one suite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from scipy import stats

from character.diffing.columns import Columns, Wanted, mean
from character.diffing.config import DiffConfig
from character.diffing.contributions import contributions
from character.diffing.counting import LAYOUT, LENGTH, RIGHT
from character.diffing.inference import (
    ALPHA,
    Adjusted,
    Floats,
    Movement,
    Ratio,
    at_equal_style,
    discoveries,
    flips,
    movements,
    ratio,
    t_test,
)
from character.diffing.outcome import contrast_metric
from character.diffing.preferences import NO_PLACE
from character.diffing.results import ClauseEffect, Difference, Kept, Planted, Result
from character.diffing.subjects import NEW, OLD, bad, good
from character.diffing.suite import MEASURED_TURNS, Item, Suite
from character.diffing.verdicts import FEWEST, Evidence, Gate, Verdict, verdict_of
from character.diffing.wanted import Measures, turns_of
from character.intervals import wilson
from character.rows import Measurement
from character.spec.schema import Trait

EVERY_BREAK = "break character, all"


def difference_of(
    suite: Suite,
    traits: Sequence[Trait],
    panel: Sequence[Trait],
    measurements: Sequence[Measurement],
    gate: Gate,
    config: DiffConfig,
    identical: Iterable[str] = (),
    without: Mapping[str, str] = MappingProxyType({}),
) -> Difference:
    """NEW minus OLD on everything that was measured, each with its verdict.

    `identical` are the ids of turns that both answered in the same words; `without` has for a
    trait the subject that was built without it.
    """
    this = _Pair(suite, measurements, gate, config, identical)
    measures, columns = Measures(suite, config), this.columns
    own = measures.traits(traits)
    guarded = measures.guarded(traits)
    style = measures.style(lambda metric, ids: columns.spread((OLD, NEW), metric, ids))
    off_target = measures.panel(panel)
    intended = this.traits(traits, own)
    results = [
        *intended,
        *this.guarded(guarded),
        *this.discovered(style),
        *this.discovered(off_target),
    ]
    kept = [
        kept
        for trait, result in zip(traits, intended, strict=True)
        for kept in this.kept(trait, result.verdict == "INTENDED")
    ]
    asked = [*own, *guarded, *style, *off_target]
    caused = contributions(columns, asked, results, without, config)
    return Difference(tuple(results), tuple(kept), _specificity(intended, results), caused)


class _Pair:
    def __init__(
        self,
        suite: Suite,
        measurements: Sequence[Measurement],
        gate: Gate,
        config: DiffConfig,
        identical: Iterable[str],
    ) -> None:
        self._suite, self._gate, self._config = suite, gate, config
        self._identical = frozenset(identical)
        self.columns = Columns(measurements)

    # --- families of results ---

    def traits(self, traits: Sequence[Trait], wanted: Sequence[Wanted]) -> list[Result]:
        """The declared traits: one family, whose intervals hold together."""
        columns = [self._change(one) for one in wanted]
        return [
            self._trait(*found)
            for found in zip(traits, wanted, columns, self._family(columns), strict=True)
        ]

    def guarded(self, wanted: Sequence[Wanted]) -> list[Result]:
        """One family, too."""
        columns = [self._change(one) for one in wanted]
        found = [
            self._judge(one, column, movement)
            for one, column, movement in zip(wanted, columns, self._family(columns), strict=True)
        ]
        return [self._with_flips(one, result) for one, result in zip(wanted, found, strict=True)]

    def discovered(self, wanted: Sequence[Wanted]) -> list[Result]:
        """A family under false discovery: a member whose adjusted p is at most 5 % has moved,
        though nobody asked for it.

        What a gate names in a tier that decides, or gives a direction, is asked for: there it has
        regressed.
        """
        columns = [self._change(one) for one in wanted]
        found = []
        for one, column, q in zip(
            wanted, columns, discoveries([t_test(column) for column in columns]), strict=True
        ):
            (movement,) = movements(column[:, None], self._config.permutations, self._config.seed)
            result = replace(self._judge(one, column, movement), q=q)
            if result.verdict == "REGRESSED" and q > ALPHA:
                why = "not after correction for the family"
                result = replace(result, verdict="INCONCLUSIVE", why=why)
            elif result.verdict == "REGRESSED" and not self._gate.asks(one.name):
                result = replace(result, verdict="MOVED", why="nobody asked for it")
            found.append(result)
        return found

    def kept(self, trait: Trait, moved: bool) -> Iterable[Kept]:
        """Every condition under which the trait was asked for again."""
        conditions: dict[str, list[Item]] = {}
        for item in self._suite.of("break_character", "watched"):
            if item.trait != trait.id:
                continue
            if item.stratum == "watched":
                conditions.setdefault(item.variant.rpartition("/")[2], []).append(item)
            else:
                conditions.setdefault(item.variant, []).append(item)
                conditions.setdefault(EVERY_BREAK, []).append(item)
        metric = contrast_metric(trait.id)
        columns: dict[str, tuple[Floats, Floats]] = {}
        for condition, items in conditions.items():
            top = self._delta(metric, [item.id for item in items])
            bottom = self._delta(metric, [item.of for item in items])
            columns[condition] = _by_query(items, top), _by_query(items, bottom)
        scripts = self._suite.of("multi_turn")
        first = self._delta(metric, [turns_of(item)[0] for item in scripts])
        for turn in MEASURED_TURNS[1:]:
            if scripts:
                deep = self._delta(metric, [turns_of(item)[turn - 1] for item in scripts])
                columns[f"turn {turn} of a talk"] = deep, first
        large = sum(_complete(*pair) >= FEWEST for pair in columns.values())
        for condition, (top, bottom) in columns.items():
            yield self._kept(trait, condition, top, bottom, moved, max(1, large))

    # --- one result ---

    def _trait(
        self, trait: Trait, wanted: Wanted, column: Floats, movement: Movement | None
    ) -> Result:
        metric, ids = wanted.metric, wanted.ids
        planted_good = self.columns.of(good(trait.id), metric, ids)
        planted_bad = self.columns.of(bad(trait.id), metric, ids)
        planted = _planted(planted_good, planted_bad)
        adjusted = None
        if trait.controls.length == "hold":
            layout = {metric: self._delta(metric, ids) for metric in LAYOUT}
            adjusted = at_equal_style(column, self._delta(LENGTH, ids), layout)
        result = self._judge(
            wanted, column, movement, adjusted, self._unmeasurable(planted),
            trait.controls.length == "hold",
        )  # fmt: skip
        dose = ratio(column, planted_good - planted_bad, self._config.resamples, self._config.seed)
        clauses = tuple(self._clauses(trait, column))
        no_place = mean(self.columns.of(NEW, NO_PLACE + trait.id, ids))
        return replace(
            result, dose=dose, planted=planted, clauses=clauses,
            no_place=no_place if np.isfinite(no_place) else None,
        )  # fmt: skip

    def _unmeasurable(self, planted: Planted | None) -> str:
        if planted is None:
            return "no planted replies to try the examiner on"
        if planted.low >= self._config.planted:
            return ""
        return (
            f"the examiner tells planted replies apart in {planted.right} of {planted.queries} "
            f"cases [{planted.low:.2f}, {planted.high:.2f}]; at least {self._config.planted:g} is "
            "asked for"
        )

    def _judge(
        self,
        wanted: Wanted,
        column: Floats,
        movement: Movement | None,
        adjusted: Adjusted | None = None,
        unmeasurable: str = "",
        controlled: bool = False,
    ) -> Result:
        """The result with its verdict; what was asked and never measured is INCONCLUSIVE."""
        ids, metric = wanted.ids, wanted.metric
        expect = self._gate.expected(wanted.name, wanted.expect)
        margin = self._gate.margin_of(wanted.name, wanted.margin)
        old, new = (self.columns.missing(side, wanted) for side in (OLD, NEW))
        old_level, new_level = (self.columns.level(side, metric, ids) for side in (OLD, NEW))
        evidence = Evidence(
            column, movement, adjusted, old, new, unmeasurable, controlled,
            identical=self._identical.issuperset(ids),
        )  # fmt: skip
        verdict, why = verdict_of(evidence, expect, margin, self._config.missing)
        return Result(
            wanted.name, wanted.group, wanted.title, wanted.unit, expect, margin,
            old_level, new_level, movement, verdict, why, adjusted, missing=(old, new),
        )  # fmt: skip

    def _kept(
        self,
        trait: Trait,
        condition: str,
        top: Floats,
        bottom: Floats,
        moved: bool,
        family: int,
    ) -> Kept:
        """The share kept, with an interval that holds for so many conditions at once."""
        name = f"robustness/{trait.id}/{condition}"
        config, complete = self._config, _complete(top, bottom)

        def kept(share: Ratio | None, verdict: Verdict, why: str) -> Kept:
            return Kept(name, trait.id, condition, share, verdict, why)

        if not moved:
            return kept(None, "UNMEASURABLE", "the trait did not move")
        found = ratio(top, bottom, config.resamples, config.seed, ALPHA / family)
        if complete < FEWEST:
            return kept(found, "INCONCLUSIVE", f"{complete} queries are fewer than {FEWEST}")
        if complete < (1 - config.missing) * len(top):
            return kept(found, "INCONCLUSIVE", f"{len(top) - complete} queries are missing")
        if found is None:
            return kept(None, "INCONCLUSIVE", "the plain queries' own movement is not certain")
        if found.low >= config.kept:
            return kept(found, "HELD", f"at least {config.kept:.0%} kept")
        if found.high < config.kept:
            return kept(found, "REGRESSED", f"less than {config.kept:.0%} kept")
        return kept(found, "INCONCLUSIVE", f"the interval holds {config.kept:.0%}")

    def _clauses(self, trait: Trait, column: Floats) -> Iterable[ClauseEffect]:
        own = [item.clause for item in self._suite.of("on_trait") if item.trait == trait.id]
        for clause in trait.clauses:
            values = column[np.array([found == clause.id for found in own], dtype=bool)]
            values = values[np.isfinite(values)]
            if len(values) >= 2:
                half = stats.t.ppf(1 - ALPHA / 2, len(values) - 1) * stats.sem(values)
                mean = float(values.mean())
                yield ClauseEffect(clause.id, mean, mean - half, mean + half, len(values))

    def _with_flips(self, wanted: Wanted, result: Result) -> Result:
        if result.name != "quality/capability" or self._config.samples > 1:
            return result
        ids = wanted.ids
        old, new = (self.columns.of(subject, RIGHT, ids) for subject in (OLD, NEW))
        both = np.isfinite(old) & np.isfinite(new)
        return replace(result, flips=flips(list(old[both] == 1), list(new[both] == 1)))

    def _family(self, columns: Sequence[Floats]) -> list[Movement | None]:
        """Movements whose intervals hold together."""
        return movements(_side_by_side(columns), self._config.permutations, self._config.seed)

    # --- columns ---

    def _delta(self, metric: str, ids: Sequence[str]) -> Floats:
        return self.columns.of(NEW, metric, ids) - self.columns.of(OLD, metric, ids)

    def _change(self, wanted: Wanted) -> Floats:
        return self.columns.change(NEW, OLD, wanted)


def _complete(top: Floats, bottom: Floats) -> int:
    return int((np.isfinite(top) & np.isfinite(bottom)).sum())


def _side_by_side(columns: Sequence[Floats]) -> Floats:
    """Columns over different queries as one matrix, NaN off each column's own rows."""
    total = sum(map(len, columns))
    matrix = np.full((total, len(columns)), np.nan)
    start = 0
    for at, column in enumerate(columns):
        matrix[start : start + len(column), at] = column
        start += len(column)
    return matrix


def _by_query(items: Sequence[Item], values: Floats) -> Floats:
    """Means over the variants of each plain query: the query is the unit."""
    of: dict[str, list[float]] = {}
    for item, value in zip(items, values, strict=True):
        of.setdefault(item.of, []).append(value)
    return np.array([mean(np.array(found)) for found in of.values()])


def _planted(good_values: Floats, bad_values: Floats) -> Planted | None:
    gap = good_values - bad_values
    gap = gap[np.isfinite(gap)]
    if len(gap) < 2:
        return None
    right = int((gap > 0).sum())
    return Planted(right, len(gap), *wilson(right, len(gap)))


def _specificity(intended: Sequence[Result], results: Sequence[Result]) -> dict[str, float]:
    off = [r.movement.value for r in results if r.group == "panel" and r.movement]
    spread = float(np.sqrt(np.mean(np.square(off)))) if off else 0.0
    return {
        result.name.partition("/")[2]: abs(result.movement.value) / spread
        for result in intended
        if result.movement and spread
    }
