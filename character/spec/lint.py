"""What is wrong with a trait that has the right shape: mistakes that cost a build its data.

No model is asked. Every finding has a place, a code from RULES, what was found, and how to mend it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import get_args

from rapidfuzz import fuzz, utils

from character.errors import SpecError
from character.shipped import find
from character.spec.constitution_file import Resolved, is_constitution, resolve
from character.spec.drafts import MARK, drafts_of
from character.spec.loading import FaultyTraitError, Source, place_name, read_trait
from character.spec.rules import EXAMPLES, RULES, SEEDS, Rule, Severity
from character.spec.schema import Check, Contains, Example, Lacks, MaxWords, MinWords, Trait
from character.yaml_file import at, descend

Passes = Callable[[Check, str, str], bool | None]
"""(check, query, reply): whether the reply passes; None when the check does not apply."""
Place = tuple[int | str, ...]

NEAR_DUPLICATE = 85.0  # token-set similarity at which a build drops one of two queries
SAME = 80.0  # similarity, words in any order, at which two statements say the same
LONGER = 1.5  # times as many words: length tells the replies apart
LONGER_ON_AVERAGE = 1.2
STEM = 5  # letters that words of one family share: curious, curiosity


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing to mend; lines and columns count from 1."""

    path: str
    line: int
    column: int
    code: str
    what: str
    fix: str

    @property
    def rule(self) -> Rule:
        return RULES[self.code]


@dataclass(frozen=True, slots=True)
class Checked:
    """All files together: what was read, and every finding in file order."""

    sources: tuple[Source, ...]
    findings: tuple[Finding, ...]
    constitutions: tuple[tuple[Path, Resolved], ...] = ()

    @property
    def worst(self) -> Severity | None:
        found = {finding.rule.severity for finding in self.findings}
        return next((severity for severity in get_args(Severity) if severity in found), None)


def check_files(references: Sequence[str], passes: Passes) -> Checked:
    """Read every file, and say everything there is to say, about each and about all together.

    A constitution's file stands for its traits, as it has them.
    """
    sources: list[Source] = []
    findings: list[Finding] = []
    constitutions: list[tuple[Path, Resolved]] = []
    for reference in references:
        try:
            path = find("traits", reference, ".yaml")
            if path is not None and is_constitution(path):
                resolved = resolve(path)
                constitutions.append((path, resolved))
                read = [one.read for one in resolved.listed]
            else:
                read = [read_trait(reference)]
        except FaultyTraitError as error:
            findings += [
                Finding(str(error.path), fault.line, fault.column, "format", fault.message, "")
                for fault in error.faults
            ]
        except SpecError as error:
            findings.append(Finding(reference, 1, 1, "format", str(error), ""))
        else:
            sources += read
            findings += [finding for source in read for finding in lint(source, passes)]
    together = lint_together(sources)
    return Checked(tuple(sources), (*findings, *together), tuple(constitutions))


def lint(source: Source, passes: Passes) -> list[Finding]:
    """Everything there is to say of one trait, in file order; of a draft, what is left to write."""
    if drafts := list(drafts_of(source.trait)):
        return [_draft(source, place) for place in drafts]
    rules = (_clauses, _lengths, _announcements, _sameness, _seeds, _poles, _amounts)
    found = [finding for rule in rules for finding in rule(source)]
    return sorted([*found, *_checks(source, passes)])


def lint_together(sources: Sequence[Source]) -> list[Finding]:
    """What traits of one constitution do to each other."""
    return [
        finding
        for one, other in combinations(sources, 2)
        for finding in (*_opposed(one, other), *_clashing_checks(one, other))
    ]


# --- one trait ---


def _draft(source: Source, place: Place) -> Finding:
    fix = f"Write it, or read what a model wrote; then take the word {MARK} away."
    return finding_at(source, "draft", place, f"{place_name(place)} is a draft", fix)


def _clauses(source: Source) -> Iterator[Finding]:
    shown = {example.clause for example in source.trait.examples}
    for number, clause in enumerate(source.trait.clauses):
        if clause.id not in shown:
            yield finding_at(
                source,
                "clause-without-example",
                ("clauses", number, "id"),
                f"no example shows the clause {clause.id!r}",
                f"Add one under examples: with `clause: {clause.id}`, or remove the clause.",
            )


