"""How many environments this machine can bear, and how busy it is."""

from __future__ import annotations

import contextlib
import os

import psutil

from trainer.online.config import OnlineSettings

_BYTES = {"rocket": 8_000_000, "racing": 20_000}
"""Memory an environment takes, with its part of a batch."""
_USUAL = {"rocket": 32, "racing": 64}
"""Environments where the config leaves it open: enough for matrix products that pay."""
_OTHER_BYTES, _OTHER_USUAL = 50_000_000, 8


def environments(settings: OnlineSettings) -> tuple[int, str]:
    """Give how many environments to run, and a line that says so where the config did not."""
    kind, wanted = settings.env.id, settings.env.num_envs
    bytes_each = _BYTES.get(kind, _OTHER_BYTES)
    free = int(psutil.virtual_memory().available * 0.5)
    most = max(1, free // bytes_each)
    if settings.env.workers:
        most = min(most, 4 * (os.cpu_count() or 1))
    usual = wanted or _USUAL.get(kind, _OTHER_USUAL)
    given = min(usual, most)
    if given < usual:
        return given, f"num_envs {usual} -> {given}: this machine has {free / 1e9:.1f} GB to spare"
    return given, "" if wanted else f"num_envs 0 -> {given} (set env.num_envs to choose)"


class Load:
    """CPU use of this process since the last look, and the GPU's where NVML tells."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()

    def numbers(self) -> dict[str, float]:
        """Give system/ scalars: percent and megabytes."""
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
