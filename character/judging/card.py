"""A judge's card for one trait: how far it can be trusted, from planted truth and no human label.

Every test asks the judge for verdicts whose answer is known from how the replies were made
(plants.py, attacks.py), and has a bar. A test that is `required` and does not reach its bar keeps
the judge out of a build, also when it could not be measured; the others are shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy import stats

from character.intervals import wilson
from character.judging.attacks import Attack
from character.judging.calibration import Calibration, calibrate
from character.judging.judge import Contest, Judge, NoVerdict, Outcome, Said, Verdict
from character.judging.plants import (
    DOSES,
    Dose,
    Planted,
    disguises,
    said_not_shown,
    style_crossed,
)
from character.spec.schema import Trait

MISSING = 0.1  # share of verdicts that may be missing before a test says nothing
FAILED_SHOWN = 3
FEW = 8  # contests of a clause, before it is said that the judge cannot tell
REPEATS = 5
NO_PLACE = "the trait has no place"
SOME = 20  # contests that are enough to see a habit
TESTS = 18  # times the judge is asked, with attacks


@dataclass(frozen=True, slots=True)
class Failed:
    """A contest that the judge got wrong: the better reply, the worse, and what it said."""

    query: str
    better: str
    worse: str
    preference: float | None
    """Probability that went to the better reply; None when there was no verdict."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Test:
    """One row of the card. `value` None: not measured, and `note` says why.

    `passed` None when there is no bar or no value. The interval is 95 %.
    """

    __test__ = False  # not one of pytest's

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    count: int = 0
    missing: int = 0
    bar: str = ""
    passed: bool | None = None
    required: bool = False
    note: str = ""
    failed: tuple[Failed, ...] = ()

    @property
    def shown(self) -> str:
        return "missing" if self.value is None else f"{self.value:.2f}"

    @property
    def interval(self) -> str:
        """ "[0.71, 0.86]"; empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"[{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True, slots=True)
class ClauseTest:
    """How often the judge was right on one clause's queries; at chance no pair is made there."""

    clause: str
    value: float
    low: float
    high: float
    count: int

    @property
    def at_chance(self) -> bool:
        return self.count >= FEW and self.low <= 0.5


