"""A pytest plugin: writes the fault-table rows and the outcome of each test to $FAULT_MARKS_FILE."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

_outcomes: dict[str, tuple[str, str]] = {}
_rows: dict[str, list[int]] = {}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Record the rows of every collected test."""
    for item in session.items:
        rows = sorted({int(mark.args[0]) for mark in item.iter_markers("fault")})
        if rows:
            _rows[item.nodeid] = rows


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Record the outcome of a test: the worst of setup, call and teardown."""
    if report.nodeid not in _rows:
        return
    known = _outcomes.get(report.nodeid, ("passed", ""))
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _outcomes[report.nodeid] = ("skipped", reason.removeprefix("Skipped: "))
    elif report.failed:
        _outcomes[report.nodeid] = ("failed", str(report.longrepr).strip().splitlines()[-1] if report.longrepr else "")
    else:
        _outcomes[report.nodeid] = known


def pytest_sessionfinish() -> None:
    """Write the rows and outcomes to the file."""
    target = os.environ.get("FAULT_MARKS_FILE")
    if target:
        tests = [
            {
                "test": name,
                "rows": rows,
                "outcome": _outcomes.get(name, ("", ""))[0],
                "why": _outcomes.get(name, ("", ""))[1],
            }
            for name, rows in sorted(_rows.items())
        ]
        Path(target).write_text(json.dumps(tests, indent=1), encoding="utf-8")
