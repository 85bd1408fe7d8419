"""Hotlap's settings of a run: the defaults, with the overrides of `--set`."""

from __future__ import annotations

import tomllib
from typing import Any

from benchmarks.learn.contenders.file_engine import CHOICE
from schemas.contract import ContinuousActions, PolicyContract
from schemas.errors import ConfigError
from schemas.settings.models import AgentSettings, TrainerSettings
from trainer.online.config import OnlineSettings

GROUPS = ("trainer", "agent", "online")


def parse_overrides(texts: list[str]) -> tuple[tuple[str, str], ...]:
    """Return names and texts of `GROUP.NAME=VALUE`, sorted. Raises ValueError."""
    found: dict[str, str] = {}
    for text in texts:
        name, is_set, value = text.partition("=")
        if not is_set or name.partition(".")[0] not in GROUPS or not name.partition(".")[2]:
            raise ValueError(f"{text!r} is not GROUP.NAME=VALUE with a group of {', '.join(GROUPS)}")
        found[name.strip()] = value.strip()
    return tuple(sorted(found.items()))


def trainer_settings(overrides: tuple[tuple[str, str], ...], seed: int) -> TrainerSettings:
    """Return `[trainer]`. Raises pydantic's ValidationError, a ValueError, for an unknown name or a wrong value."""
    values: dict[str, Any] = {"seed": seed, "device": "cpu", "threads": 1}
    return TrainerSettings(**(values | _group(overrides, "trainer")))


def agent_settings(overrides: tuple[tuple[str, str], ...], contract: PolicyContract) -> AgentSettings:
    """Return `[agent]` for an environment's contract."""
    space = contract.action_space
    shape: dict[str, Any] = {"observation_size": contract.observation_size}
    if isinstance(space, ContinuousActions):
        shape |= {"actions": space.names, "action_low": space.low, "action_high": space.high}
    else:
        shape |= {"actions": (CHOICE,), "choices": space.n}
    return AgentSettings(**(shape | _group(overrides, "agent")))


def online_settings(
    overrides: tuple[tuple[str, str], ...], *, environment: str, total_steps: int, agents: int, seed: int
) -> OnlineSettings:
    """Return the settings of an online run that writes no checkpoints and does not evaluate."""
    tables: dict[str, dict[str, Any]] = {
        "run": {"total_steps": total_steps, "seed": seed, "device": "cpu", "threads": 1},
        "env": {"id": environment, "num_envs": agents},
        "evaluation": {"every_steps": 0},
        "checkpoints": {"every_steps": 2 * total_steps},
        "report": {"tensorboard": False},
    }
    for name, value in _group(overrides, "online").items():
        table, _, key = name.partition(".")
        tables.setdefault(table, {})[key] = value
    return OnlineSettings(**tables)  # type: ignore[arg-type]


def check_overrides(overrides: tuple[tuple[str, str], ...]) -> None:
    """Raise ValueError for an unknown name or a wrong value."""
    try:
        trainer_settings(overrides, seed=0)
        AgentSettings(**_group(overrides, "agent"))
        online_settings(overrides, environment="racing", total_steps=1, agents=1, seed=0)
    except ConfigError as error:
        raise ValueError(error.message) from None


def _group(overrides: tuple[tuple[str, str], ...], group: str) -> dict[str, Any]:
    chosen = (name_and_text for name_and_text in overrides if name_and_text[0].startswith(f"{group}."))
    return {name.partition(".")[2]: _value(text) for name, text in chosen}


def _value(text: str) -> Any:
    """Return a TOML value, or the text itself if it is not one."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
