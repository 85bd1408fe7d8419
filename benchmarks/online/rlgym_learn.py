"""rlgym-learn's PPO on rlgym's game: one game per worker process, the learner in this process.

Learning rates, reward scaling and inference are rlgym-learn's defaults; network, epochs, minibatches and steps per
iteration are those of the other rows. Its minibatches only add gradients, and the optimizer steps after each of its
batches: one of its batches is one of Hotlap's minibatches, and old steps are not used again.

rlgym-learn 2.0.0 drops answers that arrive before it has finished sending commands. The worker is
then lost. So the workers here are batch-scheduled processes, which run later.
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


class TimeIsOver(BaseException):
    """Ends the run. Not an Exception, because rlgym-learn would print it and save a checkpoint."""


class IterationClock(PPOMetricsLogger):  # type: ignore[misc]  # the package has no types
    """Measures whole iterations after the first, wall and CPU time, and ends the run."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._start: tuple[float, float, int] | None = None
        self.rates: dict[str, float] = {}

    def collect_agent_metrics(self, data: Any) -> None:
        """Record the end of an iteration."""
        print(f"learned from {data.cumulative_timesteps:,} steps", flush=True)
        now = time.perf_counter(), cpu_seconds(), data.cumulative_timesteps
        if self._start is None:
            self._start = now
            return
        wall, cpu, steps = (end - begin for end, begin in zip(now, self._start, strict=True))
        if wall >= self._seconds:
            self.rates = {"wall": steps / wall, "cpu": steps / cpu}
            raise TimeIsOver

    def report_metrics(self) -> None:
        """Do nothing."""


def cpu_seconds() -> float:
    """Return the CPU time of this process and its descendants."""
    own = psutil.Process()
    return sum(sum(p.cpu_times()[:2]) for p in (own, *own.children(recursive=True)))


class Buffer(NumpyExperienceBuffer):  # type: ignore[misc]
    """Use ordinary memory instead of pinned memory, which PyTorch refuses without a GPU."""

    def load(self, config: Any) -> None:
        """Create the buffers."""
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
    return [
        torch.optim.Adam(
            [{"params": part.parameters(), **settings.get(name_of_part, {})} for name_of_part, part in parts]
        )
    ]


def serdes(size: int) -> Any:
    """Return the layout of a game's data in shared memory."""

    def plain(shape: tuple[int, ...]) -> Any:
        """Skip the search for leaks, which costs more than the games."""
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
    """Return agent steps per second and per CPU second over whole iterations of `steps` agent steps."""
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
        coordinator.cleanup = lambda: None  # it would wait for lost answers; the workers end with this process
        try:
            coordinator.start()
        except TimeIsOver:
            return clock.rates
    raise RuntimeError("it ended by itself")
