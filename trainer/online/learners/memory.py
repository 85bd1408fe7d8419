"""The memory that a run will hold besides its environments, which are open when this is asked."""

from __future__ import annotations

from typing import Literal

import psutil

from trainer.networks.image_network import ImageShape
from trainer.online.config import OnlineSettings

_PPO, _TD3 = (29, 160), (40, 170)
"""Bytes at the peak of an update: for each number of an experience's observation, and for the rest of an experience.

Measured: float32 columns, the float64 copies that normalise them, and the shuffled copy; for td3 the experiences of the
run, their concatenation and the replay data.
"""
_IMAGES = 1.5  #: bytes at the peak for each byte of an image
_IMAGES_AT_ONCE = 512  #: or a minibatch, if it is larger: these are numbers instead of bytes


def bytes_needed(
    settings: OnlineSettings,
    algorithm: Literal["ppo", "td3"],
    *,
    n_agents: int,
    observation_size: int,
    image: ImageShape | None,
) -> int:
    """Return the most memory that the experiences of a run need."""
    train, batch = settings.train, n_agents * settings.env.n_steps
    if image is not None:
        at_once = max(_IMAGES_AT_ONCE, train.batch_size) * (8 * image.size + 10 * image.height * image.width)
        return int(_IMAGES * batch * image.size) + at_once
    factor, rest = _TD3 if algorithm == "td3" else _PPO
    kept = min(train.replay_experiences, settings.run.total_steps) if algorithm == "td3" else 0
    images_in_mirror = 2 if train.mirror else 1
    return images_in_mirror * max(batch, kept) * (factor * observation_size + rest)


def memory_note(
    settings: OnlineSettings,
    algorithm: Literal["ppo", "td3"],
    *,
    n_agents: int,
    observation_size: int,
    image: ImageShape | None = None,
) -> str:
    """Return a line for the log if the memory that is free now is not enough; else ""."""
    need = bytes_needed(settings, algorithm, n_agents=n_agents, observation_size=observation_size, image=image)
    free = int(psutil.virtual_memory().available)
    if need <= free:
        return ""
    env, train = settings.env, settings.train
    what = f"a batch of {n_agents} x {env.n_steps:,} steps needs"
    lower = f"env.n_steps ({env.n_steps:,}) or env.num_envs"
    if algorithm == "td3" and train.replay_experiences > n_agents * env.n_steps:
        what = f"{min(train.replay_experiences, settings.run.total_steps):,} experiences need"
        lower = f"train.replay_experiences ({train.replay_experiences:,})"
    return f"{what} about {need / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB is free: lower {lower}"
