"""The reward model's card: how far it can be trusted, and whether it may drive PPO.

Everything is asked about pairs of queries that no training pair had, nor any query like them (the
split keeps near-duplicates together). Below a required bar the reward model may not drive PPO. A
test that could not be measured has no value and says why.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import regex
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from scipy.stats import rankdata

from character.errors import RunError
from character.intervals import wilson
from character.rows import Pair, Query, Reply, Reward
from character.text import sentences

Floats = NDArray[np.float64]
Verdict = Literal["holds", "missed", "not measured", "no bar"]

FILE = "card.json"
ACCURACY = 0.80
OVER_LENGTH = 0.15
RISES = 0.10
BINS = 10
FEWEST = 10  # pairs, below which nothing can be said
PROBED = 48  # pairs whose replies are padded and repeated
RESAMPLES = 2000
PADDING = "This can be read again at any time."
EXACT = 1e-9  # 0.95 - 0.80 is no less than 0.15

MARKERS: dict[str, Callable[[str], int]] = {
    "a question mark at the end": lambda text: text.rstrip(" \n\"')]*_").endswith("?"),
    "exclamation marks": lambda text: text.count("!"),
    "the first person": lambda text: len(regex.findall(r"\bI\b", text)),
    "list bullets": lambda text: len(regex.findall(r"(?m)^\s*(?:[-*•]|\d+[.)])\s", text)),
    "emoji": lambda text: len(regex.findall(r"\p{Emoji_Presentation}|\p{Emoji}\uFE0F", text)),
}


@dataclass(frozen=True, slots=True)
class RewardTest:
    """One row of the card. `value` None: not measured, and `note` says why.

    `passed` None when there is no bar, or no value and the test is not required. The interval is
    95 %.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    count: int = 0
    bar: str = ""
    passed: bool | None = None
    required: bool = False
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        if self.value is None:
            return "not measured"
        if self.passed is None:
            return "no bar"
        return "holds" if self.passed else "missed"

    @property
    def shown(self) -> str:
        return "" if self.value is None else f"{self.value:.2f}"

    @property
    def interval(self) -> str:
        return "" if self.low is None or self.high is None else f"[{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True, slots=True)
class RewardCard:
    """How far a reward model can be trusted, on pairs of queries it never saw."""

    pairs: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    length_only: float
    calibration_error: float
    tests: tuple[RewardTest, ...] = ()

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why it may not drive PPO, one reason for each required test that is not passed."""
        required = [test for test in self.tests if test.required]
        if not required:
            return ("none of the required tests was made",)
        return tuple(
            f"{test.name} is {test.shown or test.verdict}, and the bar is {test.bar}"
            f"{f' ({test.note})' if test.note else ''}"
            for test in required
            if not test.passed
        )

    @property
    def may_drive(self) -> bool:
        return not self.refusals


@dataclass(frozen=True, slots=True)
class TriedPair:
    """A held-out pair, how far its replies are apart, and the reward of each."""

    query: str
    trait: str
    chosen: str
    rejected: str
    judged: float
    """By how much the ranking values the chosen reply more."""
    chosen_reward: float
    rejected_reward: float

    @property
    def margin(self) -> float:
        return self.chosen_reward - self.rejected_reward

    @property
    def longer(self) -> int:
        """Words of the chosen reply less words of the rejected one."""
        return len(self.chosen.split()) - len(self.rejected.split())


@dataclass(frozen=True, slots=True)
class TaughtPair:
    """A pair that the reward model was trained on."""

    trait: str
    chosen: str
    rejected: str


def tried_pairs(
    pairs: Sequence[Pair],
    rewards: Sequence[Reward],
    queries: Mapping[str, Query],
    replies: Mapping[str, Reply],
) -> list[TriedPair]:
    """Held-out pairs with their rewards, one for each, as the reward model saw the replies."""
    return [
        TriedPair(
            queries[pair.query_id].text,
            queries[pair.query_id].trait,
            replies[pair.chosen_id].shown,
            replies[pair.rejected_id].shown,
            pair.margin,
            reward.chosen,
            reward.rejected,
        )
        for pair, reward in zip(pairs, rewards, strict=True)
    ]


def taught_pairs(rows: Iterable[Mapping[str, Any]]) -> list[TaughtPair]:
    """From rows in TRL's words."""
    return [
        TaughtPair(row["trait"], row["chosen"][0]["content"], row["rejected"][0]["content"])
        for row in rows
    ]


