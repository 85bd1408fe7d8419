"""Windows: Ctrl-C, Ctrl-Break, a closed console, logging off and `taskkill` end every program in order (row 68)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from daemon.ledger.ledger import Ledger
from schemas.process.session_window import CLOSE, END_SESSION
from schemas.storage.layout import ProjectPaths
from tests.faults.support.children import HIDDEN_SIZES, until
from tests.faults.support.harness import violations
from tests.helpers import SAMPLES, write_rollout

if sys.platform != "win32":
    pytest.skip("consoles of Windows; test_console has the terminals of POSIX", allow_module_level=True)

from schemas.process.ending import BREAK_EVENT, CLOSE_EVENT, SHUTDOWN_EVENT

FAKES = Path(__file__).parents[2] / "fakes"
ROOT = Path(__file__).parents[3]
CTRL_C = 0
START_S, END_S = 120.0, 15.0
QUICK = {
    "HOTLAP_DAEMON__SETTLE_S": "0.02",
    "HOTLAP_DAEMON__SCAN_INTERVAL_S": "0.1",
    "HOTLAP_AGENT__HIDDEN_SIZES": str(list(HIDDEN_SIZES)),
}
pytestmark = [pytest.mark.fault(68), pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def _windows_on_wine() -> None:
    """Let Wine create windows without a screen."""
    import winreg

    with winreg.CreateKey(winreg.HKEY_CURRENT_USER, r"Software\Wine\Drivers") as key:
        winreg.SetValueEx(key, "Graphics", 0, winreg.REG_SZ, "null")


class Running:
    """A program, and the event that ends it."""

    def __init__(self, folder: Path, event: int, program: str, *arguments: str) -> None:
        self.output = folder.with_name(f"{folder.name}.txt")
        self.trigger = folder.with_name(f"{folder.name}.trigger")
        self.event = event
        environment = {**os.environ, **QUICK, "PYTHONPATH": str(ROOT)}
        if event == CTRL_C:
            start = [str(FAKES / "whole_daemon.py")] if program == "daemon" else ["-m", "daemon"]
            command = [str(FAKES / "console.py"), str(self.output), sys.executable, *start, *arguments]
            self.process = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                creationflags=subprocess.CREATE_NO_WINDOW,
                env=environment,
            )
            self.pid = int(self.process.stdout.readline())
        else:
            command = [str(FAKES / "closing_console.py"), str(self.trigger), str(event), program, *arguments]
            with self.output.open("wb") as output:
                self.process = subprocess.Popen(
                    [sys.executable, *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                )
            self.pid = self.process.pid

    @property
    def text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def end(self) -> tuple[int, list[int]]:
        """Let the event happen; return the exit code, and the pids of the children that still run."""
        children = children_of(self.pid)
        if self.event == CTRL_C:
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()
            code = int(self.process.stdout.readline())
        else:
            self.trigger.touch()
            code = self.process.wait(END_S)
        deadline = time.monotonic() + 5.0
        while (left := [child.pid for child in children if child.is_running()]) and time.monotonic() < deadline:
            time.sleep(0.05)
        return code, left


def children_of(pid: int) -> list[psutil.Process]:
    """Return the descendants of a process that are Python programs: Wine adds processes of its own."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error, OSError, IndexError):
            if "python" in child.cmdline()[0].lower():
                found.append(child)
    return found


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Running]]:
    """Return a function that starts a program, and waits until a condition about its output is true."""
    started: list[Running] = []

    def make(event: int, ready: Callable[[str], bool], program: str, *arguments: str) -> Running:
        running = Running(tmp_path, event, program, *arguments)
        started.append(running)
        until(lambda: running.process.poll() is not None or ready(running.text), timeout_s=START_S)
        assert running.process.poll() is None, running.text
        return running

    yield make
    for running in started:
        with contextlib.suppress(psutil.Error):
            for process in [*children_of(running.pid), psutil.Process(running.pid)]:
                process.kill()
        running.process.kill()
        running.process.communicate()


