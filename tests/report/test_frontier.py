from __future__ import annotations

from dataclasses import replace

from character.report import plots
from character.report.content import Report
from character.report.frontier import HELD_OUT, TRAINING, points_of, rule_of
from character.report.html import render_report


def test_every_checkpoint_has_its_movement_and_its_price(report: Report) -> None:
    assert report.doses is not None
    told = replace(report, distances={report.doses.trials[0].dose: 0.25})
    points = {point.name: point for point in points_of(told)}
    base = points["base"]
    assert (base.movement, base.kl, base.queries) == (0.0, 0.0, TRAINING)
    trial, plain = report.doses.trials[0], report.doses.plain
    dose = points[f"dose {trial.dose:.0%}"]
    assert dose.kl == 0.25 and dose.answers == trial.answers
    assert trial.contrast is not None and plain.contrast is not None
    assert dose.movement == trial.contrast - plain.contrast
    assert points["base, prompted"].kl is None
    (end,) = (point for point in points.values() if point.queries == HELD_OUT)
    assert (end.kl, end.answers) == (0.07, 0.89)
    assert end.movement is None  # one of the two traits was not measured: no mean of the other


def test_the_page_plots_them_and_states_the_rule(report: Report) -> None:
    page = render_report(replace(report, settled="60% of the training was kept."))
    assert "60% of the training was kept." in page and "Movement and what it costs" in page
    assert points_of(replace(report, settled="x", policy="settled"))[-1].name == "settled"
    assert "end of" in rule_of(report) and "no doses" in rule_of(replace(report, doses=None))
    assert "missing" in plots.frontier(points_of(report))
