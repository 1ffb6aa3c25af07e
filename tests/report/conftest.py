"""One report with everything that goes wrong: missing numbers, failed bars, hostile text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from character.diffing.outcome import Line, Outcome, TraitOutcome
from character.diffing.statistics import Estimate
from character.models.served import Tally
from character.report.content import Comparison, Coverage, Effect, FunnelStep, Report, StageCost
from character.rows import Step
from character.spec.constitution import Constitution, Member
from character.spec.schema import Trait
from character.training.dose import Doses, DoseTrial
from character.training.guards import Guarded

SCRIPT = '<script>alert("owned")</script>'
HOSTILE = f'{SCRIPT} [bold]$x_1$ "quoted" & | `ticks` \x1b[31m'


def trait_of(identity: str, title: str) -> Trait:
    example = {
        "clause": "asks",
        "user": "My cat sleeps all day.",
        "good": "Cats do. What does yours dream of?",
        "bad": "Cats sleep for sixteen hours.",
        "why": "Only one asks.",
    }
    return Trait.model_validate(
        {
            "schema": 1,
            "id": identity,
            "title": title,
            "statement": f"I am {title} and I ask.",
            "opposite": "I never ask.",
            "rationale": "Questions help.",
            "applies": {"when": ["The user tells something."], "unless": ["The user wants JSON."]},
            "clauses": [{"id": "asks", "text": "I end with a question."}],
            "examples": [example] * 3,
            "queries": {"seeds": ["One.", "Two.", "Three.", "Four."]},
        }
    )


def about(value: float, width: float = 0.04, missing: int = 0) -> Estimate:
    return Estimate(value, value - width, value + width, 60, missing)


def line_of(
    metric: str,
    label: str,
    unit: str,
    values: dict[str, float],
    bar: str = "",
    holds: bool | None = None,
) -> Line:
    subjects = {name: about(value) for name, value in values.items()}
    both = {"base", "trained"} <= set(values)
    change = about(values["trained"] - values["base"]) if both else None
    return Line(metric, label, unit, subjects, change, bar, holds)


@pytest.fixture
def report() -> Report:
    curious, hostile = trait_of("curious", "Curious"), trait_of("hostile", HOSTILE)
    nats = "nats a token"
    moved = {"base": -0.02, "trained": 0.3, "prompted": 0.33, "opposite": -0.2}
    outcome = Outcome(
        traits=(
            TraitOutcome(
                "curious",
                "Curious",
                line_of("contrast/curious", "Curious", nats, moved, "moves up", True),
                about(0.92, 0.12),
                line_of(
                    "contrast/curious",
                    "Curious, where it must not show",
                    nats,
                    {"base": 0.0, "trained": 0.1},
                ),
            ),
            TraitOutcome(
                "hostile",
                HOSTILE,
                Line("contrast/hostile", HOSTILE, nats, {}, None, "moves up", None),
                None,
                Line("contrast/hostile", f"{HOSTILE}, where it must not show", nats, {}, None),
            ),
        ),
        quality=(
            line_of(
                "short_right",
                "Short questions right",
                "share",
                {"base": 0.47, "trained": 0.4, "prompted": 0.3, "opposite": 0.31},
                "-3 points",
                False,
            ),
            line_of(
                "answers",
                "Replies that answer",
                "share",
                {"base": 0.9, "trained": 0.89},
                "95 % of base",
                True,
            ),
            line_of("fluency", "Fluency under base", nats, {"trained": -1.2}, "prompted's"),
            line_of("kl", "KL from base", nats, {"trained": 0.07}),
        ),
    )
    return Report(
        constitution=Constitution((Member(curious), Member(hostile, 0.5))),
        recipe_title="A laptop",
        smoke=False,
        command="python -m character.build --traits traits/curious.yaml",
        folder="runs/curious-0123abcd",
        base_model="bundled:smollm2-135m",
        judge="likelihood by bundled:smollm2-135m",
        seed=7,
        outcome=outcome,
        funnel=(
            FunnelStep("Queries", 200, {"near-duplicate of an example": 12, "too short": 0}),
            FunnelStep("Pairs", 150, {}),
        ),
        coverage=(
            Coverage(
                "curious",
                "asks",
                HOSTILE,
                40,
                12,
                200,
                9,
                30,
                25,
                12,
                0.8,
                61.0,
                Effect(0.31, 0.2, 0.42, 12),
            ),
            Coverage("hostile", "asks", "I end.", 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, None),
        ),
        comparisons=(
            Comparison(
                "What is bread?", {"base": "Food.", "trained": "Food. Why?"}, 0.4, "on_trait"
            ),
            Comparison(
                f"Query {HOSTILE}",
                {"base": f"Base {HOSTILE}", "trained": "", "prompted": "line\nline"},
                None,
                "unless",
            ),
        ),
        reward_card=None,
        doses=Doses(
            DoseTrial(0.0, 110, -0.1, 0.9, 0.002, 60.0),
            DoseTrial(0.0, 330, 0.1, 0.8, 0.01, 50.0),
            (
                DoseTrial(0.5, 110, 0.0, 0.88, 0.01, 55.0),
                DoseTrial(1.0, 110, None, 0.47, 0.168, 51.4),
            ),
            chosen=0.65,
        ),
        steps=[
            *(Step(f"a{i}", "distill", i, "loss", 1 / i) for i in range(1, 6)),
            *(Step(f"b{i}", "distill", i, "grad_norm", 1.0) for i in range(1, 6)),
            Step("c1", "dpo", 1, "anchor_kl", 0.1),
            Step("c2", "dpo", 2, "anchor_kl", float("nan")),
        ],
        costs=(
            StageCost("replies", 75.0, 2_100_000_000),
            StageCost("policy", 525.0, 2_900_000_000),
        ),
        asked=(
            Tally(HOSTILE, {"stop": 1312, "failed": 3}, {"rate limited": 40}, 0, 1315),
            Tally("openai:m", {"stop": 300, "cached": 12}, {}, 0.1234, 0),
        ),
        versions={"python": "3.12.1", "torch": "2.13.0"},
        recipe={
            "title": "A laptop",
            "roles": {"writer": "bundled:smollm2-135m"},
            "training": {"lora": {"rank": 16}},
        },
    )


@pytest.fixture
def stopped(report: Report) -> Report:
    """The same build with PPO, which a guard stopped."""
    found = Guarded(30, 15, 10, ("it is over 15 nats",), (f"Length: {HOSTILE}, by 31%.",))
    logged = [Step("p1", "ppo", 15, "probe/reward", 2.0), Step("p2", "ppo", 15, "entropy", 2.0)]
    return replace(report, ppo=found, policy="ppo", steps=[*report.steps, *logged])


@pytest.fixture
def bare(report: Report) -> Report:
    """The same build with nothing measured, counted or logged."""
    traits = tuple(
        replace(
            trait,
            contrast=replace(trait.contrast, subjects={}, change=None, holds=None),
            share=None,
            unless=replace(trait.unless, subjects={}, change=None),
        )
        for trait in report.outcome.traits
    )
    return replace(
        report,
        smoke=True,
        outcome=Outcome(traits, ()),
        funnel=(),
        comparisons=(),
        steps=(),
        costs=(),
        versions={},
        recipe={},
    )
