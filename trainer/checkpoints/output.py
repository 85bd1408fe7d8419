"""A job's output folder: files with their hashes, the ranking, the chosen epoch's model JSON."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

from schemas.contract import PolicyContract
from schemas.errors import HotlapError
from schemas.job import Job, Result, Selecting, finite_or_none
from schemas.model import MAX_MODEL_BYTES
from schemas.storage.files import read_with_retries, sha256_of, write_all_atomic, write_atomic
from trainer.checkpoints.checkpoint import Checkpoint, checkpoint_from, load_document
from trainer.checkpoints.export import export
from trainer.checkpoints.selection import CheckpointCandidate, RankedCheckpoint, analysis, choose, rank
from trainer.common.reporting.reporter import Notices, Reporter

MAX_QUEUED, MAX_QUEUED_BYTES = 16, 64 * 1024 * 1024
MAX_QUEUED_S = 2.0
"""Checkpoints are written between epochs, several together: at this number, size, or time since the last write.

A thread that writes during an update costs the update's threads five times its own work, because each matrix product
waits for its slowest thread.
"""
MAX_IN_MEMORY_BYTES = 64 * 1024 * 1024
"""Size of the checkpoints that are kept in memory, so that the chosen one is not read from the disk again."""


class Output:
    """Writes and reads the files of one job's folder, and keeps their hashes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, str] = {}
        self._in_memory: dict[str, Checkpoint] = {}
        self._in_memory_bytes = 0
        self._queued: dict[str, Callable[[], bytes]] = {}
        self._queued_bytes = 0
        self._written_at = time.monotonic()
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._writes: list[Future[None]] = []

    def write(self, name: str, data: bytes) -> None:
        """Write a file completely or not at all, and keep its hash."""
        write_atomic(self.folder / name, data)
        self.files[name] = sha256_of(data)

    def queue_checkpoint(self, name: str, checkpoint: Checkpoint) -> None:
        """Write a checkpoint before the next epoch, or together with later ones. Raises OSError if a write failed."""
        if self._in_memory_bytes < MAX_IN_MEMORY_BYTES:
            self._in_memory[name] = checkpoint
            self._in_memory_bytes += checkpoint.size_bytes
        self.queue_file(name, checkpoint.to_bytes)
        self._queued_bytes += checkpoint.size_bytes
        is_full = len(self._queued) >= MAX_QUEUED or self._queued_bytes >= MAX_QUEUED_BYTES
        if is_full or time.monotonic() - self._written_at >= MAX_QUEUED_S:
            self.flush()

    def queue_file(self, name: str, make: Callable[[], bytes]) -> None:
        """Write a file together with others, at the next `flush`."""
        self._queued[name] = make

    def start_writing(self) -> None:
        """Write all queued files on a thread; `flush` waits for it."""
        contents = {name: make() for name, make in self._queued.items()}  # all before the thread needs the GIL
        self._queued, self._queued_bytes = {}, 0
        if contents:
            self._writes.append(self._writer.submit(self._write_all, contents))

    def _write_all(self, contents: Mapping[str, bytes]) -> None:
        write_all_atomic(self.folder, {name: partial(contents.__getitem__, name) for name in contents})
        self.files |= {name: sha256_of(data) for name, data in contents.items()}

    def flush(self) -> None:
        """Write all queued files. Raises OSError if a write failed."""
        self.start_writing()
        self.wait()
        writes, self._writes = self._writes, []
        self._written_at = time.monotonic()
        for write in writes:
            write.result()

    def wait(self) -> None:
        """Wait until all writes have ended, also if one fails, because the caller may remove the folder afterwards."""
        wait(self._writes)

    def register(self, name: str) -> bytes:
        """Return the bytes of a file that another program wrote here, and keep its hash."""
        data = read_with_retries(self.folder / name, limit=MAX_MODEL_BYTES)
        self.files[name] = sha256_of(data)
        return data

    def checkpoint(self, name: str, contract: PolicyContract | None) -> Checkpoint:
        """Return a checkpoint of this folder. One of another script is assumed to have this contract."""
        if name in self._in_memory:
            return self._in_memory[name]
        self.flush()
        data = read_with_retries(self.folder / name, limit=MAX_MODEL_BYTES)
        return checkpoint_from(load_document(data, name), contract)


def select_and_export(job: Job, candidates: list[CheckpointCandidate], output: Output, reporter: Reporter) -> Result:
    """Rank the candidates, choose one and export it. Raises HotlapError (E_NO_MODEL) if none can be used."""
    reporter.send(Selecting())
    reporter.report_activity("selecting", 0.96)
    ranked = rank(candidates)
    chosen, reason = choose(ranked, job.use_epoch)
    output.queue_file("model_analysis.json", lambda: analysis(ranked, chosen, reason))
    try:
        output.start_writing()
        if chosen is None:
            output.flush()
            raise HotlapError(
                f"no epoch can be used: {ranked[0].reason if ranked else 'no checkpoint was written'}",
                hint="check the rewards; with ppo, lower trainer.learning_rate",
                code="E_NO_MODEL",
            )
        if job.use_epoch and chosen.candidate.epoch != job.use_epoch:
            Notices(reporter).send(
                "W_EPOCH", f"epoch {chosen.candidate.epoch} is published instead of {job.use_epoch}: {reason}"
            )
        reporter.report_activity("exporting", 0.98)
        result = export_result(job, output, chosen)
    finally:
        output.wait()
    return result.model_copy(update={"ranking": tuple(r.summary() for r in ranked)})


def export_result(job: Job, output: Output, ranked: RankedCheckpoint) -> Result:
    """Export one checkpoint of the folder to a model JSON next to it, and return the result. Raises ModelError."""
    name, epoch = ranked.candidate.name, ranked.candidate.epoch
    total = ranked.terms.total if ranked.terms else None
    checkpoint = output.checkpoint(name, job.contract)
    model_name = f"model_epoch_{epoch}.json"
    output.write(model_name, export(checkpoint, policy_version=job.policy_version, score=total))
    output.flush()
    history = checkpoint.training_history
    last = {loss: finite_or_none(values[-1]) for loss, values in history.items() if values}
    return Result(
        epoch=epoch,
        score=total,
        model=model_name,
        checkpoint=name,
        files=dict(sorted(output.files.items())),
        contract=checkpoint.contract,
        hidden_sizes=checkpoint.hidden_sizes,
        losses=last,
    )