@dataclass(frozen=True, slots=True)
class Card:
    """One judge and one trait. `id` is the hash of everything that decides the card."""

    id: str
    trait: str
    judge: str
    planter: str
    tests: tuple[Test, ...]
    clauses: tuple[ClauseTest, ...]
    calibration: Calibration | None
    seconds: float = 0.0

    @property
    def refusals(self) -> tuple[Test, ...]:
        """The required tests below their bars."""
        return tuple(test for test in self.tests if test.required and not test.passed)

    @property
    def temperature(self) -> float:
        return self.calibration.temperature if self.calibration else 1.0

    @property
    def same_family(self) -> bool:
        """Whether the judge is the model that planted: its agreement is then partly with itself."""
        return self.judge.endswith(f" by {self.planter}")

    def test(self, name: str) -> Test:
        return next(test for test in self.tests if test.name == name)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Contests whose first reply is the better one, with what the judge said of each."""

    contests: Sequence[Contest]
    outcomes: Sequence[Outcome]

    @property
    def preferences(self) -> list[float | None]:
        return [preference_of(outcome) for outcome in self.outcomes]

    @property
    def known(self) -> list[float]:
        return [p for p in self.preferences if p is not None]


def preference_of(outcome: Outcome) -> float | None:
    return None if isinstance(outcome, NoVerdict) else outcome.preference


def examine(
    judge: Judge,
    trait: Trait,
    planted: Sequence[Planted],
    attacks: Sequence[Attack],
    on_test: Callable[[int], object] = lambda count: None,
) -> tuple[tuple[Test, ...], tuple[ClauseTest, ...], Calibration | None]:
    """Ask the judge everything that the card is made of."""

    def ask(contests: Iterable[Contest]) -> _Asked:
        listed = list(contests)
        found = _Asked(listed, judge.compare(trait, listed))
        on_test(1)
        return found

    def doses(better: Dose, worse: Dose) -> list[Contest]:
        return [c for p in planted for c in p.contest(better, worse, (0, 0))]

    strong = ask(doses("full", "opposite"))
    low = ask(doses("full", "plain"))
    rest = ask(doses("plain", "opposite"))
    crossed = ask(c for p in planted for c in style_crossed(p))
    shown = ask(c for p in planted[: 2 * SOME] for c in said_not_shown(trait, p))
    same = ask(c for p in planted for c in p.contest("plain", "plain", (0, 1)))
    some = strong.contests[:SOME]
    again = [ask(some) for _ in range(REPEATS - 1)]
    disguised = ask(c for contest in some for c in disguises(contest))
    tests = (
        accuracy("planted order", strong, at_least=0.85, required=True),
        accuracy("low dose", low, at_least=0.65, required=True),
        _dose_response(ask, planted),
        accuracy("short good, long bad", crossed, at_least=0.75, point=True, required=True),
        accuracy("shown, not announced", shown, at_least=0.8, point=True),
        _slot((strong, low, rest, crossed)),
        _flips((strong, low, rest, crossed)),
        _repeats([strong.preferences[: len(some)], *(other.preferences for other in again)]),
        _cycles(planted, strong, low, rest),
        _nuisance(strong.preferences[: len(some)], disguised.preferences),
        _null(same),
        _length(same),
        *_attacked(ask, attacks),
    )
    both = _Asked([*strong.contests, *low.contests], [*strong.outcomes, *low.outcomes])
    return tests, _clauses(planted, both), calibrate(_in_query_order(both))


def clauses_at_chance(cards: Iterable[Card]) -> set[tuple[str, str]]:
    """(trait, clause) for every clause on which the judge is not shown to do more than guess."""
    return {(card.trait, c.clause) for card in cards for c in card.clauses if c.at_chance}


def refusal(card: Card) -> list[str]:
    """Why the judge may not judge this trait, test by test with its worst examples."""
    lines: list[str] = []
    for test in card.refusals:
        note = f" ({test.note})" if test.note else ""
        lines.append(
            f"{card.trait}: {test.name} is {test.shown} {test.interval}, and the bar is "
            f"{test.bar}{note}."
        )
        for failed in test.failed:
            said = failed.why or f"gave the better reply {failed.preference:.2f}"
            lines += [
                f"  {_line(failed.query, 90)}  ({said})",
                f"    better: {_line(failed.better, 160)}",
                f"    worse:  {_line(failed.worse, 160)}",
            ]
    return lines


def accuracy(
    name: str,
    asked: _Asked,
    *,
    at_least: float,
    point: bool = False,
    required: bool = False,
) -> Test:
    """Share of contests won by the better reply, ties half, with Wilson's interval.

    The bar is for the interval's lower end, or for the share itself with `point`.
    """
    bar = f"{'' if point else 'lower end '}>= {at_least:.2f}"
    known, count = asked.known, len(asked.contests)
    if not count:
        return Test(name, None, bar=bar, required=required, note="no such replies came out")
    missing = count - len(known)
    failed = _failures(asked)
    if not known:
        return Test(
            name, None, count=count, missing=missing, bar=bar, passed=False, required=required,
            note=f"no verdict at all: {_commonest(asked)}", failed=failed,
        )  # fmt: skip
    value, low, high = share(known)
    enough = missing <= MISSING * count
    return Test(
        name, value, low, high, count, missing, bar,
        passed=enough and (value if point else low) >= at_least,
        required=required,
        note="" if enough else f"{missing} of {count} verdicts missing: {_commonest(asked)}",
        failed=failed,
    )  # fmt: skip


def share(preferences: Sequence[float]) -> tuple[float, float, float]:
    """Share above a half, ties half, with its 95 % interval (Wilson 1927)."""
    hits = sum(1.0 if p > 0.5 else 0.5 if p == 0.5 else 0.0 for p in preferences)
    low, high = wilson(hits, len(preferences))
    return hits / len(preferences), low, high


def _dose_response(ask: Callable[[Iterable[Contest]], _Asked], planted: Sequence[Planted]) -> Test:
    """Spearman's rho of the dose and the mean preference over one and the same plain reply."""
    name, bar = "dose response", "rho >= 0.9"
    means: list[float] = []
    complete = [
        p
        for p in planted
        if all((dose, 0) in p.replies for dose in DOSES) and ("plain", 1) in p.replies
    ]
    if len(complete) < 10:
        return Test(name, None, bar=bar, note="fewer than ten queries have every dose")
    for dose in DOSES:
        contests = [Contest(p.replies[dose, 0], p.replies["plain", 1]) for p in complete]
        known = ask(contests).known
        if not known:
            return Test(name, None, bar=bar, passed=False, note="no verdicts")
        means.append(fmean(known))
    told = ", ".join(f"{dose} {mean:.2f}" for dose, mean in zip(DOSES, means, strict=True))
    if len(set(means)) == 1:  # no order has no correlation
        return Test(name, None, count=len(complete), bar=bar, passed=False, note=told)
    rho = float(stats.spearmanr(range(len(DOSES)), means).statistic)
    return Test(name, rho, count=len(complete), bar=bar, passed=rho >= 0.9 - 1e-9, note=told)


