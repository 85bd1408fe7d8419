"""A child ends with everything it started, and a child that ended by itself leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from schemas.process.tree import ProcessTree
from tests.faults.support.children import is_gone, until

ROOT = Path(__file__).parents[3]
START = (
    "import sys; from pathlib import Path; from tests.fakes.trainer import start_descendants\n"
    "start_descendants(Path(sys.argv[1]))\n"
)


@pytest.fixture
def start(tmp_path):
    """Start a program with four descendants; return its tree and the descendants' pids."""
    trees = []

    def make(last_line: str) -> tuple[ProcessTree, list[int]]:
        pids = tmp_path / "pids"
        pids.touch()
        command = [sys.executable, "-c", START + last_line, str(pids)]
        trees.append(ProcessTree(command, project=tmp_path, cwd=ROOT, stdin=subprocess.DEVNULL))
        until(lambda: len(pids.read_text().split()) == 4)
        return trees[-1], [int(pid) for pid in pids.read_text().split()]

    yield make
    for tree in trees:
        tree.end()


def test_end_kills_a_running_child_and_its_descendants(start):
    tree, descendants = start("import time; time.sleep(3600)")
    assert tree.poll() is None
    assert tree.end() == (1 if sys.platform == "win32" else -9)
    assert [pid for pid in (tree.pid, *descendants) if not is_gone(pid)] == []


def test_end_kills_the_descendants_of_a_child_that_ended_by_itself(start):
    tree, descendants = start("sys.exit(7)")
    assert tree.wait(10.0)
    assert [pid for pid in descendants if is_gone(pid)] == []
    assert tree.end() == 7
    assert [pid for pid in descendants if not is_gone(pid)] == []


def test_a_program_that_does_not_exist_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        ProcessTree(["/nowhere/python"], project=tmp_path)
