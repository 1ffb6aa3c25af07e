"""Nearness worked by hand in the plane, and against comparing every pair."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from character.models import vectors
from character.models.vectors import near_duplicates, nearest


def at(*degrees: float) -> NDArray[np.float32]:
    """Unit vectors in the plane: a cosine is that of the angle between two."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_a_near_duplicate_points_to_the_first_of_its_cluster() -> None:
    found = near_duplicates(at(0, 90, 9, 180, 95), threshold=0.98)  # cos 10° is .985
    assert found.tolist() == [0, 1, 0, 3, 1]


def test_a_chain_is_one_cluster() -> None:
    assert near_duplicates(at(0, 18, 9, 40), threshold=0.98).tolist() == [0, 0, 0, 3]


def test_the_same_vector_twice_is_a_duplicate_at_any_threshold() -> None:
    random = np.random.default_rng(0).standard_normal((50, 384))
    unit = (random / np.linalg.norm(random, axis=1, keepdims=True)).astype(np.float32)
    found = near_duplicates(np.concatenate([unit, unit]), threshold=1.0)
    assert found.tolist() == [*range(50), *range(50)]


@pytest.mark.parametrize("rows", [1, 3, 7, 512])
def test_the_size_of_a_block_changes_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "ROWS", rows)
    random = np.random.default_rng(1)
    for _ in range(20):
        degrees = random.uniform(0, 360, size=30)
        unit = at(*degrees)
        near = unit @ unit.T >= 0.995
        for _ in range(5):  # 2 ** 5 steps of a chain reach everywhere
            near = near @ near
        assert near_duplicates(unit, 0.995).tolist() == near.argmax(axis=1).tolist()
        index, cosine = nearest(unit, at(0, 90, 180, 270))
        assert index.tolist() == (np.round(degrees / 90) % 4).tolist()
        assert np.allclose(cosine, np.cos(np.radians(degrees - 90 * np.round(degrees / 90))))


def test_the_nearest_of_equals_is_the_first_and_a_cosine_is_at_most_one() -> None:
    index, cosine = nearest(at(30, 180), at(90, 30, 30, 90))
    assert index.tolist() == [1, 0]
    assert cosine.tolist() == pytest.approx([1, 0], abs=1e-6) and cosine.max() <= 1
    assert nearest(at(0), np.array([[1.1, 0]], np.float32))[1] == 1


def test_nothing_has_no_duplicates_and_is_near_nothing() -> None:
    none = np.empty((0, 2), np.float32)
    assert near_duplicates(none, 0.9).shape == (0,)
    assert [found.shape for found in nearest(none, at(0))] == [(0,), (0,)]
    with pytest.raises(ValueError, match="nothing to be nearest to"):
        nearest(at(0), none)
