"""The table and the plot of the comparison show the outcomes."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from benchmarks.dagger.compare import MilestoneOutcome, curves_of, table
from benchmarks.dagger.plot import picture


def outcome(way, milestone, seed, success):
    return MilestoneOutcome(way, milestone, seed, success, 100, 2.0, ((50, success / 2), (100, success)))


OUTCOMES = [
    outcome(way, milestone, seed, success + 0.1 * seed)
    for way, success in (("DAgger", 0.9), ("cloning", 0.5))
    for milestone in ("A", "B")
    for seed in (0, 1)
]


def test_the_table_has_means_over_seeds_and_over_all():
    rows = table(OUTCOMES).splitlines()
    assert rows[2] == "| A | 0.950, 100, 2.0 | 0.550, 100, 2.0 |"
    assert rows[-1] == "| all | 0.950, 100, 2.0 | 0.550, 100, 2.0 |"


def test_the_plot_is_xml_with_a_curve_for_each_method():
    other = MilestoneOutcome("imitation", "A", 0, 1.0, 100, 2.0, ())
    root = ET.fromstring(picture(curves_of([*OUTCOMES, other])))
    lines = root.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2
    words = [text.text for text in root.findall(".//{http://www.w3.org/2000/svg}text")]
    assert {"DAgger", "cloning", "100", "0.8"} <= set(words)
