"""What critics see besides observations: the rollouts' critic observations, normalised, and whether they are known.

Rollouts with and without critic observations can be in one training set, and so can clients that write them and clients
that do not. A row without them has zeros, the averages of the normalised columns, and 0 in one more column, which is 1
in the other rows. So critics learn one function for both kinds of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from schemas.rollout.rollout import Bools, Float32
from trainer.networks.normaliser import ObservationNormaliser

_KEY = "critic_observations"


@dataclass(frozen=True, slots=True)
class CriticInputs:
    """The normaliser of P critic observations. Letters: see trainer.common.shapes; V is P + 1, or 0 if P is 0."""

    normaliser: ObservationNormaliser

    @classmethod
    def identity(cls, width: int) -> CriticInputs:
        """Return inputs of P = `width` critic observations that were not normalised yet."""
        return cls(ObservationNormaliser.identity(width))

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> CriticInputs:
        """Return the inputs in the checkpoint entry of critics; P = 0 if it has none.

        Raises KeyError, TypeError, ValueError or AttributeError.
        """
        stored = document.get(_KEY)
        if stored is None:
            return cls.identity(0)
        mean_P, var_P = stored["mean"].double(), stored["var"].double()
        if mean_P.ndim != 1 or mean_P.shape != var_P.shape:
            raise ValueError(f"the statistics have the shapes {list(mean_P.shape)} and {list(var_P.shape)}")
        return cls(ObservationNormaliser(mean_P, var_P, float(stored["count"])))

    def document(self) -> dict[str, Any]:
        """Return the tensors and plain values for the checkpoint entry of critics."""
        return {_KEY: self.normaliser.state_dict()}

    @property
    def width(self) -> int:
        """Return P."""
        return len(self.normaliser.mean_O)

    @property
    def columns(self) -> int:
        """Return V."""
        return self.width + 1 if self.width else 0

    def updated(self, critic_observation_BP: Float32) -> CriticInputs:
        """Return the inputs with statistics that include these rows, if they are known."""
        known = critic_observation_BP[is_known(critic_observation_BP)]
        return CriticInputs(self.normaliser.updated(known)) if len(known) and self.width else self

    def __call__(self, critic_observation_BP: Float32) -> Tensor:
        """Return what critics take besides observations, float32 [B, V]."""
        if not self.width:
            return torch.zeros(len(critic_observation_BP), 0)
        known_B = torch.from_numpy(is_known(critic_observation_BP)).float()
        normal_BP = self.normaliser(np.nan_to_num(critic_observation_BP)) * known_B[:, None]
        return torch.cat([normal_BP, known_B[:, None]], dim=1)


NO_CRITIC_INPUTS = CriticInputs.identity(0)
"""Critics see observations and actions only."""


def critic_width_of(document: dict[str, Any]) -> int:
    """Return P of the checkpoint entry of critics; 0 without any, or if it is damaged."""
    try:
        return CriticInputs.from_document(document).width
    except (KeyError, TypeError, ValueError, AttributeError):
        return 0


def cause_of_misfit(document: dict[str, Any], critic_width: int) -> str:
    """Return what the critics of a checkpoint entry do not fit: the rollouts, if P has changed, or the settings."""
    before = critic_width_of(document)
    if before == critic_width:
        return "the settings"
    return f"the rollouts, which have {critic_width} critic observations instead of {before}"


def is_known(critic_observation_BP: Float32) -> Bools:
    """Return which rows have critic observations [B]."""
    return np.asarray(~np.isnan(critic_observation_BP).any(axis=1))
