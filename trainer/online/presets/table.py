"""The presets, and which environments each is for. Their values are those of the configs with the same names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainer.online.config import PresetName


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One preset. The first two fields are for users."""

    name: PresetName
    about: str
    classes: frozenset[str] = frozenset()  #: of Gymnasium's own environments, by their names in `entry_point`
    packages: tuple[str, ...] = ()  #: whose environments it is for


PRESETS = (
    Preset(name="rocket", about="Rocket League"),
    Preset(name="rocket_1v1", about="Rocket League, 1v1 only; for some hours on a small machine"),
    Preset(name="racing", about="the racing game"),
    Preset(name="cartpole", about="CartPole", classes=frozenset({"CartPoleEnv"})),
    Preset(name="acrobot", about="Acrobot", classes=frozenset({"AcrobotEnv"})),
    Preset(name="mountaincar", about="MountainCar", classes=frozenset({"MountainCarEnv"})),
    Preset(name="pendulum", about="Pendulum", classes=frozenset({"PendulumEnv"})),
    Preset(
        name="mountaincar_continuous",
        about="MountainCarContinuous",
        classes=frozenset({"Continuous_MountainCarEnv"}),
    ),
    Preset(
        name="lunarlander",
        about="LunarLander, with discrete or continuous actions",
        classes=frozenset({"LunarLander", "LunarLanderContinuous"}),
    ),
    Preset(
        name="bipedalwalker",
        about="BipedalWalker",
        classes=frozenset({"BipedalWalker", "BipedalWalkerHardcore"}),
    ),
    Preset(
        name="mujoco",
        about="robots of MuJoCo",
        packages=("gymnasium.envs.mujoco", "gymnasium_robotics", "dm_control", "shimmy.dm_control_compatibility"),
    ),
    Preset(
        name="pixels",
        about="observations of bytes: images, RAM",
        packages=("ale_py", "stable_retro", "retro", "vizdoom"),
    ),
    Preset(name="discrete", about="all other environments with discrete actions"),
    Preset(name="continuous", about="all other environments with continuous actions"),
)


def preset_named(name: str) -> Preset:
    """Return a preset by its name."""
    return next(preset for preset in PRESETS if preset.name == name)


def preset_for_entry_point(entry_point: Any) -> Preset | None:
    """Return the preset for the class that Gymnasium creates, "package.module:Class" or the class itself, if any."""
    if not isinstance(entry_point, str):
        entry_point = f"{getattr(entry_point, '__module__', '')}:{getattr(entry_point, '__name__', '')}"
    module, _, name = entry_point.partition(":")
    for preset in PRESETS:
        is_named = module.startswith("gymnasium.envs.") and name in preset.classes
        if is_named or any(f"{module}.".startswith(f"{package}.") for package in preset.packages):
            return preset
    return None
