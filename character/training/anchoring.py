"""Anchors beside TRL's own batches: each micro-batch of a trainer gets one of lessons with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from character.training.lessons import Lesson, LessonBatch, collate


class AnchorTurns:
    """Batches of anchors in turn, each of like lengths; none when there are no anchors.

    They are counted from the step, which a resumed training knows, so it goes on with the same.
    """

    def __init__(self, anchors: Sequence[Lesson], size: int, seed: int) -> None:
        ordered = sorted(anchors, key=lambda lesson: len(lesson.prompt) + len(lesson.reply))
        batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        shuffled = torch.randperm(len(batches), generator=torch.Generator().manual_seed(seed))
        self._batches = [batches[i] for i in shuffled.tolist()]
        self._turn = (-1, 0)  # step, micro-batch of the step

    def __bool__(self) -> bool:
        return bool(self._batches)

    def next(self, step: int, parts: int) -> LessonBatch:
        """The batch for the next micro-batch of this step, of which there are so many parts."""
        part = self._turn[1] + 1 if step == self._turn[0] else 0
        self._turn = (step, part)
        return collate(self._batches[(step * parts + part) % len(self._batches)])
