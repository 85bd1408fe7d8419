"""Where the arithmetic runs, and in which precision."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from schemas.errors import ConfigError
from schemas.settings.models import TrainerSettings

WIDTH_FOR_BFLOAT16 = 512
"""Hidden width above which bfloat16 gains more on a GPU than its conversions cost."""


def candidates(settings: TrainerSettings) -> list[torch.device]:
    """Return the devices that may be used; more than one where `device = auto` has a choice. Raises ConfigError."""
    if settings.device == "auto":
        return [torch.device("cpu"), *([torch.device("cuda")] if torch.cuda.is_available() else [])]
    try:
        device = torch.device(settings.device)
    except RuntimeError:
        raise ConfigError(f"trainer.device = {settings.device} is no device", hint="use auto, cpu or cuda") from None
    if device.type not in {"cpu", "cuda"}:
        raise ConfigError(f"trainer.device = {settings.device} is not supported", hint="use auto, cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"trainer.device = {settings.device}, but torch sees no CUDA device", hint="use auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"trainer.device = {settings.device}, but there are fewer devices", hint="use cuda:0")
    return [device]


def fastest(devices: list[torch.device], steps_on: Callable[[torch.device], Callable[[], None]]) -> torch.device:
    """Return the device on which a few real steps take the least time. `steps_on` builds them, untimed."""
    if len(devices) == 1:
        return devices[0]
    return min(devices, key=lambda device: _seconds(steps_on(device)))


def _seconds(steps: Callable[[], None]) -> float:
    steps()  # first calls compile and allocate
    best = float("inf")
    for _ in range(3):
        begin = time.perf_counter()
        steps()
        best = min(best, time.perf_counter() - begin)
    return best


def use_bfloat16(settings: TrainerSettings, device: torch.device, hidden_sizes: tuple[int, ...]) -> bool:
    """Return whether the forward pass runs under bfloat16 autocast."""
    if settings.precision == "auto":
        return device.type == "cuda" and max(hidden_sizes) >= WIDTH_FOR_BFLOAT16
    return settings.precision == "bfloat16"


def prepare(device: torch.device, threads: int) -> None:
    """Set what torch keeps globally: CPU threads, and TF32 for float32 matrix products on CUDA."""
    torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
