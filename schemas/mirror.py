"""A game's mirror: what observations and actions become if left and right are swapped.

It is its own inverse, and independent of how a policy is trained: it changes raw arrays, as engines write them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from schemas.contract import ContinuousActions, PolicyContract

if TYPE_CHECKING:  # the settings import this module, and commands that only print something start faster without numpy
    import numpy as np
    import numpy.typing as npt

    Indices = npt.NDArray[np.int64]
    Signs = npt.NDArray[np.float32]

F = TypeVar("F", bound="np.floating[Any]")


class MirrorDeclaration(Protocol):
    """How a mirror is declared; `schemas.settings.mirror` describes the fields."""

    @property
    def observation_pairs(self) -> tuple[tuple[int, int], ...]: ...
    @property
    def observation_signs(self) -> tuple[int, ...]: ...
    @property
    def action_pairs(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def action_signs(self) -> tuple[str, ...]: ...
    @property
    def choice_pairs(self) -> tuple[tuple[int | str, int | str], ...]: ...


@dataclass(frozen=True, slots=True)
class Mirror:
    """Column i of the mirror image is column `index[i]` of the original, times `sign[i]`.

    Letters: O observations, A action numbers, K outputs of the policy head.
    """

    observation_index_O: Indices
    observation_sign_O: Signs
    output_index_K: Indices  #: continuous: of the actions; discrete: of the choices
    output_sign_K: Signs  #: discrete: all 1
    is_discrete: bool

    @classmethod
    def of(cls, settings: MirrorDeclaration, contract: PolicyContract, choice_names: tuple[str, ...] = ()) -> Mirror:
        """Return the mirror that settings describe. Raises ValueError if it does not fit the contract."""
        space = contract.action_space
        observations = _columns(
            "observation", contract.observation_size, settings.observation_pairs, settings.observation_signs
        )
        if not isinstance(space, ContinuousActions):
            if settings.action_pairs or settings.action_signs:
                name = "action_pairs" if settings.action_pairs else "action_signs"
                raise ValueError(f"{name} is for actions that are numbers; choices have choice_pairs")
            pairs = tuple((_choice(a, choice_names), _choice(b, choice_names)) for a, b in settings.choice_pairs)
            return cls(*observations, *_columns("choice", space.n, pairs, ()), is_discrete=True)
        if settings.choice_pairs:
            raise ValueError("choice_pairs is for agent.choices, but the actions are numbers: use action_pairs")
        names = space.names
        action_pairs = tuple((_action(a, names, "pairs"), _action(b, names, "pairs")) for a, b in settings.action_pairs)
        signs = tuple(_action(name, names, "signs") for name in settings.action_signs)
        outputs = _columns("action", len(names), action_pairs, signs, names)
        _require_symmetric_bounds(space, *outputs)
        return cls(*observations, *outputs, is_discrete=False)

    def observations(self, observations: npt.NDArray[F]) -> npt.NDArray[F]:
        """Return the mirror images of observations [..., O]."""
        return observations[..., self.observation_index_O] * self.observation_sign_O.astype(observations.dtype)

    def actions(self, actions: npt.NDArray[F]) -> npt.NDArray[F]:
        """Return the mirror images of actions: numbers [..., A], or indices of choices as floats [..., 1]."""
        if self.is_discrete:
            import numpy as np

            return self.output_index_K[actions.astype(np.int64)].astype(actions.dtype)
        return self.outputs(actions)

    def outputs(self, outputs: npt.NDArray[F]) -> npt.NDArray[F]:
        """Return what a symmetric policy head computes [..., K] for the mirror images of the observations."""
        return outputs[..., self.output_index_K] * self.output_sign_K.astype(outputs.dtype)

    def is_own_inverse(self) -> bool:
        """Return whether the mirror image of the mirror image is the original, for observations and for actions."""
        import numpy as np

        pairs = (self.observation_index_O, self.observation_sign_O), (self.output_index_K, self.output_sign_K)
        return all(
            bool((index[index] == np.arange(len(index))).all() and (sign * sign[index] == 1.0).all())
            for index, sign in pairs
        )

    def in_words(self) -> str:
        """Return how much changes, such as "of 15 observations 4 swap and 3 change sign"."""
        import numpy as np

        parts = []
        for noun, index, sign in (
            ("observations", self.observation_index_O, self.observation_sign_O),
            ("choices" if self.is_discrete else "actions", self.output_index_K, self.output_sign_K),
        ):
            swapped, negated = int((index != np.arange(len(index))).sum()), int((sign < 0).sum())
            changes = [f"{swapped} swap"] * bool(swapped) + [f"{negated} change sign"] * bool(negated)
            parts.append(f"of {len(index)} {noun} {' and '.join(changes) or 'none changes'}")
        return ", ".join(parts)


def _columns(
    kind: str,
    size: int,
    pairs: tuple[tuple[int, int], ...],
    signs: tuple[int, ...],
    names: tuple[str, ...] = (),
) -> tuple[Indices, Signs]:
    """Return index and sign of each column. Raises ValueError."""

    import numpy as np

    def shown(column: int) -> str:
        return names[column] if names else f"{kind} {column}"

    for setting, columns in (("pairs", [c for pair in pairs for c in pair]), ("signs", list(signs))):
        if wrong := [column for column in columns if not 0 <= column < size]:
            raise ValueError(f"{kind}_{setting} names {kind} {wrong[0]}, but they are 0 to {size - 1}")
    index, sign = np.arange(size), np.ones(size, np.float32)
    sign[list(signs)] = -1.0
    for a, b in pairs:
        index[a], index[b] = b, a
        if sign[a] != sign[b]:
            one, other = (a, b) if sign[a] < 0 else (b, a)
            raise ValueError(
                f"{kind}_signs names {shown(one)}, but not {shown(other)}, which swaps with it: name both or none"
            )
    return index.astype(np.int64), sign


def _action(name: str, names: tuple[str, ...], setting: str) -> int:
    if name not in names:
        raise ValueError(f'action_{setting} names "{name}", but the actions are {", ".join(names)}')
    return names.index(name)


def _choice(choice: int | str, names: tuple[str, ...]) -> int:
    if isinstance(choice, int):
        return choice
    if choice not in names:
        known = f"the choices are {', '.join(names[:20])}" if names else "the choices have no names: use indices"
        raise ValueError(f'choice_pairs names "{choice}", but {known}')
    return names.index(choice)


def _require_symmetric_bounds(space: ContinuousActions, index: Indices, sign: Signs) -> None:
    """Raise ValueError if the mirror image of an allowed action can be outside its bounds."""
    for a, (b, negated) in enumerate(zip(index.tolist(), (sign < 0).tolist(), strict=True)):
        bounds = (-space.high[b], -space.low[b]) if negated else (space.low[b], space.high[b])
        if bounds != (space.low[a], space.high[a]):
            own, other = (f"{space.names[i]} has the bounds [{space.low[i]:g}, {space.high[i]:g}]" for i in (a, b))
            if a == b:
                raise ValueError(f"action_signs names {space.names[a]}, but {own}, which are not symmetric around 0")
            raise ValueError(f"action_pairs swaps {space.names[a]} and {space.names[b]}, but {own} and {other}")