def _lengths(source: Source) -> Iterator[Finding]:
    if source.trait.controls.length == "free":
        return
    ratios = []
    for number, example in enumerate(source.trait.examples):
        good, bad = len(example.good.split()), len(example.bad.split())
        if max(good, bad) < LONGER * min(good, bad):
            ratios.append(good / bad)
        else:
            yield finding_at(
                source,
                "length-tells",
                ("examples", number, "bad"),
                f"the good reply has {good} words and the bad one {bad}",
                "Make them about as long, with the same help in both; or set "
                "`controls: {length: free}` when length is the point.",
            )
    mean = fmean(ratios) if ratios else 1.0
    if not 1 / LONGER_ON_AVERAGE <= mean <= LONGER_ON_AVERAGE:
        yield finding_at(
            source,
            "length-tells",
            ("examples",),
            f"good replies are on average {mean:.1f} times as long as bad ones",
            "Lengthen the shorter ones without adding to the trait.",
        )


def _announcements(source: Source) -> Iterator[Finding]:
    family = _family(source.trait)
    says = re.compile(rf"\b(?:i am|i.m|as an?|being)\s+(?:\w+\s+){{0,2}}{family}", re.IGNORECASE)
    for number, example in enumerate(source.trait.examples):
        if told := says.search(example.good):
            yield finding_at(
                source,
                "announces",
                ("examples", number, "good"),
                f"the good reply says {told.group()!r}",
                "Show it: write what such a person would say, not that they are one.",
            )


def _sameness(source: Source) -> Iterator[Finding]:
    for number, example in enumerate(source.trait.examples):
        alike = fuzz.ratio(example.good, example.bad, processor=utils.default_process)
        if alike > 95:
            yield finding_at(
                source,
                "same-replies",
                ("examples", number, "good"),
                f"good and bad reply are the same to {alike:.0f} %",
                "Let the bad one break the clause where the good one keeps it.",
            )


def _seeds(source: Source) -> Iterator[Finding]:
    seeds = source.trait.queries.seeds
    for (_, first), (second_at, second) in combinations(enumerate(seeds), 2):
        if _similar(first, second):
            yield finding_at(
                source,
                "near-duplicate-seeds",
                ("queries", "seeds", second_at),
                f"{second!r} is nearly {first!r}",
                "Replace one by a message about something else.",
            )
    names = re.compile(_family(source.trait), re.IGNORECASE)
    for number, seed in enumerate(seeds):
        place = ("queries", "seeds", number)
        example = next((e for e in source.trait.examples if _similar(seed, e.user)), None)
        if example:
            yield finding_at(
                source,
                "seed-is-example", place,
                f"{seed!r} is nearly the example {example.user!r}",
                "Replace the seed by another message.",
            )  # fmt: skip
        if told := names.search(seed):
            yield finding_at(
                source,
                "seed-names-trait", place,
                f"{seed!r} says {told.group()!r}",
                "Write a message that leaves the trait to the reply.",
            )  # fmt: skip


def _poles(source: Source) -> Iterator[Finding]:
    alike = _alike(source.trait.statement, source.trait.opposite)
    if alike >= SAME:
        yield finding_at(
            source,
            "opposite-says-the-same",
            ("opposite",),
            f"statement and opposite are the same to {alike:.0f} %",
            "Say in the opposite what a model without the trait would say of itself.",
        )


def _amounts(source: Source) -> Iterator[Finding]:
    trait = source.trait
    if len(trait.queries.seeds) < SEEDS:
        yield finding_at(
                source,
            "few-seeds", ("queries", "seeds"),
            f"{len(trait.queries.seeds)} seed messages",
            f"Add messages up to {SEEDS} or more, as varied as real ones.",
        )  # fmt: skip
    if len(trait.examples) < EXAMPLES:
        yield finding_at(
                source,
            "few-examples", ("examples",),
            f"{len(trait.examples)} examples",
            f"Add examples up to {EXAMPLES} or more, one for every clause at least.",
        )  # fmt: skip
    if trait.applies.unless and not trait.queries.unless:
        yield finding_at(
                source,
            "unless-without-messages", ("applies", "unless"),
            "applies.unless is given and queries.unless is empty",
            "Add a message for each case under queries: with the key unless:.",
        )  # fmt: skip


