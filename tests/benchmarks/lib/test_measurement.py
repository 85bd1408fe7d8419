"""Tables of measurements; a limit that was not measured is not met."""

from __future__ import annotations

import pytest

from benchmarks.lib.doc_tables import table
from benchmarks.lib.measurement import (
    Claim,
    Figure,
    Section,
    Sense,
    in_words,
    median_claim,
    number,
    ratio_claim,
    ratios,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-1e-9, "0"), (0.01234, "0.012"), (1.0, "1.00"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")],
)
def test_numbers_have_three_digits_and_no_exponent(value, text):
    assert number(value) == text


def test_a_ratio_has_no_unit():
    assert in_words(2.5, "") == "2.50"
    assert in_words(2.5, "s") == "2.50 s"


def test_ratios_are_taken_within_a_round():
    """The machine is four times slower in the second round: the ratio of the medians would be different."""
    ours, theirs = (1.0, 4.0, 1.1), (5.0, 20.0, 5.5)
    assert ratios(theirs, ours) == pytest.approx([5.0, 5.0, 5.0])
    assert ratio_claim("", Sense.AT_LEAST, 5.0, theirs, ours).measured == pytest.approx(5.0)


def test_other_rounds_are_compared_by_their_medians():
    assert ratios((2.0, 4.0, 6.0), (2.0, 2.0)) == [2.0]


@pytest.mark.parametrize(
    ("sense", "measured", "holds"),
    [
        (Sense.AT_LEAST, 5.0, True),
        (Sense.AT_LEAST, 4.9, False),
        (Sense.AT_MOST, 5.0, True),
        (Sense.AT_MOST, 5.1, False),
        (Sense.UNDER, 4.9, True),
        (Sense.UNDER, 5.0, False),
        (Sense.UNDER, None, False),
    ],
)
def test_a_limit_is_compared_in_its_sense(sense, measured, holds):
    claim = Claim("it", sense, 5.0, measured, "ms")
    assert claim.holds is holds
    assert claim.cells()[1] == f"{sense.value} 5.00 ms"
    assert claim.cells()[3] == ("yes" if holds else "**no**")


def test_a_limit_without_a_measurement_is_shown_as_such():
    for claim in (
        median_claim("it", Sense.UNDER, 150.0, (), "ms"),
        ratio_claim("it", Sense.UNDER, 1.2, (), (1.0,)),
    ):
        assert not claim.holds
        assert claim.cells()[2] == "not measured"


def section() -> Section:
    figures = (
        Figure("ours", "s", (2.0, 4.0, 3.0), floor="floor", more=("1.36",)),
        Figure("floor", "s", (1.0, 1.0, 1.0)),
        Figure("nothing to divide by", "s", (1.0,), floor="zero"),
        Figure("zero", "s", (0.0,)),
    )
    claims = (Claim("it is fast", Sense.UNDER, 5.0, 3.0, "s"),)
    return Section("update", "The update", figures, claims, ("size, MB",), ("A note.",))


def test_a_figure_is_shown_next_to_its_floor():
    lines = section().markdown()
    assert lines[0] == "## The update"
    assert lines[2] == "`python -m benchmarks update`. A note."
    assert "| ours | 3.00 s | 2.00 to 4.00 | floor | 3.00 | 1.36 |" in lines
    assert "| floor | 1.00 s | 1.00 to 1.00 | | | |" in lines
    assert "| nothing to divide by | 1.00 s | | | | |" in lines


def test_without_floors_the_table_has_no_columns_for_them():
    lines = Section("idle", "Idle", (Figure("CPU", "%", (0.25, 0.5)),)).markdown()
    assert lines[-3:] == ["| | median | min to max |", "|---|---|---|", "| CPU | 0.375 % | 0.250 to 0.500 |"]


def test_a_section_written_as_json_is_read_as_the_same_section():
    plain = section().plain()
    assert plain["figures"][0]["median"] == 3.0
    assert plain["claims"][0]["holds"] is True
    assert plain["holds"] is True
    assert Section.from_plain(plain) == section()


def test_a_failed_part_shows_its_reason_and_does_not_pass():
    failed = Section("cycle", "The cycle", error="the daemon ended with code 1:\n    its log")
    assert not failed.holds
    assert failed.markdown()[-1] == "**It failed**: the daemon ended with code 1:"


def test_empty_cells_do_not_shift_the_table():
    assert table(["", "a"], [["x", ""]]) == ["| | a |", "|---|---|", "| x | |"]
