"""The device that training runs on, and its precision."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from schemas.errors import ConfigError
from schemas.settings.models import TrainerSettings
from trainer.common.autotune import Autotuner

MIN_BFLOAT16_WIDTH = 512
"""Smallest hidden width for which bfloat16 saves more time on a GPU than its conversions cost."""
_TRIALS = 3


def candidates(settings: TrainerSettings) -> list[torch.device]:
    """Return the devices that may be used: several only for `device = auto` with a GPU. Raises ConfigError."""
    name = settings.device
    if name == "auto":
        return [torch.device("cpu"), *([torch.device("cuda")] if torch.cuda.is_available() else [])]
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            f"trainer.device is {name}, which is not a device of torch", hint="use auto, cpu or cuda"
        ) from None
    if device.type not in {"cpu", "cuda"}:
        raise ConfigError(f"trainer.device is {name}, which Hotlap does not support", hint="use auto, cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"trainer.device is {name}, but torch finds no CUDA device", hint="use auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise ConfigError(f"trainer.device is {name}, but torch finds {count} CUDA device(s)", hint="use cuda:0")
    return [device]


def fastest(devices: list[torch.device], steps_on: Callable[[torch.device], Callable[[], None]]) -> torch.device:
    """Return the device on which a few real steps take the least time.

    `steps_on` prepares the steps on a device, which is not timed, and returns the function that does them.
    """
    if len(devices) == 1:
        return devices[0]
    return Autotuner(devices).choose(lambda device: _seconds(steps_on(device)))


def _seconds(take_steps: Callable[[], None]) -> float:
    """Return the shortest time of a few calls, after one that compiles and allocates."""
    take_steps()
    trials: list[float] = []
    for _ in range(_TRIALS):
        start_s = time.perf_counter()
        take_steps()
        trials.append(time.perf_counter() - start_s)
    return min(trials)


def use_bfloat16(settings: TrainerSettings, device: torch.device, hidden_sizes: tuple[int, ...]) -> bool:
    """Return whether the forward pass runs under bfloat16 autocast."""
    if settings.precision == "auto":
        return device.type == "cuda" and max(hidden_sizes) >= MIN_BFLOAT16_WIDTH
    return settings.precision == "bfloat16"


def allow_tf32(device: torch.device) -> None:
    """Let CUDA use TF32 for float32 matrix products, in the whole process; on a CPU nothing changes."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
