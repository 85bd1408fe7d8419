"""What the machine is busy with, for the dashboard: cheap, at most every two seconds, and never a reason to fail."""

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


def _either(ask: Callable[[], T], otherwise: T) -> T:
    """What `ask` says, or the other: a figure on a screen is never worth a daemon."""
    try:
        return ask()
    except Exception:  # noqa: BLE001  psutil in odd containers, drivers, permissions
        return otherwise


class SystemStatsProbe:
    """Samples CPU, memory and GPU. For one thread."""

    def __init__(
        self, *, gpu: Callable[[], str] | None = None, monotonic: Callable[[], float] = REAL_CLOCK.monotonic
    ) -> None:
        self._monotonic = monotonic
        if gpu is None and _either(lambda: importlib.util.find_spec("pynvml"), None) is not None:
            gpu = Nvidia()
        self._gpu = None if gpu is None else _Aside(gpu)
        self._last: SystemStats | None = None
        self._sampled_at = 0.0
        _either(psutil.cpu_percent, 0.0)  # the first answer has nothing to compare with

    def sample(self, trainer_pid: int | None) -> SystemStats:
        """Return the newest figures, with the memory of this process and its children; never raises, never waits."""
        now = self._monotonic()
        if self._last is not None and now - self._sampled_at < INTERVAL_S:
            return self._last
        used, total = _either(_memory, (0, 0))
        self._last = SystemStats(
            cpu_percent=_either(psutil.cpu_percent, 0.0),
            memory_used=used,
            memory_total=total,
            daemon_memory=_either(lambda: _resident(psutil.Process()), 0),
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


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _tree_memory(pid: int) -> int:
    """Bytes of a process and all below it; those that vanish meanwhile count nothing."""
    nobody: list[psutil.Process] = []
    return sum(_either(partial(_resident, member), 0) for member in _either(partial(_family, pid), nobody))


class _Aside:
    """Reads something on a thread of its own, since a driver can take seconds, or hang for good."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read
        self._newest = ""
        self._wanted = threading.Event()
        threading.Thread(target=self._run, name="gpu figures", daemon=True).start()

    def newest(self) -> str:
        """Return what was read last, and have it read again."""
        self._wanted.set()
        return self._newest

    def _run(self) -> None:
        while self._wanted.wait():
            self._wanted.clear()
            self._newest = printable(_either(self._read, ""))


class Nvidia:
    """Reads the NVIDIA GPU that holds the most memory, through `pynvml` (the package nvidia-ml-py)."""

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
        busy = _either(lambda: f"{nvml.nvmlDeviceGetUtilizationRates(device).gpu:3} %", "  - %")  # not where MIG is on
        used = f"{memory.used / 1e9:.1f} of {memory.total / 1e9:.1f} GB"
        return f"{busy}   {used} {name.removeprefix('NVIDIA ').removeprefix('GeForce ')}"