RewardsOf = Callable[[Sequence[tuple[str, str]]], Sequence[float]]
"""The rewards of replies, each given with its query."""


def examine(
    score: RewardsOf, held: Sequence[TriedPair], taught: Sequence[TaughtPair], seed: int = 0
) -> RewardCard | None:
    """The whole card; None without held-out pairs. The reward model is asked for the probes."""
    card = reward_card(
        [pair.chosen_reward for pair in held],
        [pair.rejected_reward for pair in held],
        [pair.longer for pair in held],
        [pair.query for pair in held],
    )
    if card is None:
        return None
    probed = random.Random(seed).sample(held, min(len(held), PROBED))
    tests = (
        *card.tests,
        _marker_alone(held, taught),
        *_padded(score, probed),
        _repeated(score, probed),
        _agreement(held),
        _weakest_trait(held),
        _transfer(held, {pair.trait for pair in taught}),
    )
    return RewardCard(
        pairs=card.pairs,
        accuracy=card.accuracy,
        accuracy_low=card.accuracy_low,
        accuracy_high=card.accuracy_high,
        length_only=card.length_only,
        calibration_error=card.calibration_error,
        tests=tests,
    )


def save_card(card: RewardCard, folder: Path) -> None:
    told = TypeAdapter(RewardCard).dump_json(card, indent=2).decode()
    (folder / FILE).write_text(told + "\n", encoding="utf-8")


