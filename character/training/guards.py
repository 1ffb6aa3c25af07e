"""When PPO has to be stopped: what is measured of the policy as it learns, and the rules it broke.

Every few updates the policy answers the same held-out queries with the same random numbers, so two
probes differ by what was learned in between. They only ever stop a training: nothing is learned
from them. A rule whose measure was there at the start and is missing later is broken as well.

Over-optimisation (Gao et al. 2023): the reward rises while what it stands for does not. The
measure beside it must be independent: one that the reward model was not trained to predict on
these queries, such as the likelihood contrast of the replies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from pydantic import TypeAdapter

from character.training.config import GuardsConfig

GUARDED = "ppo"  # the fact of run.json that says how PPO ended

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Probe:
    """The policy after `update` updates, on held-out queries; a missing measure is None.

    `rewards`, `independent` and `traits` have one entry a reply, always of the same queries in the
    same order.
    """

    update: int
    rewards: tuple[float | None, ...]
    independent: tuple[float | None, ...]
    traits: tuple[str, ...]
    """Whose query it is, and whose independent measure."""
    words: float
    """A reply; the tokens of a policy that was taught to stammer would count as well."""
    entropy: float
    """Nats a token, the mean of -log pi."""
    repeated: float
    """Share of word 4-grams that occurred before in their reply."""
    ended: float
    kl: float
    """Nats a reply to the reference."""
    refused: float = 0.0
    """Share of replies that decline."""
    others: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    """Each trait's measure of the replies to queries of the other traits; empty with one trait."""
    short: float | None = None
    """Share of short questions answered right."""
    disagreement: float | None = None
    """Standard deviation between the members of the reward model."""
    no_signal: float | None = None
    """Share of the updates since the probe before whose rewards were all the same."""

    @property
    def reward(self) -> float | None:
        return _mean(self.rewards)

    @property
    def missing(self) -> float:
        return _share_missing(self.rewards)

    def numbers(self) -> dict[str, float]:
        """What is known, by name."""
        told = {
            "reward": self.reward,
            "missing": self.missing,
            "independent": _mean(self.independent),
            "words": self.words,
            "entropy": self.entropy,
            "repeated": self.repeated,
            "ended": self.ended,
            "kl": self.kl,
            "refused": self.refused,
            **{f"others/{trait}": _mean(values) for trait, values in self.others.items()},
            "short": self.short,
            "disagreement": self.disagreement,
            "no_signal": self.no_signal,
        }
        return {name: value for name, value in told.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Change:
    """The mean of paired differences, and its standard error."""

    mean: float
    error: float

    def rose(self, noise: float) -> bool:
        return self.mean > noise * self.error and self.mean > 0

    def fell(self, noise: float) -> bool:
        return -self.mean > noise * self.error and self.mean < 0

    def __str__(self) -> str:
        return f"{self.mean:+.3f} (standard error {self.error:.3f})"


@dataclass(frozen=True, slots=True)
class Guarded:
    """How a guarded training ended: which rules it broke, and which policy was kept."""

    updates: int
    """That were asked for."""
    done: int
    """That were made."""
    kept: int
    """After which the policy is as it was kept: that of the last probe that broke no rule."""
    rules: tuple[str, ...]
    tripped: tuple[str, ...] = ()
    """What was broken, with the numbers and the bar; empty when nothing was."""
    unwatched: tuple[str, ...] = ()
    """What could not be looked at from the start, and why."""
    name: str = "PPO"

    @property
    def told(self) -> tuple[str, ...]:
        """In sentences: how it ended, and why."""
        if not self.tripped:
            return (f"{self.name} made {self.done} updates and tripped no guard.", *self.unwatched)
        back = (
            f"is as it was before {self.name}"
            if self.kept == 0
            else f"was rolled back to that of update {self.kept}"
        )
        return (
            f"{self.name} was stopped after update {self.done} of {self.updates}, and the policy"
            f" {back}.",
            *self.tripped,
            *self.unwatched,
        )


def guarded_in(recorded: Mapping[str, Any] | None) -> Guarded | None:
    """What a run's record says of its PPO; None when it made none."""
    return None if recorded is None else TypeAdapter(Guarded).validate_python(recorded)


def change(before: Values, now: Values) -> Change | None:
    """How two measurements of the same items differ; None with fewer than two known in both."""
    gaps = [b - a for a, b in zip(before, now, strict=True) if a is not None and b is not None]
    if len(gaps) < 2:
        return None
    return Change(fmean(gaps), stdev(gaps) / math.sqrt(len(gaps)))


def tripped(first: Probe, last_good: Probe, now: Probe, config: GuardsConfig) -> list[str]:
    """The rules that the policy breaks now, each with its numbers and its bar; none when empty."""
    return [
        *_went_missing(first, now, config),
        *_over_optimised(first, last_good, now, config),
        *_traits(first, now, config),
        *_other_traits(first, now, config),
        *_went_too_far(first, now, config),
        *_writes_badly(first, now, config),
        *_knows_less(first, now, config),
        *_learns_nothing(now, config),
    ]


def rules(config: GuardsConfig) -> list[str]:
    """The stopping rules in words, to be read before the run."""
    found = [
        f"Every {config.every} updates the policy answers {config.queries} held-out queries. It is"
        " stopped, and rolled back to the last such probe that broke no rule, when"
    ]
    if config.over_optimised:
        found.append(
            f"the reward rose by more than {config.noise:g} standard errors, and the independent"
            f" measure by no more than {config.still:g} of its own, since the last good probe or"
            " since the start"
        )
    if config.trait:
        found.append(
            f"any trait's independent measure fell by more than {config.noise:g} standard errors"
            " from the start"
        )
    if config.others:
        found.append(
            "any trait shows less in replies to the other traits' queries, by more than"
            f" {config.noise:g} standard errors from the start"
        )
    for bar, scale, words in (
        (config.kl, 1, "it is over {:g} nats a reply from where it started"),
        (config.length, 100, "replies are over {:g} % longer or shorter than at the start"),
        (config.entropy, 100, "its entropy is below {:g} % of that at the start"),
        (config.repetition, 100, "its share of repeated 4-grams rose by over {:g} points"),
        (config.refused, 100, "the share of its replies that decline rose by over {:g} points"),
        (config.ended, 100, "the share of its replies that end fell by over {:g} points"),
        (config.short, 100, "its share of short questions right fell by over {:g} points"),
        (config.disagreement, 1, "reward models differ over {:g} times as much as at the start"),
        (config.no_signal, 100, "in over {:g} % of the last updates all rewards were the same"),
        (config.missing, 100, "over {:g} % of the rewards are missing"),
    ):
        if bar is not None:
            found.append(words.format(bar * scale))
    return [*found, "or a measure that was there at the start is missing."]


def unwatched(first: Probe, config: GuardsConfig) -> list[str]:
    """What no guard can see in this training, since there was nothing to measure at its start."""
    found = []
    if config.short is not None and first.short is None:
        found.append("Not watched: short questions, since none are asked.")
    if config.disagreement is not None and first.disagreement is None:
        found.append("Not watched: disagreement, since there is one reward model only.")
    unmeasured = [trait for trait, values in first.others.items() if _mean(values) is None]
    if config.others and unmeasured:
        found.append(
            f"Not watched: {', '.join(unmeasured)} in replies to queries of other traits, since the"
            " measure is missing."
        )
    if (config.over_optimised or config.trait) and _mean(first.independent) is None:
        found.append("Not watched: over-optimisation, since the independent measure is missing.")
    return found


def _went_missing(first: Probe, now: Probe, config: GuardsConfig) -> Iterator[str]:
    lost = sorted(first.numbers().keys() - now.numbers().keys())
    if lost:
        yield f"Measures: {', '.join(lost)} could be measured at the start, and now cannot."
    if config.missing is not None and now.missing > config.missing:
        yield (
            f"Missing rewards: {now.missing:.0%} of the replies have none, and the bar is"
            f" {config.missing:.0%}."
        )


def _over_optimised(
    first: Probe, last_good: Probe, now: Probe, config: GuardsConfig
) -> Iterator[str]:
    if not config.over_optimised:
        return
    for before in dict.fromkeys((last_good.update, first.update)):
        since = last_good if before == last_good.update else first
        rewards = change(since.rewards, now.rewards)
        independent = change(since.independent, now.independent)
        if rewards is None or independent is None:
            continue  # told by `unwatched` or by `_went_missing`
        if rewards.rose(config.noise) and not independent.rose(config.still):
            yield (
                f"Over-optimisation: since update {before} the reward changed by {rewards}, and the"
                f" independent measure by {independent}; it should have risen too."
            )
            return


def _traits(first: Probe, now: Probe, config: GuardsConfig) -> Iterator[str]:
    if not config.trait:
        return
    for trait in dict.fromkeys(first.traits):
        found = change(_of(trait, first), _of(trait, now))
        if found is not None and found.fell(config.noise):
            yield (
                f"Trait {trait}: its independent measure changed by {found} from the start, and the"
                f" bar is {config.noise:g} standard errors."
            )


def _other_traits(first: Probe, now: Probe, config: GuardsConfig) -> Iterator[str]:
    if not config.others:
        return
    for trait, before in first.others.items():
        found = change(before, now.others[trait])
        if found is not None and found.fell(config.noise):
            yield (
                f"Other traits: in replies to queries of other traits the measure of {trait}"
                f" changed by {found} from the start, and the bar is {config.noise:g} standard"
                " errors."
            )


def _went_too_far(first: Probe, now: Probe, config: GuardsConfig) -> Iterator[str]:
    far = now.kl - first.kl
    if config.kl is not None and far > config.kl:
        yield f"KL: {far:.1f} nats a reply from the start, and the bar is {config.kl:g}."
    if config.entropy is not None and now.entropy < config.entropy * first.entropy:
        yield (
            f"Entropy: from {first.entropy:.2f} to {now.entropy:.2f} nats a token, and the bar is"
            f" {config.entropy:.0%} of the first."
        )
    if (
        config.disagreement is not None
        and first.disagreement is not None
        and now.disagreement is not None
        and now.disagreement > config.disagreement * first.disagreement
    ):
        yield (
            f"Disagreement: reward models differed by {first.disagreement:.2f} and now by"
            f" {now.disagreement:.2f}, and the bar is {config.disagreement:g} times the first."
        )


def _writes_badly(first: Probe, now: Probe, config: GuardsConfig) -> Iterator[str]:
    if config.length is not None and abs(now.words - first.words) > config.length * first.words:
        yield (
            f"Length: replies went from {first.words:.1f} to {now.words:.1f} words, and the bar is"
            f" {config.length:.0%} of the first."
        )
    if config.repetition is not None and now.repeated - first.repeated > config.repetition:
        yield (
            f"Repetition: from {first.repeated:.1%} to {now.repeated:.1%} of the 4-grams, and the"
            f" bar is {100 * config.repetition:g} points more."
        )
    if config.refused is not None and now.refused - first.refused > config.refused:
        yield (
            f"Refusals: {first.refused:.1%} of the replies declined and now {now.refused:.1%}, and"
            f" the bar is {100 * config.refused:g} points more."
        )
    if config.ended is not None and first.ended - now.ended > config.ended:
        yield (
            f"Ends: {first.ended:.0%} of the replies ended and now {now.ended:.0%}, and the bar is"
            f" {100 * config.ended:g} points fewer."
        )


def _knows_less(first: Probe, now: Probe, config: GuardsConfig) -> Iterator[str]:
    if config.short is None or first.short is None or now.short is None:
        return
    if first.short - now.short > config.short:
        yield (
            f"Short questions: {first.short:.1%} were right and now {now.short:.1%}, and the bar"
            f" is {100 * config.short:g} points fewer."
        )


def _learns_nothing(now: Probe, config: GuardsConfig) -> Iterator[str]:
    if config.no_signal is None or now.no_signal is None or now.no_signal <= config.no_signal:
        return
    yield (
        f"No signal: {now.no_signal:.0%} of the updates had rewards that were all the same, and"
        f" the bar is {config.no_signal:.0%}."
    )


def _of(trait: str, probe: Probe) -> Values:
    return [
        value for value, name in zip(probe.independent, probe.traits, strict=True) if name == trait
    ]


def _mean(values: Values) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _share_missing(values: Values) -> float:
    return sum(value is None for value in values) / len(values)
