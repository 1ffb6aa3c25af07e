"""A run's lineage in the terminal: what each clause gave rise to, and one thread of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter
from rich.console import Group, RenderableType
from rich.text import Text

from character.report.content import Coverage, Effect, Thread
from character.report.printable import printable
from character.report.terminal import MISSING, simple_table
from character.rows import Judgement, Pair, Reply

SHORT = 8  # characters of an id
MISSED = "bold yellow"


def effect_text(effect: Effect | None) -> str:
    """The effect with its interval, or "missing"."""
    if effect is None:
        return MISSING
    return f"{effect.value:+.2f} [{effect.low:+.2f}, {effect.high:+.2f}]"


def cost_text(seconds: float, dollars: float | None) -> str:
    """Seconds, and dollars where there were any."""
    paid = "price unknown" if dollars is None else f"${dollars:.4f}" if dollars else ""
    return f"{seconds:.0f} s, {paid}" if paid else f"{seconds:.0f} s"


def coverage_table(clauses: Sequence[Coverage], run: str) -> Group:
    """Every clause from its queries to its effect, and what is missing for it to show."""
    table = simple_table("Clause")
    for title in ("Queries", "Pairs", "Learned", "Weight", "Cost", "Effect"):
        table.add_column(title, justify="right", no_wrap=True)
    several = len({found.trait for found in clauses}) > 1
    for found in clauses:
        effect = Text(effect_text(found.effect) if found.effect else found.gap)
        if found.effect and found.gap:
            effect.append(f"\n{found.gap}", style=MISSED)
        elif found.gap:
            effect.stylize(MISSED)
        table.add_row(
            Text(printable(f"{found.trait}/{found.clause}" if several else found.clause)),
            f"{found.queries} + {found.held_out}",
            f"{found.pairs}",
            f"{found.distilled} + {found.finetuned} + {found.preferred}"
            if found.finetuned
            else f"{found.distilled} + {found.preferred}",
            MISSING if found.weight is None else f"{found.weight:.0%}",
            cost_text(found.seconds, found.dollars).replace(", ", "\n"),
            effect,
        )
    return Group(
        table,
        Text(
            "Queries: trained on + held out. Learned: replies distilled (+ texts word for word)"
            " + pairs preferred."
        ),
        Text("Cost: its share of what this run spent on writing and judging."),
        Text("Effect: trained minus base, nats a token on held-out queries."),
        Text(printable(f"Next: python -m character.trace {run} CLAUSE")),
    )


def clause_page(clause: Coverage, threads: Sequence[Thread], run: str) -> Group:
    """One clause, and the pairs the judge was surest of."""
    weight = MISSING if clause.weight is None else f"{clause.weight:.0%}"
    parts: list[RenderableType] = [
        Text(printable(f"{clause.trait}/{clause.clause}: {clause.text}"), style="bold"),
        Text(
            f"{clause.drafts} drafts; "
            f"{clause.queries} queries trained on and {clause.held_out} held out; "
            f"{clause.replies} replies, {clause.judgements} judgements of them, "
            f"{clause.below_floor} below the quality floor; "
            f"{clause.pairs} pairs; learned from {clause.distilled} replies, {clause.preferred} "
            f"pairs and {clause.finetuned} texts word for word, {weight} of all; "
            f"{cost_text(clause.seconds, clause.dollars)} of writing and judging; "
            f"effect {effect_text(clause.effect)}."
        ),
    ]
    if clause.gap:
        parts.append(Text(clause.gap, style=MISSED))
    for thread in threads:
        pair = next(pair for pair in thread.pairs if pair.id == thread.named)
        parts += [Text(), *_pair_lines(pair, thread)]
    if threads:
        named = threads[0].named[:SHORT]
        parts += [Text(), Text(printable(f"Next: python -m character.trace {run} {named}"))]
    return Group(*parts)


def thread_page(thread: Thread) -> Group:
    """The query, its clause, every reply in the judge's order, and the pairs made of them."""
    query = thread.query
    parts: list[RenderableType] = [
        Text(printable(f"Query {query.id[:SHORT]}: {query.text}"), style="bold"),
        Text(printable(f"  {query.kind}, {query.split}, from {query.source}"
                       + (f", {query.topic}, {query.register}" if query.topic else ""))),
    ]  # fmt: skip
    if query.clause:
        told = f"  clause {query.trait}/{query.clause}: {thread.clause}"
        parts.append(Text(printable(told)))
    tokens = sum(reply.tokens for reply in thread.replies)
    cost = cost_text(thread.seconds, thread.dollars)
    parts.append(
        Text(f"  {len(thread.replies)} replies of {tokens} tokens in all, its share {cost}")
    )
    parts += [Text(), Text("Replies, best first", style="bold")]
    for place, reply in _ranked(thread):
        parts.append(_reply_line(place, reply, thread))
    if thread.pairs:
        parts += [Text(), Text("Pairs", style="bold")]
        for pair in thread.pairs:
            parts += _pair_lines(pair, thread)
    return Group(*parts)


