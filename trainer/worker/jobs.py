"""The four kinds of job: a first model, a training, a selection among what is there, an export of one epoch."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch

from schemas.contract import PolicyContract
from schemas.errors import ContractError, HotlapError, ModelError
from schemas.job import Job, Result
from trainer.checkpoints.checkpoint import (
    NAME,
    Checkpoint,
    history_of,
    lineage_of,
    load_document,
    tensors_are_finite,
    value_losses_of,
)
from trainer.checkpoints.export import stand_in_observations
from trainer.checkpoints.output import Output, export_result, select_and_export
from trainer.checkpoints.parent import open_parent
from trainer.checkpoints.selection import CheckpointCandidate, RankedCheckpoint, score
from trainer.common.reporting import Notices, Reporter
from trainer.worker.train import train


def run_job(job: Job, reporter: Reporter) -> Result:
    """Do a job. Raises HotlapError or OSError."""
    begin = time.monotonic()
    if not Path(job.output).is_dir():
        raise HotlapError(f"the output folder {job.output} is not there", hint="make it first", code="E_OUTPUT")
    kinds = {"initial": _initial, "train": train, "select": _select, "export": _export}
    result = kinds[job.kind](job, reporter)
    return result.model_copy(update={"seconds": time.monotonic() - begin})


def _initial(job: Job, reporter: Reporter) -> Result:
    """Make version 0: a fresh network, not trained, that engine and trainer both start from."""
    reporter.doing("making the initial model", 0.1)
    start = open_parent(job.model_copy(update={"parent": None}), Notices(reporter))
    checkpoint = Checkpoint.of(
        start.network,
        normalisers=start.normalisers,
        contract=job.contract,
        hidden_sizes=job.hidden_sizes,
        lineage=lineage_of(job, 0),
        policy_trained=False,
        network_class=job.settings.network,
    )
    checkpoint = replace(checkpoint, probe_observations=torch.from_numpy(stand_in_observations(checkpoint)))
    output = Output(Path(job.output))
    output.write("model_epoch_0.pt", checkpoint.to_bytes())
    entry = CheckpointCandidate(0, "model_epoch_0.pt", ())
    return export_result(job, entry.name, output, RankedCheckpoint(entry, None, "not trained"))


def _select(job: Job, reporter: Reporter) -> Result:
    """Rank the checkpoints that are in the output folder, whoever wrote them, and export the chosen one."""
    output = Output(Path(job.output))
    notices = Notices(reporter)
    entries = entries_in(output, notices)
    if not entries:
        raise ModelError(
            "no checkpoint was left behind", hint="write model_epoch_<k>.pt to the folder given", code="E_NO_MODEL"
        )
    result = select_and_export(job, entries, output, reporter)
    _refuse_other_shape(job.contract, job.hidden_sizes, result)
    return result


def _export(job: Job, reporter: Reporter) -> Result:
    """Export one epoch of the output folder."""
    reporter.doing(f"exporting epoch {job.export_epoch}", 0.5)
    output = Output(Path(job.output))
    name = f"model_epoch_{job.export_epoch}.pt"
    if not (output.folder / name).is_file():
        raise ModelError(f"there is no {name}", hint="see model_analysis.json for what there is", code="E_NO_EPOCH")
    data = output.register(name)
    losses = tuple(value_losses_of(history_of(load_document(data, name))))
    return export_result(
        job,
        name,
        output,
        RankedCheckpoint(CheckpointCandidate(job.export_epoch, name, losses), score(losses), "asked for"),
    )


def entries_in(output: Output, notices: Notices) -> list[CheckpointCandidate]:
    """Read every checkpoint of a folder for the ranking; one that cannot be read is told and left out."""
    names = sorted((int(m[1]), p.name) for p in output.folder.iterdir() if (m := NAME.fullmatch(p.name)))
    entries = []
    for epoch, name in names:
        try:
            document = load_document(output.register(name), name)
        except (HotlapError, OSError) as error:
            output.files.pop(name, None)
            notices.say("W_CHECKPOINT", f"a checkpoint is left out of the ranking: {error}")
            continue
        losses = tuple(value_losses_of(history_of(document)))
        entries.append(CheckpointCandidate(epoch, name, losses, tensors_are_finite(document["policy_state_dict"])))
    return entries


def _refuse_other_shape(contract: PolicyContract, hidden_sizes: tuple[int, ...], result: Result) -> None:
    differences = list(contract.differences(result.contract))
    if result.hidden_sizes != hidden_sizes:
        differences.append(f"hidden layers {list(result.hidden_sizes)} instead of {list(hidden_sizes)}")
    if differences:
        raise ContractError(
            f"{result.checkpoint} has {' and '.join(differences)}", hint="engines cannot load another shape"
        )
