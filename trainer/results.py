"""What a job leaves in its folder: files with their hashes, the ranking, the chosen epoch's model JSON."""

from __future__ import annotations

from collections.abc import Mapping
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


class Output:
    """The job's folder: what was written there, with its hashes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, str] = {}

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all, and remember its hash."""
        write_atomic(self.folder / name, data)
        self.files[name] = sha256_of(data)

    def adopt(self, name: str) -> bytes:
        """Take in a file that another program left here, and give its bytes."""
        data = read_regular(self.folder / name, limit=MAX_MODEL_BYTES)
        self.files[name] = sha256_of(data)
        return data

    def checkpoint(self, name: str, contract: PolicyContract | None) -> Checkpoint:
        """Open a checkpoint that lies here; a foreign one is taken to keep to `contract`."""
        data = read_regular(self.folder / name, limit=MAX_MODEL_BYTES)
        return checkpoint_from(load_document(data, name), contract)


def conclude(
    job: Job, entries: list[Entry], output: Output, reporter: Reporter, timing: Mapping[str, float] | None = None
) -> Result:
    """Rank, choose, export, and say so. Raises HotlapError (E_NO_MODEL) where no checkpoint can be used."""
    reporter.send(Selecting())
    reporter.doing("selecting", 0.96)
    ranked = rank(entries)
    chosen, why = choose(ranked, job.use_epoch)
    output.write("model_analysis.json", analysis(ranked, chosen, why, timing or {}))
    if chosen is None:
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
