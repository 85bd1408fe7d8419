"""The names of devices that Hotlap's trainer can use. Whether the machine has the device, only torch knows."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from schemas.errors import ConfigError
from schemas.settings.allowed import shown
from schemas.settings.sources import SourceValue

_NAME = re.compile(r"auto|cpu|cuda(:\d+)?")
_SIMILAR = re.compile(r"\s*(?:cuda|gpu)\s*[:_-]?\s*(\d*)\s*", re.IGNORECASE)
ALLOWED = "must be auto, cpu, cuda, or one of several GPUs, such as cuda:1"


def is_device(name: str) -> bool:
    """Return whether Hotlap's trainer knows a device of this name."""
    return _NAME.fullmatch(name) is not None


def _checked(name: str) -> str:
    if not is_device(name):
        raise ValueError(ALLOWED)
    return name


DeviceName = Annotated[str, AfterValidator(_checked)]


def require_device(entry: SourceValue) -> None:
    """Raise ConfigError if a setting does not name a device."""
    name = str(entry.value)
    if not is_device(name):
        similar = _SIMILAR.fullmatch(name)
        number = f":{similar[1]}" if similar and similar[1] else ""
        hint = f"did you mean cuda{number}?" if similar else "use auto, cpu or cuda"
        raise ConfigError(f"{entry.subject} is {shown(entry.raw)}, but {ALLOWED}", hint=hint)
