"""A row without figures shows the reason in one line."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from benchmarks.lib.child_process import RunError
from benchmarks.online import throughput as online


def test_a_failed_row_shows_its_reason_and_the_next_is_measured(monkeypatch, capsys):
    def measured(row, seconds):
        if row == "broken":
            raise RunError("    a line of a traceback\n    ModuleNotFoundError: No module named 'rlgym_learn'")
        return {"wall": 1234.5, "cpu": 2000.0}

    monkeypatch.setattr(online, "measure_row", measured)
    assert online.run(SimpleNamespace(rows=["broken", "whole"], seconds=1.0)) == 0
    broken, whole = capsys.readouterr().out.splitlines()[-2:]
    assert broken.split(maxsplit=1) == ["broken", "ModuleNotFoundError: No module named 'rlgym_learn'"]
    assert whole.split() == ["whole", "1,234", "2,000"]


def test_a_failed_row_shows_the_last_output_of_its_process():
    with pytest.raises(RunError, match="no such row"):
        online.measure_row("no such row", 1.0)


def test_a_row_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(online, "TIMEOUT_S", -5.0)
    with pytest.raises(RunError, match=r"no figures after 0 s; its last output: nothing"):
        online.measure_row("raw simulator, one thread", 5.0)
