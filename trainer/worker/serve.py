"""`python -m trainer serve`: one job on stdin, events as JSON lines on stdout, its log on stderr, an exit code.

It may be started before there is a job: it imports torch, says `ready` and waits, so that the job starts warm.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from typing import NoReturn

from schemas.job import ExitCode, Job, Ready
from trainer.common.event_writer import EventWriter
from trainer.common.exit_codes import failure_of
from trainer.worker.lifeline import Lifeline, die_with_parent

HEARTBEAT_S = 2.0
log = logging.getLogger("trainer")


def serve() -> NoReturn:
    """Serve one job and end the process with its exit code."""
    speaker = EventWriter()
    die_with_parent()
    lifeline = Lifeline()
    _start_log()
    threading.Thread(target=_beat, args=(speaker,), name="heartbeat", daemon=True).start()
    try:
        code = _serve(speaker, lifeline)
    except BaseException as error:  # noqa: BLE001
        code, failure = failure_of(error)
        if code == ExitCode.BUG:
            traceback.print_exception(error)
        log.error("%s", failure.message)
        speaker.emit(failure)
    lifeline.exit_code = int(code)
    sys.stderr.flush()
    os._exit(int(code))  # all is written; taking torch apart would only take time


def _serve(speaker: EventWriter, lifeline: Lifeline) -> ExitCode:
    import torch

    from trainer.worker.jobs import run_job
    from trainer.worker.warmup import warm_up

    warm_up()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    speaker.emit(Ready(versions={"torch": torch.__version__, "python": sys.version.split()[0]}, device=device))
    job = _job(lifeline)
    log.info("job: %s, cycle %d, %d rollouts", job.kind, job.cycle, len(job.rollouts))
    result = run_job(job, speaker)
    log.info("done: epoch %d, score %s, on %s, %.2f s", result.epoch, result.score, result.device, result.seconds)
    speaker.emit(result)
    return ExitCode.OK


def _job(lifeline: Lifeline) -> Job:
    """Wait for the job; until then do what may be done ahead."""
    from trainer.worker.prefetch import prefetch, warm_up_job

    is_rehearsed = False
    while (job := Job.from_bytes(lifeline.job_line())).kind == "prefetch":
        prefetch(job)
        if not is_rehearsed and lifeline.is_quiet:
            is_rehearsed = True
            warm_up_job(job)
    return job


def _beat(speaker: EventWriter) -> None:
    pause = threading.Event()
    while not pause.wait(HEARTBEAT_S):
        speaker.heartbeat()


def _start_log() -> None:
    for stream in (sys.stderr,):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
