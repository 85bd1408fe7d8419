"""The process of one milestone: its job on stdin, events on stdout, the log on stderr. It ends with the pipeline."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

from schemas.job import ExitCode
from schemas.process.lifeline import die_with_parent
from schemas.storage.guarded import guard
from trainer.common import threads
from trainer.common.exit_codes import failure_of
from trainer.common.lifeline import Lifeline
from trainer.common.reporting.event_writer import EventWriter
from trainer.dagger.messages import MilestoneDone, MilestoneJob
from trainer.dagger.results import new_result
from trainer.dagger.training.milestone import run_milestone

log = logging.getLogger("trainer.dagger")


def main() -> NoReturn:
    """Run one milestone and end the process."""
    die_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    lifeline, events = Lifeline(), EventWriter()
    job = MilestoneJob.from_bytes(lifeline.next_line())
    guard(Path(job.output_dir))
    # More threads would change the last bits of a policy, and would not be faster at these sizes.
    threads.set_thread_count(1)
    try:
        result = run_milestone(job, events.emit, sys.stderr.buffer)
    except Exception as error:
        log.exception("the milestone %s failed", job.milestone_id)
        _, failure = failure_of(error)
        result = new_result(job.config, job.milestone_id, "failed", failure.message)
    events.emit(MilestoneDone(result=result))
    sys.stderr.flush()
    os._exit(int(ExitCode.OK))


if __name__ == "__main__":
    main()
