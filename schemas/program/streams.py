"""Standard streams that are missing: pythonw, services and some launchers start programs without them."""

from __future__ import annotations

import contextlib
import os
import sys


def open_standard_streams() -> None:
    """Connect the standard streams that this process lacks to the null device.

    The descriptors are opened as well: otherwise the next file that is opened gets one of them, and what a library
    prints would be written into that file.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        with contextlib.suppress(OSError):
            _open_descriptor(descriptor)
        if getattr(sys, name) is None:
            stream = open(os.devnull, "w" if descriptor else "r", encoding="utf-8")  # noqa: PTH123, SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _open_descriptor(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null == descriptor:
            os.set_inheritable(null, True)
        else:
            os.dup2(null, descriptor)
            os.close(null)
