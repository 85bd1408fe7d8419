"""Load of this machine: CPU, memory, GPU."""

from __future__ import annotations

import contextlib

import psutil


class SystemStats:
    """CPU and memory use of this process, and the load of the GPU."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()

    def metrics(self) -> dict[str, float]:
        """Return values for the logs, in percent and MB; CPU percent are since the last call."""
        rss = self._process.memory_info().rss / 1e6
        return {"system/cpu_percent": self._process.cpu_percent(), "system/memory_mb": rss} | _gpu_metrics()


def _gpu_metrics() -> dict[str, float]:
    import torch

    if not torch.cuda.is_available():
        return {}
    metrics = {"system/gpu_memory_mb": torch.cuda.memory_reserved() / 1e6}
    with contextlib.suppress(Exception):  # it needs NVML, an extra package; the memory does not
        metrics["system/gpu_percent"] = float(torch.cuda.utilization())
    return metrics
