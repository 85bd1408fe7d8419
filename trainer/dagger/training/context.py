"""The job, environments and expert that all steps of a milestone use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from trainer.dagger.environment.milestone_env import MilestoneEnv
from trainer.dagger.expert.client import Expert
from trainer.dagger.messages import Activity, Event, Message, MilestoneJob
from trainer.dagger.milestones import Milestone
from trainer.dagger.reporting.videos import MilestoneVideos
from trainer.dagger.training.episodes import Episode, EpisodeSpec
from trainer.dagger.training.progress_store import labels_folder
from trainer.dagger.training.start_states import episode_seed

Emit = Callable[[Event], None]
EXPERT_VIDEOS, POLICY_VIDEOS = "expert_eval_videos", "dagger_videos"


@dataclass(frozen=True, slots=True)
class MilestoneContext:
    """A milestone in progress."""

    job: MilestoneJob
    milestone: Milestone
    envs: list[MilestoneEnv]
    start_state: bytes | None
    expert: Expert | None  #: None: only demonstrations exist
    emit: Emit
    folder: Path  #: of progress and labels
    videos: MilestoneVideos

    @property
    def labels_folder(self) -> Path:
        """Return the folder of the labels."""
        return labels_folder(self.folder)

    def heartbeat(self) -> None:
        """Report that the milestone makes progress, so that it does not count as stalled."""
        self.emit(Activity())

    def report(self, text: str) -> None:
        """Send a line about the milestone to the user."""
        self.emit(Message(text=f"{self.milestone.id}: {text}"))

    def gather(self, episodes: Iterable[Episode]) -> list[Episode]:
        """Return episodes as a list, with a heartbeat after each."""
        ended = []
        for episode in episodes:
            self.heartbeat()
            ended.append(episode)
        return ended

    def episode_spec(self, max_steps: int) -> EpisodeSpec:
        """Return the settings of the milestone's episodes."""
        return EpisodeSpec(self.milestone.id, self.start_state, max_steps)

    def seeds(self, count: int, *purpose: str | int) -> list[int]:
        """Return the seeds of the episodes for one purpose."""
        return [episode_seed(self.job, self.milestone.id, *purpose, k) for k in range(count)]
