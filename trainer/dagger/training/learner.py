"""The learner: a network, its input normaliser and its optimizer, trained to imitate labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.contract import ContinuousActions, PolicyContract
from schemas.errors import ContractError
from schemas.model import LOG_STD_MAX, LOG_STD_MIN, Lineage
from trainer.checkpoints.adoption import read_trained_model
from trainer.checkpoints.checkpoint import Checkpoint, document_bytes, tensors_are_finite
from trainer.checkpoints.export import fold
from trainer.checkpoints.image_checkpoint import image_document
from trainer.checkpoints.tensor_copy import copy_tensors
from trainer.common.eager_adam import EagerAdam
from trainer.common.rng import numpy_rng_for
from trainer.dagger.actions import ActionSpec, Labels
from trainer.dagger.training.dataset import Dataset
from trainer.dagger.training.loss import ImitationLoss
from trainer.dagger.training.networks import PolicyNetwork, VectorNetwork
from trainer.envs.observations import ObservationSpec
from trainer.networks.image_network import ImageNetwork, ImageShape
from trainer.networks.network import Shape
from trainer.networks.normaliser import Normalisers, ObservationNormaliser, ReturnNormaliser, rescale_inputs

_MINIBATCHES_PER_DRAW = 250  #: minibatches whose indices are drawn at the same time
_LOG_STD_LABELS = 4096  #: labels that the deviation of the model is computed from
INPUT_DAMPING_LABELS = 8000.0
"""Number of labels from which inputs have about the usual size, see `damped_normaliser`."""


def damped_normaliser(
    statistics: ObservationNormaliser, damping_labels: float = INPUT_DAMPING_LABELS
) -> ObservationNormaliser:
    """Return the normaliser that divides each column by (1 + damping_labels / n) of its deviations.

    The smaller the inputs, the closer the network is to a linear function. So it is nearly linear between few labels,
    and with many labels it learns from inputs of the usual size.
    """
    if statistics.count == 0:
        return statistics
    scale_O = statistics.scale_O * (1.0 + damping_labels / statistics.count)
    return ObservationNormaliser(statistics.mean_O, scale_O.square(), statistics.count)


@dataclass(frozen=True, slots=True)
class LearnerConfig:
    """The settings of a learner."""

    milestone_id: str
    hidden: int
    learning_rate: float
    seed: int
    device: str
    damping_labels: float = INPUT_DAMPING_LABELS  #: 0: always divide by one deviation


class DaggerLearner:
    """The policy of one milestone in training."""

    def __init__(self, spec: ObservationSpec, actions: ActionSpec, config: LearnerConfig) -> None:
        self._spec, self._actions, self._config = spec, actions, config
        self._space = actions.model_space()
        self.loss = ImitationLoss(actions.kind, self._space)
        self._has_started_from = False
        self._set_statistics(ObservationNormaliser.identity(1 if spec.is_image else spec.shape[0]))
        self._network: PolicyNetwork = self._build_network()
        self._network.module().to(config.device)
        parameters = self._network.trained_parameters()
        self._optimizer = EagerAdam(parameters, lr=config.learning_rate, eps=1e-5, fused=True)

    def _build_network(self) -> PolicyNetwork:
        config, outputs = self._config, self._space.output_size
        log_stds = outputs if self._actions.kind == "continuous" else 0
        if self._spec.is_image:
            purpose = f"dagger/{config.milestone_id}"
            return ImageNetwork(self._spec.shape, config.hidden, outputs, log_stds, seed=config.seed, purpose=purpose)
        shape = Shape(self._spec.shape[0], (config.hidden, config.hidden), outputs, log_stds)
        return VectorNetwork(shape, config.seed, config.milestone_id)

    def _set_statistics(self, statistics: ObservationNormaliser) -> None:
        self._statistics = statistics
        self._normaliser = damped_normaliser(statistics, self._config.damping_labels)

    @torch.no_grad()
    def start_from(self, data: bytes, name: str) -> None:
        """Start from the weights of a model JSON or a checkpoint. Raises ModelError or ContractError."""
        if self._spec.is_image or not isinstance(self._network, VectorNetwork):
            raise ContractError(f"{name} cannot be used: this environment has images", hint="leave --from out")
        contract = PolicyContract(observation_size=self._spec.shape[0], action_space=self._space)
        hint = "start from a model of this environment's agents"
        found = read_trained_model(data, name, contract=contract, contract_hint=hint).checkpoint
        if differences := contract.differences(found.contract):
            raise ContractError(f"{name} has {' and '.join(differences)}", hint=hint)
        sizes = (self._config.hidden, self._config.hidden)
        if found.hidden_sizes != sizes:
            hint = f"use --hidden-dim {found.hidden_sizes[0]}" if len(set(found.hidden_sizes)) == 1 else hint
            raise ContractError(
                f"{name} has hidden layers {list(found.hidden_sizes)}, the run {list(sizes)}", hint=hint
            )
        stacks = self._network.network.stacks()
        for layers, folded in zip((stacks.policy, stacks.value), fold(found), strict=True):
            for layer, dense in zip(layers, folded.layers(), strict=True):
                layer.weight.copy_(torch.from_numpy(dense.weights))
                layer.bias.copy_(torch.from_numpy(dense.biases))
        self._has_started_from = True

    def update_normaliser(self, observations: NDArray[Any]) -> None:
        """Add observations to the normaliser. The weights are rescaled, so that the policy does not change."""
        if self._spec.is_image:
            return
        before = self._normaliser
        self._set_statistics(self._statistics.updated(observations))
        if (before.count or self._has_started_from) and isinstance(self._network, VectorNetwork):
            rescale_inputs(self._network.network.stacks(), before, self._normaliser)

    def train(
        self,
        data: Dataset,
        *,
        steps: int,
        batch_size: int,
        round_number: int,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> float:
        """Do gradient steps on minibatches of all data, and return the mean loss of the last tenth of them."""
        rng = numpy_rng_for(self._config.seed, "dagger", self._config.milestone_id, "batches", round_number)
        read_batch = self._batch_reader(data)
        losses = torch.zeros(steps, device=self._config.device)
        for first in range(0, steps, _MINIBATCHES_PER_DRAW):
            heartbeat()
            count = min(_MINIBATCHES_PER_DRAW, steps - first)
            for k, index_B in enumerate(rng.integers(len(data), size=(count, batch_size))):
                observation, target = read_batch(index_B)
                loss = self.loss(self._network.outputs(observation), target)
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                self._optimizer.step()
                losses[first + k] = loss.detach()
        if self._actions.kind == "continuous":
            self._set_log_std(*read_batch(rng.integers(len(data), size=_LOG_STD_LABELS)))
        return float(losses[-max(1, steps // 10) :].mean())

    @torch.no_grad()
    def act(self, observations: NDArray[Any]) -> Labels:
        """Return the policy's most likely actions [n, ...]."""
        output_BK = self._network.outputs(self._inputs(observations))
        if self._actions.kind == "discrete":
            return output_BK.argmax(dim=1).cpu().numpy()
        if self._actions.kind == "multi_binary":
            return (output_BK > 0).to(torch.uint8).cpu().numpy()
        mean_BA: Labels = output_BK.tanh().cpu().numpy()
        assert isinstance(self._space, ContinuousActions)
        low, high = (np.array(bound, np.float32) for bound in (self._space.low, self._space.high))
        return np.clip(mean_BA, low, high)

    def is_finite(self) -> bool:
        """Return whether all weights are finite."""
        return tensors_are_finite(self._network.module().state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return the state for `load_state_dict`: weights, optimizer, statistics of the observations."""
        return {
            "network": copy_tensors(self._network.module().state_dict()),
            "optimizer": copy_tensors(self._optimizer.state_dict()),
            "seen": self._statistics.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self._network.module().load_state_dict(state["network"])
        self._optimizer.load_state_dict(copy_tensors(state["optimizer"]))  # torch would train on these tensors
        statistics = state["seen"]
        self._set_statistics(ObservationNormaliser(statistics["mean"], statistics["var"], float(statistics["count"])))

    def checkpoint(self, *, round_number: int, history: dict[str, list[float]], probe: NDArray[Any]) -> bytes:
        """Return a checkpoint's bytes. For images it has the trainer's three main keys and some additional ones."""
        if isinstance(self._network, VectorNetwork):
            return self.vector_checkpoint(round_number=round_number, history=history, probe=probe).to_bytes()
        height, width, channels = self._spec.shape
        document = image_document(
            state=copy_tensors(self._network.module().state_dict()),
            optimizer=copy_tensors(self._optimizer.state_dict()),
            history=history,
            image=ImageShape(height, width, channels, self._spec.image_max),
            hidden=self._config.hidden,
            action_kind=self._actions.kind,
            space=self._space,
        )
        return document_bytes(document)

    def vector_checkpoint(
        self, *, round_number: int, history: dict[str, list[float]], probe: NDArray[Any]
    ) -> Checkpoint:
        """Return the checkpoint that the model JSON is exported from. Only for vectors."""
        assert isinstance(self._network, VectorNetwork)
        checkpoint = Checkpoint.of(
            self._network.network,
            normalisers=Normalisers(self._normaliser, ReturnNormaliser()),
            contract=PolicyContract(observation_size=self._spec.shape[0], action_space=self._space),
            hidden_sizes=(self._config.hidden, self._config.hidden),
            lineage=Lineage(
                cycle=0, epoch=round_number + 1, seed=self._config.seed, versions={"torch": torch.__version__}
            ),
            policy_trained=True,
            optimizer_state=self._optimizer.state_dict(),
            history=history,
            probe_observations=torch.from_numpy(np.asarray(probe, np.float32)),
        )
        if self._actions.kind != "multi_binary":
            return checkpoint
        # An engine that adds noise should not press buttons by chance.
        return replace(checkpoint, action_log_std=torch.full((self._space.output_size,), LOG_STD_MIN))

    def _batch_reader(self, data: Dataset) -> Callable[[NDArray[np.int64]], tuple[Tensor, Tensor]]:
        """Return a function that returns inputs and targets; vectors in memory are prepared only once."""
        if not self._spec.is_image and (observations := data.in_memory()) is not None:
            all_inputs, all_targets = self._inputs(observations), self._targets(data.labels)

            def read_prepared(index_B: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
                index = torch.from_numpy(index_B).to(self._config.device)
                return all_inputs[index], all_targets[index]

            return read_prepared

        def read(index_B: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
            observations, labels = data.batch(index_B)
            return self._inputs(observations), self._targets(np.ascontiguousarray(labels))

        return read

    def _inputs(self, observations: NDArray[Any]) -> Tensor:
        if not self._spec.is_image:
            return self._normaliser(observations).to(self._config.device)
        image = torch.from_numpy(np.ascontiguousarray(observations)).to(self._config.device)
        return image.permute(0, 3, 1, 2).float() / self._spec.image_max

    def _targets(self, labels: Labels) -> Tensor:
        return self.loss.targets(labels).to(self._config.device)

    @torch.no_grad()
    def _set_log_std(self, observation: Tensor, target_BC: Tensor) -> None:
        """Set the deviation of the model's actions to the remaining errors."""
        errors_BA = self.loss.errors(self._network.outputs(observation), target_BC)
        deviation_A = errors_BA.square().mean(dim=0).sqrt()
        self._network.action_log_std.copy_(deviation_A.log().clamp(LOG_STD_MIN, LOG_STD_MAX))