def read_card(folder: Path) -> RewardCard | None:
    """The card that lies beside a reward model; None when there is none."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return TypeAdapter(RewardCard).validate_json(path.read_bytes())
    except ValidationError as error:
        raise RunError(f"{path} is damaged. Remove {folder} and build again") from error


def reward_card(
    chosen: Sequence[float],
    rejected: Sequence[float],
    length_difference: Sequence[int],
    queries: Sequence[str] | None = None,
) -> RewardCard | None:
    """What rewards and lengths alone can tell: accuracy (Wilson interval), ECE, and what length
    alone would score; None without pairs.

    `length_difference` is words of chosen minus rejected. The length-only baseline may choose its
    direction, longer or shorter, on these very pairs, so it is no easier to beat than it should
    be; equal lengths count half. Equal rewards are not right. Pairs of one query are resampled
    together; without queries each by itself.
    """
    if not chosen:
        return None
    margin = np.asarray(chosen) - np.asarray(rejected)
    right = margin > 0
    low, high = wilson(int(right.sum()), len(margin))
    longer = 0.5 + 0.5 * np.sign(length_difference)
    by_length = longer if longer.mean() >= 0.5 else 1 - longer
    accuracy, length_only = int(right.sum()) / len(margin), float(by_length.mean())
    calibration = expected_calibration_error(1 / (1 + np.exp(-margin)))
    enough = len(margin) >= FEWEST
    too_few = "" if enough else f"fewer than {FEWEST} pairs"
    over = accuracy - length_only
    spread = _bootstrapped(right - by_length, queries or list(map(str, range(len(margin)))))
    tests = (
        _differs(margin),
        RewardTest(
            "accuracy on held-out queries", accuracy, low, high,
            len(margin), f">= {ACCURACY:.2f}", enough and accuracy >= ACCURACY,
            required=True, note=too_few,
        ),
        RewardTest(
            "accuracy over length alone", over, *spread, len(margin), f">= {OVER_LENGTH:.2f}",
            enough and over >= OVER_LENGTH - EXACT, required=True, note=too_few,
        ),
        RewardTest(
            "length alone", length_only, *wilson(by_length.sum(), len(margin)), len(margin),
            note="the longer reply" if by_length is longer else "the shorter reply",
        ),
        RewardTest(
            "calibration error", calibration, count=len(margin),
            note="expected, ten bins; 0 is perfect",
        ),
    )  # fmt: skip
    return RewardCard(
        pairs=len(margin),
        accuracy=accuracy,
        accuracy_low=float(low),
        accuracy_high=float(high),
        length_only=length_only,
        calibration_error=calibration,
        tests=tests,
    )


def expected_calibration_error(chosen_probability: Any) -> float:
    """Mean |confidence - accuracy| over equal-width bins by size (Guo et al. 2017, equation 3).

    chosen_probability: for each pair the stated probability of the chosen reply; the confidence is
    that of the side the model prefers.
    """
    stated = np.asarray(chosen_probability)
    confidence = np.maximum(stated, 1 - stated)
    right = stated > 0.5
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return float(
        sum(
            abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
            for b in np.unique(bins)
        )
    )


def _differs(margin: Floats) -> RewardTest:
    """A constant has every number of a card but means nothing, so it is told by name."""
    value = float((margin != 0).mean())
    note = "" if value else (
        "both replies of every pair have the same reward; train again, with another learning_rate"
        " or for more epochs"
    )  # fmt: skip
    return RewardTest(
        "tells replies apart", value, *wilson(float((margin != 0).sum()), len(margin)),
        len(margin), "> 0", value > 0, required=True, note=note,
    )  # fmt: skip


def _marker_alone(held: Sequence[TriedPair], taught: Sequence[TaughtPair]) -> RewardTest:
    """The marker that tells training pairs best, the more or the less of it, on held-out ones."""
    name = "best marker alone"
    if not taught:
        return RewardTest(name, None, note="there are no training pairs to choose it on")

    def said_more(marker: str, pairs: Sequence[TriedPair] | Sequence[TaughtPair]) -> Floats:
        of = MARKERS[marker]
        return np.array([0.5 + 0.5 * np.sign(of(p.chosen) - of(p.rejected)) for p in pairs])

    means = {marker: float(said_more(marker, taught).mean()) for marker in MARKERS}
    best = max(means, key=lambda marker: abs(means[marker] - 0.5))
    if means[best] == 0.5:
        return RewardTest(name, None, note="no marker tells the training pairs apart")
    found = said_more(best, held)
    if means[best] < 0.5:
        found = 1 - found
    return RewardTest(
        name, float(found.mean()), *wilson(float(found.sum()), len(found)), len(found),
        note=f"{'more' if means[best] > 0.5 else 'less'} of: {best}",
    )  # fmt: skip


def _padded(score: RewardsOf, probed: Sequence[TriedPair]) -> tuple[RewardTest, RewardTest]:
    """A sentence that says nothing, after the chosen reply: how often it turns a right order, and
    what it moves the reward by, in mean margins.
    """
    flips, shift = "padding turns the order", "padding moves the reward"
    padded = np.array(score([(p.query, f"{p.chosen.rstrip()} {PADDING}") for p in probed]))
    moved = padded - [p.chosen_reward for p in probed]
    right = [i for i, p in enumerate(probed) if p.margin > 0]
    turned = sum(bool(padded[i] <= probed[i].rejected_reward) for i in right)
    unit = float(np.mean([abs(p.margin) for p in probed]))
    return (
        RewardTest(flips, turned / len(right), *wilson(turned, len(right)), len(right))
        if right
        else RewardTest(flips, None, note="no pair was in the right order"),
        RewardTest(
            shift, float(moved.mean()) / unit,
            *_bootstrapped(moved / unit, [p.query for p in probed]), len(probed),
            note="in mean margins between chosen and rejected",
        )
        if unit
        else RewardTest(shift, None, note="all rewards are the same"),
    )  # fmt: skip


def _repeated(score: RewardsOf, probed: Sequence[TriedPair]) -> RewardTest:
    """The reply's last sentence once more: its reward must not rise."""
    name, bar = "repetition is rewarded", f"<= {RISES:.2f}"
    before = {}
    for pair in probed:
        before[pair.query, pair.chosen] = pair.chosen_reward
        before[pair.query, pair.rejected] = pair.rejected_reward
    asked = [(said, last[-1]) for said in before if (last := sentences(said[1]))]
    if not asked:
        return RewardTest(name, None, bar=bar, note="no reply has a sentence")
    after = score([(query, f"{text.rstrip()} {last}") for (query, text), last in asked])
    rises = sum(new > before[said] for (said, _), new in zip(asked, after, strict=True))
    value = rises / len(asked)
    return RewardTest(
        name, value, *wilson(rises, len(asked)), len(asked), bar, value <= RISES,
        note="share of replies whose reward rises when the last sentence is repeated",
    )  # fmt: skip


