"""The use of CPU, memory and GPU for the dashboard: sampled at most every two seconds; errors are ignored."""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import psutil

from daemon.runtime.clock import REAL_CLOCK
from daemon.ui.snapshot import SystemStats
from schemas.text import printable

INTERVAL_S = 2.0
T = TypeVar("T")


def _or_default(read: Callable[[], T], default: T) -> T:
    """Return the result of `read`, or the default if it raises: a missing number must not stop the daemon."""
    try:
        return read()
    except Exception:  # noqa: BLE001  psutil in some containers, drivers, permissions
        return default


class SystemStatsSampler:
    """Samples the use of CPU, memory and GPU. Must be used by one thread only."""

    def __init__(
        self, *, gpu: Callable[[], str] | None = None, monotonic: Callable[[], float] = REAL_CLOCK.monotonic
    ) -> None:
        self._monotonic = monotonic
        if gpu is None and _or_default(lambda: importlib.util.find_spec("pynvml"), None) is not None:
            gpu = Nvidia()
        self._gpu = None if gpu is None else _BackgroundReader(gpu)
        self._last: SystemStats | None = None
        self._sampled_at = 0.0
        _or_default(psutil.cpu_percent, 0.0)  # the first call returns 0: it measures from the previous call

    def sample(self, trainer_pid: int | None) -> SystemStats:
        """Return the newest values, also the memory of the daemon and the trainer. Never raises or waits."""
        now = self._monotonic()
        if self._last is not None and now - self._sampled_at < INTERVAL_S:
            return self._last
        used, total = _or_default(_memory, (0, 0))
        self._last = SystemStats(
            cpu_percent=_or_default(psutil.cpu_percent, 0.0),
            memory_used=used,
            memory_total=total,
            daemon_memory=_or_default(lambda: _resident(psutil.Process()), 0),
            trainer_memory=0 if trainer_pid is None else _tree_memory(trainer_pid),
            gpu="" if self._gpu is None else self._gpu.newest(),
        )
        self._sampled_at = now
        return self._last


def _memory() -> tuple[int, int]:
    memory = psutil.virtual_memory()
    return memory.total - memory.available, memory.total


def _resident(process: psutil.Process) -> int:
    return process.memory_info().rss


def _process_tree(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _tree_memory(pid: int) -> int:
    """Return the bytes that a process and its descendants use; those that end meanwhile count as 0."""
    nothing: list[psutil.Process] = []
    return sum(
        _or_default(partial(_resident, member), 0) for member in _or_default(partial(_process_tree, pid), nothing)
    )


class _BackgroundReader:
    """Reads a value on another thread, because a driver can take seconds or block forever."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read
        self._newest = ""
        self._wanted = threading.Event()
        threading.Thread(target=self._run, name="gpu stats", daemon=True).start()

    def newest(self) -> str:
        """Return the last value, and let the thread read it again."""
        self._wanted.set()
        return self._newest

    def _run(self) -> None:
        while self._wanted.wait():
            self._wanted.clear()
            self._newest = printable(_or_default(self._read, ""))


class Nvidia:
    """Reads the use of the NVIDIA GPU on which most memory is used, with `pynvml` (the package nvidia-ml-py)."""

    def __init__(self) -> None:
        self._nvml: Any = None

    def __call__(self) -> str:
        """Return for example ` 41 %   5.1 of 24.0 GB RTX 4090`. Raises what the driver raises."""
        if self._nvml is None:
            nvml: Any = importlib.import_module("pynvml")
            nvml.nvmlInit()
            self._nvml = nvml
        nvml = self._nvml
        devices = [nvml.nvmlDeviceGetHandleByIndex(k) for k in range(nvml.nvmlDeviceGetCount())]
        if not devices:
            return ""
        memory, device = max(
            ((nvml.nvmlDeviceGetMemoryInfo(device), device) for device in devices), key=lambda pair: pair[0].used
        )
        name = nvml.nvmlDeviceGetName(device)
        name = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        # With MIG the utilisation is not available.
        busy = _or_default(lambda: f"{nvml.nvmlDeviceGetUtilizationRates(device).gpu:3} %", "  - %")
        used = f"{memory.used / 1e9:.1f} of {memory.total / 1e9:.1f} GB"
        return f"{busy}   {used} {name.removeprefix('NVIDIA ').removeprefix('GeForce ')}"
