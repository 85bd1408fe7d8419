"""What off-policy learning keeps from cycle to cycle besides the policy: critics, target critics, Adam's moments."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from schemas.rollout.rollout import Float32
from trainer.networks.critic_inputs import NO_CRITIC_INPUTS, CriticInputs
from trainer.networks.network import Network
from trainer.networks.normaliser import ObservationNormaliser, ReturnNormaliser
from trainer.off_policy.critics import Critics

INITIAL_TEMPERATURE = 0.1  #: of `trainer.off_policy.soft_choices`, normalised value units per nat
_CRITICS = 2
"""Twin critics: targets use the lower value of two (Fujimoto et al. 2018, "clipped double Q-learning")."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Adam's state for the critics and for the policy; None = none yet."""

    critics: dict[str, Any] | None = None
    policy: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class CriticsState:
    """The critics of a learner. They are trained in place."""

    critics: Critics
    targets: Critics
    moments: Moments = field(default_factory=Moments)
    temperature: float = INITIAL_TEMPERATURE
    is_new: bool = True  #: nothing is learned yet
    inputs: CriticInputs = NO_CRITIC_INPUTS  #: besides observations and actions

    @classmethod
    def initial(cls, sizes: tuple[int, ...], *, seed: int, critic_width: int = 0) -> CriticsState:
        """Return the state of new critics with these layer sizes and so many critic observations."""
        critics = Critics.initial(_CRITICS, sizes, seed=seed)
        return cls(critics, critics.copy(), inputs=CriticInputs.identity(critic_width))

    @classmethod
    def from_document(cls, document: dict[str, Any], sizes: tuple[int, ...], network: Network) -> CriticsState | None:
        """Return the state of a checkpoint, or None if it is damaged, or does not fit these sizes and this network."""
        try:
            critics, targets = (Critics.from_document(document[name]) for name in ("critics", "targets"))
            moments = Moments(document["critics_adam"], document["policy_adam"])
            temperature = float(document["temperature"])
            inputs = CriticInputs.from_document(document)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError):
            return None
        parameters = sum(p.numel() for p in network.parameters())
        fits = _fits(moments.critics, critics.vector.numel()) and _fits(moments.policy, parameters)
        fits &= network.shape.observation_size + inputs.columns + network.shape.log_stds == sizes[0]
        if not (_has_shape(critics, sizes) and _has_shape(targets, sizes) and fits and temperature > 0.0):
            return None
        return cls(critics, targets, moments, temperature, is_new=False, inputs=inputs)

    def document(self) -> dict[str, Any]:
        """Return the tensors and plain values for a checkpoint."""
        return {
            "critics": self.critics.document(),
            "targets": self.targets.document(),
            "critics_adam": self.moments.critics,
            "policy_adam": self.moments.policy,
            "temperature": self.temperature,
            **self.inputs.document(),
        }

    def rescale_inputs(self, before: ObservationNormaliser, after: ObservationNormaliser) -> None:
        """Change the critics for new statistics of observations, in place, so that they compute what they did."""
        for critics in (self.critics, self.targets):
            critics.rescale_inputs(before, after)

    def with_critic_observations(self, critic_observation_BP: Float32, observation_size: int) -> CriticsState:
        """Return the state with statistics that include these rows. The critics are changed in place, unless new."""
        after = self.inputs.updated(critic_observation_BP)
        if not self.is_new:
            for critics in (self.critics, self.targets):
                critics.rescale_critic_inputs(self.inputs, after, first=observation_size)
        return replace(self, inputs=after)

    def rescale_values(self, before: ReturnNormaliser, after: ReturnNormaliser) -> None:
        """Change the critics for new statistics of returns, in place, so that they compute what they did."""
        for critics in (self.critics, self.targets):
            critics.rescale_values(before, after)

    def copy(self) -> CriticsState:
        """Return a state that is trained separately."""
        return replace(self, critics=self.critics.copy(), targets=self.targets.copy())


def _has_shape(critics: Critics, sizes: tuple[int, ...]) -> bool:
    return critics.count == _CRITICS and critics.sizes == sizes and critics.vector.dtype == torch.float32


def _fits(moments: Any, parameters: int) -> bool:
    """Return whether Adam's moments are None or those of so many parameters."""
    if not isinstance(moments, dict):
        return moments is None
    is_counted = isinstance(steps := moments.get("step"), int) and steps >= 0
    tensors = [moments.get(name) for name in ("exp_avg", "exp_avg_sq")]
    return is_counted and all(isinstance(one, Tensor) and one.shape == (parameters,) for one in tensors)
