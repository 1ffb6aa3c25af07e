"""Clusters of meaning, on vectors that are made up: a topic for each query, and what is added."""

from __future__ import annotations

import zlib

import numpy as np

from character.diffing.themes import Said, Themes, Vectors, find_themes

WIDTH = 64


def said(seed: int, extra: str = "", share: float = 1.0, queries: int = 160) -> dict[str, str]:
    """Replies whose text says which vector they have."""
    draw = np.random.default_rng(seed)
    return {
        f"q{i}": f"topic {i} take {seed}{extra if draw.random() < share else ''}"
        for i in range(queries)
    }


def vectors(*sides: Said) -> dict[str, Vectors]:
    """Unit vectors: mostly the topic, some noise of the reply, and an axis for what is added."""
    found = {}
    for text in {text for side in sides for text in side.values()}:
        topic = np.random.default_rng(int(text.split()[1])).normal(size=WIDTH)
        noise = np.random.default_rng(zlib.crc32(text.encode())).normal(size=WIDTH)
        own = 3 * topic + noise
        own[0] += 12 * ("stocks" in text)
        own[1] += 12 * ("rhyme" in text)
        found[text] = (own / np.linalg.norm(own)).astype(np.float32)
    return found


def look(old: Said, new: Said, again: Said) -> Themes:
    return find_themes(old, new, again, vectors(old, new, again), "made up")


def test_what_a_version_adds_everywhere_is_one_theme_with_its_words() -> None:
    found = look(said(0), said(1, " buy stocks"), said(2))
    theme = found.found[0]
    assert any("stocks" in word for word in theme.words)
    assert theme.new > theme.old + 0.3 and theme.q < 1e-4
    assert set(theme.shown_by) <= set(said(0)) and theme.shown_by


def test_what_only_some_replies_have_is_found_too() -> None:
    new = said(1, " buy stocks", share=0.35)
    found = look(said(0), new, said(2))
    (theme, *_) = [t for t in found.found if any("stocks" in word for word in t.words)]
    telling = sum("stocks" in new[query] for query in theme.shown_by)
    assert telling > 0.8 * len(theme.shown_by)


def test_what_is_gone_is_found_in_old() -> None:
    found = look(said(0, " a rhyme"), said(1), said(2, " a rhyme"))
    assert found.found[0].old > found.found[0].new


def test_versions_that_are_the_same_give_hardly_any() -> None:
    results = [look(said(i), said(i + 1), said(i + 2)) for i in range(0, 60, 3)]
    assert sum(bool(result.found) for result in results) <= 2  # of 20
    assert sum(bool(result.by_chance) for result in results) <= 2


def test_equal_replies_and_few_queries_give_none() -> None:
    same = said(0)
    assert look(same, same, same).found == ()
    few = look(said(0, queries=8), said(1, " buy stocks", queries=8), said(2, queries=8))
    assert (few.found, few.tested) == ((), 0)
    assert find_themes({}, {}, None, {}, "none") == Themes((), 0, None, "none")
