"""A run of all parts: the JSON file, the tables in the docs, and the exit code."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from benchmarks import bench
from benchmarks.__main__ import build_parser
from benchmarks.daemon import rollout_reading as intake
from benchmarks.lib.child_process import ROOT, RunError
from benchmarks.lib.host_info import describe
from benchmarks.lib.measurement import Claim, Figure, Section, Sense
from tests.platforms import needs_posix


def part(name: str, *, holds: bool = True, error: Exception | None = None) -> SimpleNamespace:
    def measure(given, say):
        say("measuring")
        if error is not None:
            raise error
        claim = Claim(f"{name} is fast", Sense.UNDER, 5.0, 1.0 if holds else 9.0, "s")
        return Section(name, name.title(), (Figure("it", "s", (1.0,)),), (claim,))

    return SimpleNamespace(NAME=name, HELP=f"measures {name}", measure=measure, add_flags=lambda p: None)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs parts and returns the exit code; the folder contains page and JSON."""
    page = tmp_path / "docs" / "performance.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- bench: begin -->\nstale\n<!-- bench: end -->\nafter\n", encoding="utf-8")
    monkeypatch.setattr(bench, "PAGE", page)
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench.signal, "signal", lambda *_: None)

    def run(*parts, **given):
        monkeypatch.setattr(bench, "PARTS", parts)
        usual = {"only": None, "out": tmp_path / "bench.json", "report": False, "write_docs": True}
        return bench.run_all(argparse.Namespace(**usual | given), lambda words: argparse.Namespace())

    return run


def test_a_run_that_meets_all_limits_exits_with_0_and_is_written_to_the_docs(run, tmp_path, capsys):
    assert run(part("one"), part("two")) == 0
    page = (tmp_path / "docs" / "performance.md").read_text(encoding="utf-8")
    assert page.startswith("before\n<!-- bench: begin -->\n")
    assert page.endswith("\n<!-- bench: end -->\nafter\n")
    assert "stale" not in page
    assert "| one is fast | under 5.00 s | 1.00 s | yes |" in page
    assert page.index("## Limits") < page.index("## One") < page.index("## Two")
    document = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert document["holds"] is True
    assert [section["name"] for section in document["sections"]] == ["one", "two"]
    assert document["machine"] == describe()
    out, err = capsys.readouterr()
    assert "## Limits" in out
    assert "one: measuring" in err


def test_a_limit_that_is_not_met_exits_with_1(run):
    assert run(part("one"), part("two", holds=False)) == 1


def test_a_failed_part_does_not_affect_others_and_the_docs_are_not_written(run, tmp_path):
    assert run(part("one", error=RunError("no daemon")), part("two")) == 1
    assert "stale" in (tmp_path / "docs" / "performance.md").read_text(encoding="utf-8")
    document = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert [section["error"] for section in document["sections"]] == ["no daemon", ""]
    assert document["holds"] is False


def test_a_run_of_some_parts_does_not_change_the_docs(run, tmp_path):
    assert run(part("one"), part("two"), only=["two"]) == 0
    assert "stale" in (tmp_path / "docs" / "performance.md").read_text(encoding="utf-8")


def test_a_report_is_printed_without_measuring(run, tmp_path, capsys):
    assert run(part("one"), write_docs=False) == 0
    told = capsys.readouterr().out
    assert run(part("one", error=RunError("it was measured")), report=True) == 0
    assert capsys.readouterr().out == told
    assert "| one is fast |" in (tmp_path / "docs" / "performance.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["", "{}", '{"schema": "another"}'])
def test_json_of_another_program_is_rejected(run, tmp_path, text):
    (tmp_path / "bench.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match="cannot be read"):
        run(part("one"), report=True)


def test_a_page_without_markers_is_reported_before_the_measurements(run, tmp_path):
    (tmp_path / "docs" / "performance.md").write_text("no markers\n", encoding="utf-8")
    with pytest.raises(RunError, match="bench: begin"):
        run(part("one", error=AssertionError("it was measured")))


def test_the_page_in_the_docs_has_the_markers():
    assert bench.has_markers(bench.PAGE, bench.MARKER)


def test_every_part_is_a_subcommand():
    for each in bench.PARTS:
        assert build_parser().parse_args([each.NAME, "--out", "x.json"]).run.__module__ == "benchmarks.bench"


def test_the_parser_does_not_load_torch():
    code = "import sys; from benchmarks.__main__ import build_parser; build_parser(); assert 'torch' not in sys.modules"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


@needs_posix("a processor time in steps of less than 16 ms")
def test_reading_is_measured_for_every_reader():
    given = argparse.ArgumentParser()
    intake.add_flags(given)
    section = intake.measure(given.parse_args(["--rounds", "2"]), lambda line: None)
    assert {figure.name for figure in section.figures} >= {intake.FLOOR, intake.READ}
    assert all(len(figure.values) == 2 and len(figure.more) == len(section.heads) for figure in section.figures)
    assert section.claims[0].measured > 0
