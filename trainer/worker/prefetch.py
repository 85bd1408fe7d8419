"""How a spare trainer uses its time: it reads the parent and the rollouts that landed, and rehearses a cycle.

Nothing depends on it: what was not read ahead is read when the job comes, and the numbers are the same.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from schemas.contract import ContinuousActions, PolicyContract
from schemas.errors import HotlapError
from schemas.job import Job, RolloutInput
from schemas.rollout.cache import store_rollout
from schemas.rollout.rollout import Rollout
from trainer.checkpoints.parent import prefetch_parent
from trainer.common.reporting import MemoryReporter
from trainer.rollouts.attribution import prefetch_attribution
from trainer.rollouts.behaviour_policy import CandidatePolicy
from trainer.rollouts.candidates import remember_candidates
from trainer.rollouts.loading import LoadedRollout, prefetch_rollout
from trainer.worker.jobs import run_job

REHEARSED = 256  #: experiences


def prefetch(job: Job) -> None:
    """Read what a job like this one will ask for. What cannot be read is left for the job to tell."""
    try:
        start = prefetch_parent(job)
        known: dict[str, CandidatePolicy | None] = {}
        for given in job.rollouts:
            rollout = prefetch_rollout(given)
            if not job.contract.differences(rollout.contract):
                prefetch_attribution(LoadedRollout(given, rollout), start, job, known)
        remember_candidates(known)
    except (HotlapError, OSError):
        return


def warm_up_job(job: Job) -> None:
    """Take a small made-up cycle through the job's settings, so that the first real one finds everything loaded."""
    try:
        with tempfile.TemporaryDirectory(prefix="hotlap") as folder:
            output = Path(folder) / "out"
            output.mkdir()
            cache = Path(folder) / "rollout"
            store_rollout(cache, _made_up(job.contract))
            given = RolloutInput(name="rehearsal", sha256="", source="", cache=str(cache), is_new=True)
            settings = job.settings.model_copy(update={"epochs": 1})
            changes: dict[str, object] = {"kind": "train", "output": str(output), "settings": settings}
            changes |= {"rollouts": (given,), "parent": None, "parent_sha256": None}
            run_job(job.model_copy(update=changes), MemoryReporter())
    except (HotlapError, OSError):
        return  # the job itself will say what is wrong


def _made_up(contract: PolicyContract) -> Rollout:
    rng, n, space = np.random.default_rng(0), REHEARSED, contract.action_space
    if isinstance(space, ContinuousActions):
        actions = rng.uniform(space.low, space.high, (n, space.width)).astype(np.float32)
    else:
        actions = rng.integers(space.n, size=(n, 1)).astype(np.float32)
    numbers = rng.normal(size=(3, n)).astype(np.float32)
    return Rollout(
        contract=contract,
        observations=rng.normal(size=(n, contract.observation_size)).astype(np.float32),
        actions=actions,
        rewards=numbers[0],
        terminated=np.arange(n) % 16 == 15,
        truncated=np.zeros(n, dtype=bool),
        log_probs=numbers[1],
        values=numbers[2],
        agents=np.zeros(n, dtype=np.int32),
        after_gap=np.zeros(n, dtype=bool),
        final_observations=np.zeros((0, contract.observation_size), dtype=np.float32),
        final_agents=np.zeros(0, dtype=np.int32),
        reward_parts={},
        policy_version=None,
        noise_std=None,
        left_out=0,
    )
