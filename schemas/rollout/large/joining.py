"""One rollout of the parts of its file."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from schemas.rollout.rollout import Int32, Rollout


def joined(parts: list[Rollout], agents: Int32) -> Rollout:
    """Return the rollout of a version 1 file. `parts` is emptied, so that no column exists twice for long."""
    if len(parts) == 1:
        return dataclasses.replace(parts[0], agents=agents)
    first = parts[0]
    names = [
        field.name
        for field in dataclasses.fields(first)
        if isinstance(getattr(first, field.name), np.ndarray) and not field.name.startswith(("final_", "agents"))
    ]
    columns: dict[str, list[Any]] = {name: [getattr(part, name) for part in parts] for name in names}
    parts.clear()
    whole: dict[str, Any] = {name: np.concatenate(columns.pop(name)) for name in names}
    return dataclasses.replace(first, **whole, agents=agents)