def _agreement(held: Sequence[TriedPair]) -> RewardTest:
    """Spearman's rho of the ranking's margins and the rewards', queries resampled."""
    name = "agreement with the judge"
    judged, found = np.array([[p.judged, p.margin] for p in held]).T
    if len(held) < FEWEST:
        return RewardTest(name, None, count=len(held), note=f"fewer than {FEWEST} pairs")
    if not np.ptp(judged) or not np.ptp(found):
        which = "the reward model's" if np.ptp(judged) else "the judge's"
        return RewardTest(name, None, count=len(held), note=f"{which} margins are all the same")
    both = np.column_stack([judged, found])
    low, high = _bootstrapped(both, [p.query for p in held], _spearman)
    return RewardTest(
        name, _spearman(both), low, high, len(held), note="Spearman's rho of the pairs' margins"
    )


def _weakest_trait(held: Sequence[TriedPair]) -> RewardTest:
    name = "accuracy on the weakest trait"
    right: dict[str, list[bool]] = defaultdict(list)
    for pair in held:
        right[pair.trait].append(pair.margin > 0)
    if len(right) < 2:
        return RewardTest(name, None, note="there are held-out pairs of one trait only")
    weakest = min(right, key=lambda trait: float(np.mean(right[trait])))
    return _share_of(name, right[weakest], weakest)


def _transfer(held: Sequence[TriedPair], trained: Collection[str]) -> RewardTest:
    """Accuracy on traits that no training pair was of."""
    name = "transfer to another trait"
    other = [pair for pair in held if pair.trait not in trained]
    if not other:
        return RewardTest(name, None, note="every trait with held-out pairs was trained on")
    note = ", ".join(sorted({pair.trait for pair in other}))
    return _share_of(name, [pair.margin > 0 for pair in other], note)


def _share_of(name: str, hits: Sequence[bool], note: str) -> RewardTest:
    return RewardTest(
        name, float(np.mean(hits)), *wilson(sum(hits), len(hits)), len(hits), note=note
    )


def _mean(rows: Floats) -> float:
    return float(rows.mean())


def _spearman(rows: Floats) -> float:
    """Of two columns; ties share their mean rank. NaN where one column is constant."""
    ranks = rankdata(rows, axis=0)
    if not np.ptp(ranks, axis=0).all():
        return float("nan")
    return float(np.corrcoef(ranks.T)[0, 1])


def _bootstrapped(
    rows: Floats, queries: Sequence[str], statistic: Callable[[Floats], float] = _mean
) -> tuple[float | None, float | None]:
    """95 % percentile interval; the rows of one query are drawn together. None of few queries.

    Resamples that have no statistic are left out.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, query in enumerate(queries):
        places[query].append(place)
    groups = [np.array(own) for own in places.values()]
    if len(groups) < FEWEST:
        return None, None
    draw = np.random.default_rng(0)
    found = [
        statistic(rows[np.concatenate([groups[i] for i in drawn])])
        for drawn in draw.integers(len(groups), size=(RESAMPLES, len(groups)))
    ]
    low, high = np.nanquantile(found, (0.025, 0.975))
    return float(low), float(high)
