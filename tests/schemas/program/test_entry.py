"""The console command notices that another package has replaced `daemon`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.program.entry import package_problem

ROOT = Path(__file__).parents[3]
RUN = "import sys; from schemas.program.entry import main; sys.exit(main())"
THEIRS = '"""Library to implement a well-behaved Unix daemon process."""\nraise SystemExit("theirs ran")\n'


def installed(folder: Path, content: str | None) -> Path:
    """Copy the packages as in an installation, with another daemon/__init__.py or without one."""
    for name in ("daemon", "schemas"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "daemon" / "__init__.py"
    if content is None:
        path.unlink()
    else:
        path.write_text(content, encoding="utf-8")
    return folder


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-P", *arguments, "--version"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_hotlaps_own_package_is_accepted():
    assert package_problem() == ""


@pytest.mark.parametrize(
    ("content", "cause"), [(THEIRS, "is not Hotlap's"), (None, "is missing")], ids=["theirs", "no"]
)
def test_python_daemon_in_place_of_hotlaps_package_is_reported_in_one_line(tmp_path, content, cause):
    done = start(installed(tmp_path, content), "-c", RUN)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert f"{tmp_path / 'daemon' / '__init__.py'} {cause}" in line
    assert "pip uninstall python-daemon" in line
    assert "pipx" in line
    assert line.endswith("[E_PACKAGE]")


def test_python_m_daemon_notices_it_too(tmp_path):
    harmless = installed(tmp_path, '"""Theirs."""\n')
    done = start(harmless, "-m", "daemon")
    assert (done.returncode, "[E_PACKAGE]" in done.stderr, len(done.stderr.splitlines())) == (2, True, 1)
