"""The use of CPU, memory and GPU: plausible values, sampled rarely, without errors and without waiting."""

import os
import subprocess
import sys
import threading
import time
from types import ModuleType, SimpleNamespace

import psutil
import pytest

from daemon.ui import system_stats
from daemon.ui.snapshot import SystemStats
from daemon.ui.system_stats import INTERVAL_S, Nvidia, SystemStatsSampler
from tests.daemon.ui.snapshots import until


class Ticks:
    """A clock whose time changes only in the test."""

    now_s = 1000.0

    def __call__(self):
        return self.now_s


def no_gpu():
    return ""


def test_values_are_plausible():
    stats = SystemStatsSampler(gpu=no_gpu).sample(None)
    assert 0.0 <= stats.cpu_percent <= 100.0
    assert 0 < stats.daemon_memory < stats.memory_total
    assert 0 < stats.memory_used < stats.memory_total
    assert (stats.trainer_memory, stats.gpu) == (0, "")


def test_a_sample_is_taken_every_two_seconds_at_most(monkeypatch):
    reads = []
    monkeypatch.setattr(system_stats, "_memory", lambda: reads.append(1) or (1, 2))
    clock = Ticks()
    probe = SystemStatsSampler(gpu=no_gpu, monotonic=clock)
    first = probe.sample(None)
    clock.now_s += INTERVAL_S - 0.01
    assert probe.sample(os.getpid()) is first
    assert len(reads) == 1
    clock.now_s += 0.02
    assert probe.sample(None) is not first
    assert len(reads) == 2


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "x = b'x' * 60_000_000; print(flush=True); input()"])
child.wait()
"""


def test_a_trainer_counts_with_its_children():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert parent.stdout.readline(), "the child has its memory now"
        alone = psutil.Process(parent.pid).memory_info().rss
        assert SystemStatsSampler(gpu=no_gpu).sample(parent.pid).trainer_memory > alone + 50_000_000
    finally:
        parent.stdin.close()
        parent.wait(30)
        parent.stdout.close()
    assert SystemStatsSampler(gpu=no_gpu).sample(parent.pid).trainer_memory == 0, "a trainer that has ended"


def test_a_child_that_ends_meanwhile_counts_as_0(monkeypatch):
    class Vanished:
        def memory_info(self):
            raise psutil.NoSuchProcess(1)

    me = psutil.Process()
    monkeypatch.setattr(system_stats, "_process_tree", lambda pid: [Vanished(), me])
    assert SystemStatsSampler(gpu=no_gpu).sample(1).trainer_memory > 0


@pytest.mark.parametrize("error", [psutil.AccessDenied(1), OSError("no /proc"), RuntimeError("odd"), KeyError("x")])
def test_errors_of_psutil_and_the_driver_are_ignored(monkeypatch, error):
    def broken(*_, **__):
        raise error

    for name in ("cpu_percent", "virtual_memory", "Process"):
        monkeypatch.setattr(psutil, name, broken)
    probe = SystemStatsSampler(gpu=broken)
    assert probe.sample(1) == SystemStats(0.0, 0, 0, 0, 0, "")


# --- GPU ----------------------------------------------------------------------------------------------


def test_the_gpu_is_read_on_another_thread():
    clock, may_return = Ticks(), threading.Event()

    def slow():
        may_return.wait(30)
        return "41 %\x1b[2J"

    probe = SystemStatsSampler(gpu=slow, monotonic=clock)
    started = time.monotonic()
    for _ in range(10):
        clock.now_s += INTERVAL_S
        assert probe.sample(None).gpu == "", "a driver that hangs must not block"
    assert time.monotonic() - started < 5.0
    may_return.set()

    def newest():
        clock.now_s += INTERVAL_S
        return probe.sample(None).gpu

    until(lambda: newest() == r"41 %\x1b[2J")


def fake_nvml(devices):
    """Return a driver with these GPUs: (name, utilisation or None if not supported, used GB, total GB)."""

    def utilization(device):
        if device[1] is None:
            raise RuntimeError("not supported")
        return SimpleNamespace(gpu=device[1])

    module = ModuleType("pynvml")
    module.nvmlInit = lambda: None
    module.nvmlDeviceGetCount = lambda: len(devices)
    module.nvmlDeviceGetHandleByIndex = lambda k: devices[k]
    module.nvmlDeviceGetName = lambda device: device[0]
    module.nvmlDeviceGetUtilizationRates = utilization
    module.nvmlDeviceGetMemoryInfo = lambda device: SimpleNamespace(used=device[2] * 10**9, total=device[3] * 10**9)
    return module


@pytest.mark.parametrize(
    ("devices", "line"),
    [
        ([("NVIDIA GeForce RTX 4090", 41, 5.1, 24)], " 41 %   5.1 of 24.0 GB RTX 4090"),
        ([(b"Tesla T4", 0, 1, 16), ("NVIDIA H100", 100, 70, 80)], "100 %   70.0 of 80.0 GB H100"),
        ([("NVIDIA H100 MIG", None, 1, 10)], "  - %   1.0 of 10.0 GB H100 MIG"),
        ([], ""),
    ],
)
def test_the_line_shows_the_gpu_with_the_most_memory_in_use(monkeypatch, devices, line):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(devices))
    assert Nvidia()() == line


def test_without_pynvml_there_is_no_gpu_and_no_thread(monkeypatch):
    monkeypatch.setattr(system_stats.importlib.util, "find_spec", lambda name: None)
    before = threading.active_count()
    assert SystemStatsSampler().sample(None).gpu == ""
    assert threading.active_count() == before
