"""Disks that are full, limited, read-only or failing: the engine keeps its model, and the daemon recovers by itself."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.diagnostics.invariants import fingerprints_of
from scripts.faults.kill_sweep import ChildForker, strace_works, sweep_failures
from tests.faults.support.disk import TestDisk, os_error, refusing, win_error
from tests.faults.support.harness import InstantHarness, violations
from tests.faults.support.killing import ProjectTemplates, check_after_kill
from tests.platforms import needs_linux, needs_posix

ROOT = Path(__file__).parents[3]
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]


def may_mount() -> bool:
    return bool(shutil.which("unshare")) and (
        subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode
        == 0
    )


def run(scenario: str, folder: Path, *before: str) -> None:
    command = [
        *before,
        sys.executable,
        str(ROOT / "tests" / "faults" / "support" / "hard_disk.py"),
        scenario,
        str(folder),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.splitlines()[-1:] == ["passed"], done.stdout + done.stderr
    assert "Traceback" not in done.stderr


needs_mount = pytest.mark.skipif(not may_mount(), reason="Linux: user namespaces in which to mount a small disk")


@pytest.mark.fault(40)
@needs_mount
@pytest.mark.parametrize("scenario", ["full_before", "full_within"])
def test_a_full_disk(tmp_path, scenario):
    run(scenario, tmp_path, *UNSHARE)


@pytest.mark.fault(44)
@needs_mount
def test_a_start_on_a_read_only_disk_is_refused(tmp_path):
    run("read_only", tmp_path, *UNSHARE)


@pytest.mark.fault(44)
def test_a_disk_that_turns_read_only_under_the_daemon(fresh_project):
    folder = fresh_project()
    disk = TestDisk()
    with InstantHarness(folder, disk=disk) as harness:
        prints = fingerprints_of(harness.paths.exports)
        disk.before = refusing(lambda op: True, os_error(errno.EROFS)).before
        harness.write_rollouts(1, 2)
        for _ in range(20):
            harness.tick()
        assert harness.warnings()
        assert violations(folder, before=prints) == ()
        disk.before = TestDisk().before
        harness.until_version(1)
        harness.until(lambda: not harness.warnings())
    assert violations(folder) == ()


@pytest.mark.fault(41)
@needs_posix("RLIMIT_FSIZE")
def test_a_limit_on_the_size_of_files(tmp_path):
    run("limited", tmp_path)


@pytest.mark.fault(45)
@needs_linux("RLIMIT_NOFILE and /proc/self/fd")
def test_no_file_descriptors_left(tmp_path):
    run("no_descriptors", tmp_path)


@pytest.mark.fault(42)
@pytest.mark.slow
@pytest.mark.skipif(not strace_works(), reason="Linux: strace is missing or not permitted")
@pytest.mark.parametrize("syscall", ["fsync", "fdatasync"])
def test_a_publish_whose_sync_failed_is_not_recorded(tmp_path, syscall):
    projects = ProjectTemplates(tmp_path)
    with contextlib.closing(ChildForker()) as forker:
        result = sweep_failures(forker, projects.pending, check_after_kill, syscall, "EIO")
    assert result.violations == []
    assert result.points[syscall] >= 3


HELD = {f"winerror {number}": win_error(number) for number in (5, 32, 33)}
FINAL = {errno.errorcode[n]: os_error(n) for n in (errno.EACCES, errno.EPERM, errno.EXDEV, errno.EBUSY)}


@pytest.mark.fault(43)
@pytest.mark.parametrize("fault", HELD.values(), ids=HELD)
def test_a_rename_that_a_reader_blocks_briefly_is_repeated(fresh_project, fault):
    attempts = []

    def refuses(op):
        if op.kind == "rename" and op.path.name == "best_model_path.txt":
            attempts.append(op)
            return len(attempts) <= 4
        return False

    disk = refusing(refuses, fault)
    with InstantHarness(fresh_project(), disk=disk) as harness:
        harness.run_cycle(1)
        assert len(attempts) == 5
        assert 0.1 < disk.paused_s <= 2.5
        assert not any("W_PUBLISH" in line or "cannot be published" in line for line in harness.log.lines)


@pytest.mark.fault(43)
@pytest.mark.parametrize(("fault", "waits"), [(f, True) for f in HELD.values()] + [(f, False) for f in FINAL.values()])
@pytest.mark.parametrize("name", ["best_model_path.txt", "cycle_000001"])
def test_a_rename_that_stays_refused_leaves_the_publish_pending(fresh_project, fault, waits, name):
    folder = fresh_project()
    disk = refusing(lambda op: op.kind == "rename" and op.path.name == name, fault)
    with InstantHarness(folder, disk=disk) as harness:
        old = harness.paths.pointer.read_bytes()
        harness.write_rollouts(1, 2)
        harness.until(lambda: "W_PUBLISH" in harness.warnings())
        assert (2.0 < disk.paused_s <= 2.5) == waits
        for _ in range(20):
            harness.tick()
            assert harness.paths.pointer.read_bytes() == old
        assert harness.version == 0
        assert sum("cannot be published yet" in line for line in harness.log.lines) == 1
        disk.before = TestDisk().before
        harness.until_version(1)
        assert "W_PUBLISH" not in harness.warnings()
        assert [p.policy_version for p in harness.ledger.publications()] == [0, 1]
        assert len(harness.launcher.started) == 1
    assert violations(folder) == ()


@pytest.mark.fault(43)
def test_a_cycle_folder_that_a_reader_has_open_is_not_removed_in_part(fresh_project):
    disk = refusing(lambda op: op.kind == "rename" and op.path.name.startswith("removed_"), win_error(32))
    with InstantHarness(fresh_project(), disk=disk, keep_cycles=5) as harness:
        harness.clock.wall = 4e9  # every folder is older than an hour
        for first in range(10, 26, 2):
            harness.run_cycle(first)
        folders = sorted(harness.paths.models.glob("cycle_*"))
        assert len(folders) == 9
        assert all(list(folder.glob("model_epoch_*.json")) for folder in folders)
        disk.before = TestDisk().before
        harness.run_cycle(30)
        assert len(list(harness.paths.models.glob("cycle_*"))) < 8
