"""A daemon that is killed leaves no process: SIGKILL, on Windows TerminateProcess (row 57)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import psutil
import pytest

from schemas.storage.layout import ProjectPaths
from tests.fakes.trainer import SLEEPER
from tests.faults.support.children import HIDDEN_SIZES, is_gone, until, workers_of
from tests.helpers import v1_bytes, write_rollout

ROOT = Path(__file__).parents[3]
START_S = 60.0  #: for the daemon and its children to start, on a busy machine
END_S = 10.0  #: for all of them to end after the kill

only_windows = pytest.mark.skipif(
    sys.platform != "win32", reason="on other systems the next start ends a trainer that does not watch its input"
)

WORKERS_SCRIPT = f"""
import pathlib, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {SLEEPER!r}])
detached = {{"creationflags": subprocess.DETACHED_PROCESS}} if sys.platform == "win32" else {{}}
start = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])"
subprocess.run([sys.executable, "-c", start, {SLEEPER!r}], check=True, **detached)  # its child has no parent now
pathlib.Path(sys.argv[1]).with_name("ready").touch()
time.sleep(3600)
"""


@contextlib.contextmanager
def killed_when(
    folder: Path, is_ready: Callable[[], bool], *arguments: str, trainer: str = "silent", **settings: object
) -> Iterator[list[int]]:
    """Start a daemon, kill it once `is_ready()`, and return the pids of its children and their descendants.

    `trainer` is the mode of the fake trainer.
    """
    values = {
        "auto_train_after_n_rollouts": 2,
        "settle_s": 0.02,
        "scan_interval_s": 0.1,
        "warm_trainer": "false",
        **settings,
    }
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FAKE_TRAINER": trainer}
    environment["HOTLAP_AGENT__HIDDEN_SIZES"] = str(list(HIDDEN_SIZES))
    environment |= {f"HOTLAP_DAEMON__{name.upper()}": str(value) for name, value in values.items()}
    command = [sys.executable, str(ROOT / "tests" / "fakes" / "whole_daemon.py"), "--no-dashboard", *arguments]
    output = folder.with_name("output.txt")
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--project", str(folder)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    children: list[psutil.Process] = []
    try:
        until(lambda: process.poll() is not None or is_ready(), timeout_s=START_S)
        assert process.poll() is None, f"the daemon ended before it was killed: {output.read_text(errors='replace')}"
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        yield [child.pid for child in children]
    finally:
        process.kill()
        process.wait()
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()


def all_end(folder: Path, pids: list[int]) -> None:
    """Wait until the processes have ended, and all others that work for the folder."""
    until(lambda: all(map(is_gone, pids)), timeout_s=END_S)
    assert workers_of(folder) == []


def status_of(folder: Path) -> dict[str, object]:
    """Return the content of status.json, or {} if it does not exist."""
    try:
        status: dict[str, object] = orjson.loads(ProjectPaths(folder).status.read_bytes())
    except (OSError, ValueError):
        return {}
    return status


def state_of(folder: Path) -> str:
    """Return what status.json states: the state, and the cycle."""
    status = status_of(folder)
    return f"{status['state']} {status['cycle']}" if status else ""


def write_two(folder: Path) -> None:
    for index in (1, 2):
        write_rollout(ProjectPaths(folder).exports, index)


@pytest.mark.fault(57)
@pytest.mark.parametrize("trainer", ["silent", pytest.param("deaf", marks=only_windows)])
def test_a_trainer_ends(fresh_project, trainer):
    folder = fresh_project()
    write_two(folder)

    def trains() -> bool:
        return state_of(folder) == "training 1" and bool(workers_of(folder))

    with killed_when(folder, trains, trainer=trainer) as pids:
        assert pids
        all_end(folder, pids)


@pytest.mark.fault(57)
def test_a_warm_trainer_ends(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    log = ProjectPaths(folder).logs / "warm_trainer.log"

    def waits() -> bool:
        return log.exists() and bool(workers_of(folder))

    with killed_when(folder, waits, trainer="warm", warm_trainer="true") as pids:
        assert pids
        all_end(folder, pids)


@pytest.mark.fault(57)
@pytest.mark.parametrize("trainer", ["lingers", "lingers, never ready"])
def test_a_warm_trainer_beside_a_training_ends(fresh_project, trainer):
    """Both end, whether the second one is ready or still starts."""
    folder = fresh_project()
    write_two(folder)
    written = []

    def both_run() -> bool:
        if not written and state_of(folder) == "training 1":
            written.extend(write_rollout(ProjectPaths(folder).exports, index) for index in (3, 4))
        return len(workers_of(folder)) >= 2  # the reader of the next file may run as well

    with killed_when(folder, both_run, trainer=trainer, warm_trainer="true") as pids:
        assert len(pids) >= 2
        all_end(folder, pids)


@pytest.mark.fault(57)
def test_a_reader_that_waits_for_the_next_file_ends(fresh_project):
    folder = fresh_project()
    write_rollout(ProjectPaths(folder).exports, 1, v1_bytes(n=16_000))

    readers: list[int] = []

    def waits() -> bool:
        """Return whether the reader still runs after its only file; on Windows its launcher may run as well."""
        readers[:] = [pid for pid in workers_of(folder) if is_reader(pid)]
        return status_of(folder).get("rollouts_pending") == 1 and bool(readers)

    with killed_when(folder, waits) as pids:
        assert set(readers) & set(pids)
        all_end(folder, pids)


def is_reader(pid: int) -> bool:
    """Return whether a process is one that reads rollouts."""
    try:
        return any("reader_process" in word for word in psutil.Process(pid).cmdline())
    except psutil.Error:
        return False


@pytest.mark.fault(57)
def test_a_process_that_reads_a_large_rollout_ends(fresh_project):
    """It is suspended, so that the kill does not come after its end."""
    folder = fresh_project()
    write_rollout(ProjectPaths(folder).exports, 1, v1_bytes(n=16_000))
    readers: list[psutil.Process] = []

    def is_reading() -> bool:
        readers[:] = [psutil.Process(pid) for pid in workers_of(folder)]
        for reader in readers:
            reader.suspend()
        return bool(readers)

    with killed_when(folder, is_reading) as pids:
        assert {reader.pid for reader in readers} <= set(pids)  # the first trainer may have started too
        if sys.platform != "win32":  # there the job ends it while it is suspended
            readers[0].resume()
        all_end(folder, pids)


@pytest.mark.fault(57)
def test_a_training_script_and_what_it_started_end(fresh_project):
    folder = fresh_project()
    (folder / "slow.py").write_text(WORKERS_SCRIPT, encoding="utf-8")
    write_two(folder)
    ready = ProjectPaths(folder).training / "ready"
    with killed_when(folder, ready.exists, training_script=folder / "slow.py") as pids:
        assert len(pids) >= 2
        all_end(folder, pids)


@pytest.mark.fault(57)
def test_the_simulated_engine_of_a_demo_ends(fresh_project):
    folder = fresh_project()
    with killed_when(folder, lambda: state_of(folder) == "training 1", "--demo") as pids:
        assert len(pids) >= 2, "the engine and the trainer"
        all_end(folder, pids)


DIES_AFTER_STARTING = """
import os, subprocess, sys
from pathlib import Path
from schemas.process import group
from schemas.process.tree import ProcessTree

def assign(self, pid):
    print(pid, flush=True)
    os.kill(os.getpid(), 9)  # on Windows TerminateProcess

group.WindowsJob.assign = group.PosixSession.assign = assign
watches_its_input = "from schemas.process.lifeline import end_with_parent as e; e(); import time; time.sleep(3600)"
ProcessTree(
    [sys.executable, "-c", watches_its_input], project=Path(sys.argv[1]), stdin=subprocess.PIPE,
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
)
"""


@pytest.mark.fault(57)
def test_a_child_ends_if_the_daemon_is_killed_while_it_starts_the_child(tmp_path):
    """On Windows, the child is suspended then, and not yet in its own job."""
    command = [sys.executable, "-c", DIES_AFTER_STARTING, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode != 0
    until(lambda: is_gone(int(done.stdout)), timeout_s=END_S)
