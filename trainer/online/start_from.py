"""Starts an online run from a trained model: a daemon's, a DAgger policy, or one of another program."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import ContractError
from schemas.model import MAX_MODEL_BYTES
from schemas.settings.models import TrainerSettings
from schemas.storage.files import read_with_retries
from trainer.checkpoints.adoption import into_network, read_trained_model
from trainer.checkpoints.checkpoint import read_document
from trainer.online.learners.images import ImageLearner, restore_images
from trainer.online.learners.ppo import OnlineLearner

_HINT = "start from a model of this environment's agents"


def start_from(path: Path, learner: OnlineLearner) -> list[str]:
    """Load a model into a new learner, with its optimizer and normaliser if it has them; return lines for the log.

    Raises ModelError, ContractError or OSError.
    """
    data = read_with_retries(path.resolve(), limit=MAX_MODEL_BYTES)
    if isinstance(learner, ImageLearner):
        is_json = path.suffix.lower() == ".json"
        restore_images({} if is_json else read_document(data, path.name), path.name, learner)
        return [f"starts from {path.as_posix()}"]
    read = read_trained_model(data, path.name, contract=learner.contract, contract_hint=_HINT)
    found, sizes = read.checkpoint, learner.settings.train.hidden_sizes
    if differences := learner.contract.differences(found.contract):
        raise ContractError(f"{path.name} has {' and '.join(differences)}", hint=_HINT)
    if found.hidden_sizes != sizes:
        raise ContractError(
            f"{path.name} has hidden layers {list(found.hidden_sizes)}, the run {list(sizes)}",
            hint=f"set train.hidden_sizes = {list(found.hidden_sizes)} in the config",
        )
    settings = TrainerSettings(seed=learner.settings.run.seed)
    checkpoint, notes = into_network(found, settings, found.lineage)
    learner.network.load_state_dict(checkpoint.policy_state_dict)
    learner.normalisers, learner.trained = checkpoint.normalisers, checkpoint.policy_trained
    learner.moments = dict(checkpoint.optimizer_state_dict.get("state", {}))
    learner.restore_critics(checkpoint.critics_state)
    return [f"starts from {path.as_posix()}", *read.notes[1:], *notes]
