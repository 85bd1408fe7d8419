"""The settings of a run: a preset's values, then those of a config file, then flags. Later ones win."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from schemas.contract import DiscreteActions
from schemas.errors import ConfigError
from schemas.settings.loading import settings_from
from schemas.settings.sources import SourceValue
from schemas.storage.windows_paths import shown_path
from trainer.common.shipped_files import shipped_configs
from trainer.envs.gymnasium_env import GymnasiumVecEnv, check_id
from trainer.online.config import OnlineSettings, config_values
from trainer.online.presets.table import Preset, preset_for_entry_point, preset_named

_OF_A_RUN = frozenset({"env.id", "evaluation.stop_at"})
"""Settings in the configs that say what to train and until when: a preset does not set them."""
_SCHEDULES = ("train.learning_rate", "train.entropy_coef", "train.clip_range")


def settings_with_preset(path: Path | None, flags: dict[str, Any]) -> tuple[OnlineSettings, str]:
    """Return the settings of a config file and flags on top of a preset, and a line about it ("" without one).

    `run.preset` of the result is "none": it has all values. Raises ConfigError, also for an environment that cannot be
    used.
    """
    own = config_values(path, flags)
    settings = _settings(own, path)
    preset, reason = choose_preset(settings)
    if preset is None:
        return settings, ""
    hint = "--preset NAME takes another one, --list-presets lists them"
    return _with_none(_settings(values_on(preset_values(preset), own), path)), f"preset {preset.name}: {reason}; {hint}"


def settings_of_run(config: Path, path: Path | None, flags: dict[str, Any]) -> OnlineSettings:
    """Return the settings of an earlier run, changed by a config file and flags. Raises ConfigError."""
    if "run.preset" in flags:
        raise ConfigError(
            "--preset is for a new run: a resumed one keeps its own settings",
            hint="leave it out; flags or --config change single settings",
        )
    before, own = config_values(config), config_values(path, flags)
    _settings(before, config)  # each must be correct by itself
    _settings(own, path)
    return _with_none(_settings(values_on(before, own), path or config))


def choose_preset(settings: OnlineSettings) -> tuple[Preset | None, str]:
    """Return the preset of the settings, and why it is that one. Raises ConfigError."""
    if settings.run.preset == "none":
        return None, ""
    if settings.run.preset != "auto":
        return preset_named(settings.run.preset), f"{preset_named(settings.run.preset).about}, as run.preset says"
    name = settings.env.id
    if name in {"rocket", "racing"}:
        return preset_named(name), preset_named(name).about
    spec = check_id(name)
    env = _tried_environment(name, settings.env.options)
    if (known := preset_for_entry_point(spec.entry_point)) is not None:
        return known, f"{name} is one of {known.about}" if known.packages else f"made for {known.about}"
    if env.has_bytes or env.image is not None:
        return preset_named("pixels"), f"the observations of {name} are {'bytes' if env.image is None else 'images'}"
    is_discrete = isinstance(env.contract.action_space, DiscreteActions)
    kind = "discrete" if is_discrete else "continuous"
    return preset_named(kind), f"the actions of {name} are {kind}, and no preset is made for it"


def _tried_environment(name: str, options: dict[str, Any]) -> GymnasiumVecEnv:
    """Return a closed environment after one step: what cannot be used is reported before a run starts."""
    with contextlib.chdir(Path.cwd()):  # some environments change the folder, on which the paths of the settings depend
        env = GymnasiumVecEnv(name, 1, **options)
        env.reset(0)
        env.step(np.zeros((1, env.contract.action_space.width), np.float32))
        env.close()
    return env


def preset_values(preset: Preset) -> dict[str, SourceValue]:
    """Return the settings of a preset by dotted name."""
    values = config_values(shipped_configs(".toml")[preset.name])
    return {name: value for name, value in values.items() if name not in _OF_A_RUN}


def values_on(base: dict[str, SourceValue], own: dict[str, SourceValue]) -> dict[str, SourceValue]:
    """Return `own` on top of `base`. If `own` only has the start of a schedule, its end is not above the start."""
    merged = base | own
    for start in _SCHEDULES:
        end = f"{start}_end"
        if start in own and end not in own and end in base and base[end].value > own[start].value:
            merged[end] = dataclasses.replace(own[start], name=end)
    return merged


def _settings(values: dict[str, SourceValue], path: Path | None) -> OnlineSettings:
    return settings_from(OnlineSettings, values, "the settings" if path is None else shown_path(path))


def _with_none(settings: OnlineSettings) -> OnlineSettings:
    return settings.model_copy(update={"run": settings.run.model_copy(update={"preset": "none"})})
