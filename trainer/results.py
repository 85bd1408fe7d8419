"""What a job leaves in its folder: files with their hashes, the ranking, the chosen epoch's model JSON."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from schemas.contract import PolicyContract
from schemas.errors import HotlapError
from schemas.files import read_regular, sha256_of, write_atomic
from schemas.job import Job, Result, Selecting, finite_or_none
from schemas.model import MAX_MODEL_BYTES
from trainer.checkpoint import Checkpoint, checkpoint_from, load_document
from trainer.export import export
from trainer.reports import Notices, Reporter
from trainer.selection import Entry, Ranked, analysis, choose, rank

MOST_WAITING = 2
"""Checkpoints that may wait for a slow disk before training waits as well."""
MOST_KEPT_BYTES = 64 * 1024 * 1024
"""Of checkpoints kept in memory, so that the chosen one need not be read again."""


class Output:
    """The job's folder: what was written there, with its hashes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, str] = {}
        self._kept: dict[str, Checkpoint] = {}
        self._kept_bytes = 0
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._waiting: deque[Future[None]] = deque()

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all, and remember its hash."""
        write_atomic(self.folder / name, data)
        self.files[name] = sha256_of(data)

    def write_later(self, name: str, make: Callable[[], bytes]) -> None:
        """Write a file on a thread of its own. Raises what an earlier one failed with; `settle` the rest.

        Where MOST_WAITING wait already, this waits as well.
        """
        while len(self._waiting) >= MOST_WAITING or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._writer.submit(lambda: self.write(name, make())))

    def keep(self, name: str, checkpoint: Checkpoint) -> None:
        """Write a checkpoint while training goes on, as `write_later` does."""
        if self._kept_bytes < MOST_KEPT_BYTES:
            self._kept[name] = checkpoint
            self._kept_bytes += checkpoint.size_bytes
        self.write_later(name, checkpoint.to_bytes)

    def settle(self) -> None:
        """Wait until all is written. Raises what a write failed with."""
        while self._waiting:
            self._waiting.popleft().result()

    def adopt(self, name: str) -> bytes:
        """Take in a file that another program left here, and give its bytes."""
        data = read_regular(self.folder / name, limit=MAX_MODEL_BYTES)
        self.files[name] = sha256_of(data)
        return data

    def checkpoint(self, name: str, contract: PolicyContract | None) -> Checkpoint:
        """Open a checkpoint that lies here; a foreign one is taken to keep to `contract`."""
        if name in self._kept:
            return self._kept[name]
        data = read_regular(self.folder / name, limit=MAX_MODEL_BYTES)
        return checkpoint_from(load_document(data, name), contract)


def conclude(job: Job, entries: list[Entry], output: Output, reporter: Reporter) -> Result:
    """Rank, choose, export, and say so. Raises HotlapError (E_NO_MODEL) where no checkpoint can be used."""
    reporter.send(Selecting())
    reporter.doing("selecting", 0.96)
    ranked = rank(entries)
    chosen, why = choose(ranked, job.use_epoch)
    output.write_later("model_analysis.json", lambda: analysis(ranked, chosen, why))
    if chosen is None:
        output.settle()
        raise HotlapError(
            f"no epoch can be used: {ranked[0].reason if ranked else 'there is no checkpoint'}",
            hint="lower learning_rate, and look at the rewards",
            code="E_NO_MODEL",
        )
    if job.use_epoch and chosen.entry.epoch != job.use_epoch:
        Notices(reporter).say("W_EPOCH", f"epoch {chosen.entry.epoch} was taken: {why}")
    reporter.doing("exporting", 0.98)
    result = publishable(job, chosen.entry.name, output, chosen)
    return result.model_copy(update={"ranking": tuple(r.brief() for r in ranked)})


def publishable(job: Job, name: str, output: Output, ranked: Ranked) -> Result:
    """Export one checkpoint of the folder beside itself and give the result. Raises ModelError."""
    checkpoint = output.checkpoint(name, job.contract)
    epoch, total = ranked.entry.epoch, ranked.parts.total if ranked.parts else None
    model_name = f"model_epoch_{epoch}.json"
    output.write(model_name, export(checkpoint, policy_version=job.cycle, score=total))
    output.settle()
    last = {name: finite_or_none(values[-1]) for name, values in checkpoint.training_history.items() if values}
    return Result(
        epoch=epoch,
        score=total,
        model=model_name,
        checkpoint=name,
        files=dict(output.files),
        contract=checkpoint.contract,
        hidden_sizes=checkpoint.hidden_sizes,
        losses=last,
    )
