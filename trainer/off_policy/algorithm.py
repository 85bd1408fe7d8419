"""Which algorithm a cycle learns with."""

from __future__ import annotations

from typing import Literal, NamedTuple

from schemas.contract import ContinuousActions
from schemas.errors import ConfigError
from schemas.job import Job
from trainer.checkpoints.parent import Parent


class Algorithm(NamedTuple):
    """The algorithm and the reason for it, in words."""

    name: Literal["ppo", "td3"]
    reason: str = ""  #: if it is not a setting that names it

    def in_words(self) -> str:
        """Return the name and the reason."""
        return f"{self.name} ({self.reason})" if self.reason else self.name


def algorithm_for(job: Job, parent: Parent) -> Algorithm:
    """Return the algorithm of a job. Raises ConfigError if the settings exclude each other."""
    settings = job.settings
    own = next((name for name in ("network", "loss") if getattr(settings, name)), "")
    if settings.algorithm == "td3" and own:
        raise ConfigError(
            f"trainer.algorithm is td3, which cannot use trainer.{own}",
            hint=f'set trainer.algorithm = "ppo", or remove trainer.{own}',
        )
    if settings.algorithm != "auto":
        return Algorithm(settings.algorithm)
    if own:
        return Algorithm("ppo", f"trainer.{own} is set")
    if "critics" in parent.critics_state:
        return Algorithm("td3", "the published model has critics")
    if isinstance(job.contract.action_space, ContinuousActions):
        return Algorithm("td3", "continuous actions")
    return Algorithm("ppo", "the actions are choices")
