"""The memory and cores of the machine, and of containers that may use less."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from daemon.process import machine

NO_LIMIT = 9223372036854771712  #: of version 1


@pytest.fixture
def write_groups(tmp_path, monkeypatch):
    """Return a function that writes what Linux shows of this process's control groups."""

    def write(own: str, files: dict[str, object]) -> None:
        monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "own")
        monkeypatch.setattr(machine, "CONTROL_GROUPS", tmp_path / "groups")
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")

    return write


def test_the_memory_of_this_machine():
    free, total = machine.free_memory(), machine.total_memory()
    assert 0 < free.resident < total <= psutil.virtual_memory().total
    assert free.committed >= free.resident or sys.platform == "win32"
    assert 1 <= machine.usable_cores() <= os.cpu_count()


def test_the_memory_of_a_process_includes_its_descendants():
    nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        alone = psutil.Process(process.pid).memory_info().rss
        used = machine.memory_of(process.pid)
        process.communicate()
    assert used.resident > 1.5 * alone
    with pytest.raises(psutil.Error):
        machine.memory_of(process.pid)


def test_a_limit_of_a_container(write_groups):
    files = {"memory.max": 1_000_000, "memory.current": 700_000, "memory.stat": "anon 5\ninactive_file 100000"}
    write_groups("0::/\n", files)
    assert machine.total_memory() == 1_000_000
    assert machine.free_memory().resident == 400_000


def test_the_lowest_limit_of_all_groups_above_counts(write_groups):
    service = {"memory.max": "max", "memory.current": 5}
    user = {"memory.max": 1_000_000, "memory.current": 900_000}
    files = {f"user/service/{name}": value for name, value in service.items()}
    files |= {f"user/{name}": value for name, value in user.items()}
    write_groups("0::/user/service\n", files)
    assert machine.free_memory().resident == 100_000


def test_a_limit_of_version_1_at_the_path_of_the_host(write_groups):
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    files = dict(zip((f"memory/{name}" for name in names), (1_000_000, 400_000), strict=True))
    files["memory/memory.stat"] = "inactive_file 7\ntotal_inactive_file 50000"
    own = "9:name=systemd:/\n4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/\n"
    write_groups(own, {**files, "cpu,cpuacct/cpu.cfs_quota_us": 150_000, "cpu,cpuacct/cpu.cfs_period_us": 100_000})
    assert machine.free_memory().resident == 650_000
    assert machine.usable_cores() == min(1.5, os.cpu_count())
    write_groups(own, {"memory/memory.limit_in_bytes": NO_LIMIT})
    assert machine.total_memory() == psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("content", "cores"),
    [("50000 100000", 0.5), ("max 100000", None), ("", None), ("a 0", None), ("100000 0", None)],
)
def test_the_cores_of_a_container(write_groups, content, cores):
    write_groups("0::/\n", {})
    all_cores = machine.usable_cores()
    write_groups("0::/\n", {"cpu.max": content})
    assert machine.usable_cores() == (cores or all_cores)
