"""The results of all milestones: pipeline_results.csv and .json, and pipeline_state.json for the next start."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import ValidationError

from schemas.base import StrictModel
from schemas.errors import ConfigError
from schemas.storage.files import REAL_DISK, read_with_retries, write_atomic
from schemas.storage.windows_paths import shown_path
from trainer.dagger.milestones import MilestoneConfig

STATE_NAME = "pipeline_state.json"
_MAX_STATE_BYTES = 1 << 28
Status = Literal["completed", "failed", "skipped"]


class MilestoneResult(StrictModel):
    """One row of the results."""

    milestone_id: str
    index: int  #: place in the config, from 0
    timestamp: str  #: ISO 8601, UTC
    status: Status
    reason: str = ""  #: why it failed or was skipped, in one line
    expert_success_rate: float | None = None
    expert_mean_steps: float | None = None  #: over the successes
    expert_std_steps: float | None = None
    max_episode_steps: int | None = None
    dagger_final_success_rate: float | None = None


COLUMNS = tuple(MilestoneResult.model_fields)


def new_result(
    config: MilestoneConfig, milestone_id: str, status: Status, reason: str = "", **numbers: Any
) -> MilestoneResult:
    """Return the result of a milestone that ends now."""
    return MilestoneResult(
        milestone_id=milestone_id,
        index=config.ids().index(milestone_id),
        timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
        status=status,
        reason=reason,
        **numbers,
    )


class PipelineState(StrictModel):
    """The newest result of each milestone, from all runs in one output folder."""

    schema_name: Literal["hotlap.dagger_state/1"] = "hotlap.dagger_state/1"
    results: tuple[MilestoneResult, ...] = ()

    def completed_ids(self) -> tuple[str, ...]:
        """Return the ids of the completed milestones."""
        return tuple(result.milestone_id for result in self.results if result.status == "completed")

    def with_result(self, result: MilestoneResult) -> PipelineState:
        """Return the state with a new result, which replaces the milestone's older one."""
        others = [old for old in self.results if old.milestone_id != result.milestone_id]
        return PipelineState(results=tuple(sorted([*others, result], key=lambda r: (r.index, r.milestone_id))))


def read_pipeline_state(folder: Path) -> PipelineState:
    """Return the state that an earlier run wrote, or an empty one. Raises ConfigError."""
    path = folder / STATE_NAME
    try:
        return PipelineState.from_bytes(read_with_retries(path, limit=_MAX_STATE_BYTES))
    except FileNotFoundError:
        return PipelineState()
    except OSError as error:
        raise ConfigError(
            f"{shown_path(path)} cannot be read: {error.strerror}", hint="correct its permissions"
        ) from None
    except ValidationError:
        raise ConfigError(
            f"{shown_path(path)} is damaged, or another program wrote it",
            hint="rename it and run the command again: finished rounds are kept in work/",
        ) from None


def write_results(folder: Path, state: PipelineState) -> None:
    """Write all three files, each atomically. pipeline_state.json, which the next start reads, is the last."""
    REAL_DISK.make_folder(folder)
    write_atomic(folder / "pipeline_results.csv", _csv(state.results))
    write_atomic(folder / "pipeline_results.json", pretty_json([r.model_dump(mode="json") for r in state.results]))
    write_atomic(folder / STATE_NAME, pretty_json(state.model_dump(mode="json")))


def _csv(results: Sequence[MilestoneResult]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        row = result.model_dump(mode="json")
        writer.writerow(["" if row[name] is None else row[name] for name in COLUMNS])
    return out.getvalue().encode("utf-8")


def pretty_json(document: Any) -> bytes:
    """Return indented JSON."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
