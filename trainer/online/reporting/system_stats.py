"""How busy this machine is: CPU, memory, GPU."""

from __future__ import annotations

import contextlib

import psutil


class SystemStats:
    """CPU use of this process since the last look, and the GPU's where NVML tells."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()

    def numbers(self) -> dict[str, float]:
        """Return system/ scalars: percent and megabytes."""
        rss = self._process.memory_info().rss / 1e6
        return {"system/cpu_percent": self._process.cpu_percent(), "system/memory_mb": rss} | _gpu()


def _gpu() -> dict[str, float]:
    import torch

    if not torch.cuda.is_available():
        return {}
    numbers = {"system/gpu_memory_mb": torch.cuda.memory_reserved() / 1e6}
    with contextlib.suppress(Exception):  # NVML is an extra package; the memory is known without it
        numbers["system/gpu_percent"] = float(torch.cuda.utilization())
    return numbers
