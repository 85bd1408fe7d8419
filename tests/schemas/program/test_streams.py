"""No command fails if standard streams are missing, as under pythonw or in a service."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
#: what each command does without its streams, and the exit code
COMMANDS = {
    "hotlap --help": (["-m", "daemon", "--help"], 0),
    "hotlap --version": (["-m", "daemon", "--version"], 0),
    "a wrong flag": (["-m", "daemon", "--nonsense"], 2),
    "a wrong setting": (["-m", "daemon", "--once", "--device", "gpu", "--project", "."], 2),
    "hotlap status": (["-m", "daemon", "status", "--project", "."], 0),
    "hotlap docs": (["-m", "daemon", "docs"], 0),
    "python -m trainer": (["-m", "trainer"], 2),
    "a wrong command of the trainer": (["-m", "trainer", "nonsense"], 2),
    "hotlap simulate": (["-m", "daemon", "simulate", "--own-weights", "--rollouts", "1", "--experiences", "64"], 0),
    "a script": ([str(ROOT / "scripts" / "simulate_engine.py"), "--own-weights", "--rollouts", "1"], 0),
}
#: prints the descriptors and streams into a file
REPORT = """
import os, sys
from schemas.program.streams import open_standard_streams
open_standard_streams()
for descriptor in (0, 1, 2):
    os.fstat(descriptor)
print("discarded", file=sys.stderr)
assert sys.stdin.read() == ""
with open(sys.argv[1], "w") as file:
    file.write(f"{file.fileno() > 2} {sys.__stdout__ is not None}")
"""


def run_without_streams(folder: Path, *arguments: str) -> int:
    """Run Python without standard streams, on Windows with pythonw; return its exit code."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if sys.platform == "win32":
        python = Path(sys.executable).with_name("pythonw.exe")
        detached = {"creationflags": subprocess.DETACHED_PROCESS, "close_fds": True}
        return subprocess.run(
            [python, *arguments], cwd=folder, env=environment, timeout=60, check=False, **detached
        ).returncode
    command = ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, timeout=60, check=False).returncode


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_without_streams(tmp_path, name):
    arguments, code = COMMANDS[name]
    assert run_without_streams(tmp_path, *arguments) == code


def test_the_descriptors_of_missing_streams_are_not_given_to_other_files(tmp_path):
    report = tmp_path / "report"
    assert run_without_streams(tmp_path, "-c", REPORT, str(report)) == 0
    assert report.read_text() == "True True"
