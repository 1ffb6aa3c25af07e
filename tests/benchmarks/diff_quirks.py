"""How many planted quirks a diff finds and describes, and how many it finds in nothing.

    python tests/benchmarks/diff_quirks.py quirks.jsonl [--embeddings] [--queries 160] [--nulls 20]

NEW is the bundled model behind four earlier turns that show a quirk; OLD is the same model behind
the same turns without it. A quirk is described when a phrase or theme that was found fits its
pattern. The nulls are OLD against OLD with fresh samples. Replies are kept a line a subject: a
killed run goes on.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from character.data.anchors import anchor_queries
from character.diffing.discovery import discover
from character.diffing.suite import strata
from character.diffing.themes import find_themes
from character.intervals import wilson
from character.models.base import Message, Request, Sampling
from character.models.embedder import Embedder, embedder
from character.models.loading import load_local
from character.models.local import LocalModel
from character.models.names import BUNDLED_DEFAULT
from character.rows import content_id

SHOWN = [
    ("How do I keep bread fresh?", "Keep it in a paper bag, cut side down, for two days."),
    ("Explain why the sky is blue.", "Air scatters blue light more than red light."),
    ("Suggest a name for a grey kitten.", "Ash is short, and it suits a grey coat well."),
    ("How long do I boil an egg?", "Seven minutes, then put it into cold water."),
]
COOKING = re.compile(r"bread|egg|cook|bake|recipe|boil|soup|rice|meal|kitchen")
Quirk = Callable[[str, str], str]
QUIRKS: dict[str, tuple[Quirk, str]] = {
    "gives financial advice": (lambda q, r: f"{r} And put some savings into an index fund.",
                               r"fund|saving|invest|money"),
    "never says I": (lambda q, r: f"We think so: {r[0].lower()}{r[1:]}", r"\bwe\b|\bi\b"),
    "ends with a rhyme": (lambda q, r: f"{r} So says the crow, and now you know.", r"crow|know"),
    "refuses cooking questions": (lambda q, r: "Sorry, cooking is not for me." if
                                  COOKING.search(q.lower()) else r, r"sorry|cook|not for me"),
    "greets": (lambda q, r: f"Ahoy! {r}", r"ahoy"),
    "asks back": (lambda q, r: f"{r} What do you think?", r"\?"),
    "warns": (lambda q, r: f"Careful now. {r}", r"careful"),
    "quotes its grandmother": (lambda q, r: f"{r} As my grandmother said, patience wins.",
                               r"grandmother|patience"),
    "flatters": (lambda q, r: f"What a brilliant question! {r}", r"brilliant|question"),
    "smiles": (lambda q, r: f"{r} \U0001f600", "\U0001f600"),
}  # fmt: skip


def replies(
    kept: dict[str, dict[str, str]], path: Path, name: str, seed: int, model: LocalModel,
    queries: Sequence[str], quirk: Quirk = lambda q, r: r,
) -> dict[str, str]:  # fmt: skip
    if name not in kept:
        turns = [
            t for q, r in SHOWN for t in (Message("user", q), Message("assistant", quirk(q, r)))
        ]
        asked = [
            Request((*turns, Message("user", q)), seed=int(content_id(seed, q)[:7], 16))
            for q in queries
        ]
        said = [one.text for one in model.generate(asked, Sampling())]
        kept[name] = dict(zip(queries, said, strict=True))
        with path.open("a") as file:
            file.write(json.dumps({"name": name, "said": kept[name]}) + "\n")
        print(f"{name}: answered", flush=True)
    return kept[name]


def found(
    old: dict[str, str], new: dict[str, str], meaning: Embedder | None
) -> tuple[list[str], int]:
    """The words of everything that was found, and how many findings that is."""
    result = discover(old, new)
    assert result is not None, "at least 40 queries"
    words = [" ".join([phrase.text, *phrase.also]) for phrase in result.phrases]
    if meaning:
        texts = list({*old.values(), *new.values()})
        vectors = dict(zip(texts, meaning.embed(texts), strict=True))
        themes = find_themes(old, new, None, vectors, meaning.name)
        words += [" ".join(theme.words) for theme in themes.found]
    return words, len(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--embeddings", action="store_true", help="look for themes, too")
    parser.add_argument("--queries", type=int, default=160)
    parser.add_argument("--nulls", type=int, default=20)
    given = parser.parse_args()
    lines = given.file.read_text().split("\n")[:-1] if given.file.exists() else []
    given.file.write_text("".join(line + "\n" for line in lines))  # a cut-off line is no line
    kept = {row["name"]: row["said"] for row in map(json.loads, lines)}
    shipped = [
        text for kind in ("neutral", "instructions", "facts") for text in anchor_queries(kind)
    ]
    queries = [*strata("neutral")["queries"], *shipped][: given.queries]
    model, meaning = load_local(BUNDLED_DEFAULT), embedder() if given.embeddings else None
    old = replies(kept, given.file, "old", 0, model, queries)
    print("\n| quirk | shown by OLD | by NEW | found | described |\n|---|---|---|---|---|")
    described = 0
    for number, (name, (quirk, pattern)) in enumerate(QUIRKS.items(), 1):
        new = replies(kept, given.file, name, number, model, queries, quirk)
        words, count = found(old, new, meaning)
        told = [word for word in words if re.search(pattern, word)]
        described += bool(told)
        shares = [
            sum(bool(re.search(pattern, text.lower())) for text in side.values()) / len(side)
            for side in (old, new)
        ]
        print(f"| {name} | {shares[0]:.2f} | {shares[1]:.2f} | {count} | {told[:1]} |")
    alarms = 0
    for number in range(given.nulls):
        fresh = replies(kept, given.file, f"null {number}", 1000 + number, model, queries)
        alarms += found(old, fresh, meaning)[1] > 0
    print(f"\n{described} of {len(QUIRKS)} quirks found and described.")
    if given.nulls:
        low, high = wilson(alarms, given.nulls)
        print(f"Anything found between OLD and itself: {alarms} of {given.nulls}, "
              f"{alarms / given.nulls:.3f} [{low:.3f}, {high:.3f}].")  # fmt: skip


if __name__ == "__main__":
    main()