def json_text(found: Any) -> str:
    return TypeAdapter(type(found)).dump_json(found, indent=1).decode()


def _ranked(thread: Thread) -> list[tuple[str, Reply]]:
    """Replies by tier; then those below the floor, without judgement and without ranking."""
    by_id = {reply.id: reply for reply in thread.replies}
    places: dict[str, str] = {}
    if thread.ranking:
        for number, tier in enumerate(thread.ranking.tiers, 1):
            places |= dict.fromkeys(tier, f"{number}.")
        places |= dict.fromkeys(thread.ranking.below_floor, "below the floor")
        places |= dict.fromkeys(thread.ranking.missing, "not judged")
    places |= {reply: "not ranked" for reply in by_id if reply not in places}
    return [(place, by_id[reply]) for reply, place in places.items() if reply in by_id]


def _reply_line(place: str, reply: Reply, thread: Thread) -> Text:
    author = {"plain": "plain", "steered": f"steered by {reply.trait}", "own": reply.model}
    told = f"  {place:<16} {reply.id[:SHORT]} {author[reply.style]}"
    told += _judged(thread.judgements.get(reply.id))
    told += "".join(f", {flaw}" for flaw in reply.flaws) + _taught(reply.id, thread)
    style = "bold" if reply.id == thread.named else ""
    return Text(printable(f"{told}\n      {' '.join(reply.text.split())}"), style=style)


def _pair_lines(pair: Pair, thread: Thread) -> list[Text]:
    replies = {reply.id: reply for reply in thread.replies}
    head = f"Pair {pair.id[:SHORT]}: {pair.split}, margin {pair.margin:.2f}"
    head += f", P {pair.probability:.2f}{_taught(pair.id, thread)}"
    if reward := thread.rewards.get(pair.id):
        head += f", reward {reward.chosen:+.2f} over {reward.rejected:+.2f}"
    lines = [Text(printable(head), style="bold" if pair.id == thread.named else "")]
    lines.append(Text(printable(f"  query     {thread.query.text}")))
    for name, reply_id in (("chosen", pair.chosen_id), ("rejected", pair.rejected_id)):
        reply = replies[reply_id]
        told = f"  {name:<9} {reply_id[:SHORT]}{_judged(thread.judgements.get(reply_id))}"
        lines.append(Text(printable(f"{told}\n      {' '.join(reply.text.split())}")))
    return lines


def _judged(found: Judgement | None) -> str:
    if found is None:
        return ""
    if found.failed:
        return f", not judged: {found.failed}"
    parts = [("contrast", found.contrast), ("checks", found.checks), ("relevance", found.relevance)]
    if found.spread is not None:
        parts.append(("judges apart by", found.spread))
    return "".join(f", {name} {value:+.2f}" for name, value in parts if value is not None)


def _taught(learned: str, thread: Thread) -> str:
    rows = thread.taught.get(learned, ())
    return "".join(f", learned in {row.stage} (weight {row.weight:g})" for row in rows)