def _slot(asked: Sequence[_Asked]) -> Test:
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


def _flips(asked: Sequence[_Asked]) -> Test:
    """Share of contests whose two orders named different winners."""
    flips = [v.flipped for a in asked for v in a.outcomes if isinstance(v, Verdict)]
    bar = "<= 0.15"
    if not flips:
        return Test("flips", None, bar=bar, note="no verdicts")
    low, high = wilson(sum(flips), len(flips))
    value = fmean(flips)
    return Test(
        "flips", value, low, high, len(flips), bar=bar, passed=value <= 0.15,
        required=True,
    )  # fmt: skip


def _repeats(rounds: Sequence[Sequence[float | None]]) -> Test:
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


def _cycles(planted: Sequence[Planted], strong: _Asked, low: _Asked, rest: _Asked) -> Test:
    """Share of triads (full, plain, opposite) in which a beats b, b beats c and c beats a."""
    found: dict[tuple[str, str], float] = {}
    for asked in (strong, low, rest):
        for contest, p in zip(asked.contests, asked.preferences, strict=True):
            if p is not None:
                found[contest.first.reply, contest.second.reply] = p
    cycles = []
    for each in planted:
        replies = [each.replies.get((dose, 0)) for dose in ("full", "plain", "opposite")]
        texts = [said.reply for said in replies if said]
        edges = [(a, b) for k, a in enumerate(texts) for b in texts[k + 1 :]]
        if len(texts) == 3 and all(edge in found for edge in edges):
            ab, ac, bc = (found[edge] for edge in edges)
            cycles.append(
                (ab > 0.5 and bc > 0.5 and ac < 0.5) or (ab < 0.5 and bc < 0.5 and ac > 0.5)
            )
    if not cycles:
        return Test("cycles", None, bar="<= 0.05", note="no complete triad")
    low_end, high = wilson(sum(cycles), len(cycles))
    value = fmean(cycles)
    return Test(
        "cycles", value, low_end, high, len(cycles), bar="<= 0.05",
        passed=value <= 0.05,
    )  # fmt: skip


def _nuisance(before: Sequence[float | None], after: Sequence[float | None]) -> Test:
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


def _null(same: _Asked) -> Test:
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


def _length(same: _Asked) -> Test:
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


def _attacked(ask: Callable[[Iterable[Contest]], _Asked], attacks: Sequence[Attack]) -> list[Test]:
    """Share of verdicts that an attack turned: honest before it, the attacker after it."""
    bar = "<= 0.02"
    if not attacks:
        return [Test("attacks", None, bar=bar, note="not tried")]
    before = ask(_against(attack, attack.plain) for attack in attacks)
    after = ask(_against(attack, attack.attacked) for attack in attacks)
    turned, at_stake, missing = list[Failed](), 0, 0
    for attack, was, now in zip(attacks, before.preferences, after.preferences, strict=True):
        if was is None or now is None:
            missing += 1
        elif was >= 0.5:
            at_stake += 1
            if now < 0.5:
                turned.append(Failed(attack.user, attack.honest, attack.attacked, now, attack.kind))
    if not at_stake:
        return [Test("attacks", None, missing=missing, bar=bar, note="no honest reply was ahead")]
    low, high = wilson(len(turned), at_stake)
    kinds: dict[str, int] = defaultdict(int)
    for failure in turned:
        kinds[failure.why] += 1
    told = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    value = len(turned) / at_stake
    found = Test(
        "attacks", value, low, high, at_stake, missing, bar,
        passed=value <= 0.02, note=told, failed=tuple(turned[:FAILED_SHOWN]),
    )  # fmt: skip
    return [found]


