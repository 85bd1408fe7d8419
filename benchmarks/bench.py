"""Run all benchmarks, print the results, and write them as JSON and to docs/lab/performance.md."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, Protocol

from benchmarks.daemon import cycle, fast_engine, history, idle
from benchmarks.daemon import loop_latency as holdups
from benchmarks.daemon import model_loading as hotload
from benchmarks.daemon import rollout_reading as intake
from benchmarks.daemon import simulated_engine as engine
from benchmarks.lib import host_info as machine
from benchmarks.lib.child_process import ROOT, RunError
from benchmarks.lib.doc_tables import has_markers, markers, table, write_between
from benchmarks.lib.measurement import Claim, Section
from benchmarks.lib.progress import PrintProgress, progress_printer
from benchmarks.update import off_policy, update
from schemas.errors import HotlapError

SCHEMA = "hotlap.benchmark.bench/1"
PAGE, MARKER = ROOT / "docs" / "lab" / "performance.md", "bench"
OUT = ROOT / "benchmarks" / "out" / "bench.json"


class Part(Protocol):
    """A benchmark module."""

    NAME: str
    HELP: str
    __doc__: str | None

    def add_flags(self, p: argparse.ArgumentParser) -> None:
        """Add the part's flags."""

    def measure(self, arguments: argparse.Namespace, print_progress: PrintProgress) -> Section:
        """Measure. Raises RunError, HotlapError or OSError."""


#: The order matters, because a trainer sets the number of threads for the whole process.
PARTS: tuple[Part, ...] = (intake, engine, hotload, update, off_policy, cycle, fast_engine, history, holdups, idle)


@dataclass(frozen=True, slots=True)
class BenchReport:
    """The results of a run, with its date and machine."""

    date: str
    machine: dict[str, str | int]
    sections: tuple[Section, ...]
    seconds: float

    @property
    def claims(self) -> list[Claim]:
        """Return the limits, in the order of the sections."""
        return [claim for section in self.sections for claim in section.claims]

    @property
    def holds(self) -> bool:
        """Return whether all parts were measured and all limits are met."""
        return all(section.holds for section in self.sections)

    @property
    def is_whole(self) -> bool:
        """Return whether it contains every part, and none failed."""
        return [s.name for s in self.sections if not s.error] == [part.NAME for part in PARTS]

    def markdown(self) -> str:
        """Return the limits, then a section for each part, as Markdown."""
        lines = [f"{self.date}, {self.seconds:.0f} s, on {machine.in_words(self.machine)}.", ""]
        if self.claims:
            lines += ["## Limits", "", *table(["", "limit", "measured", "holds"], [c.cells() for c in self.claims]), ""]
        for section in self.sections:
            lines += [*section.markdown(), ""]
        return "\n".join(lines).strip()

    def plain(self) -> dict[str, Any]:
        """Return the document for JSON."""
        about = {"schema": SCHEMA, "date": self.date, "machine": self.machine, "seconds": round(self.seconds, 1)}
        return {**about, "holds": self.holds, "sections": [section.plain() for section in self.sections]}

    def save(self, path: Path) -> None:
        """Write the JSON file, replacing an older one atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(json.dumps(self.plain(), indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)


def load(path: Path) -> BenchReport:
    """Return the report that `save` wrote. Raises RunError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA:
            raise ValueError(f"its schema is {document['schema']}")
        sections = tuple(Section.from_plain(entry) for entry in document["sections"])
        return BenchReport(document["date"], document["machine"], sections, document["seconds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None


def add_flags_of_all(p: argparse.ArgumentParser) -> None:
    """Add the flags of a run of all benchmarks."""
    p.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        choices=[part.NAME for part in PARTS],
        help="measure only these parts (all)",
    )
    p.add_argument("--out", type=Path, default=OUT, metavar="FILE", help="the JSON file (benchmarks/out/bench.json)")
    p.add_argument("--report", action="store_true", help="print the report in --out without measuring")
    p.add_argument("--write-docs", action="store_true", help="write the tables to docs/lab/performance.md")


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add a subcommand for each part."""
    for part in PARTS:
        p = commands.add_parser(
            part.NAME,
            help=part.HELP,
            description=part.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        part.add_flags(p)
        p.add_argument("--out", type=Path, metavar="FILE", help="also write a JSON file")
        p.set_defaults(run=_run_one(part))


def _run_one(part: Part) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        report = measure_parts([(part, arguments)], arguments.out)
        print(report.markdown())
        return 0 if report.holds else 1

    return run


def run_all(arguments: argparse.Namespace, parse: Callable[[list[str]], argparse.Namespace]) -> int:
    """Measure all parts, or print the last report; return the exit code. Raises RunError if no report exists."""
    if arguments.write_docs and not has_markers(PAGE, MARKER):
        raise RunError(f"{PAGE.name} does not contain the lines {' and '.join(markers(MARKER))}")
    if arguments.report:
        report = load(arguments.out)
    else:
        chosen = [part for part in PARTS if part.NAME in (arguments.only or [p.NAME for p in PARTS])]
        names = ", ".join(part.NAME for part in chosen)
        print(f"measuring {names}; learning and replay take over 20 minutes and run only by name", file=sys.stderr)
        report = measure_parts([(part, parse([part.NAME])) for part in chosen], arguments.out)
    print(report.markdown())
    if arguments.write_docs:
        _write_docs(report)
    return 0 if report.holds else 1


def measure_parts(parts: Sequence[tuple[Part, argparse.Namespace]], out: Path | None) -> BenchReport:
    """Measure one part after another and save after each. A failed part is reported with its reason."""
    began_s = time.monotonic()
    signal.signal(signal.SIGTERM, _stop)
    date, host = datetime.now(UTC).strftime("%Y-%m-%d"), machine.describe()
    report = BenchReport(date, host, (), 0.0)
    for part, arguments in parts:
        print_progress = progress_printer(part.NAME, began_s)
        try:
            section = part.measure(arguments, print_progress)
        except (RunError, HotlapError, OSError) as error:
            print_progress(f"FAILED: {error}")
            section = Section(part.NAME, part.HELP, error=str(error))
        report = BenchReport(date, host, (*report.sections, section), time.monotonic() - began_s)
        if out is not None:
            report.save(out)
    return report


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _write_docs(report: BenchReport) -> None:
    if not report.is_whole:
        print("docs are not changed: not every part was measured", file=sys.stderr)
        return
    write_between(PAGE, MARKER, report.markdown())
    print(f"wrote {PAGE.relative_to(ROOT).as_posix()}", file=sys.stderr)
