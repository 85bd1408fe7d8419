"""Clone recorded play: train a policy on demonstrations alone, without an environment, and write its model JSON."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from schemas.contract import ContinuousActions, PolicyContract
from schemas.rollout.meaning.rules import ReadingRules
from schemas.settings.models import AgentSettings
from trainer.checkpoints.export import export
from trainer.dagger.actions import ActionSpec, Labels, read_action_spec
from trainer.dagger.demonstrations import minari_data
from trainer.dagger.demonstrations.reading import (
    DemonstrationError,
    Pairs,
    contract_of,
    find_recordings,
    is_minari,
    pairs_of_minari,
    pairs_of_rollouts,
)
from trainer.dagger.training.dataset import Dataset
from trainer.dagger.training.learner import DaggerLearner, LearnerConfig
from trainer.dagger.training.rounds import write_demonstrations
from trainer.envs.observations import ObservationSpec, read_observation_spec

NAME = "clone"
_HELD_OUT = 0.1
_PROBE_SIZE = 8


@dataclass(frozen=True, slots=True)
class CloneSettings:
    """The settings of a training."""

    steps: int
    batch_size: int
    learning_rate: float
    hidden: int
    seed: int


@dataclass(frozen=True, slots=True)
class Cloned:
    """A trained policy, and how well it imitates steps that it was not trained on."""

    model: bytes
    suffix: str  #: .json, or .pth for images
    labels: int
    held_out: int
    loss: float
    agreement: float  #: share of equal choices, or the mean difference of real numbers
    is_difference: bool  #: whether `agreement` is a difference
    notes: tuple[str, ...]

    def in_words(self) -> str:
        """Return the agreement in words."""
        if self.is_difference:
            return f"it differs by {self.agreement:.3f} on average"
        return f"it chooses the same in {100 * self.agreement:.0f} %"


def find_pairs(folder: Path, agent: AgentSettings) -> tuple[ObservationSpec, ActionSpec, list[Pairs], tuple[str, ...]]:
    """Return what a folder's demonstrations observe and do, and notes. Raises HotlapError."""
    if is_minari(folder):
        dataset = minari_data.open_dataset(folder)
        spec = read_observation_spec(SimpleNamespace(observation_space=dataset.observation_space))
        actions = read_action_spec(SimpleNamespace(action_space=dataset.action_space))
        return spec, actions, pairs_of_minari(folder, spec, actions), (spec.note,) if spec.note else ()
    recordings, rules = find_recordings(folder), ReadingRules.of(agent)
    contract = contract_of(recordings, rules, agent.contract())
    spec = ObservationSpec((contract.observation_size,), is_image=False)
    actions = _actions_of(contract)
    left_out = tuple(f"left out: {text}" for text in recordings.left_out)
    return spec, actions, pairs_of_rollouts(recordings, rules, spec, actions), left_out


def _actions_of(contract: PolicyContract) -> ActionSpec:
    space = contract.action_space
    if isinstance(space, ContinuousActions):
        return ActionSpec("continuous", space.names, space.low, space.high)
    return ActionSpec("discrete", tuple(f"action_{k}" for k in range(space.n)))


def clone(folder: Path, agent: AgentSettings, settings: CloneSettings) -> Cloned:
    """Train a policy on the demonstrations of a folder. Raises HotlapError."""
    spec, actions, pairs, notes = find_pairs(folder, agent)
    trained, held_out = _split(pairs)
    config = LearnerConfig(NAME, settings.hidden, settings.learning_rate, settings.seed, "cpu")
    learner = DaggerLearner(spec, actions, config)
    with tempfile.TemporaryDirectory(prefix="hotlap_clone_", ignore_cleanup_errors=True) as place:
        labels = write_demonstrations(Path(place), trained, learner)
        dataset = Dataset(Path(place), 1)
        loss = learner.train(dataset, steps=settings.steps, batch_size=settings.batch_size, round_number=0)
        probe, _ = dataset.batch(np.arange(_PROBE_SIZE) % labels)
        del dataset  # on Windows, its maps keep the files open
    if not learner.is_finite():
        raise DemonstrationError("the policy contains weights that are not finite", hint="lower --learning-rate")
    history = {"policy_loss": [loss], "labels": [float(labels)]}
    if spec.is_image:
        model, suffix = learner.checkpoint(round_number=0, history=history, probe=probe), ".pth"
    else:
        checkpoint = learner.vector_checkpoint(round_number=0, history=history, probe=probe)
        model, suffix = export(checkpoint, policy_version=0), ".json"
    count = sum(len(part[1]) for part in held_out)
    agreement, is_difference = _agreement(learner, actions, held_out), actions.kind == "continuous"
    return Cloned(model, suffix, labels, count, loss, agreement, is_difference, notes)


def _split(pairs: Sequence[Pairs]) -> tuple[list[Pairs], list[Pairs]]:
    """Return the part to train on, and the end of each recording, on which the policy is only tested."""
    first, last = [], []
    for observations, labels in pairs:
        cut = len(labels) - int(len(labels) * _HELD_OUT)
        first.append((observations[:cut], labels[:cut]))
        if cut < len(labels):
            last.append((observations[cut:], labels[cut:]))
    return first, last


def _agreement(learner: DaggerLearner, actions: ActionSpec, pairs: Sequence[Pairs]) -> float:
    if not pairs:
        return float("nan")
    labels: Labels = np.concatenate([part for _, part in pairs])
    chosen = np.concatenate([learner.act(observations) for observations, _ in pairs])
    if actions.kind == "continuous":
        return float(np.abs(chosen - labels).mean())
    return float((chosen == labels).reshape(len(labels), -1).all(axis=1).mean())
