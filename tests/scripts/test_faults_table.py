"""Every row of the fault table has a test, or a skip with its reason; the page contains all rows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from scripts.faults import table
from scripts.faults.lib.fault_list import ROWS, SECTIONS
from scripts.faults.table import Case

ROOT = Path(__file__).parents[2]


def marked_rows(source: str) -> set[int]:
    """Return the numbers in all `pytest.mark.fault(n)` of a file."""
    return {
        argument.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "fault"
        for argument in node.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, int)
    }


def test_each_row_of_the_table_is_in_one_section():
    assert set(range(1, 73)) <= set(ROWS)
    assert sorted(number for numbers in SECTIONS.values() for number in numbers) == sorted(ROWS)


def test_every_row_has_a_test_or_a_skip():
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found |= marked_rows(path.read_text(encoding="utf-8"))
    assert sorted(set(ROWS) - found) == []
    assert sorted(found - set(ROWS)) == []


def test_marks_are_found_wherever_they_are():
    assert marked_rows("@pytest.mark.fault(3)\ndef f(): pass\npytestmark = [mark.fault(4)]\nx = fault(5)") == {3, 4}


def test_the_page_lists_every_row():
    page = (ROOT / "docs" / "lab" / "faults.md").read_text(encoding="utf-8")
    section = page.partition(table.START)[2].partition(table.END)[0]
    for number, row in ROWS.items():
        assert f"| {number} | {row.fault} | {row.outcome} |" in section, (
            "python -m scripts.faults.table --run --write-docs"
        )
    assert "| no test |" not in section
    assert "| not run |" not in section
    assert "| fails |" not in section


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ([], "no test"),
        (["passed", "passed"], "passes"),
        (["passed", "skipped"], "passes"),
        (["skipped"], "skipped"),
        (["passed", "failed", "skipped"], "fails"),
        (["", ""], "not run"),
    ],
)
def test_a_row_passes_where_a_test_does_and_none_fails(outcomes, words):
    cases = [Case(f"tests/faults/test_x.py::t{i}", (1,), outcome, "") for i, outcome in enumerate(outcomes)]
    assert table.verdict(cases) == words


def test_the_table_is_put_between_its_marks():
    cases = [
        Case("tests/faults/test_x.py::t", (1, 2), "passed", ""),
        Case("tests/faults/test_y.py::t", (3,), "skipped", "no"),
    ]
    text = table.as_markdown(cases)
    assert f"{len(ROWS)} rows: 2 pass, 1 skipped, {len(ROWS) - 3} no test" in text
    assert "- row 3: no" in text
    page = table.page_with(f"a\n{table.START}\nthe last one\n{table.END}\nb\n", text)
    assert page.startswith("a\n")
    assert page.endswith("\nb\n")
    assert "the last one" not in page
    assert table.page_with(page, text) == page
