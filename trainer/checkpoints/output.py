"""What a job leaves in its folder: files with their hashes, the ranking, the chosen epoch's model JSON."""

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
from schemas.storage.files import read_regular, sha256_of, write_all_atomic, write_atomic
from trainer.checkpoints.checkpoint import Checkpoint, checkpoint_from, load_document
from trainer.checkpoints.export import export
from trainer.checkpoints.selection import CheckpointCandidate, RankedCheckpoint, analysis, choose, rank
from trainer.common.reporting import Notices, Reporter

MOST_WAITING, MOST_WAITING_BYTES = 16, 64 * 1024 * 1024
LONGEST_WAIT_S = 2.0
"""Checkpoints are written between epochs, several together, once so many wait or the last ones are so long ago.

A thread that writes while the update's threads multiply costs them five times its own work: each product waits for the
slower half of them.
"""
MOST_KEPT_BYTES = 64 * 1024 * 1024
"""Of checkpoints kept in memory, so that the chosen one need not be read again."""


class Output:
    """The job's folder: what was written there, with its hashes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, str] = {}
        self._kept: dict[str, Checkpoint] = {}
        self._kept_bytes = 0
        self._waiting: dict[str, Callable[[], bytes]] = {}
        self._waiting_bytes = 0
        self._wrote_at = time.monotonic()
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._under_way: list[Future[None]] = []

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all, and remember its hash."""
        write_atomic(self.folder / name, data)
        self.files[name] = sha256_of(data)

    def queue(self, name: str, checkpoint: Checkpoint) -> None:
        """Write a checkpoint between this epoch and the next, or with later ones. Raises what a write failed with."""
        if self._kept_bytes < MOST_KEPT_BYTES:
            self._kept[name] = checkpoint
            self._kept_bytes += checkpoint.size_bytes
        self.write_later(name, checkpoint.to_bytes)
        self._waiting_bytes += checkpoint.size_bytes
        many = len(self._waiting) >= MOST_WAITING or self._waiting_bytes >= MOST_WAITING_BYTES
        if many or time.monotonic() - self._wrote_at >= LONGEST_WAIT_S:
            self.flush()

    def write_later(self, name: str, make: Callable[[], bytes]) -> None:
        """Write a file together with others, with the next `settle`."""
        self._waiting[name] = make

    def begin_to_write(self) -> None:
        """Let a thread write all that waits; `settle` waits for it."""
        made = {name: make() for name, make in self._waiting.items()}  # all before the thread wants the GIL
        self._waiting, self._waiting_bytes = {}, 0
        if made:
            self._under_way.append(self._writer.submit(self._write_all, made))

    def _write_all(self, made: Mapping[str, bytes]) -> None:
        write_all_atomic(self.folder, {name: partial(made.__getitem__, name) for name in made})
        self.files |= {name: sha256_of(data) for name, data in made.items()}

    def flush(self) -> None:
        """Write all that waits. Raises what a write failed with."""
        self.begin_to_write()
        self.wait()
        written, self._under_way = self._under_way, []
        self._wrote_at = time.monotonic()
        for one in written:
            one.result()

    def wait(self) -> None:
        """Wait for what is being written, however it ends: whoever leaves may remove the folder."""
        wait(self._under_way)

    def register(self, name: str) -> bytes:
        """Take in a file that another program left here, and give its bytes."""
        data = read_regular(self.folder / name, limit=MAX_MODEL_BYTES)
        self.files[name] = sha256_of(data)
        return data

    def checkpoint(self, name: str, contract: PolicyContract | None) -> Checkpoint:
        """Open a checkpoint that lies here; a foreign one is taken to keep to `contract`."""
        if name in self._kept:
            return self._kept[name]
        self.flush()
        data = read_regular(self.folder / name, limit=MAX_MODEL_BYTES)
        return checkpoint_from(load_document(data, name), contract)


def select_and_export(job: Job, entries: list[CheckpointCandidate], output: Output, reporter: Reporter) -> Result:
    """Rank, choose, export, and say so. Raises HotlapError (E_NO_MODEL) where no checkpoint can be used."""
    reporter.send(Selecting())
    reporter.doing("selecting", 0.96)
    ranked = rank(entries)
    chosen, why = choose(ranked, job.use_epoch)
    output.write_later("model_analysis.json", lambda: analysis(ranked, chosen, why))
    try:
        output.begin_to_write()
        if chosen is None:
            output.flush()
            raise HotlapError(
                f"no epoch can be used: {ranked[0].reason if ranked else 'there is no checkpoint'}",
                hint="lower learning_rate, and look at the rewards",
                code="E_NO_MODEL",
            )
        if job.use_epoch and chosen.candidate.epoch != job.use_epoch:
            Notices(reporter).say("W_EPOCH", f"epoch {chosen.candidate.epoch} was taken: {why}")
        reporter.doing("exporting", 0.98)
        result = export_result(job, chosen.candidate.name, output, chosen)
    finally:
        output.wait()
    return result.model_copy(update={"ranking": tuple(r.brief() for r in ranked)})


def export_result(job: Job, name: str, output: Output, ranked: RankedCheckpoint) -> Result:
    """Export one checkpoint of the folder beside itself and give the result. Raises ModelError."""
    checkpoint = output.checkpoint(name, job.contract)
    epoch, total = ranked.candidate.epoch, ranked.parts.total if ranked.parts else None
    model_name = f"model_epoch_{epoch}.json"
    output.write(model_name, export(checkpoint, policy_version=job.policy_version, score=total))
    output.flush()
    last = {name: finite_or_none(values[-1]) for name, values in checkpoint.training_history.items() if values}
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
