"""What comes out of a milestone, and how it is told: the result's columns, the worker's job and its events."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, TypeAdapter

from schemas.base import StrictModel
from schemas.storage.files import write_atomic
from trainer.dagger.milestones import MilestoneConfig
from trainer.dagger.settings import DaggerSettings

Status = Literal["completed", "failed", "skipped"]


class MilestoneResult(StrictModel):
    """One row of pipeline_results."""

    milestone_id: str
    index: int  #: place in the config, from 0
    timestamp: str  #: ISO 8601, UTC
    status: Status
    reason: str = ""  #: why it failed or was skipped, one line
    expert_success_rate: float | None = None
    expert_mean_steps: float | None = None  #: over the successes
    expert_std_steps: float | None = None
    max_episode_steps: int | None = None
    dagger_final_success_rate: float | None = None


class MilestoneJob(StrictModel):
    """What a worker is given: one milestone, and where everything lies."""

    config: MilestoneConfig
    milestone_id: str
    settings: DaggerSettings
    policy_dir: str
    state_dir: str
    output_dir: str
    device: str
    record_video: bool
    done: tuple[str, ...]  #: milestones whose completed state may be made by playing them


class Line(StrictModel):
    """Something to tell people."""

    event: Literal["line"] = "line"
    text: str


class Alive(StrictModel):
    """Work goes on: an episode was played, some minibatches were learned from."""

    event: Literal["alive"] = "alive"


class ExpertDone(StrictModel):
    """The expert was evaluated."""

    event: Literal["expert"] = "expert"
    success_rate: float
    mean_steps: float | None
    max_episode_steps: int | None


class RoundDone(StrictModel):
    """One round is over, and safe on disk."""

    event: Literal["round"] = "round"
    iteration: int  #: from 0
    iterations: int
    beta: float
    success_rate: float
    mean_steps: float | None
    loss: float
    labels: int  #: the expert's, so far
    seconds: float


class Finished(StrictModel):
    """The worker's last word."""

    event: Literal["result"] = "result"
    result: MilestoneResult


Event = Annotated[Line | Alive | ExpertDone | RoundDone | Finished, Field(discriminator="event")]
EVENTS: TypeAdapter[Event] = TypeAdapter(Event)


class PipelineState(StrictModel):
    """pipeline_state.json: what is over, by milestone, whichever run it was in."""

    schema_name: Literal["hotlap.dagger_state/1"] = "hotlap.dagger_state/1"
    results: tuple[MilestoneResult, ...] = ()

    def of(self, milestone_id: str) -> MilestoneResult | None:
        """Return a milestone's result, if there is one."""
        return next((result for result in self.results if result.milestone_id == milestone_id), None)

    def with_result(self, result: MilestoneResult) -> PipelineState:
        """Take in a result in place of an older one."""
        others = [old for old in self.results if old.milestone_id != result.milestone_id]
        return PipelineState(results=tuple(sorted([*others, result], key=lambda r: (r.index, r.milestone_id))))


COLUMNS = tuple(MilestoneResult.model_fields)


def results_csv(results: Sequence[MilestoneResult]) -> bytes:
    """Return pipeline_results.csv."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        row = result.model_dump(mode="json")
        writer.writerow(["" if row[name] is None else row[name] for name in COLUMNS])
    return out.getvalue().encode("utf-8")


def results_json(results: Sequence[MilestoneResult]) -> bytes:
    """Return pipeline_results.json."""
    return pretty([result.model_dump(mode="json") for result in results])


def pretty(document: Any) -> bytes:
    """Return JSON for people."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def write_results(folder: Path, state: PipelineState) -> None:
    """Write all three files, each whole; pipeline_state.json, which the next start reads, is the last."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "pipeline_results.csv", results_csv(state.results))
    write_atomic(folder / "pipeline_results.json", results_json(state.results))
    write_atomic(folder / "pipeline_state.json", pretty(state.model_dump(mode="json")))
