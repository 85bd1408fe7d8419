"""The protocol between the pipeline and its workers: one job on stdin, events as JSON lines on stdout."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from schemas.base import StrictModel
from trainer.dagger.milestones import MilestoneConfig
from trainer.dagger.results import MilestoneResult
from trainer.dagger.settings import DaggerSettings


class MilestoneJob(StrictModel):
    """The job of a worker: one milestone."""

    config: MilestoneConfig
    milestone_id: str
    settings: DaggerSettings
    expert_dir: str
    state_dir: str
    output_dir: str
    device: str  #: auto or cpu
    record_video: bool
    completed_ids: tuple[str, ...]  #: milestones whose experts may create a missing start state
    demonstrations: str = ""  #: folder of recorded play, which is the first round; empty = none
    config_dir: str = ""  #: folder of the config, in which the environment's module may be
    start_from: str = ""  #: a model whose weights the policy starts with; empty = new weights


class Message(StrictModel):
    """A line for the user."""

    event: Literal["message"] = "message"
    text: str


class Activity(StrictModel):
    """The worker makes progress: an episode ended, or some gradient steps are done."""

    event: Literal["activity"] = "activity"


class ExpertEvaluated(StrictModel):
    """The expert was evaluated."""

    event: Literal["expert"] = "expert"
    success_rate: float
    mean_steps: float | None
    max_episode_steps: int | None


class RoundDone(StrictModel):
    """A round is done and saved."""

    event: Literal["round"] = "round"
    iteration: int  #: from 0
    iterations: int
    beta: float
    success_rate: float
    mean_steps: float | None
    loss: float
    labels: int  #: in all rounds up to this one
    seconds: float


class MilestoneDone(StrictModel):
    """The result; the worker's last event."""

    event: Literal["result"] = "result"
    result: MilestoneResult


Event = Annotated[Message | Activity | ExpertEvaluated | RoundDone | MilestoneDone, Field(discriminator="event")]
EVENTS: TypeAdapter[Event] = TypeAdapter(Event)
