"""A description of this machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "numpy", "stable-baselines3", "gymnasium")


def describe() -> dict[str, str | int]:
    """Return processor, cores, system and versions; without names of machines or users."""
    found: dict[str, str | int] = {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def in_words(machine: dict[str, str | int]) -> str:
    """Return the description in one line."""
    packages = ", ".join(f"{name} {machine[name]}" for name in ("python", *PACKAGES))
    return f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; {packages}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()
