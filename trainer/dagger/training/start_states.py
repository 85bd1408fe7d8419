"""Start states of milestones: read from a file, or created with the expert of the previous milestone."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from schemas.errors import ConfigError
from schemas.storage.files import read_with_retries, write_atomic
from schemas.storage.windows_paths import shown_path
from trainer.common.rng import key_for
from trainer.dagger.environment.errors import StateError
from trainer.dagger.environment.milestone_env import MilestoneEnv
from trainer.dagger.expert.client import Expert
from trainer.dagger.messages import MilestoneJob
from trainer.dagger.milestones import Milestone, completed_state_name
from trainer.dagger.training.episodes import EpisodeSpec, run_expert

MAX_STATE_BYTES = 1 << 30
_MAX_EPISODES = 20
"""Episodes in which an expert must reach the state that the next milestone starts from."""


def read_start_state(milestone: Milestone, job: MilestoneJob, env: MilestoneEnv, log: IO[bytes]) -> bytes | None:
    """Return the start state, and create it if it is missing. None means the state after the environment's reset.

    Raises StateError.
    """
    name = milestone.start_state_name()
    if name is None:
        return None
    if not env.can_save():
        raise ConfigError(
            f"env {job.config.env} does not have save_state() and load_state(), but {milestone.id} starts from {name}",
            hint='add them, or let every milestone start with reset(): "starting_state": null',
        )
    path = Path(job.state_dir) / name
    if not path.exists():
        _make_start_state(path, milestone, job, env, log)
    try:
        state = read_with_retries(path, limit=MAX_STATE_BYTES)
    except OSError as error:
        raise StateError(f"the start state {shown_path(path)} cannot be read: {error.strerror}") from None
    if not state:
        raise StateError(f"the start state {shown_path(path)} is empty", hint="remove it; it is created again")
    try:
        env.reset(0, state)
    except StateError as error:
        raise StateError(f"{shown_path(path)}: {error.message}", hint=error.hint) from error
    return state


def save_completed_state(milestone_id: str, state: bytes, job: MilestoneJob) -> None:
    """Save the state in which a milestone was reached, unless one is saved already."""
    path = Path(job.state_dir) / completed_state_name(milestone_id)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, state)


def _make_start_state(path: Path, milestone: Milestone, job: MilestoneJob, env: MilestoneEnv, log: IO[bytes]) -> None:
    before = next((m for m in job.config.milestones if completed_state_name(m.id) == path.name), None)
    problem = f"the start state {shown_path(path)} does not exist"
    if before is None:
        raise StateError(problem, hint="save it there, or name the completed state of another milestone")
    if before.id not in job.completed_ids or before.id == milestone.id:
        raise StateError(f"{problem}, and {before.id} is not completed", hint=f"complete {before.id} first")
    spec = EpisodeSpec(before.id, read_start_state(before, job, env, log), before.max_steps)
    expert_path = Path(job.expert_dir) / f"{before.id}.py"
    with Expert(expert_path, env.actions, call_timeout_s=job.settings.expert_timeout, log=log) as expert:
        for attempt in range(_MAX_EPISODES):
            seed = episode_seed(job, before.id, "expert", attempt)  # the seeds of its evaluation lead to the same state
            expert.seed(seed)
            if run_expert(env, spec, seed, expert).episode.success:
                save_completed_state(before.id, env.save_state(), job)
                return
    raise StateError(
        f"{problem}, and the expert of {before.id} did not reach it in {_MAX_EPISODES} episodes",
        hint=f"improve {shown_path(expert_path)}, or save the state there",
    )


def episode_seed(job: MilestoneJob, milestone_id: str, *purpose: str | int) -> int:
    """Return an episode's seed. It is below 2**31, because some games accept no larger ones."""
    return key_for(job.settings.seed, "dagger", milestone_id, *purpose) % 2**31
