"""Names the rollouts whose values are far from those of the others: the first suspects if a training fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.contract import ContinuousActions
from schemas.rollout.rollout import Rollout
from trainer.common.shapes import Float64
from trainer.rollouts.loading import LoadedRollout

_ENOUGH_FILES = 3
"""With fewer rollouts, a value is compared with most values of one rollout and not with the largest of each."""
_MOST = 0.9
_LEAST_USUAL = 1e-3
"""A column that is otherwise constant counts as if it usually reached this far."""


@dataclass(frozen=True, slots=True)
class FarValue:
    """The value of a rollout that is the farthest from those of the other rollouts."""

    sha256: str
    name: str
    column: str
    value: float
    centre: float  #: of the column in all rollouts
    usual: float  #: how far the column usually reaches from its centre

    @property
    def low(self) -> float:
        """Return the lowest usual value."""
        return self.centre - self.usual

    @property
    def high(self) -> float:
        """Return the highest usual value."""
        return self.centre + self.usual

    @property
    def ratio(self) -> float:
        """Return how many times as far from the centre the value is as usual."""
        return abs(self.value - self.centre) / self.usual

    def in_words(self) -> str:
        """Return the column, the value and what is usual."""
        return f"{self.column} is {self.value:.4g}, but is usually between {self.low:.3g} and {self.high:.3g}"


def far_values(loaded: Sequence[LoadedRollout]) -> list[FarValue]:
    """Return the farthest value of each rollout, the farthest first."""
    farthest: dict[str, FarValue] = {}
    for name, values_of in _columns(loaded):
        columns = [np.asarray(values_of(item.rollout), dtype=np.float64) for item in loaded]
        for far in _of_column(name, loaded, columns):
            known = farthest.get(far.sha256)
            if known is None or far.ratio > known.ratio:
                farthest[far.sha256] = far
    return sorted(farthest.values(), key=lambda far: -far.ratio)


def _of_column(name: str, loaded: Sequence[LoadedRollout], columns: Sequence[Float64]) -> Iterator[FarValue]:
    finite = [column[np.isfinite(column)] for column in columns]
    present = [column for column in finite if len(column)]
    if not present:
        return
    centre = float(np.median([np.median(column) for column in present]))
    if len(present) < _ENOUGH_FILES:
        usual = min(float(np.quantile(np.abs(column - centre), _MOST)) for column in present)
    else:
        usual = float(np.median([np.abs(column - centre).max() for column in present]))
    usual = max(usual, _LEAST_USUAL * max(1.0, abs(centre)))
    for item, column in zip(loaded, finite, strict=True):
        if len(column):
            row = int(np.abs(column - centre).argmax())
            value = float(column[row])
            yield FarValue(item.entry.sha256, item.entry.name, name, value, centre, usual)


def _columns(loaded: Sequence[LoadedRollout]) -> Iterator[tuple[str, Callable[[Rollout], npt.NDArray[np.generic]]]]:
    """Yield the name of each column that training uses, and a function that returns its values of one rollout."""
    contract = loaded[0].rollout.contract
    yield "a reward", lambda rollout: rollout.rewards
    for index in range(contract.observation_size):
        yield f"observation {index}", lambda rollout, k=index: _with_finals(rollout, k)  # type: ignore[misc]
    if isinstance(contract.action_space, ContinuousActions):
        for index, name in enumerate(contract.action_space.names):
            yield f"the action {name}", lambda rollout, k=index: rollout.actions[:, k]  # type: ignore[misc]
    yield "a log_prob", lambda rollout: rollout.log_probs
    for index in range(max(item.rollout.critic_width for item in loaded)):
        yield f"critic observation {index}", lambda rollout, k=index: _critic(rollout, k)  # type: ignore[misc]


def _with_finals(rollout: Rollout, index: int) -> npt.NDArray[np.generic]:
    return np.append(rollout.observations[:, index], rollout.final_observations[:, index])


def _critic(rollout: Rollout, index: int) -> npt.NDArray[np.generic]:
    values = rollout.critic_observations
    return np.zeros(0) if values is None or index >= rollout.critic_width else values[:, index]
