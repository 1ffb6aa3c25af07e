from __future__ import annotations

from making import a_measurement, a_query

from character.diffing.config import MeasureConfig
from character.diffing.kept import SHIFT, kept, kept_in
from character.diffing.outcome import contrast_metric
from character.run import plain

CONTRAST = contrast_metric("brisk")
CONFIG = MeasureConfig(resamples=200)
HELD = [a_query(f"h{n}", split="held_out") for n in range(4)]


def test_a_form_keeps_the_share_of_the_movement_that_is_left() -> None:
    """Base 0, merged .4, int8 .3: three quarters are left, on every query, so without width."""
    levels = {"base": 0.0, "merged": 0.4, "int8": 0.3}
    rows = [a_measurement(s, q.id, CONTRAST, v) for s, v in levels.items() for q in HELD]
    rows += [a_measurement("int8", q.id, SHIFT, 0.01 * n) for n, q in enumerate(HELD)]
    rows += [
        a_measurement(subject, f"short/{n}", "short_right", float(n < right))
        for subject, right in (("merged", 3), ("int8", 2))
        for n in range(4)
    ]
    merged, int8 = kept({"merged": 270.0, "int8": 160.0}, ["brisk"], HELD, rows, CONFIG, 0)
    (moved,) = int8.traits
    assert moved.contrast is not None and moved.contrast.value == 0.3
    assert moved.share is not None and round(moved.share.value, 6) == 0.75
    assert round(moved.share.low, 6) == round(moved.share.high, 6) == 0.75
    assert int8.short is not None and int8.short.value == 0.5
    assert int8.short_change is not None and int8.short_change.value == -0.25
    assert int8.shift is not None and round(int8.shift.value, 6) == 0.015
    assert (merged.shift, merged.tokens, int8.megabytes) == (None, None, 160.0)


def test_what_was_not_measured_is_missing_and_survives_json() -> None:
    (lost,) = kept({"int8": 1.0}, ["brisk"], HELD, [], CONFIG, 0)
    assert (lost.traits[0].contrast, lost.traits[0].share, lost.short) == (None, None, None)
    assert kept_in([plain(lost)]) == (lost,)
    assert kept_in(None) == ()


def test_queries_of_another_trait_and_training_queries_do_not_count() -> None:
    queries = [*HELD, a_query("t", split="train"), a_query("u", split="held_out", trait="other")]
    rows = [a_measurement("int8", q.id, CONTRAST, 0.5 if q in HELD else 9.0) for q in queries]
    (found,) = kept({"int8": 1.0}, ["brisk"], queries, rows, CONFIG, 0)
    assert found.traits[0].contrast is not None
    assert (found.traits[0].contrast.value, found.traits[0].contrast.queries) == (0.5, 4)
