"""Where a milestone's episodes begin: the saved state, or one made by playing the milestone before with its expert."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from schemas.storage.files import read_regular, write_atomic
from trainer.common.rng import key_for
from trainer.dagger.environment import MilestoneEnv, StateError
from trainer.dagger.expert.client import Expert
from trainer.dagger.messages import MilestoneJob
from trainer.dagger.milestones import Milestone, completed_state
from trainer.dagger.training.episodes import Task, demonstrate

MAX_STATE_BYTES = 1 << 30
_TRIES = 20
"""Episodes that an expert gets to reach the state that the next milestone begins in."""


def read_start(milestone: Milestone, job: MilestoneJob, env: MilestoneEnv, log: IO[bytes]) -> bytes | None:
    """Return the start state, None for the environment's own; where it is missing it is made. Raises StateError."""
    name = milestone.state_name()
    if name is None:
        return None
    path = Path(job.state_dir) / name
    if not path.is_file():
        _make(name, milestone, job, env, log)
    try:
        state = read_regular(path, limit=MAX_STATE_BYTES)
    except OSError as error:
        raise StateError(f"the start state {path} cannot be read: {error.strerror}") from None
    if not state:
        raise StateError(f"the start state {path} is empty", hint="remove it to have it made anew")
    try:
        env.begin(0, state)
    except StateError as error:
        raise StateError(f"{path}: {error.message}", hint=error.hint) from None
    return state


def save_completed(milestone_id: str, state: bytes, job: MilestoneJob) -> None:
    """Keep the state in which a milestone was just reached, unless there is one."""
    path = Path(job.state_dir) / completed_state(milestone_id)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, state)


def _make(name: str, milestone: Milestone, job: MilestoneJob, env: MilestoneEnv, log: IO[bytes]) -> None:
    before = next((m for m in job.config.milestones if completed_state(m.id) == name), None)
    path = Path(job.state_dir) / name
    if before is None:
        raise StateError(
            f"the start state {path} is not there", hint="save it there; no milestone of this config ends in it"
        )
    if before.id not in job.done or before.id == milestone.id:
        raise StateError(
            f"the start state {path} is not there, and {before.id} is not done", hint=f"do {before.id} first"
        )
    task = Task(before.id, read_start(before, job, env, log), before.max_steps)
    expert_path = Path(job.policy_dir) / f"{before.id}.py"
    with Expert(expert_path, env.actions, call_limit_s=job.settings.expert_timeout, log=log) as expert:
        for attempt in range(_TRIES):
            seed = episode_seed(job, before.id, "expert", attempt)  # as in its evaluation: the same state
            expert.seed(seed)
            episode, state = demonstrate(env, task, seed, expert, None)
            if episode.success:
                save_completed(before.id, state, job)
                return
    raise StateError(
        f"the start state {path} is not there, and the expert of {before.id} did not reach it in {_TRIES} tries"
    )


def episode_seed(job: MilestoneJob, milestone_id: str, *purpose: str | int) -> int:
    """Return an episode's seed, below 2**31 as games want it."""
    return key_for(job.settings.seed, "dagger", milestone_id, *purpose) % 2**31
