"""The SVG plots: well-formed, with round ticks, and points where they belong."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from benchmarks.lib.svg_plot import Panel, Series, _ticks, svg

NS = "{http://www.w3.org/2000/svg}"


def test_a_line_is_scaled_to_its_panel():
    line = Series([(0, 0), (5, 1), (10, 2)], "#000000")
    root = ET.fromstring(svg("a < b", [Panel("c & d", [line])], size=(100, 50), y_range=(0.0, 2.0)))
    [drawn] = root.iter(f"{NS}polyline")
    assert drawn.get("points") == "0.0,50.0 50.0,25.0 100.0,0.0"
    assert root.find(f".//{NS}title").text == "a < b"
    words = [text.text for text in root.iter(f"{NS}text")]
    assert {"c & d", "0", "2", "10"} <= set(words)


def test_dots_without_a_line():
    dots = Series([(1, 1), (2, 2)], "#000000", has_line=False, has_dots=True)
    root = ET.fromstring(svg("t", [Panel("p", [dots])]))
    assert len(list(root.iter(f"{NS}circle"))) == 2
    assert not list(root.iter(f"{NS}polyline"))


@pytest.mark.parametrize("values", [[0.0, 0.0], [-3.0, 5.0], [1e-9, 1e9]])
def test_all_values_can_be_drawn(values):
    drawn = svg("t", [Panel("p", [Series(list(enumerate(values)), "#000000")])])
    assert "nan" not in drawn
    assert "inf" not in drawn
    ET.fromstring(drawn)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-1, 0.5, [-1, -0.5, 0, 0.5]), (0, 7e6, None)],
)
def test_ticks_are_round_and_about_five(low, high, ticks):
    found = _ticks(low, high)
    assert 3 <= len(found) <= 6
    if ticks is not None:
        assert found == pytest.approx(ticks)
