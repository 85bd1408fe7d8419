"""Creating the environment that a config names, and checking it."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError, HotlapError
from schemas.program.commands import install_command
from schemas.storage.windows_paths import shown_path
from trainer.common.user_code import describe, file_of, search_current_folder, search_folder
from trainer.dagger.actions import read_action_spec
from trainer.dagger.environment.errors import HINT, in_environment
from trainer.dagger.environment.milestone_env import MilestoneEnv
from trainer.dagger.environment.wrappers import find_attribute
from trainer.dagger.milestones import MilestoneConfig
from trainer.envs.observations import read_observation_spec

BUILT_IN = {
    "racing": "trainer.envs.racing.milestones:RacingMilestones",
    "retro": "trainer.envs.retro:RetroMilestones",
}
_REQUIRED_METHODS = ("reset", "step")
_REGISTERED = re.compile(r"-v\d+$")
log = logging.getLogger("trainer.dagger")


def open_environments(config: MilestoneConfig, max_count: int, *, folder: Path | None = None) -> list[MilestoneEnv]:
    """Create as many environments as the config or the environment allows in one process, at most `max_count`.

    `folder` is that of the config: an environment's module may be beside it.
    """
    first = _make(config, folder)
    with in_environment("observation_space or action_space"):
        spec, actions = read_observation_spec(first), read_action_spec(first)
    allowed = config.num_envs or _allowed_count(first)
    envs = [first, *(_make(config, folder) for _ in range(min(max_count, allowed) - 1))]
    return [MilestoneEnv(env, spec, actions) for env in envs]


def _allowed_count(env: Any) -> int:
    """Return how many environments may exist in one process: `num_envs`, or `lanes`, its older name."""
    for name in ("num_envs", "lanes"):
        count = find_attribute(env, name)
        if count is not None:
            with in_environment(name):
                return max(1, int(count))
    return 1


def _make(config: MilestoneConfig, folder: Path | None) -> Any:
    """Create the environment. Raises ConfigError with one line for every failure."""
    name = BUILT_IN.get(config.env, config.env)
    search_current_folder()
    if folder is not None:
        search_folder(folder)
    try:
        factory, options = _find_factory(name, folder)
        env = _create(factory, {**options, **config.env_options}, config)
    except HotlapError:
        raise
    except (Exception, SystemExit) as error:
        log.exception("the environment %s cannot be created", config.env)
        raise ConfigError(
            f"env {config.env} cannot be created: {describe(error)}", hint=_hint(config.env, error)
        ) from error
    missing = [f"{name}()" for name in _REQUIRED_METHODS if not callable(getattr(env, name, None))]
    if missing:
        raise ConfigError(f"env {config.env} does not have {', '.join(missing)}", hint=HINT)
    return env


def _hint(name: str, error: BaseException) -> str:
    """Return what to do if an environment cannot be created."""
    close = get_close_matches(name.lower(), BUILT_IN, n=1)
    if close and name not in BUILT_IN:
        return f"did you mean {close[0]}?"
    if isinstance(error, ModuleNotFoundError):
        extra = {"stable_retro": "retro", "gymnasium": "dagger"}.get(error.name or "")
        return install_command(extra) if extra else "install it, or put it beside the config or in the current folder"
    file = file_of(error)
    return f"correct {file}; the milestone's log has the traceback" if file else HINT


def _find_factory(name: str, folder: Path | None) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the factory of `module:factory`, `file.py:factory`, `module:Id-v0` or a Gymnasium id, and its options."""
    module, _, attribute = name.rpartition(":")
    if not module:
        return _find_registered(name)
    if module.endswith(".py"):
        return getattr(_import_file(Path(module), folder), attribute), {}
    imported = import_module(module)
    if _REGISTERED.search(attribute) and not hasattr(imported, attribute):
        return _find_registered(attribute)
    return getattr(imported, attribute), {}


def _import_file(path: Path, folder: Path | None) -> Any:
    """Import a file, which is relative to the current folder or that of the config."""
    if not path.is_absolute() and not path.is_file() and folder is not None:
        path = folder / path
    if not path.is_file():
        raise FileNotFoundError(f"{shown_path(path)} does not exist")
    search_folder(path.parent)
    return import_module(path.stem)


def _find_registered(name: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the factory and the options of a Gymnasium id.

    `gymnasium.make` is not used: its wrappers hide save_state() and end episodes.
    """
    import gymnasium
    from gymnasium.envs.registration import load_env_creator

    spec = gymnasium.spec(name)
    point = spec.entry_point
    if point is None:
        raise ValueError("it has no entry point")
    return (load_env_creator(point) if isinstance(point, str) else point), dict(spec.kwargs)


def _create(factory: Callable[..., Any], options: dict[str, Any], config: MilestoneConfig) -> Any:
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # of a builtin
        return factory(**options)
    takes_any = ":" in config.env and any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if "milestones" in parameters or takes_any:
        options["milestones"] = [milestone.model_dump() for milestone in config.milestones]
    if "render_mode" in parameters and (mode := _render_mode(factory)):
        options.setdefault("render_mode", mode)
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        unknown = [name for name in config.env_options if name not in parameters]
        if unknown:
            known = ", ".join(name for name in parameters if name not in {"milestones", "render_mode"})
            hint = f"its options are {known}" if known else "it has no options"
            raise ConfigError(f"env {config.env} does not have the option {unknown[0]} (in env_options)", hint=hint)
    return factory(**options)


def _render_mode(factory: Callable[..., Any]) -> str:
    """Return the mode that an environment is created with for videos; "" if it states that it does not have one."""
    metadata = getattr(factory, "metadata", None)
    modes = metadata.get("render_modes") if isinstance(metadata, Mapping) else None
    if not isinstance(modes, Collection):
        return "rgb_array"
    return next((mode for mode in ("rgb_array", "rgb_array_list") if mode in modes), "")
