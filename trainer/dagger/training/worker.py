"""One milestone's process: a job on stdin, events on stdout, its log on stderr. It ends with the pipeline."""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime
from typing import NoReturn

import torch

from schemas.job import ExitCode
from trainer.common.event_writer import EventWriter
from trainer.common.exit_codes import failure_of
from trainer.dagger.messages import Finished, MilestoneJob, MilestoneResult
from trainer.dagger.training.milestone import run_milestone
from trainer.worker.lifeline import Lifeline, die_with_parent

log = logging.getLogger("trainer.dagger")


def main() -> NoReturn:
    """Do one job and end."""
    die_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    lifeline, speaker = Lifeline(), EventWriter()
    job = MilestoneJob.from_bytes(lifeline.job_line())
    # More threads would change the last bits of a policy, and gain nothing at these sizes.
    torch.set_num_threads(1)
    try:
        result = run_milestone(job, speaker.emit, sys.stderr.buffer)
    except Exception as error:
        log.exception("the milestone %s failed", job.milestone_id)
        _, failure = failure_of(error)
        result = MilestoneResult(
            milestone_id=job.milestone_id,
            index=job.config.ids().index(job.milestone_id),
            timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
            status="failed",
            reason=failure.message,
        )
    speaker.emit(Finished(result=result))
    sys.stderr.flush()
    os._exit(int(ExitCode.OK))


if __name__ == "__main__":
    main()