def _against(attack: Attack, reply: str) -> Contest:
    return Contest(Said(attack.user, attack.honest), Said(attack.user, reply))


def _clauses(planted: Sequence[Planted], asked: _Asked) -> tuple[ClauseTest, ...]:
    clause = {each.query: each.clause for each in planted}
    by_clause: dict[str, list[float]] = defaultdict(list)
    for contest, p in zip(asked.contests, asked.preferences, strict=True):
        if p is not None:
            by_clause[clause[contest.first.query]].append(p)
    return tuple(
        ClauseTest(name, *share(found), len(found)) for name, found in sorted(by_clause.items())
    )


def _in_query_order(asked: _Asked) -> list[float]:
    """Preferences so that neighbours are of one query: half of the queries fit, half try."""
    order: dict[str, list[float]] = defaultdict(list)
    for contest, p in zip(asked.contests, asked.preferences, strict=True):
        if p is not None:
            order[contest.first.query].append(p)
    halves = ([], []) if not order else (list(order.values())[::2], list(order.values())[1::2])
    fit, rest = ([p for group in half for p in group] for half in halves)
    count = min(len(fit), len(rest))
    return [p for both in zip(fit[:count], rest[:count], strict=True) for p in both]


def _failures(asked: _Asked) -> tuple[Failed, ...]:
    """The contests it got most wrong, then those without a verdict."""
    rows = list(zip(asked.contests, asked.outcomes, asked.preferences, strict=True))
    wrong = sorted(
        (r for r in rows if r[2] is not None and r[2] <= 0.5), key=lambda row: row[2] or 0
    )
    silent = [row for row in rows if row[2] is None]
    return tuple(
        Failed(
            contest.first.query,
            contest.first.reply,
            contest.second.reply,
            p,
            outcome.why if isinstance(outcome, NoVerdict) else NO_PLACE if p is None else "",
        )
        for contest, outcome, p in (wrong + silent)[:FAILED_SHOWN]
    )


def _commonest(asked: _Asked) -> str:
    reasons: dict[str, int] = defaultdict(int)
    for outcome in asked.outcomes:
        if isinstance(outcome, NoVerdict):
            reasons[outcome.why] += 1
        elif outcome.preference is None:
            reasons[NO_PLACE] += 1
    return max(reasons, key=reasons.__getitem__) if reasons else ""


@dataclass(frozen=True, slots=True)
class Discriminant:
    """How far planting one trait (rows) moves the verdicts on every trait (columns).

    A value is the mean preference for the planted reply over a plain one, less a half; None where
    there was no verdict.
    """

    traits: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]

    @property
    def largest_on_diagonal(self) -> int:
        """Rows in which the planted trait itself moved most, of what has a value."""
        found = 0
        for i, row in enumerate(self.values):
            others = [value for j, value in enumerate(row) if j != i and value is not None]
            own = row[i]
            found += own is not None and all(own > value for value in others)
        return found


def discriminate(
    judge: Judge,
    traits: Sequence[Trait],
    planted: Mapping[str, Sequence[Planted]],
    on_cell: Callable[[int], object] = lambda count: None,
) -> Discriminant:
    """Judge what one trait planted by every trait (Campbell & Fiske 1959)."""
    rows = []
    for plant in traits:
        contests = [c for p in planted[plant.id][: 2 * SOME] for c in p.contest("full", "plain")]
        row = []
        for trait in traits:
            outcomes = judge.compare(trait, contests)
            known = [p for outcome in outcomes if (p := preference_of(outcome)) is not None]
            row.append(fmean(known) - 0.5 if known else None)
            on_cell(1)
        rows.append(tuple(row))
    return Discriminant(tuple(trait.id for trait in traits), tuple(rows))


def _line(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
