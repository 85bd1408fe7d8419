"""The kinds of job: create version 0, train, select among existing checkpoints, export an epoch, adopt a model."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch

from schemas.contract import PolicyContract
from schemas.errors import ContractError, HotlapError, ModelError
from schemas.job import Job, Result
from schemas.model import MAX_MODEL_BYTES
from schemas.storage.files import read_with_retries, sha256_of
from schemas.storage.windows_paths import shown_path
from trainer.checkpoints.adoption import adopt
from trainer.checkpoints.checkpoint import (
    NAME,
    Checkpoint,
    history_of,
    lineage_of,
    load_document,
    standard_error_of,
    tensors_are_finite,
    value_losses_of,
)
from trainer.checkpoints.export import random_observations
from trainer.checkpoints.output import Output, export_result, select_and_export
from trainer.checkpoints.parent import open_parent
from trainer.checkpoints.selection import CheckpointCandidate, RankedCheckpoint, score
from trainer.common.prefetch_cache import PrefetchCache
from trainer.common.reporting.reporter import Notices, Reporter
from trainer.worker.diagnosis import explained
from trainer.worker.train import train


def run_job(job: Job, reporter: Reporter, cache: PrefetchCache | None = None) -> Result:
    """Run a job. `cache` contains what a warm trainer has prefetched for it. Raises HotlapError or OSError."""
    start_s = time.monotonic()
    cache = PrefetchCache() if cache is None else cache
    if not Path(job.output).is_dir():
        raise HotlapError(f"the output folder {job.output} does not exist", hint="create it first", code="E_OUTPUT")
    match job.kind:
        case "initial":
            result = _make_initial_model(job, reporter, cache)
        case "train":
            result = _train(job, reporter, cache)
        case "select":
            result = _select(job, reporter)
        case "export":
            result = _export(job, reporter)
        case "adopt":
            result = _adopt(job, reporter)
        case "prefetch":
            raise HotlapError("a prefetch job has no result", hint="send the job itself", code="E_JOB")
    return result.model_copy(update={"seconds": time.monotonic() - start_s})


def _train(job: Job, reporter: Reporter, cache: PrefetchCache) -> Result:
    """Train, and find out the cause of a failure. Raises ExplainedError if it is found, else the failure itself."""
    start_s = time.monotonic()
    try:
        return train(job, reporter, cache)
    except Exception as error:
        cause = explained(error, job, reporter, train, seconds=time.monotonic() - start_s)
        if cause is error:
            raise
        raise cause from error


def _make_initial_model(job: Job, reporter: Reporter, cache: PrefetchCache) -> Result:
    """Create version 0, the untrained network that engine and trainer start from."""
    reporter.report_activity("creating the initial model", 0.1)
    parent = open_parent(job.model_copy(update={"parent": None}), Notices(reporter), cache)
    checkpoint = Checkpoint.of(
        parent.network,
        normalisers=parent.normalisers,
        contract=job.contract,
        hidden_sizes=job.hidden_sizes,
        lineage=lineage_of(job, 0),
        policy_trained=False,
        network_class=job.settings.network,
    )
    checkpoint = replace(checkpoint, probe_observations=torch.from_numpy(random_observations(checkpoint)))
    output = Output(Path(job.output))
    output.write("model_epoch_0.pt", checkpoint.to_bytes())
    candidate = CheckpointCandidate(0, "model_epoch_0.pt", ())
    return export_result(job, output, RankedCheckpoint(candidate, None, "not trained"))


def _select(job: Job, reporter: Reporter) -> Result:
    """Rank the checkpoints in the output folder, whichever program wrote them, and export the chosen one."""
    output = Output(Path(job.output))
    candidates = candidates_in(output, Notices(reporter))
    if not candidates:
        raise ModelError(
            "the training script wrote no checkpoint",
            hint="let it write model_epoch_<k>.pt to MODEL_DIR",
            code="E_NO_MODEL",
        )
    result = select_and_export(job, candidates, output, reporter)
    _require_shape(job.contract, job.hidden_sizes, result)
    return result


def _export(job: Job, reporter: Reporter) -> Result:
    """Export one epoch of the output folder."""
    reporter.report_activity(f"exporting epoch {job.export_epoch}", 0.5)
    output = Output(Path(job.output))
    name = f"model_epoch_{job.export_epoch}.pt"
    if not (output.folder / name).is_file():
        raise ModelError(
            f"{name} does not exist in {shown_path(output.folder)}",
            hint="see model_analysis.json for the epochs that exist",
            code="E_NO_EPOCH",
        )
    losses = value_losses_of(history_of(load_document(output.register(name), name)))
    candidate = CheckpointCandidate(job.export_epoch, name, tuple(losses))
    return export_result(job, output, RankedCheckpoint(candidate, score(losses), "requested"))


def _adopt(job: Job, reporter: Reporter) -> Result:
    """Write a trained model of a file as a checkpoint and a model JSON of the project."""
    adoption = job.adoption
    if adoption is None:
        raise HotlapError("the job does not name a file", hint="report it with the log", code="E_JOB")
    path = Path(adoption.file)
    reporter.report_activity(f"reading {path.name}", 0.1)
    data = read_with_retries(path.resolve(), limit=MAX_MODEL_BYTES)
    if sha256_of(data) != adoption.sha256:
        raise ModelError(f"{path.name} has changed since it was checked", hint="run `hotlap adopt` again")
    checkpoint, notes = adopt(adoption, data, job)
    if not checkpoint.probe_observations.numel():
        checkpoint = replace(checkpoint, probe_observations=torch.from_numpy(random_observations(checkpoint)))
    output = Output(Path(job.output))
    epoch = checkpoint.lineage.epoch
    output.write(f"model_epoch_{epoch}.pt", checkpoint.to_bytes())
    candidate = CheckpointCandidate(epoch, f"model_epoch_{epoch}.pt", ())
    result = export_result(job, output, RankedCheckpoint(candidate, None, "adopted"))
    return result.model_copy(update={"notes": notes})


def candidates_in(output: Output, notices: Notices) -> list[CheckpointCandidate]:
    """Read every checkpoint of a folder for the ranking. Those that cannot be read are left out, with a notice."""
    names = sorted((int(m[1]), p.name) for p in output.folder.iterdir() if (m := NAME.fullmatch(p.name)))
    candidates = []
    for epoch, name in names:
        try:
            document = load_document(output.register(name), name)
        except (HotlapError, OSError) as error:
            output.files.pop(name, None)
            reason = error.message if isinstance(error, HotlapError) else f"{name}: {error.strerror or error}"
            notices.send("W_CHECKPOINT", f"a checkpoint is left out of the ranking: {reason}")
            continue
        history = history_of(document)
        is_finite = tensors_are_finite(document["policy_state_dict"]) and tensors_are_finite(document.get("critics"))
        candidates.append(
            CheckpointCandidate(
                epoch,
                name,
                tuple(value_losses_of(history)),
                is_finite,
                standard_error=standard_error_of(history),
            )
        )
    for name in sorted(p.name for p in output.folder.glob("model_epoch_*.pt") if not NAME.fullmatch(p.name)):
        reason = f"{name}: write the number of an epoch with up to 9 digits and without leading zeros"
        notices.send("W_CHECKPOINT", f"a checkpoint is left out of the ranking: {reason}")
    return candidates


def _require_shape(contract: PolicyContract, hidden_sizes: tuple[int, ...], result: Result) -> None:
    differences = list(contract.differences(result.contract))
    if result.hidden_sizes != hidden_sizes:
        differences.append(f"hidden layers {list(result.hidden_sizes)} instead of {list(hidden_sizes)}")
    if differences:
        raise ContractError(
            f"{result.checkpoint} has {' and '.join(differences)}",
            hint="write checkpoints of the project's shape: engines cannot load other shapes",
        )
