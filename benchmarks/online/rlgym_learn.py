"""rlgym-learn's PPO on rlgym's own game: one game a worker process, the learner in this one.

Learning rates, reward scaling and inference are as rlgym-learn has them by default; network, epochs, minibatches and
steps an iteration are those of the other rows. Its minibatches only add up gradients, so a step of the optimizer is
taken after each of its batches: a batch of theirs is a minibatch of ours, and old steps are not learned from again.

rlgym-learn 2.0.0 throws away what has come in when it has told a worker to step. A worker that ran at once, on a busy
core, has answered by then and is never heard again; so the workers here are batch processes, which wait their turn.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from rlgym_learn import (
    BaseConfigModel,
    LearningCoordinator,
    LearningCoordinatorConfigModel,
    ProcessConfigModel,
    SerdeTypesModel,
)
from rlgym_learn.pyany_serde import NumpySerdeConfig, PyAnySerdeType
from rlgym_learn_algos.ppo import (
    BasicCritic,
    DiscreteFF,
    ExperienceBufferConfigModel,
    GAETrajectoryProcessor,
    GAETrajectoryProcessorConfigModel,
    NumpyExperienceBuffer,
    PPOAgentController,
    PPOAgentControllerConfigModel,
    PPOLearnerConfigModel,
    PPOMetricsLogger,
    SeparateActorCritic,
)

from benchmarks.online.rlgym_game import make_batch_env, make_env


class Enough(BaseException):
    """The seconds are over; no Exception, since rlgym-learn would print those and save a checkpoint."""


class IterationClock(PPOMetricsLogger):
    """Counts whole iterations after the first, wall and CPU, and ends the run."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._began: tuple[float, float, int] | None = None
        self.told: dict[str, float] = {}

    def collect_agent_metrics(self, data: Any) -> None:
        """Note where an iteration ended."""
        print(f"learned from {data.cumulative_timesteps:,} steps", flush=True)
        now = time.perf_counter(), cpu_seconds(), data.cumulative_timesteps
        if self._began is None:
            self._began = now
            return
        wall, cpu, steps = (end - begin for end, begin in zip(now, self._began, strict=True))
        if wall >= self._seconds:
            self.told = {"wall": steps / wall, "cpu": steps / cpu}
            raise Enough

    def report_metrics(self) -> None:
        """Say nothing."""


def cpu_seconds() -> float:
    """Return what this process and all below it, which live as long as the run, have used."""
    me = psutil.Process()
    return sum(sum(p.cpu_times()[:2]) for p in (me, *me.children(recursive=True)))


class Buffer(NumpyExperienceBuffer):
    """Its memory pinned for a GPU, which PyTorch without one refuses, is plain memory here."""

    def load(self, config: Any) -> None:
        """Make the buffers."""
        super().load(config)
        for part in (self.log_probs, self.values, self.advantages):
            part.pin_memory = False


def networks(hidden: tuple[int, ...]) -> Any:
    """Return the factory of policy and critic."""

    def make(seen: Any, actions: Any, dtype: torch.dtype, device: torch.device, name: str | None) -> Any:
        policy = DiscreteFF(seen[1], actions[1], hidden, dtype, device)
        return SeparateActorCritic(policy, BasicCritic(seen[1], hidden, dtype, device))

    return make


def optimizers(both: Any, settings: dict[str, Any], name: str | None) -> list[torch.optim.Optimizer]:
    """Return Adam for policy and critic."""
    parts = (("actor", both.actor), ("critic", both.critic))
    return [torch.optim.Adam([{"params": part.parameters(), **settings.get(which, {})} for which, part in parts])]


def serdes(size: int) -> Any:
    """Say how what a game sends is laid out in shared memory."""

    def plain(shape: tuple[int, ...]) -> Any:
        """No search for leaks, which its default begins at ten thousand arrays and which costs more than the games."""
        return NumpySerdeConfig.STATIC(shape, allocation_pool_warning_size=None)

    space = PyAnySerdeType.TUPLE((PyAnySerdeType.STRING(), PyAnySerdeType.INT()))
    return SerdeTypesModel(
        agent_id_serde_type=PyAnySerdeType.STRING(),
        obs_serde_type=PyAnySerdeType.NUMPY(np.float64, config=plain((size,))),
        action_serde_type=PyAnySerdeType.NUMPY(np.int64, config=plain((1,))),
        reward_serde_type=PyAnySerdeType.FLOAT(),
        obs_space_serde_type=space,
        action_space_serde_type=space,
    )


def measure(
    seconds: float, *, processes: int, steps: int, minibatch: int, epochs: int, hidden: tuple[int, ...]
) -> dict[str, float]:
    """Return the agent steps a second and a CPU second over whole iterations of `steps` agent steps."""
    torch.set_num_threads(1)
    clock = IterationClock(seconds)
    controller: Any = PPOAgentController(networks(hidden), optimizers, Buffer(GAETrajectoryProcessor()), clock)
    size = len(next(iter(make_env().reset().values())))
    with tempfile.TemporaryDirectory() as folder:
        config = LearningCoordinatorConfigModel(
            base_config=BaseConfigModel(serde_types=serdes(size), flinks_folder=str(Path(folder) / "flinks")),
            process_config=ProcessConfigModel(n_proc=processes),
            agent_controller_config=PPOAgentControllerConfigModel(
                timesteps_per_iteration=steps,
                save_every_ts=10**12,
                learner_config=PPOLearnerConfigModel(n_epochs=epochs, batch_size=minibatch),
                experience_buffer_config=ExperienceBufferConfigModel(
                    max_size=steps, trajectory_processor_config=GAETrajectoryProcessorConfigModel()
                ),
            ),
            agent_controller_save_folder=folder,
        )
        coordinator: Any = LearningCoordinator(make_batch_env, controller, config)
        coordinator.cleanup = lambda: None  # it would wait for lost answers too; the workers end with this process
        try:
            coordinator.start()
        except Enough:
            return clock.told
    raise RuntimeError("it ended by itself")
