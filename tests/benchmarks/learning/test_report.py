"""The learning benchmark's comparison and tables agree with its numbers."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from benchmarks.learning.plot import picture
from benchmarks.learning.report import compare, is_complete, markdown
from benchmarks.learning.scenarios import Method, Scale, Scenario, ScenarioOutcome, ScenarioRun
from benchmarks.lib.doc_tables import has_markers, write_between
from benchmarks.lib.host_info import describe

PLAN = Scenario(cycles=2)


def outcome(way: Method, scale: Scale, seed: int, final: float) -> ScenarioOutcome:
    return ScenarioOutcome(run=ScenarioRun(way, scale, seed), curve=(0.1, 0.2, final), seconds=1.0, date="2026-11-21")


def outcomes(ours: float) -> dict[ScenarioRun, ScenarioOutcome]:
    made = [
        outcome(way, scale, seed, 0.9 if way is Method.SB3 else ours)
        for way in Method
        for scale in Scale
        for seed in (0, 1)
    ]
    return {each.run: each for each in made}


@pytest.mark.parametrize(("ours", "passed"), [(0.9, True), (0.856, True), (0.85, False)])
def test_the_verdict_is_that_of_the_ratio_of_the_means(ours, passed):
    comparisons = compare(outcomes(ours))
    assert is_complete(comparisons)
    assert [c.passed for c in comparisons] == [passed] * 4
    assert comparisons[0].ratio == pytest.approx(ours / 0.9)


def test_a_seed_of_only_one_method_is_not_compared():
    played = outcomes(0.9)
    del played[ScenarioRun(Method.SB3, Scale.WELL, 1)]
    comparisons = compare(played)
    assert {c.seeds for c in comparisons if c.scale is Scale.WELL} == {(0,)}
    assert not is_complete(comparisons)


def test_the_text_around_the_tables_is_kept(tmp_path):
    page = tmp_path / "learning.md"
    page.write_text("before\n<!-- learning: begin -->\nold\n<!-- learning: end -->\nafter\n", encoding="utf-8")
    text = markdown(outcomes(0.85), PLAN, describe())
    assert has_markers(page, "learning")
    assert not has_markers(page, "bench")
    write_between(page, "learning", text)
    written = page.read_text(encoding="utf-8")
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "old" not in written
    assert "**no**" in written


def test_the_plot_is_well_formed():
    root = ET.fromstring(picture(list(outcomes(0.85).values())))
    assert root.tag.endswith("svg")
