"""A real daemon in its own folder, and rollouts that arrive there exactly when a benchmark wants."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from benchmarks.lib.child_process import BenchChild, RunError
from daemon.ledger.ledger import Ledger
from schemas.job import Result
from schemas.status import DaemonState, Status
from schemas.storage.layout import ProjectPaths
from trainer.simulate.engine import Engine
from trainer.simulate.options import SimulationOptions

TIMEOUT_S = 180.0
POLL_S = 0.002  #: between two reads of the pointer file while a cycle is timed
GLANCE_S = 0.05
QUIET_S = 0.4  #: a warm trainer that uses no CPU for this long waits for its job
AGENTS = 32
_FIRST_STEP = re.compile(r"first gradient step .* after the job arrived, at (\d+\.\d+)")


@dataclass(frozen=True, slots=True)
class Timed:
    """One cycle, timed from the last rollout's rename."""

    seconds: float  #: until best_model_path.txt names another model
    first_step_ms: float | None  #: until the first gradient step; None if it was not logged


class Live:
    """A daemon, started as users do when entering `with`, and an engine whose files are held back.

    `module` replaces the daemon by another program: called with the project folder, it answers lines with lines.
    """

    def __init__(self, name: str, folder: Path, config: str, *, module: str | None = None) -> None:
        self.name, self.layout, self._module = name, ProjectPaths(folder.resolve()), module
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "daemon.toml").write_text(config, encoding="utf-8")
        self._held = folder / "held_back"
        self._held.mkdir(exist_ok=True)
        self._landed = len(list(self.layout.exports.glob("rollout_*.json")))
        self._child: BenchChild | None = None

    def __enter__(self) -> Self:
        project, other = self.layout.project, self._module
        arguments = ["-m", other, str(project)] if other else _daemon(project)
        self._child = BenchChild(self.name, arguments, folder=project, hears_lines=bool(other), one_thread=False)
        started_at = time.time()

        def is_up() -> bool:
            return self._pointed() != "" and self.layout.status.exists() and self._status().heartbeat >= started_at

        try:
            self.wait_until(is_up, "it runs and has a model to show")
        except BaseException:
            self._child.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._child is not None
        self._child.stop()

    def ask(self) -> str:
        """Send a line to the other program and return its answer. Raises RunError."""
        assert self._child is not None
        self._child.ask("")
        line = self._child.line(TIMEOUT_S, threading.Event())
        if line is None:
            raise RunError(f"{self.name} ended:\n{self._last_words()}")
        return line

    # --- rollouts

    def play(self, count: int, *, form: str = "v1", experiences: int = 2048) -> list[Path]:
        """Collect rollouts with the published model; the files are held back until `land`."""
        options = SimulationOptions(
            project=self.layout.project,
            agents=AGENTS,
            experiences=experiences,
            seed=self._landed,
            rollouts=count,
            format=form,
            quiet=True,
        )
        engine = Engine(options)
        engine.exports = self._held
        engine.run()
        return self._named(sorted(self._held.glob("rollout_*.json")))

    def aside(self, data: bytes) -> Path:
        """Hold back a file that no model generated."""
        self._landed += 1
        file = self._held / _held_name(self._landed)
        file.write_bytes(data)
        return file

    def _named(self, files: Sequence[Path]) -> list[Path]:
        """Return held files under the names that they will have in Exports."""
        named = []
        for file in files:
            self._landed += 1
            named.append(file.rename(file.with_name(_held_name(self._landed))))
        return named

    def land(self, files: Sequence[Path]) -> None:
        """Rename held files into Exports."""
        for file in files:
            os.replace(file, self.layout.exports / f"{file.stem}.json")

    # --- cycles

    def cycle(self, files: Sequence[Path]) -> Timed:
        """Deliver all files but one, wait until they are accepted, deliver the last, and time the publish."""
        self.land(files[:-1])
        self.wait_pending(len(files) - 1)
        before = self._pointed()
        landed_at, began = time.time(), time.perf_counter()
        self.land(files[-1:])
        until = began + TIMEOUT_S
        while self._pointed() == before:
            if time.perf_counter() > until:
                raise RunError(f"{self.name}: no new model after {TIMEOUT_S:.0f} s:\n{self._last_words()}")
            time.sleep(POLL_S)
        taken = time.perf_counter() - began
        self.wait_until(lambda: self._status().state is DaemonState.IDLE, "the cycle is over")
        return Timed(taken, self._first_step_ms(landed_at))

    def _first_step_ms(self, landed_at: float) -> float | None:
        cycle = int(Path(self._pointed()).parent.name.removeprefix("cycle_"))
        log = self.layout.cycle_log(cycle).read_text(encoding="utf-8", errors="replace")
        found = _FIRST_STEP.search(log)
        return None if found is None else (float(found[1]) - landed_at) * 1e3

    def wait_pending(self, count: int) -> None:
        """Wait until so many rollouts are accepted and no cycle runs."""

        def is_so() -> bool:
            status = self._status()
            return status.rollouts_pending == count and status.state is DaemonState.IDLE

        self.wait_until(is_so, f"{count} rollouts are taken in")

    def wait_spare(self) -> psutil.Process:
        """Wait until a trainer has finished its imports and waits for a job; return it."""
        found: list[psutil.Process] = []

        def is_ready() -> bool:
            found[:] = [child for child in self.process().children() if _has_torch(child) and _is_quiet(child)]
            return len(found) == 1

        self.wait_until(is_ready, "a spare trainer is ready")
        return found[0]

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until a condition holds. Raises RunError at the timeout, or if the daemon ends."""
        assert self._child is not None
        until = time.monotonic() + TIMEOUT_S
        while not condition():
            if (code := self._child.poll()) is not None:
                raise RunError(f"{self.name} ended with code {code}:\n{self._last_words()}")
            if time.monotonic() > until:
                raise RunError(f"{self.name}: waited {TIMEOUT_S:.0f} s until {what}:\n{self._last_words()}")
            time.sleep(GLANCE_S)

    # --- logs and memory

    def process(self) -> psutil.Process:
        """The daemon itself."""
        return psutil.Process(self._status().pid)

    def memory_mb(self) -> float:
        """The daemon's memory without its trainers."""
        return float(self.process().memory_info().rss / 1e6)

    def last_result(self) -> Result:
        """The log of the last published cycle's trainer."""
        ledger = Ledger.open(self.layout.ledger, read_only=True)
        try:
            last = ledger.last_publication()
            result = None if last is None else ledger.result(last.cycle_id)
        finally:
            ledger.close()
        if result is None:
            raise RunError(f"{self.name}: nothing has been published yet")
        return result

    def _status(self) -> Status:
        return Status.from_bytes(self.layout.status.read_bytes())

    def _pointed(self) -> str:
        try:
            return self.layout.pointer.read_text(encoding="utf-8")
        except OSError:
            return ""

    def _last_words(self) -> str:
        assert self._child is not None
        return self._child.last_words()


def _daemon(project: Path) -> list[str]:
    return ["-m", "daemon", "--no-dashboard", "--project", str(project)]


def _held_name(index: int) -> str:
    return f"rollout_{index}_20261121_120000.held"


def _has_torch(process: psutil.Process) -> bool:
    try:
        return any("torch" in mapped.path for mapped in process.memory_maps())
    except psutil.Error:
        return False


def _is_quiet(process: psutil.Process) -> bool:
    try:
        before = process.cpu_times()
        time.sleep(QUIET_S)
        after = process.cpu_times()
    except psutil.Error:
        return False
    return sum(after[:2]) - sum(before[:2]) < 0.02
