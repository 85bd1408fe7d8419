"""What learns: a network, its units, its optimizer; imitates labels, acts without chance, can be put away.

Choices are learned as a categorical, buttons as one Bernoulli each, real numbers by the root of the mean squared error
of each. Its slope is the squared error's over the deviation: a number that is nearly right is not drowned by a rough
one, and does not drown it, as it would in the likelihood of a normal (Seitzer et al. 2022, arXiv:2203.09168, with their
beta = 0.5). A mean beyond a bound that the label lies at is no error: it will be clamped. What error is left is the
deviation that the model goes out with.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from schemas.contract import ContinuousActions, PolicyContract
from schemas.model import LOG_STD_MAX, LOG_STD_MIN, Lineage
from trainer.checkpoints.checkpoint import Checkpoint, tensors_are_finite
from trainer.checkpoints.tensor_copy import copy_tensors
from trainer.common.rng import numpy_rng_for
from trainer.dagger.actions import Actions, Labels
from trainer.dagger.environment import ObservationSpec
from trainer.dagger.training.dataset import Dataset
from trainer.dagger.training.networks import PixelNet, PolicyNet, VectorNet
from trainer.networks.network import Shape
from trainer.networks.normaliser import Normalisers, ObservationNormaliser, ReturnNormaliser, rescale_inputs

PIXEL_FORMAT = "hotlap.dagger_pixels/1"
_CHUNK = 250  #: minibatches whose indices are drawn at once
_SAMPLE = 4096  #: labels that tell how large the error is that is left
_LEAST_MSE = 1e-6  #: beside each mean squared error, whose root has no slope at 0
INPUT_DAMPING_LABELS = 8000.0
"""Labels up to which inputs are kept small, see `calmed`."""


def damp_inputs(seen: ObservationNormaliser, calm_labels: float = INPUT_DAMPING_LABELS) -> ObservationNormaliser:
    """Return the units in which a network learns from what was seen: (1 + calm_labels / n) deviations of each column.

    A network bends only as fast as its inputs move. So with few labels it is nearly linear between them; with many it
    learns in the usual units.
    """
    if seen.count == 0:
        return seen
    scale_O = seen.scale_O * (1.0 + calm_labels / seen.count)
    return ObservationNormaliser(seen.mean_O, scale_O.square(), seen.count)


@dataclass(frozen=True, slots=True)
class LearnerConfig:
    """What decides how a learner is built."""

    milestone_id: str
    hidden: int
    learning_rate: float
    seed: int
    device: str
    calm_labels: float = INPUT_DAMPING_LABELS  #: 0 = observations in units of one deviation throughout


class DaggerLearner:
    """One milestone's policy in the making."""

    def __init__(self, spec: ObservationSpec, actions: Actions, config: LearnerConfig) -> None:
        self._spec, self._actions, self._config = spec, actions, config
        self._space = actions.space()
        self._see(ObservationNormaliser.identity(1 if spec.pixels else spec.shape[0]))
        self._net: PolicyNet = self._build()
        self._net.module().to(config.device)
        self._parameters = self._net.trained()
        self._optimizer = torch.optim.Adam(self._parameters, lr=config.learning_rate, eps=1e-5, fused=True)

    def _build(self) -> PolicyNet:
        recipe, outputs = self._config, self._space.output_size
        log_stds = outputs if self._actions.kind == "continuous" else 0
        if self._spec.pixels:
            return PixelNet(self._spec.shape, recipe.hidden, outputs, log_stds, recipe.seed, recipe.milestone_id)
        shape = Shape(self._spec.shape[0], (recipe.hidden, recipe.hidden), outputs, log_stds)
        return VectorNet(shape, recipe.seed, recipe.milestone_id)

    def _see(self, seen: ObservationNormaliser) -> None:
        """Take these statistics, and the units that follow from them."""
        self._seen, self._units = seen, damp_inputs(seen, self._config.calm_labels)

    def absorb(self, observations: NDArray[Any]) -> None:
        """Let new observations move the units; the policy stays the function it is."""
        if self._spec.pixels:
            return
        before = self._units
        self._see(self._seen.updated(observations))
        if before.count and isinstance(self._net, VectorNet):
            rescale_inputs(self._net.network.stacks(), before, self._units)

    def train(
        self, data: Dataset, *, steps: int, batch_size: int, round_number: int, alive: Callable[[], None] = lambda: None
    ) -> float:
        """Take gradient steps on minibatches drawn from all the data; give the mean loss of the last tenth."""
        rng = numpy_rng_for(self._config.seed, "dagger", self._config.milestone_id, "batches", round_number)
        take = self._taker(data)
        losses = torch.zeros(steps, device=self._config.device)
        for first in range(0, steps, _CHUNK):
            alive()
            count = min(_CHUNK, steps - first)
            for k, index_B in enumerate(rng.integers(len(data), size=(count, batch_size))):
                loss = self._loss(*take(index_B))
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                self._optimizer.step()
                losses[first + k] = loss.detach()
        if self._actions.kind == "continuous":
            self._note_deviation(*take(rng.integers(len(data), size=_SAMPLE)))
        return float(losses[-max(1, steps // 10) :].mean())

    @torch.no_grad()
    def act(self, observations: NDArray[Any]) -> Labels:
        """Return the policy's own actions [n, ...], without chance."""
        output_BK = self._net.outputs(self._prepared(observations))
        if self._actions.kind == "discrete":
            return output_BK.argmax(dim=1).cpu().numpy()
        if self._actions.kind == "multi_binary":
            return (output_BK > 0).to(torch.uint8).cpu().numpy()
        mean_BA: Labels = output_BK.tanh().cpu().numpy()
        assert isinstance(self._space, ContinuousActions)
        low, high = (np.array(bound, np.float32) for bound in (self._space.low, self._space.high))
        return np.clip(mean_BA, low, high)

    def is_finite(self) -> bool:
        """Return whether every weight is."""
        return tensors_are_finite(self._net.module().state_dict())

    def state(self) -> dict[str, Any]:
        """Return everything that going on needs: weights, optimizer, what was seen."""
        return {
            "network": copy_tensors(self._net.module().state_dict()),
            "optimizer": copy_tensors(self._optimizer.state_dict()),
            "seen": self._seen.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state` gave."""
        self._net.module().load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        seen = state["seen"]
        self._see(ObservationNormaliser(seen["mean"], seen["var"], float(seen["count"])))

    def checkpoint(self, *, round_number: int, history: dict[str, list[float]], probe: NDArray[Any]) -> bytes:
        """Return a checkpoint's bytes: the trainer's own kind for vectors, one with the same three keys for pictures."""
        if isinstance(self._net, VectorNet):
            return self.vector_checkpoint(round_number=round_number, history=history, probe=probe).to_bytes()
        document = {
            "format": PIXEL_FORMAT,
            "policy_state_dict": copy_tensors(self._net.module().state_dict()),
            "optimizer_state_dict": copy_tensors(self._optimizer.state_dict()),
            "training_history": history,
            "picture": list(self._spec.shape),
            "hidden": self._config.hidden,
            "action_kind": self._actions.kind,
            "action_space": self._space.model_dump(mode="json"),
        }
        buffer = io.BytesIO()
        torch.save(document, buffer)
        return buffer.getvalue()

    def vector_checkpoint(
        self, *, round_number: int, history: dict[str, list[float]], probe: NDArray[Any]
    ) -> Checkpoint:
        """Return what the model JSON is exported from. Only for vectors."""
        assert isinstance(self._net, VectorNet)
        checkpoint = Checkpoint.of(
            self._net.network,
            normalisers=Normalisers(self._units, ReturnNormaliser()),
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

    def _taker(self, data: Dataset) -> Callable[[NDArray[np.int64]], tuple[Tensor, Tensor]]:
        """Return what draws a minibatch; vectors that fit in memory are put into units only once."""
        if not self._spec.pixels and (held := data.in_memory()) is not None:
            observation_NO = self._prepared(held)
            label_N = self._packed(data.labels)

            def take_tensors(index_B: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
                index = torch.from_numpy(index_B).to(self._config.device)
                return observation_NO[index], label_N[index]

            return take_tensors

        def take(index_B: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
            observations, labels = data.take(index_B)
            return self._prepared(observations), self._packed(np.ascontiguousarray(labels))

        return take

    def _prepared(self, observations: NDArray[Any]) -> Tensor:
        if not self._spec.pixels:
            return self._units(observations).to(self._config.device)
        picture = torch.from_numpy(np.ascontiguousarray(observations)).to(self._config.device)
        return picture.permute(0, 3, 1, 2).float() / 255.0

    def _packed(self, labels: Labels) -> Tensor:
        """Return labels as the loss wants them, [n] or [n, C]."""
        label = torch.from_numpy(labels)
        if self._actions.kind == "multi_binary":
            label = label.float()
        elif self._actions.kind == "continuous":
            assert isinstance(self._space, ContinuousActions)
            low, high = torch.tensor(self._space.low), torch.tensor(self._space.high)
            free = torch.full_like(label, torch.inf)
            least = torch.where(label <= low, 0.0, -free)
            most = torch.where(label >= high, 0.0, free)
            label = torch.cat([label, least, most], dim=1)
        return label.to(self._config.device)

    def _errors(self, output_BK: Tensor, packed_BC: Tensor) -> Tensor:
        """Return how far the means lie from the labels [B, A]; 0 where both are beyond the same bound."""
        label_BA, least_BA, most_BA = packed_BC.chunk(3, dim=1)
        return (output_BK.tanh() - label_BA).clamp(least_BA, most_BA)

    @torch.no_grad()
    def _note_deviation(self, observation: Tensor, packed_BC: Tensor) -> None:
        errors_BA = self._errors(self._net.outputs(observation), packed_BC)
        deviation_A = errors_BA.square().mean(dim=0).sqrt()
        self._net.action_log_std.copy_(deviation_A.log().clamp(LOG_STD_MIN, LOG_STD_MAX))

    def _loss(self, observation: Tensor, packed_BC: Tensor) -> Tensor:
        output_BK = self._net.outputs(observation)
        if self._actions.kind == "multi_binary":
            return functional.binary_cross_entropy_with_logits(output_BK, packed_BC, reduction="none").sum(1).mean()
        if self._actions.kind == "discrete":
            return functional.cross_entropy(output_BK, packed_BC)
        mse_A = self._errors(output_BK, packed_BC).square().mean(0)
        return (mse_A + _LEAST_MSE).sqrt().sum()
