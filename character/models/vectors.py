"""What is near what, among vectors of unit length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Vectors = NDArray[np.float32]
Indices = NDArray[np.intp]

ROWS = 512  # compared with all others at once
ROUNDING = 1e-6  # by which the cosine of a vector with itself may miss 1


def near_duplicates(vectors: Vectors, threshold: float) -> Indices:
    """For every vector the index of the first one of its cluster, which may be its own.

    Two vectors whose cosine is at least the threshold share a cluster, and so does whatever a
    chain of such pairs connects. Keep the vectors that are first: `near == np.arange(len(near))`.
    """
    everyone = np.arange(len(vectors))
    first = everyone
    for start in range(0, len(vectors), ROWS):
        # (ROWS, n - start): earlier rows have met these already
        cosines = vectors[start : start + ROWS] @ vectors[start:].T
        ones, others = np.nonzero(cosines >= threshold - ROUNDING)
        rows = np.concatenate([ones + start, everyone])
        columns = np.concatenate([others + start, first])
        links = coo_array((np.ones(len(rows), np.bool_), (rows, columns)), shape=(len(first),) * 2)
        _, labels = connected_components(links, directed=False)
        _, firsts, cluster = np.unique(labels, return_index=True, return_inverse=True)
        first = firsts[cluster]
    return first


def nearest(vectors: Vectors, among: Vectors) -> tuple[Indices, Vectors]:
    """For every vector the index of the one nearest to it among others, and their cosine.

    Of two that are equally near it is the first. Raises ValueError when there are none to choose
    from.
    """
    if not len(among):
        raise ValueError("there is nothing to be nearest to")
    index = np.empty(len(vectors), np.intp)
    cosine = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), ROWS):
        some = slice(start, start + ROWS)
        cosines = vectors[some] @ among.T
        index[some] = cosines.argmax(axis=1)
        cosine[some] = cosines.max(axis=1)
    return index, np.clip(cosine, -1, 1)
