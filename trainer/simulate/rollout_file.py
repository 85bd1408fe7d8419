"""Write experiences as rollout files: version 1 byte for byte as Unreal writes it, version 2 as columns.

The formats are described in docs/reference/formats.md. A reader must never see an incomplete file: it is written as
`<name>.json.tmp`, flushed, and renamed. `write_slowly` breaks this rule on purpose, as some engines do.
"""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from schemas.storage.careful_open import open_regular

Floats32 = NDArray[np.float32]

_TAB, _EOL = "\t", "\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedRollout:
    """n experiences of several agents, in the order of time: all agents' first step, all agents' second, ..."""

    observations: Floats32  #: [n, O], before the action
    actions: Floats32  #: [n, A], clamped to their bounds
    rewards: Floats32  #: [n]
    terminated: NDArray[np.bool_]  #: [n], the episode ended by the rules of the game
    truncated: NDArray[np.bool_]  #: [n], a time limit ended the episode
    log_probs: Floats32  #: [n], nats, density of the clamped action
    values: Floats32  #: [n], outputs of the value network
    agents: NDArray[np.int32]  #: [n]
    action_names: tuple[str, ...]  #: A names, in the order of the policy's outputs
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()
    final_observations: Floats32 | None = None  #: [agents, O], after each agent's last step in this rollout
    reward_parts: dict[str, Floats32] = field(default_factory=dict)  #: name to [n]
    critic_observations: Floats32 | None = None  #: [n, P], what only critics see; version 2 only
    final_critic_observations: Floats32 | None = None  #: [agents, P], likewise; a row of NaN is not written
    policy_version: int | None = None
    noise_std: float = 1.0


def rollout_name(index: int, now: datetime) -> str:
    """Return `rollout_<i>_<YYYYMMDD_HHMMSS>.json`."""
    return f"rollout_{index}_{now:%Y%m%d_%H%M%S}.json"


def next_index(exports: Path) -> int:
    """Return the next index: the highest one in the folder plus one, or 0 if the folder does not contain a rollout."""
    found = (re.match(r"rollout_(\d+)_", path.name) for path in exports.iterdir())
    return max((int(match[1]) for match in found if match), default=-1) + 1


def version_1(rollout: ExportedRollout, now: datetime) -> str:
    """Return a rollout as Unreal's JSON writer prints it: tabs, CRLF, its order of keys, doubles with %.17g.

    Numbers that are not finite are written as Unreal does: bare `nan` and `inf`, which are not valid JSON.
    """
    template = _experience_template(rollout.observations.shape[1], rollout.action_names)
    columns = (
        rollout.observations.astype(float),
        rollout.actions.astype(float),
        rollout.rewards.astype(float),
        (rollout.terminated | rollout.truncated).tolist(),
        rollout.log_probs.astype(float),
        rollout.values.astype(float),
        rollout.agents.tolist(),
    )
    experiences = [
        template % (*state, *action, reward, "true" if done else "false", log_prob, value, agent)
        for state, action, reward, done, log_prob, value, agent in zip(*columns, strict=True)
    ]
    return _EOL.join(
        [
            "{",
            f'{_TAB}"experiences": [',
            f",{_EOL}".join(experiences),
            f"{_TAB}],",
            f'{_TAB}"num_experiences": {len(experiences)},',
            f'{_TAB}"timestamp": "{now:%Y.%m.%d-%H.%M.%S}"',
            "}",
        ]
    )


def version_2(rollout: ExportedRollout, rollout_id: str, *, as_base64: bool) -> str:
    """Return a rollout as columns: nested lists, or base64 of little-endian arrays."""
    encode: Callable[[NDArray[Any]], Any] = _base64_column if as_base64 else lambda column: column.tolist()
    document = {
        "schema": "hotlap.rollout/2",
        "rollout_id": rollout_id,
        "policy_version": rollout.policy_version,
        "noise_std": rollout.noise_std,
        "action_space": {
            "type": "continuous",
            "names": list(rollout.action_names),
            "low": list(rollout.action_low),
            "high": list(rollout.action_high),
        },
        "observations": encode(rollout.observations),
        "actions": encode(rollout.actions),
        "rewards": encode(rollout.rewards),
        "terminated": encode(rollout.terminated),
        "truncated": encode(rollout.truncated),
        "log_probs": encode(rollout.log_probs),
        "values": encode(rollout.values),
        "agents": encode(rollout.agents),
        "reward_parts": {name: encode(part) for name, part in rollout.reward_parts.items()},
    }
    if rollout.final_observations is not None:
        document["final_observations"] = {str(i): row.tolist() for i, row in enumerate(rollout.final_observations)}
    if rollout.critic_observations is not None:
        document["critic_observations"] = encode(rollout.critic_observations)
    if rollout.final_critic_observations is not None:
        finals = enumerate(rollout.final_critic_observations)
        document["final_critic_observations"] = {str(i): row.tolist() for i, row in finals if np.isfinite(row).all()}
    return json.dumps({name: value for name, value in document.items() if value is not None})


def encode_text(text: str, *, utf16: bool = False) -> bytes:
    """Return the bytes that Unreal saves for a text: ASCII if possible and not `utf16`, otherwise UTF-16LE with BOM."""
    return b"\xff\xfe" + text.encode("utf-16-le") if utf16 or not text.isascii() else text.encode("ascii")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file of which readers never see a part, because they ignore names that end in .tmp."""
    temporary = path.with_name(f"{path.name}.tmp")
    with _opened(temporary) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _opened(path: Path) -> IO[bytes]:
    """Open a new file, or an old one that is emptied. Raises OSError for a link."""
    return os.fdopen(open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), "wb")


def write_slowly(
    path: Path, data: bytes, *, seconds: float, should_hurry: Callable[[], bool], pieces: int = 100
) -> None:
    """Write under the final name, piece by piece over `seconds`; without waiting once `should_hurry()` is true."""
    size = -(-len(data) // pieces)
    with _opened(path) as file:
        for start in range(0, len(data), size):
            file.write(data[start : start + size])
            file.flush()
            if not should_hurry():
                time.sleep(seconds / pieces)


def _experience_template(state_size: int, action_names: tuple[str, ...]) -> str:
    """Return a %-template of one experience, for a tuple of state, action, reward, done, log_prob, value and agent."""
    number, deep = "%.17g", 3 * _TAB
    names = [json.dumps(name, ensure_ascii=False).replace("%", "%%") for name in action_names]
    return _EOL.join(
        [
            f"{2 * _TAB}{{",
            f'{deep}"state": [ {", ".join([number] * state_size)} ],',
            f'{deep}"action":',
            f"{deep}{{",
            f",{_EOL}".join(f"{deep}{_TAB}{name}: {number}" for name in names),
            f"{deep}}},",
            f'{deep}"reward": {number},',
            f'{deep}"done": %s,',
            f'{deep}"log_prob": {number},',
            f'{deep}"value": {number},',
            f'{deep}"advantage": 0,',
            f'{deep}"return": 0,',
            f'{deep}"agent_index": %d',
            f"{2 * _TAB}}}",
        ]
    )


def _base64_column(column: NDArray[Any]) -> dict[str, Any]:
    little = np.ascontiguousarray(column, column.dtype.newbyteorder("<"))
    data = base64.b64encode(little.tobytes()).decode("ascii")
    return {"dtype": little.dtype.str, "shape": list(little.shape), "data": data}
