"""The store of all runs: one JSON line for each, appended when it ends, never changed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.learn.runs import Run
from benchmarks.lib.child_process import ROOT

SCHEMA = "hotlap.benchmark.learn/1"
STORE = ROOT / "benchmarks" / "results" / "learn.jsonl"


@dataclass(frozen=True, slots=True)
class Record:
    """The outcome of a run."""

    run: Run
    curve: tuple[float | None, ...]  #: score of each cycle with exploration noise, see `environments.catalogue`
    reward_per_step: tuple[float, ...]
    episodes: tuple[int, ...]  #: that ended in each cycle
    evaluation: tuple[tuple[int, float], ...]  #: trained cycles, and the score without noise after them
    cpu_s: float  #: of the whole run
    env_cpu_s: float  #: of the environment's steps
    wall_s: float
    date: str
    commit: str  #: with a + if files were changed
    machine: dict[str, str | int]

    def line(self) -> str:
        """Return the record as one line of JSON."""
        document = {"schema": SCHEMA, "run": self.run.plain()} | {
            name: value for name, value in asdict(self).items() if name != "run"
        }
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> Record:
        """Return the record of a line. Raises KeyError, TypeError or ValueError."""
        document: dict[str, Any] = json.loads(line)
        if document.pop("schema") != SCHEMA:
            raise ValueError("it has another schema")
        evaluation = tuple((int(cycle), float(score)) for cycle, score in document.pop("evaluation"))
        for name in ("curve", "reward_per_step", "episodes"):
            document[name] = tuple(document[name])
        return cls(**(document | {"run": Run.from_plain(document["run"]), "evaluation": evaluation}))


class Store:
    """The records of a file. Lines that cannot be read are skipped and counted: a crash can leave a torn last line."""

    def __init__(self, path: Path = STORE) -> None:
        self.path = path
        self.records: list[Record] = []
        self.skipped = 0
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for line in text.split("\n"):
            if line.strip():
                self._read(line)

    def _read(self, line: str) -> None:
        try:
            self.records.append(Record.from_line(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            self.skipped += 1

    def newest(self) -> dict[Run, Record]:
        """Return the newest record of each run."""
        return {record.run: record for record in self.records}

    def missing(self, runs: Iterable[Run]) -> list[Run]:
        """Return the runs without a record, in order."""
        found = self.newest()
        return [run for run in dict.fromkeys(runs) if run not in found]

    def append(self, record: Record) -> None:
        """Append a line, and write it to the disk. A torn last line is ended first."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                is_torn = file.read(1) != b"\n"
            else:
                is_torn = False
            file.write((b"\n" if is_torn else b"") + record.line().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.records.append(record)


def present_commit() -> str:
    """Return the commit of this checkout, with a + if tracked files are changed; `unknown` without git."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        is_changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", f":!{_relative(STORE)}")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+" if is_changed else commit


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
