"""How the reward model and the policy are trained. No torch here: recipes load without it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BatchConfig(Part):
    """A batch is trained on in micro-batches, as many as it takes."""

    batch: int = Field(ge=1)
    micro_batch: int = Field(ge=1)
    gradient_checkpointing: bool = Field(
        default=False, description="Less memory for more time; our PPO takes no notice."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.batch % min(self.micro_batch, self.batch):
            raise ValueError(f"batch {self.batch} is no multiple of micro_batch {self.micro_batch}")
        return self


class LoraConfig(Part):
    """Low-rank adapters on every linear layer (Hu et al. 2021)."""

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)


class AnchorsConfig(Part):
    """Queries on which the policy is held to what it said before training, beside the neutral ones
    and those where a trait must not show.
    """

    facts: int = Field(default=120, ge=0)
    instructions: int = Field(default=20, ge=0)
    formats: int = Field(default=20, ge=0)
    max_tokens: int = Field(default=40, ge=1)
    weight: float = Field(
        default=1.0, ge=0, description="Of an anchor token, beside a reply token."
    )


class DistillConfig(BatchConfig):
    """Context distillation: the plain policy matches its own prompted self, token by token."""

    replies_per_query: int = Field(default=2, ge=1)
    guidance: float = Field(
        default=0.25,
        ge=0,
        description="How far past the good-example teacher, away from the bad-example one.",
    )
    no_repeat_ngram_size: int = Field(
        default=4, ge=0, description="The teacher never says so many tokens twice; 0: it may."
    )
    epochs: int = Field(default=2, ge=0)
    learning_rate: float = Field(default=5e-4, gt=0)
    batch: int = Field(default=16, ge=1)
    micro_batch: int = Field(default=16, ge=1)


class SftConfig(BatchConfig):
    """Fine-tuning on texts word for word, after distillation, where the recipe has any such text.

    Off by default: none was measured to help on the bundled model.
    """

    demonstrations: int = Field(
        default=0,
        ge=0,
        description="Best steered replies a training query, and then the traits' examples too.",
    )
    epochs: int = Field(default=1, ge=0)
    learning_rate: float = Field(default=2e-4, gt=0)
    batch: int = Field(default=16, ge=1)
    micro_batch: int = Field(default=8, ge=1)
    anchors: float = Field(default=1.0, ge=0, description="Weight of the KL on anchor queries.")


class DoseConfig(Part):
    """How much of the distillation the policy starts from when it learns from its own replies."""

    tried: tuple[float, ...] = Field(
        default=(0.5, 0.75, 1.0),
        description="Each training query is answered once at each; none: no own replies, dose 1.",
    )
    answers: float = Field(
        default=0.9, ge=0, le=1, description="Of the plain replies' share that answers, at least."
    )
    repetition: float = Field(
        default=0.03, ge=0, le=1, description="Repeated 4-grams beyond the plain replies', at most."
    )


class SettleConfig(Part):
    """The weakest policy that is enough of the character, found after training (build --beta auto).

    The trained adapter is tried at several strengths on training queries, and the least one is
    kept that comes so much of the way from the plain to the prompted replies.
    """

    target: float | None = Field(default=None, gt=0, description="None: all of it is kept.")
    tried: tuple[float, ...] = Field(default=(0.4, 0.6, 0.8, 1.0), min_length=1)
    queries: int = Field(default=48, ge=1)

    @model_validator(mode="after")
    def _strengths(self) -> Self:
        if not all(0 < strength <= 1 for strength in self.tried):
            raise ValueError("tried holds shares of the training, above 0 and at most 1")
        return self


class DpoConfig(BatchConfig):
    """Direct preference optimisation on pairs of the policy's own replies.

    The keys combine: `length` says what a reply's log-probability is, `loss` what a pair costs,
    and `weights` how much of that counts. With loss ipo, length is normalised unless it is given.
    """

    pairs: int = Field(default=110, ge=1, description="The widest pairs are used, at most so many.")
    epochs: int = Field(default=1, ge=0)
    beta: float = Field(default=0.1, gt=0)
    nll: float = Field(default=1.0, ge=0, description="Weight of the loss on the chosen reply.")
    learning_rate: float = Field(default=1.5e-4, gt=0)
    batch: int = Field(default=8, ge=1)
    micro_batch: int = Field(default=4, ge=1)
    anchors: float = Field(default=1.0, ge=0, description="Weight of the KL on anchor queries.")
    loss: Literal["sigmoid", "ipo", "robust"] = "sigmoid"
    label_noise: float = Field(
        default=0.1, ge=0, lt=0.5, description="Share of pairs in the wrong order; loss robust."
    )
    length: Literal["sum", "normalised", "desensitised"] = Field(
        default="sum", description="Normalised: the mean a token, so it wants a far larger beta."
    )
    length_alpha: float = Field(
        default=0.5, ge=0, le=1, description="Of tokens beyond the shorter reply; desensitised."
    )
    weights: Literal["none", "probability", "soft"] = Field(
        default="none",
        description="From the ranking's probability p of a pair: its weight is 2p - 1, over the"
        " mean; or p of its loss and 1 - p of the swapped pair's. The NLL keeps its own.",
    )

    @model_validator(mode="before")
    @classmethod
    def _ipo_by_the_token(cls, given: object) -> object:
        """As its authors ran it, and as TRL does: see dpo_loss.py."""
        if isinstance(given, dict) and given.get("loss") == "ipo":
            return {"length": "normalised", **given}
        return given

    @model_validator(mode="after")
    def _no_key_in_vain(self) -> Self:
        for key, owner, wanted in (
            ("label_noise", "loss", "robust"),
            ("length_alpha", "length", "desensitised"),
        ):
            default = type(self).model_fields[key].default
            if getattr(self, owner) != wanted and getattr(self, key) != default:
                raise ValueError(f"{key} is read with {owner}={wanted} only: set that, or drop it")
        if self.loss == "robust" and self.weights == "soft":
            raise ValueError("loss=robust and weights=soft both allow for wrong pairs: use one")
        return self


class RewardConfig(BatchConfig):
    """Bradley-Terry reward model on the ranked pairs.

    Members are trained apart, each from a seed of its own; a reward is then their mean less
    `pessimism` times their standard deviation (Eisenstein et al. 2023; Coste et al. 2023).
    """

    pairs: int = Field(default=128, ge=1, description="Drawn from all pairs, at most so many.")
    epochs: int = Field(default=1, ge=0)
    learning_rate: float = Field(default=3e-4, gt=0)
    batch: int = Field(default=8, ge=1)
    micro_batch: int = Field(default=4, ge=1)
    centre: float = Field(default=0.01, ge=0, description="Pulls rewards towards zero mean.")
    full: bool = Field(
        default=False, description="All weights, not an adapter; then with a learning_rate of 1e-5."
    )
    labels: Literal["hard", "soft", "margin"] = Field(
        default="hard",
        description="Soft: the ranking's probability of a pair is the label. Margin: rewards should"
        " be apart by the ranking's gap.",
    )
    members: int = Field(default=1, ge=1, description="Reward models in the ensemble.")
    pessimism: float = Field(
        default=1.0, ge=0, description="Standard deviations of the members taken off their mean."
    )

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        if self.members > 1 and not self.centre:
            raise ValueError(
                "members need centre > 0, for example 0.01: without it each puts its zero anywhere,"
                " and they would seem to disagree where they do not"
            )
        return self


class GuardsConfig(Part):
    """When PPO is stopped: what may have changed on held-out queries, looked at every few updates.

    None leaves a guard out. The bars are chosen, and not measured on any model.
    """

    every: int = Field(default=5, ge=1, description="Updates between two probes.")
    queries: int = Field(default=48, ge=2, description="Held-out queries asked at each probe.")
    questions: int = Field(default=60, ge=0, description="Short questions, of those for settings.")
    noise: float = Field(
        default=2.0, ge=0, description="Standard errors that a change of a mean has to exceed."
    )
    over_optimised: bool = Field(
        default=True, description="Reward up, and the independent measure not: stop."
    )
    still: float = Field(
        default=1.0,
        ge=0,
        description="Standard errors by which the independent measure has to rise, or it stood"
        " still. Higher finds more, and stops more that is well.",
    )
    trait: bool = Field(default=True, description="A trait's independent measure down: stop.")
    others: bool = Field(
        default=True,
        description="A trait's measure down in replies to queries of the other traits: stop.",
    )
    kl: float | None = Field(default=15.0, gt=0, description="Nats a reply from the start.")
    length: float | None = Field(default=0.25, gt=0, description="Of the first words, up or down.")
    entropy: float | None = Field(
        default=0.5, gt=0, lt=1, description="Of the first entropy, at least."
    )
    repetition: float | None = Field(
        default=0.05, ge=0, description="Rise of the share of repeated word 4-grams."
    )
    refused: float | None = Field(
        default=0.05, ge=0, description="Rise of the share of replies that decline."
    )
    ended: float | None = Field(default=0.25, ge=0, description="Fall of the share that ends.")
    short: float | None = Field(
        default=0.08, ge=0, description="Fall of the share of short questions right."
    )
    disagreement: float | None = Field(
        default=1.5, gt=1, description="Times the first standard deviation between reward models."
    )
    no_signal: float | None = Field(
        default=0.5, ge=0, lt=1, description="Share of updates whose rewards were all the same."
    )
    missing: float | None = Field(
        default=0.2, ge=0, lt=1, description="Share of replies without a reward."
    )


class PpoConfig(BatchConfig):
    """Proximal policy optimisation on replies that the policy draws as it learns.

    Every update draws `rollouts` replies and learns from them `epochs` times, `batch` at a time.
    With whiten_rewards, reward_clip, truncated_penalty and kl_coefficient count in standard
    deviations of the reward.
    """

    updates: int = Field(default=0, ge=0, description="0: no PPO.")
    optimizer: Literal["ppo", "grpo", "rloo"] = Field(
        default="ppo", description="Ours, or TRL's: those compare replies to one query."
    )
    group: int = Field(default=4, ge=2, description="Replies to one query; grpo and rloo.")
    rollouts: int = Field(default=16, ge=1)
    max_tokens: int = Field(default=64, ge=1)
    temperature: float = Field(default=1.0, gt=0, description="Of the policy that is trained.")
    epochs: int = Field(default=2, ge=1)
    batch: int = Field(default=8, ge=1)
    micro_batch: int = Field(default=4, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    value_learning_rate: float = Field(default=1e-3, gt=0)
    max_grad_norm: float = Field(default=1.0, gt=0, description="Of adapter and value head each.")
    clip: float = Field(default=0.2, gt=0, description="How far from 1 a ratio still counts.")
    value_clip: float | None = Field(default=0.2, gt=0)
    value_head: Literal["shared", "detached", "separate"] = Field(
        default="separate",
        description="Linear, and it trains the adapter too; linear; or a small network.",
    )
    value_weight: float = Field(default=0.1, gt=0, description="Of its loss, beside the policy's.")
    gamma: float = Field(default=1.0, gt=0, le=1)
    lam: float = Field(default=0.95, ge=0, le=1)
    reference: Literal["base", "start"] = Field(
        default="start", description="Held to the model without adapter, or to the policy as found."
    )
    kl_coefficient: float = Field(default=0.05, ge=0, description="Reward lost a nat, at first.")
    kl_target: float | None = Field(
        default=6.0, gt=0, description="Nats a reply that the coefficient aims at; none: it stays."
    )
    kl_horizon: float = Field(
        default=160.0, gt=0, description="Replies in which the coefficient can change by a fifth."
    )
    whiten_rewards: bool = True
    reward_clip: float | None = Field(default=5.0, gt=0)
    whiten_advantages: bool = True
    truncated: Literal["bootstrap", "score", "drop"] = Field(
        default="bootstrap",
        description="A reply cut off counts by the value of going on, by its own reward, or not.",
    )
    truncated_penalty: float = Field(default=1.0, ge=0)
    checks: float = Field(
        default=1.0, ge=0, description="Reward of passing all of a trait's checks, in log-odds."
    )
    floor: float = Field(
        default=1.0, ge=0, description="By how much a reply below the floor is under the lowest."
    )
    guards: GuardsConfig = GuardsConfig()

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        if self.optimizer == "ppo":
            return self
        if not self.kl_coefficient:
            raise ValueError(
                f"optimizer {self.optimizer} needs kl_coefficient > 0, for example 0.05: nothing"
                " else holds it to where it started"
            )
        for key, size in (("group", self.group), ("batch", self.batch)):
            if self.rollouts % size:
                raise ValueError(f"rollouts {self.rollouts} is no multiple of {key} {size}")
        return self

    @model_validator(mode="after")
    def _no_guard_below_the_target(self) -> Self:
        if self.kl_target and self.guards.kl and self.guards.kl <= self.kl_target:
            raise ValueError(
                f"kl_target {self.kl_target:g} is what PPO aims at, and guards.kl"
                f" {self.guards.kl:g} would stop it there: set guards.kl higher"
            )
        return self


class TrainingConfig(Part):
    memory_gb: float | None = Field(
        default=None,
        gt=0,
        description="What a step may take; stages that would not fit checkpoint gradients.",
    )
    lora: LoraConfig = LoraConfig()
    anchors: AnchorsConfig = AnchorsConfig()
    distill: DistillConfig = DistillConfig()
    sft: SftConfig = SftConfig()
    dose: DoseConfig = DoseConfig()
    dpo: DpoConfig = DpoConfig()
    reward: RewardConfig = RewardConfig()
    ppo: PpoConfig = PpoConfig()
    settle: SettleConfig = SettleConfig()