def _checks(source: Source, passes: Passes) -> Iterator[Finding]:
    for number, check in enumerate(source.trait.checks):
        place: Place = ("checks", number)
        results = []
        for at_example, example in enumerate(source.trait.examples):
            try:
                good, bad = (passes(check, example.user, said) for said in _both(example))
            except TimeoutError as error:
                yield finding_at(
                    source, "slow-check", (*place, "kind"), str(error), "Write a simpler pattern."
                )
                break
            results.append(bad)
            if good is False:
                yield finding_at(
                    source,
                    "check-contradicts-example",
                    (*place, "kind"),
                    f"{check.kind} fails the good reply of examples[{at_example}]",
                    "Change the check, or the example.",
                )
        applied = [result for result in results if result is not None]
        if applied and all(applied) and not isinstance(check, MaxWords | MinWords):
            yield finding_at(
                source,
                "check-tells-nothing",
                (*place, "kind"),
                f"{check.kind} passes all {len(applied)} bad replies",
                "Let the bad replies break it, or remove the check.",
            )


# --- several traits ---


def _opposed(one: Source, other: Source) -> Iterator[Finding]:
    for first, second in ((one, other), (other, one)):
        alike = _alike(first.trait.statement, second.trait.opposite)
        if alike >= SAME:
            yield _conflict(
                other, ("statement",), one,
                f"the statement of {first.trait.id!r} is nearly the opposite of"
                f" {second.trait.id!r}, to {alike:.0f} %",
            )  # fmt: skip


def _clashing_checks(one: Source, other: Source) -> Iterator[Finding]:
    for first in one.trait.checks:
        for number, second in enumerate(other.trait.checks):
            if told := _clash(first, second) or _clash(second, first):
                yield _conflict(other, ("checks", number, "kind"), one, told)


def _clash(one: Check, other: Check) -> str:
    """What both cannot have; empty when they can."""
    match one, other:
        case MinWords(words=least), MaxWords(words=most) if least > most:
            return f"at least {least} words and at most {most} are asked for"
        case Contains(pattern=wanted), Lacks(pattern=unwanted) if wanted == unwanted:
            return f"the pattern {wanted!r} is asked for and forbidden"
    return ""


def finding_at(source: Source, code: str, place: Place, what: str, fix: str) -> Finding:
    """A finding at the key a place names, or at the item where it ends with a number."""
    key, value = descend(source.root, place)
    mark = at((value if isinstance(place[-1], int) else key).start_mark, "")
    return Finding(str(source.path), mark.line, mark.column, code, what, fix)


def _conflict(source: Source, place: Place, other: Source, what: str) -> Finding:
    mine, theirs = source.trait.authority, other.trait.authority
    if mine == theirs:
        fix = f"Give one of them a higher authority than {mine!r}, or train them apart."
    else:
        fix = f"The higher authority wins ({mine!r} here, {theirs!r} there): train them apart."
    return finding_at(source, "traits-conflict", place, f"with {other.path}: {what}", fix)


# --- words ---


def _family(trait: Trait) -> str:
    """A pattern for the words of the trait's id and title, and what is derived from them."""
    words = {word.lower() for word in re.findall(r"[^\W\d_]{4,}", f"{trait.id} {trait.title}")}
    stems = (re.escape(word[: max(STEM, len(word) - 3)]) for word in sorted(words))
    return rf"\b(?:{'|'.join(stems) or r'(?!)'})\w*"


@lru_cache(4096)
def _plain(text: str) -> str:
    plain: str = utils.default_process(text)
    return plain


def _similar(one: str, other: str) -> bool:
    found = fuzz.token_set_ratio(_plain(one), _plain(other), score_cutoff=NEAR_DUPLICATE)
    return found >= NEAR_DUPLICATE


def _alike(one: str, other: str) -> float:
    return fuzz.token_sort_ratio(one, other, processor=utils.default_process)


def _both(example: Example) -> tuple[str, str]:
    return example.good, example.bad
