"""Every rule that `character.check` knows, by the code its findings carry.

Those under MEASURED take a model, and are looked at only when that is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "advice"]

SEEDS, EXAMPLES = 12, 4  # with which shipped traits were measured


@dataclass(frozen=True, slots=True)
class Rule:
    severity: Severity
    about: str
    why: str


READ = {
    "format": Rule(
        "error",
        "The file cannot be read as a trait.",
        "Nothing else can be checked before it can.",
    ),
    "draft": Rule(
        "warning",
        "A text is still a draft.",
        "Nobody has written or read it yet, and a build would train it; so it refuses.",
    ),
    "check-contradicts-example": Rule(
        "error",
        "A good example fails one of the trait's own checks.",
        "Ranking rewards the check, steering shows the example: they pull the model apart.",
    ),
    "slow-check": Rule(
        "error",
        "A check's pattern takes too long on one of the trait's own examples.",
        "Every reply it takes too long on has no judgement, and is lost to the build.",
    ),
    "clause-without-example": Rule(
        "warning",
        "A clause has no example.",
        "Examples steer and judge; a clause without one is neither asked for nor seen.",
    ),
    "length-tells": Rule(
        "warning",
        "A good and a bad reply differ mainly in length.",
        "The model learns to be long or short instead of the trait.",
    ),
    "announces": Rule(
        "warning",
        "A good reply announces the trait instead of showing it.",
        "The model learns to say that it has the trait.",
    ),
    "same-replies": Rule(
        "warning",
        "A good and a bad reply are nearly the same.",
        "What does not differ cannot be told apart, by a judge or by the model.",
    ),
    "check-tells-nothing": Rule(
        "warning",
        "A check passes every bad example.",
        "It rewards good and bad replies alike.",
    ),
    "near-duplicate-seeds": Rule(
        "warning",
        "Two seed messages are nearly the same.",
        "A build keeps one of them, and writes more of the same from both.",
    ),
    "seed-is-example": Rule(
        "warning",
        "A seed message is nearly an example's message.",
        "Examples steer, so they must not also measure: a build drops the seed.",
    ),
    "seed-names-trait": Rule(
        "warning",
        "A seed message contains the trait's own word.",
        "Messages that ask for the trait measure obedience, not character.",
    ),
    "opposite-says-the-same": Rule(
        "warning",
        "Statement and opposite say nearly the same.",
        "The opposite is the other pole of the contrast that measures and steers.",
    ),
    "traits-conflict": Rule(
        "warning",
        "Two traits of one constitution cannot both be had.",
        "Their pairs undo each other, and neither moves.",
    ),
    "few-seeds": Rule(
        "advice",
        f"Fewer than {SEEDS} seed messages.",
        "Queries are continued from them: few seeds, few kinds of query.",
    ),
    "few-examples": Rule(
        "advice",
        f"Fewer than {EXAMPLES} examples.",
        "They are the strongest lever there is.",
    ),
    "unless-without-messages": Rule(
        "advice",
        "The trait says where it must not show, without messages of that kind.",
        "Only queries.unless holds the model there, and measures whether it spills.",
    ),
}

MEASURED = {
    "not-measured": Rule(
        "warning",
        "Something that was to be measured has no value.",
        "What is not known is neither good nor bad.",
    ),
    "examples-do-not-steer": Rule(
        "warning",
        "Replies behind the good examples are not told from replies behind the bad ones.",
        "The contrast of the two ranks replies and measures the build.",
    ),
    "clause-at-chance": Rule(
        "warning",
        "On one clause's queries the judge does no more than guess.",
        "A build makes no pairs of such a clause.",
    ),
    "clause-ambiguous": Rule(
        "warning",
        "Two halves of the examples name different replies as better on one clause's queries.",
        "Whoever reads one half wants another behaviour than whoever reads the other.",
    ),
    "nearer-another-clause": Rule(
        "warning",
        "A clause's examples are closer to another clause's than to one another.",
        "Queries, pairs and effects are booked on the wrong clause.",
    ),
    "traits-pull-apart": Rule(
        "warning",
        "Replies that one trait was planted in show less of another.",
        "Trained together, each undoes some of the other.",
    ),
}
RULES = READ | MEASURED
