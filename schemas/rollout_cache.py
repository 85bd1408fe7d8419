"""Rollouts as compact arrays on disk, named by the hash of the file they came from; safe to delete at any time."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from schemas.contract import PolicyContract
from schemas.files import write_atomic
from schemas.rollout import Rollout

_FORMAT = 1
_COLUMNS = (
    "observations",
    "actions",
    "rewards",
    "terminated",
    "truncated",
    "log_probs",
    "values",
    "agents",
    "after_gap",
    "final_observations",
    "final_agents",
)


def store_rollout(path: Path, rollout: Rollout) -> None:
    """Write the arrays of a rollout, whole or not at all (not fsynced: it can always be made again)."""
    head = {
        "format": _FORMAT,
        "contract": rollout.contract.model_dump(mode="json"),
        "policy_version": rollout.policy_version,
        "noise_std": rollout.noise_std,
        "left_out": rollout.left_out,
        "reward_parts": list(rollout.reward_parts),
    }
    arrays: dict[str, Any] = {name: getattr(rollout, name) for name in _COLUMNS}
    arrays |= {f"part_{i}": part for i, part in enumerate(rollout.reward_parts.values())}
    buffer = io.BytesIO()
    np.savez(buffer, head=np.frombuffer(orjson.dumps(head), dtype=np.uint8), **arrays)
    write_atomic(path, buffer.getvalue(), durable=False)


def load_rollout(path: Path) -> Rollout | None:
    """Give a stored rollout; None where it is missing, torn or of another format."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            head = orjson.loads(stored["head"].tobytes())
            if head["format"] != _FORMAT:
                return None
            return Rollout(
                contract=PolicyContract.from_json_value(head["contract"]),
                **{name: stored[name] for name in _COLUMNS},
                reward_parts={name: stored[f"part_{i}"] for i, name in enumerate(head["reward_parts"])},
                policy_version=head["policy_version"],
                noise_std=head["noise_std"],
                left_out=head["left_out"],
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
