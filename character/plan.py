"""What a build will do, before it does it: calls, tokens and minutes per stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from character.data.queries import drafts_wanted, fresh_drafts
from character.judging.config import CardConfig, NamedJudge
from character.judging.kinds import NEED_NO_MODEL, NEED_WEIGHTS, all_at_once
from character.judging.plants import replies_wanted
from character.judging.tournament import budget
from character.models.config import RequestsConfig
from character.models.names import has_weights
from character.models.prices import price_of
from character.recipe import Recipe
from character.spec.constitution import Constitution

STAGES = (
    "judge_cards",
    "queries",
    "replies",
    "judgements",
    "distilled",
    "revisions",
    "revision_judgements",
    "introspection",
    "documents",
    "sft",
    "own_replies",
    "own_judgements",
    "rankings",
    "pairs",
    "dataset",
    "reward_model",
    "policy",
    "ppo",
    "rounds",
    "settled",
    "measure",
    "report",
)

# Tokens a second of the bundled model on two cores with bf16, as a default build took its stages.
WRITES, SCORES, TRAINS = 550.0, 2000.0, 750.0
LISTED = 250  # tokens of a list of messages that a writer is shown
EDITED = 900  # tokens of a trait's examples, as an editor is shown them
LATENCY = 2.0  # seconds that a model behind an API takes to answer
ASKED, ANSWERED = 500, 20  # tokens that a judge of two replies reads, and says
SAMPLES = 2  # answers asked for where a judge tells no probabilities
DISTANCE = 24  # replies of each dose whose distance to the base model is measured
PROMPT = 35  # tokens of a query with its chat template


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """`tokens` are written, scored or trained on, as the stage does. Dollars None is unknown."""

    stage: str
    what: str
    calls: int
    tokens: int
    seconds: float
    dollars: float | None = 0.0


def plan(constitution: Constitution, recipe: Recipe) -> list[PlannedStage]:
    """An upper estimate: every reply as long as it may be, every query found."""
    traits = len(constitution.traits)
    drafts = sum(drafts_wanted(trait, recipe.queries) for trait in constitution.traits)
    train, held_out = traits * recipe.queries.train, traits * recipe.queries.held_out
    replies = train * (recipe.replies.plain + recipe.replies.steered)
    replies += held_out * (recipe.replies.plain + recipe.replies.steered_held_out)
    length = recipe.replies.sampling.max_tokens
    contexts = 2 * traits + 2
    taught = train * recipe.training.distill.replies_per_query
    anchors = recipe.training.anchors
    elsewhere = recipe.queries.neutral + traits * recipe.queries.unless // 2
    held = anchors.facts + anchors.instructions + anchors.formats + elsewhere
    lessons = taught * (PROMPT + length) + held * (PROMPT + anchors.max_tokens)
    doses = len(recipe.training.dose.tried)
    own = train * doses
    per_query = recipe.replies.plain + recipe.replies.steered
    of_each = train * recipe.pairs.per_query  # of the base's replies, and of the policy's own
    reward = recipe.training.reward
    pairs = min(of_each * (2 if own else 1), reward.pairs)
    pair_tokens = pairs * 2 * (PROMPT + length)
    dpo = recipe.training.dpo
    preferred = min(of_each, dpo.pairs)
    preferred_tokens = preferred * 2 * (PROMPT + length)
    subjects = 5 if recipe.measure.best_of else 4
    answers = subjects * held_out * recipe.measure.samples
    short = subjects * recipe.measure.questions
    drawn = answers + held_out * recipe.measure.samples * max(0, recipe.measure.best_of - 1)
    return [
        *tried(traits, recipe.card, recipe.ranking.judges(recipe.roles.judge)),
        _drafted(recipe, drafts),
        _written("replies", "replies", replies, length),
        *_judged("judgements", constitution, recipe, replies, per_query),
        _scored("distilled", "teacher passes", 2 * taught, PROMPT + length),
        _trained(
            "distilled", "lesson tokens", taught + held, lessons * recipe.training.distill.epochs
        ),
        *_other_sources(constitution, recipe, held, per_query),
        _written("own_replies", "replies", own, length),
        *_judged("own_judgements", constitution, recipe, own, per_query + doses),
        _trained(
            "reward_model", "pair tokens", pairs, pair_tokens * reward.epochs * reward.members
        ),
        _trained("policy", "pair tokens", preferred, 2 * preferred_tokens * dpo.epochs),
        *_improved(recipe, min(held_out, recipe.training.ppo.guards.queries)),
        *_further_rounds(constitution, recipe, min(held_out, recipe.training.ppo.guards.queries)),
        *_settled(recipe, train, contexts),
        *_apart(min(train, DISTANCE) * doses, length),
        _written("measure", "answers", drawn, recipe.measure.sampling.max_tokens),
        _written("measure", "short answers", short, recipe.measure.short_sampling.max_tokens),
        _scored("measure", "answers under each context", answers * (contexts + 1), PROMPT + length),
    ]


def _other_sources(
    constitution: Constitution, recipe: Recipe, anchors: int, per_query: int
) -> list[PlannedStage]:
    """The texts that are learned word for word, and the fine-tuning; nothing that is off."""
    traits, sft = len(constitution.traits), recipe.training.sft
    plain = recipe.queries.train * recipe.replies.plain
    revised = traits * min(recipe.revisions.replies, plain)
    talks, documents = recipe.introspection, traits * recipe.documents.count
    turns = traits * (talks.reflections + talks.dialogues * (2 * talks.replies - 1))
    learned = traits * (talks.reflections + talks.dialogues * talks.replies)
    length, said = recipe.replies.sampling.max_tokens, talks.sampling.max_tokens
    long = recipe.documents.sampling.max_tokens
    examples = sum(len(trait.examples) for trait in constitution.traits)
    shown = sft.demonstrations and traits * recipe.queries.train * sft.demonstrations + examples
    texts = shown + revised + learned + documents
    tokens = (shown + revised) * (PROMPT + length) + learned * (PROMPT + said)
    tokens += documents * (LISTED + long)
    held = anchors * (PROMPT + recipe.training.anchors.max_tokens) * bool(sft.anchors)
    found = []
    if revised:
        critique = recipe.revisions.critique.max_tokens
        found += [
            _by_writer("revisions", "criticisms", revised, EDITED, critique, recipe),
            _by_writer("revisions", "new replies", revised, EDITED, length, recipe),
            *_judged("revision_judgements", constitution, recipe, revised, per_query + 1),
        ]
    if turns:
        found.append(_written("introspection", "turns", turns, said))
    if documents:
        found.append(_by_writer("documents", "documents", documents, LISTED, long, recipe))
    if texts:
        found.append(_trained("sft", "text tokens", texts, (tokens + held) * sft.epochs))
    return found


def _by_writer(
    stage: str,
    what: str,
    calls: int,
    read: int,
    length: int,
    recipe: Recipe,
) -> PlannedStage:
    """Calls to the writer, which reads so many tokens and writes as many as it may."""
    writer = recipe.roles.writer
    if has_weights(writer):
        return _written(stage, what, calls, length)
    quote = price_of(writer)
    dollars = calls * quote.price.most(read, length) if quote else None
    seconds = calls * LATENCY / recipe.requests.concurrency
    return PlannedStage(stage, f"{what} by {writer}", calls, calls * length, seconds, dollars)


def _improved(recipe: Recipe, watched: int) -> list[PlannedStage]:
    """PPO, and the probes of its guards; nothing when the recipe makes no updates."""
    config = recipe.training.ppo
    if not config.updates:
        return []
    drawn, length = config.updates * config.rollouts, config.max_tokens
    probes = 1 + -(-config.updates // config.guards.every)
    seen = probes * watched
    members = recipe.training.reward.members
    # the policy and its reference read what was drawn, and each reward model does
    read = drawn * (2 + members) + seen * (4 + members)
    brief, questions = recipe.measure.short_sampling.max_tokens, config.guards.questions
    return [
        _written("ppo", "replies", drawn + seen, length),
        _scored("ppo", "replies read and rewarded", read, PROMPT + length),
        _trained("ppo", "reply tokens", drawn, drawn * (PROMPT + length) * config.epochs),
        *([_written("ppo", "short answers", probes * questions, brief)] if questions else []),
    ]


def _settled(recipe: Recipe, train: int, contexts: int) -> list[PlannedStage]:
    config = recipe.training.settle
    if config.target is None:
        return []
    answers = min(train, config.queries) * len(config.tried) * recipe.measure.samples
    length = recipe.measure.sampling.max_tokens
    return [
        _written("settled", "answers", answers, length),
        _scored("settled", "answers under each context", answers * contexts, PROMPT + length),
    ]


def _apart(replies: int, length: int) -> list[PlannedStage]:
    """Own replies of each dose, read by it and by the base model."""
    return [_scored("measure", "doses' replies", 2 * replies, PROMPT + length)] if replies else []


def _further_rounds(constitution: Constitution, recipe: Recipe, watched: int) -> list[PlannedStage]:
    """All of them together; nothing when there are none."""
    rounds, traits, replies = recipe.rounds, len(constitution.traits), recipe.replies
    if not rounds:
        return []
    stage, length = "rounds", replies.sampling.max_tokens
    fresh = traits * recipe.queries.fresh
    together = replies.plain + replies.steered
    base, own = rounds * fresh * together, rounds * fresh * replies.own
    reward, dpo = recipe.training.reward, recipe.training.dpo
    pairs = rounds * min(fresh * recipe.pairs.per_query, dpo.pairs)
    compared = rounds * reward.pairs
    drafts = rounds * traits * fresh_drafts(recipe.queries)
    each = 2 * (PROMPT + length)
    return [
        _by_writer(
            stage, "fresh drafts", drafts, LISTED, recipe.queries.sampling.max_tokens, recipe
        ),
        _written(stage, "replies", base + own, length),
        *_judged(stage, constitution, recipe, base + own, together + replies.own),
        _trained(stage, "reward pairs", compared, compared * each * reward.epochs * reward.members),
        _trained(stage, "policy pairs", pairs, 2 * pairs * each * dpo.epochs),
        *(
            replace(found, stage=stage, what=f"{found.what} of PPO")
            for found in _improved(recipe, watched) * rounds
        ),
    ]


def minutes(stages: Sequence[PlannedStage]) -> float:
    return sum(stage.seconds for stage in stages) / 60


def _judged(
    stage: str, constitution: Constitution, recipe: Recipe, replies: int, together: int
) -> list[PlannedStage]:
    """Judging so many replies, of which a query has at most so many together."""
    length = PROMPT + recipe.replies.sampling.max_tokens
    traits, judges = constitution.traits, recipe.ranking.judges(recipe.roles.judge)
    likely = sum(named.kind in NEED_WEIGHTS for named in judges)
    contexts = 2 * len(traits) * likely + 2  # two for relevance
    found = [_scored(stage, "replies under each context", replies * contexts, length)]
    for named in judges:
        if named.kind in NEED_WEIGHTS or named.kind in NEED_NO_MODEL:
            continue
        if named.kind == "rubric":
            calls = replies * sum(len(trait.clauses) for trait in traits) * SAMPLES
        else:
            every = all_at_once([judge.kind for judge in judges])
            pairs = budget(together, 1 if every else recipe.ranking.comparisons)
            each = together if named.kind == "listwise" else 2 * SAMPLES * pairs
            calls = len(traits) * -(-replies // together) * each
        found.append(_asked(stage, named.kind, named.model, calls))
    return found


def _asked(stage: str, kind: str, judge: str, calls: int) -> PlannedStage:
    """Calls to a judge that is asked in words."""
    if has_weights(judge):
        return _scored(stage, f"{kind} calls", calls, ASKED)
    quote = price_of(judge)
    dollars = calls * quote.price.most(ASKED, ANSWERED) if quote else None
    seconds = calls * LATENCY / RequestsConfig().concurrency
    return PlannedStage(stage, f"{kind} by {judge}", calls, calls * ASKED, seconds, dollars)


def tried(
    traits: int, card: CardConfig, judges: Sequence[NamedJudge] = (NamedJudge("likelihood", ""),)
) -> list[PlannedStage]:
    """The judge's cards, unless they are already kept; a panel's own and those of its members."""
    if not card.enabled:
        return []
    rounds = 2 if len(judges) > 1 else 1  # a panel is tried on plants of its own
    plants = card.plants
    planted = traits * rounds * replies_wanted(plants)
    judged = planted + traits * rounds * (5 * plants.dosed + 3 * card.attacks)
    length = plants.sampling.max_tokens
    found = [_written("judge_cards", "planted replies", planted, length)]
    contests = traits * rounds * (3 * plants.queries + 12 * plants.dosed + 2 * card.attacks)
    for named in judges:
        if named.kind in NEED_WEIGHTS:
            what = "plants and attacks judged"
            found.append(_scored("judge_cards", what, 2 * judged, PROMPT + length))
        elif named.kind not in NEED_NO_MODEL:
            calls = 2 * SAMPLES * contests
            found.append(_asked("judge_cards", named.kind, named.model, calls))
    return found


def _drafted(recipe: Recipe, drafts: int) -> PlannedStage:
    length = recipe.queries.sampling.max_tokens
    return _by_writer("queries", "drafts", drafts, LISTED, length, recipe)


def _written(stage: str, what: str, calls: int, length: int) -> PlannedStage:
    return PlannedStage(stage, what, calls, calls * length, calls * length / WRITES)


def _scored(stage: str, what: str, calls: int, length: int) -> PlannedStage:
    return PlannedStage(stage, what, calls, calls * length, calls * length / SCORES)


def _trained(stage: str, what: str, calls: int, tokens: int) -> PlannedStage:
    return PlannedStage(stage, what, calls, tokens, tokens / TRAINS)
