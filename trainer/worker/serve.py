"""`python -m trainer serve`: one job on stdin, events as JSON lines on stdout, the log on stderr, an exit code.

The daemon can start it ahead of time: it imports torch, sends `ready` and waits for the job.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from schemas.job import ExitCode, Job, Ready
from schemas.process.lifeline import die_with_parent
from schemas.storage.guarded import guard
from trainer.common.exit_codes import failure_of
from trainer.common.lifeline import Lifeline
from trainer.common.reporting.event_writer import EventWriter

if TYPE_CHECKING:
    from trainer.common.prefetch_cache import PrefetchCache

HEARTBEAT_S = 2.0
log = logging.getLogger("trainer")


def serve() -> NoReturn:
    """Run one job and end the process with its exit code."""
    events = EventWriter()
    die_with_parent()
    lifeline = Lifeline()
    _configure_log()
    threading.Thread(target=_send_heartbeats, args=(events,), name="heartbeat", daemon=True).start()
    try:
        code = _serve(events, lifeline)
    except BaseException as error:  # noqa: BLE001
        code, failure = failure_of(error)
        if code == ExitCode.BUG or error.__cause__ is not None:
            traceback.print_exception(error)
        log.error("%s", failure.message)
        events.emit(failure)
    lifeline.exit_code = int(code)
    sys.stderr.flush()
    os._exit(int(code))  # everything is written; an orderly exit would spend time on unloading torch


def _serve(events: EventWriter, lifeline: Lifeline) -> ExitCode:
    import torch

    from trainer.common.prefetch_cache import PrefetchCache
    from trainer.worker.jobs import run_job
    from trainer.worker.warmup import warm_up

    warm_up()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    events.emit(Ready(versions={"torch": torch.__version__, "python": sys.version.split()[0]}, device=device))
    cache = PrefetchCache()
    job = _wait_for_job(lifeline, cache)
    output = Path(job.output)
    guard(output.parents[1] if output.parent.name == "staging" else output.parent)
    log.info("job: %s, policy version %d, %d rollouts", job.kind, job.policy_version, len(job.rollouts))
    result = run_job(job, events, cache)
    log.info("done: epoch %d, score %s, on %s, %.2f s", result.epoch, result.score, result.device, result.seconds)
    events.emit(result)
    return ExitCode.OK


def _wait_for_job(lifeline: Lifeline, cache: PrefetchCache) -> Job:
    """Wait for the job and return it. Until then, prefetch the inputs of previews."""
    from trainer.worker.prefetch import prefetch
    from trainer.worker.warmup import warm_up_for

    warm_devices: set[str] = set()  # previews name the CPU as long as another trainer may use the GPU
    while (job := Job.from_bytes(lifeline.next_line())).kind == "prefetch":
        prefetch(job, cache)
        if job.settings.device not in warm_devices and not lifeline.has_line:
            warm_devices.add(job.settings.device)
            warm_up_for(job)
    return job


def _send_heartbeats(events: EventWriter) -> None:
    pause = threading.Event()
    while not pause.wait(HEARTBEAT_S):
        events.heartbeat()


def _configure_log() -> None:
    if hasattr(sys.stderr, "reconfigure"):
        sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
