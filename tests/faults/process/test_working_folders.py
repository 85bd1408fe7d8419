"""No process of a project has its current folder in a folder that Hotlap renames or removes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from daemon.rollouts.inbox import Inbox
from schemas.storage.layout import ProjectPaths
from tests.faults.support.children import begin_cycle, opened, until_ended, workers_of
from tests.helpers import v1_bytes, write_rollout

SCRIPT = """
import os, pathlib, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
pathlib.Path(sys.argv[1]).with_name("ready").touch()
time.sleep(3600)
"""


def current_folders(folder: Path) -> set[Path]:
    """Return the current folders of all processes that work for the project."""
    found = set()
    for pid in workers_of(folder):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.add(Path(psutil.Process(pid).cwd()).resolve())
    return found


def folders_in(folder: Path) -> Iterator[Path]:
    """Return the folders in a project, the deepest first."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            yield path


def assert_free(folder: Path) -> None:
    """Check the current folders, and on Windows that each of the project's folders can be renamed."""
    assert current_folders(folder) == {folder.resolve()}
    renamed = []
    for path in folders_in(folder) if sys.platform == "win32" else ():
        path.rename(path.with_name("renamed"))
        path.with_name("renamed").rename(path)
        renamed.append(path.name)
    assert sys.platform != "win32" or {"Models", "Exports", "staging", "Saved"} <= set(renamed)


def test_a_trainer_and_a_warm_trainer(fresh_project):
    folder = fresh_project()
    with opened(folder, warm_trainer=True) as harness:
        begin_cycle(harness, "silent")
        harness.until(lambda: bool(workers_of(folder)))
        assert any(path.name == "cycle_000001" for path in folders_in(folder))
        assert_free(folder)
    with opened(folder, keep_warm=True) as harness:
        begin_cycle(harness, "", first=3)
        harness.until(lambda: harness.ledger.last_publication().policy_version >= 1)
        harness.launcher.mode = "warm"
        harness.until(lambda: bool(workers_of(folder)) and not harness.runner.busy)
        assert_free(folder)


def test_a_training_script_and_what_it_starts(fresh_project):
    folder = fresh_project()
    (folder / "slow.py").write_text(SCRIPT, encoding="utf-8")
    ready = ProjectPaths(folder).training / "ready"
    with opened(folder, training_script="slow.py") as harness:
        begin_cycle(harness, "")
        harness.until(ready.exists)
        assert len(workers_of(folder)) >= 2
        assert_free(folder)


def test_the_selection_after_a_script(fresh_project):
    """The trainer that selects is still there while its staging folder becomes the cycle's folder."""
    folder = fresh_project()
    (folder / "quick.py").write_text("", encoding="utf-8")
    with opened(folder, training_script="quick.py") as harness:
        begin_cycle(harness, "")
        until_ended(harness, 1)
        assert current_folders(folder) <= {folder.resolve()}
        assert harness.ledger.last_publication().policy_version == 1


def test_the_process_that_reads_a_large_rollout(fresh_project):
    folder = fresh_project()
    write_rollout(ProjectPaths(folder).exports, 1, v1_bytes(n=16_000))
    with opened(folder) as harness:
        assert isinstance(harness.inbox, Inbox)
        seen: set[Path] = set()

        def is_reading() -> bool:
            seen.update(current_folders(folder))
            return bool(seen)

        harness.until(is_reading)
        assert seen == {folder.resolve()}


def test_a_daemon_that_is_started_in_a_folder_of_the_project_leaves_it(tmp_path, monkeypatch):
    paths = ProjectPaths(tmp_path)
    paths.make()
    for start, expected in ((paths.models, tmp_path), (paths.training, tmp_path), (tmp_path.parent, tmp_path.parent)):
        monkeypatch.chdir(start)
        paths.leave()
        assert Path.cwd() == expected
    source = tmp_path / "Source"
    source.mkdir()
    monkeypatch.chdir(source)
    paths.leave()
    assert Path.cwd() == source
