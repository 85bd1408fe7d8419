"""The table of the faults and their tests: `python -m scripts.faults.table [--run] [--write-docs]`.

Without --run the tests are only collected. With it they are run and their outcomes counted. The exit code is 1 if a
row has no test or a test failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.faults.lib.fault_list import ROWS, SECTIONS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "lab" / "faults.md"
START = "<!-- faults: made by `python -m scripts.faults.table --run --write-docs` -->"
END = "<!-- faults end -->"


@dataclass(frozen=True, slots=True)
class Case:
    """One test of one or more rows."""

    test: str  #: pytest's node id
    rows: tuple[int, ...]
    outcome: str  #: passed, failed, skipped; empty if it was not run
    why: str  #: reason of a skip or a failure

    @property
    def module(self) -> str:
        """Return the name of the test's file without folder and suffix."""
        return Path(self.test.partition("::")[0]).stem


def collect(*, run: bool, tests: str = "tests") -> list[Case]:
    """Return the marked tests, and run them if `run`. Raises RuntimeError if pytest fails."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "marks.json"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "scripts.faults.lib.pytest_plugin", "-m", "fault", tests]
        command += ["--no-header", "-rfE"] if run else ["--collect-only"]
        environment = {**os.environ, "FAULT_MARKS_FILE": str(target)}
        output = None if run else subprocess.DEVNULL
        code = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, check=False).returncode
        if not target.exists() or code not in {0, 1}:
            raise RuntimeError(f"pytest ended with exit code {code}")
        found = json.loads(target.read_text(encoding="utf-8"))
    return [Case(item["test"], tuple(item["rows"]), item["outcome"], item["why"]) for item in found]


def verdict(cases: Sequence[Case]) -> str:
    """Return the outcome of a row: passes, skipped, fails, not run, or no test."""
    outcomes = {case.outcome for case in cases}
    for outcome, words in (("failed", "fails"), ("", "not run"), ("passed", "passes"), ("skipped", "skipped")):
        if outcome in outcomes:
            return words
    return "no test"


def summary(cases: Iterable[Case]) -> str:
    """Return the number of rows for each outcome, in one line."""
    by_row = rows_of(cases)
    counts = Counter(verdict(by_row[number]) for number in ROWS)
    words = ", ".join(
        f"{counts[outcome]} {outcome}"
        for outcome in ("passes", "skipped", "fails", "not run", "no test")
        if counts[outcome]
    )
    return f"{len(ROWS)} rows: {words}".replace("passes", "pass").replace("fails", "fail")


def rows_of(cases: Iterable[Case]) -> dict[int, list[Case]]:
    """Return the tests of every row."""
    by_row: dict[int, list[Case]] = {number: [] for number in ROWS}
    for case in cases:
        for number in case.rows:
            by_row[number].append(case)
    return by_row


def as_markdown(cases: Sequence[Case]) -> str:
    """Return the table in its sections, and the reasons of skipped tests."""
    by_row = rows_of(cases)
    lines = [f"**{summary(cases)}; {len(cases)} tests.**"]
    for title, numbers in SECTIONS.items():
        lines += ["", f"### {title}", "", "| # | fault | what happens | tests | outcome |", "|---|---|---|---|---|"]
        for number in numbers:
            row_cases = by_row[number]
            files = Counter(case.module for case in row_cases)
            tests = ", ".join(f"`{name}` {count}" for name, count in sorted(files.items())) or "none"
            row = ROWS[number]
            lines.append(f"| {number} | {row.fault} | {row.outcome} | {tests} | {_outcome(row_cases)} |")
    reasons = {(case.why, number) for case in cases if case.outcome == "skipped" for number in case.rows}
    if reasons:
        lines += ["", "Skipped, and why:", ""]
        by_reason: dict[str, set[int]] = {}
        for why, number in reasons:
            by_reason.setdefault(why, set()).add(number)
        ordered = sorted(by_reason.items(), key=lambda item: (min(item[1]), item[0]))
        lines += [f"- row {', '.join(map(str, sorted(numbers)))}: {why}" for why, numbers in ordered]
    return "\n".join(lines)


def _outcome(cases: Sequence[Case]) -> str:
    words = verdict(cases)
    skipped = sum(case.outcome == "skipped" for case in cases)
    return f"passes ({skipped} skipped)" if words == "passes" and skipped else words


def page_with(page: str, table: str) -> str:
    """Return docs/lab/faults.md with a new table."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{table}\n\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rows and the counts; write the page with --write-docs."""
    parser = argparse.ArgumentParser(prog="python -m scripts.faults.table", description=__doc__)
    parser.add_argument("--run", action="store_true", help="run the tests instead of only collecting them")
    parser.add_argument("--write-docs", action="store_true", help="write the table into docs/lab/faults.md")
    options = parser.parse_args(arguments)
    cases = collect(run=options.run)
    by_row = rows_of(cases)
    for number, row in ROWS.items():
        row_cases = by_row[number]
        sys.stdout.write(f"{number:3d}  {_outcome(row_cases):20s}  {len(row_cases):3d} tests  {row.fault}\n")
        for why in sorted({case.why for case in row_cases if case.outcome in {"skipped", "failed"}}):
            sys.stdout.write(f"     {why[:200]}\n")
    sys.stdout.write(f"{summary(cases)}; {len(cases)} tests\n")
    if options.write_docs:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(page_with(page, as_markdown(cases)), encoding="utf-8", newline="\n")
    return 1 if any(verdict(row_cases) in {"fails", "no test"} for row_cases in by_row.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