def is_trained_again(folder: Path) -> bool:
    """Return whether the ledger has an unfinished cycle, which the next start continues."""
    with contextlib.closing(Ledger.open(ProjectPaths(folder).ledger, read_only=True)) as ledger:
        cycle = ledger.unfinished()
        return cycle is not None and cycle.id == 1


@pytest.mark.parametrize("event", [CTRL_C, BREAK_EVENT, CLOSE_EVENT, SHUTDOWN_EVENT, END_SESSION, CLOSE])
def test_a_daemon_that_trains(start, fresh_project, monkeypatch, event):
    folder = fresh_project()
    monkeypatch.setenv("FAKE_TRAINER", "silent")
    for index in (1, 2):
        write_rollout(ProjectPaths(folder).exports, index)
    arguments = ("--project", str(folder), "--no-dashboard", "--after-n-rollouts", "2")
    daemon = start(event, lambda text: "[2/5]" in text, "daemon", *arguments)
    until(lambda: bool(children_of(daemon.pid)))
    assert daemon.end() == (0, [])
    assert "stopped; the next start continues from here" in daemon.text
    assert is_trained_again(folder)
    assert violations(folder) == ()


def test_once(start, fresh_project, monkeypatch):
    folder = fresh_project()
    monkeypatch.setenv("FAKE_TRAINER", "silent")
    write_rollout(ProjectPaths(folder).exports, 1)
    daemon = start(CLOSE_EVENT, lambda text: "[2/5]" in text, "daemon", "--once", "--project", str(folder))
    assert daemon.end() == (130, [])
    assert "stopped before the cycle was published -> the next start continues from here [E_STOPPED]" in daemon.text
    assert is_trained_again(folder)


def test_a_demo_before_its_last_cycle(start, fresh_project):
    folder = fresh_project()
    arguments = ("--demo", "--cycles", "9", "--project", str(folder), "--no-dashboard")
    demo = start(CTRL_C, lambda text: "Ctrl-C stops it" in text, "daemon", *arguments)
    until(lambda: bool(children_of(demo.pid)))
    assert demo.end() == (0, [])
    assert "cycles published" in demo.text


@pytest.mark.parametrize("event", [CTRL_C, CLOSE_EVENT])
def test_a_simulated_engine(start, fresh_project, event):
    """With Ctrl-C it is a child of `hotlap`, which gets Ctrl-C as well."""
    arguments = ("simulate", "--project", str(fresh_project()), "--own-weights", "--experiences", "64")
    engine = start(event, lambda text: "rollout_1" in text, "trainer", *arguments)
    assert engine.end() == (0, [])
    assert "stopped after" in engine.text


@pytest.mark.torch
def test_a_training(start, tmp_path):
    models = tmp_path / "models"
    arguments = ("train", str(SAMPLES), str(models), "1000", "cpu")
    training = start(CLOSE_EVENT, lambda text: "epoch 1/" in text, "trainer", *arguments)
    assert training.end()[0] in {99, 130}  # 99: the slow unloading of torch takes longer than Windows waits
    assert "stopped; MODEL_DIR is unchanged" in training.text
    assert list(models.iterdir()) == []


def test_a_trainers_command_ends_with_hotlap(tmp_path, fresh_project):
    """Check a `hotlap` that is killed, as by the Task Manager: on Windows the trainer is its child."""
    command = [sys.executable, "-m", "daemon", "simulate", "--project", str(fresh_project()), "--own-weights"]
    process = subprocess.Popen(command, env={**os.environ, **QUICK, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)
    reader = threading.Thread(target=process.stdout.readline)
    reader.start()
    reader.join(60.0)
    assert not reader.is_alive()
    children = children_of(process.pid)
    process.kill()
    process.communicate()
    assert len(children) == 1
    until(lambda: not children[0].is_running(), timeout_s=5.0)
