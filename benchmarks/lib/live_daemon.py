"""A real daemon in its own folder, and rollouts that are delivered when a benchmark needs them."""

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
CHECK_S = 0.05
QUIET_S = 0.4  #: a warm trainer that uses no CPU for this long waits for its job
AGENTS = 32
_FIRST_STEP = re.compile(r"first gradient step .* after the job arrived, at (\d+\.\d+)")


@dataclass(frozen=True, slots=True)
class TimedCycle:
    """One cycle, timed from the last rollout's rename."""

    seconds: float  #: until best_model_path.txt names another model
    first_step_ms: float | None  #: until the first gradient step; None if it was not logged


class LiveDaemon:
    """A daemon, started in the `with` block as users start it, and an engine whose files wait until `deliver`.

    `module` names another program to start instead of the daemon. Its argument is the project folder, and it answers
    each line on stdin with a line.
    """

    def __init__(self, name: str, folder: Path, config: str, *, module: str | None = None) -> None:
        self.name, self.paths, self._module = name, ProjectPaths(folder.resolve()), module
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "daemon.toml").write_text(config, encoding="utf-8")
        self._waiting_folder = folder / "waiting"
        self._waiting_folder.mkdir(exist_ok=True)
        self._file_count = len(list(self.paths.exports.glob("rollout_*.json")))
        self._child: BenchChild | None = None

    def __enter__(self) -> Self:
        project, other = self.paths.project, self._module
        arguments = ["-m", other, str(project)] if other else _daemon(project)
        self._child = BenchChild(self.name, arguments, folder=project, captures_output=bool(other), one_thread=False)
        started_at = time.time()

        def is_up() -> bool:
            return self._read_pointer() != "" and self.paths.status.exists() and self._status().heartbeat >= started_at

        try:
            self.wait_until(is_up, "it runs and has published a model")
        except BaseException:
            self._child.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._child is not None
        self._child.stop()

    def request(self) -> str:
        """Send a line to the other program and return its answer. Raises RunError."""
        assert self._child is not None
        self._child.send_line("")
        line = self._child.next_line(TIMEOUT_S, threading.Event())
        if line is None:
            raise RunError(f"{self.name} ended:\n{self._log_tail()}")
        return line

    # --- rollouts

    def collect_rollouts(self, count: int, *, form: str = "v1", experiences: int = 2048) -> list[Path]:
        """Collect rollouts with the published model; the files wait until `deliver`."""
        options = SimulationOptions(
            project=self.paths.project,
            agents=AGENTS,
            experiences=experiences,
            seed=self._file_count,
            rollouts=count,
            format=form,
            quiet=True,
        )
        engine = Engine(options)
        engine.exports = self._waiting_folder
        engine.run()
        return self._rename_in_order(sorted(self._waiting_folder.glob("rollout_*.json")))

    def add_file(self, data: bytes) -> Path:
        """Add a waiting file that was not collected with a model."""
        self._file_count += 1
        file = self._waiting_folder / _waiting_name(self._file_count)
        file.write_bytes(data)
        return file

    def _rename_in_order(self, files: Sequence[Path]) -> list[Path]:
        """Rename waiting files to the names that they will have in Exports."""
        named = []
        for file in files:
            self._file_count += 1
            named.append(file.rename(file.with_name(_waiting_name(self._file_count))))
        return named

    def deliver(self, files: Sequence[Path]) -> None:
        """Rename waiting files into Exports."""
        for file in files:
            os.replace(file, self.paths.exports / f"{file.stem}.json")

    # --- cycles

    def cycle(self, files: Sequence[Path]) -> TimedCycle:
        """Deliver all files but one, wait until they are accepted, deliver the last, and time the publish."""
        self.deliver(files[:-1])
        self.wait_for_pending(len(files) - 1)
        delivered_at = time.time()
        seconds = self.time_publish(files[-1:])
        self.wait_until(lambda: self._status().state is DaemonState.IDLE, "the cycle is over")
        return TimedCycle(seconds, self._first_step_ms(delivered_at))

    def time_publish(self, files: Sequence[Path]) -> float:
        """Deliver files; return the seconds until another model is published. Raises RunError at the timeout."""
        before, began = self._read_pointer(), time.perf_counter()
        self.deliver(files)
        while self._read_pointer() == before:
            if time.perf_counter() > began + TIMEOUT_S:
                raise RunError(f"{self.name}: no new model after {TIMEOUT_S:.0f} s:\n{self._log_tail()}")
            time.sleep(POLL_S)
        return time.perf_counter() - began

    def _first_step_ms(self, delivered_at: float) -> float | None:
        cycle = int(Path(self._read_pointer()).parent.name.removeprefix("cycle_"))
        log = self.paths.cycle_log(cycle).read_text(encoding="utf-8", errors="replace")
        found = _FIRST_STEP.search(log)
        return None if found is None else (float(found[1]) - delivered_at) * 1e3

    def wait_for_pending(self, count: int) -> None:
        """Wait until `count` rollouts are pending and no cycle runs."""

        def is_so() -> bool:
            status = self._status()
            return status.rollouts_pending == count and status.state is DaemonState.IDLE

        self.wait_until(is_so, f"{count} rollouts are pending")

    def wait_for_warm_trainer(self) -> psutil.Process:
        """Wait until a trainer has finished its imports and waits for a job; return it."""
        found: list[psutil.Process] = []

        def is_ready() -> bool:
            found[:] = [child for child in self.process().children() if _has_torch(child) and _is_quiet(child)]
            return len(found) == 1

        self.wait_until(is_ready, "a warm trainer is ready")
        return found[0]

    def wait_until(self, condition: Callable[[], bool], description: str) -> None:
        """Wait until a condition is true. Raises RunError at the timeout, or if the daemon ends."""
        assert self._child is not None
        until = time.monotonic() + TIMEOUT_S
        while not condition():
            if (code := self._child.poll()) is not None:
                raise RunError(f"{self.name} ended with code {code}:\n{self._log_tail()}")
            if time.monotonic() > until:
                raise RunError(f"{self.name}: waited {TIMEOUT_S:.0f} s until {description}:\n{self._log_tail()}")
            time.sleep(CHECK_S)

    # --- logs and memory

    def process(self) -> psutil.Process:
        """Return the daemon's process."""
        return psutil.Process(self._status().pid)

    def memory_mb(self) -> float:
        """Return the daemon's memory without its trainers."""
        return float(self.process().memory_info().rss / 1e6)

    def last_result(self) -> Result:
        """Return the result of the last published cycle."""
        ledger = Ledger.open(self.paths.ledger, read_only=True)
        try:
            last = ledger.last_publication()
            result = None if last is None else ledger.result(last.cycle_id)
        finally:
            ledger.close()
        if result is None:
            raise RunError(f"{self.name}: nothing has been published yet")
        return result

    def _status(self) -> Status:
        return Status.from_bytes(self.paths.status.read_bytes())

    def _read_pointer(self) -> str:
        try:
            return self.paths.pointer.read_text(encoding="utf-8")
        except OSError:
            return ""

    def _log_tail(self) -> str:
        assert self._child is not None
        return self._child.log_tail()


def _daemon(project: Path) -> list[str]:
    return ["-m", "daemon", "--no-dashboard", "--project", str(project)]


def _waiting_name(index: int) -> str:
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
