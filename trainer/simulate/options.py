"""The options of the simulated engine, one for each flag."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationOptions:
    """The options of one engine."""

    project: Path
    agents: int = 16
    experiences: int = 2048  #: a rollout, rounded up to whole steps of all agents
    seed: int = 0
    noise_std: float = 1.0  #: factor on the policy's standard deviation
    rollouts: int = 0  #: stop after this many; 0 = never
    format: str = "v1"  #: v1, v2 or v2-base64
    critic_observations: bool = False  #: write the road ahead for critics, in version 2
    utf16: bool = False
    slow: float = 0.0  #: seconds that writing a file takes, in place
    steps_per_second: float = 0.0  #: experiences of all agents together; 0 = as fast as possible
    pause_while_training: int = 0  #: wait for another model after this many rollouts; 0 = do not wait
    own_weights: bool = False  #: start with random weights and ignore policy version 0
    nan_every: int = 0  #: K: write a nan in every K-th experience; 0 = never
    observation_scale: float = 1.0
    observation_shift: float = 0.0
    track: int | None = None
    quiet: bool = False
    as_json: bool = False
