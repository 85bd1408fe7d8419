"""Decide whether a declared mirror fits the game, from the experiences of one cycle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from schemas.contract import ActionSpace, ContinuousActions
from schemas.error_codes import remedy_for
from schemas.errors import ConfigError
from schemas.job import Job
from schemas.mirror import Mirror
from schemas.rollout.rollout import Float32
from trainer.common.reporting.reporter import Notices
from trainer.common.shapes import Float64, Int64
from trainer.rollouts.experiences import Experiences
from trainer.rollouts.symmetry.prediction import StepColumns, mirror_excess

LARGEST_CHECK = 8192
"""Steps that are compared: whole blocks, spread over the experiences."""
FEWEST_BLOCKS = 16
"""With fewer blocks of steps, nothing is decided."""
_BLOCK = 32
"""Consecutive steps that count as one in the significance, because they depend on each other."""
_CLEAR = 0.5
_UNCLEAR = 0.2
"""Between these two, the step before is used as well: agents that see one side only cause such differences."""
_CLEAR_WITH_CONTEXT = 0.15
_SIGNIFICANT = 4.0
_LEAST_OVERLAP = 0.2
"""Below this, hardly any mirror image looks like an experience."""
_MOST_NAMED = 4
_MOST_CHOICES = 128


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a mirror does not fit: observations (and the reward, as O) with the worst predictions, worst first."""

    worst: tuple[tuple[int, float], ...]  #: the observation, and by how much its error is larger (1 = twice)
    never_seen: tuple[int, ...]  #: observations whose mirror image is far from everything that was observed
    overlap: float  #: how much the mirror images look like experiences, in [0, 1]
    size: int  #: O

    def in_words(self) -> str:
        """Return the reason in words."""
        parts = []
        if self.never_seen:
            parts.append(f"the mirror image of {_listed(self.never_seen)} is never observed")
        if self.worst:
            names = [
                f"{'the reward' if index == self.size else f'observation {index}'} ({1.0 + ratio:.1f} times)"
                for index, ratio in self.worst
            ]
            parts.append(f"with it, the prediction error is larger for {', '.join(names)}")
        if not parts:
            parts.append(
                f"hardly any mirror image looks like an experience (overlap {self.overlap:.0%}): it is wrong, or the "
                "agents see one side only"
            )
        return "; ".join(parts)


def find_mismatch(experiences: Experiences, mirror: Mirror, space: ActionSpace) -> Mismatch | None:
    """Return why a mirror does not fit the new experiences; None if it fits, or if they are too few to decide."""
    is_new_B = experiences.is_new_B if experiences.is_new_B.any() else np.ones_like(experiences.is_new_B)
    rows = np.flatnonzero(experiences.has_next_row_B & is_new_B)
    if not len(rows):
        return None
    rows, block_B = _thinned(rows, _blocks(experiences.segment_B[rows]))
    if int(block_B.max()) + 1 < FEWEST_BLOCKS:
        return None
    never_seen = _never_seen(experiences.observation_BO[rows], mirror)
    worst, overlap = _compare(experiences, rows, block_B, mirror, space)
    if not (never_seen or worst) and overlap >= _LEAST_OVERLAP:
        return None
    return Mismatch(worst, never_seen, overlap, len(mirror.observation_index_O))


def _compare(
    experiences: Experiences, rows: Int64, block_B: Int64, mirror: Mirror, space: ActionSpace
) -> tuple[tuple[tuple[int, float], ...], float]:
    """Return the observations with a significantly worse prediction, by how much it is worse, and the overlap."""
    choices = None if isinstance(space, ContinuousActions) else _frequent(experiences.action_BA[rows], mirror, space.n)
    narrowed = mirror if choices is None else choices.mirror(mirror)
    columns = _Columns(experiences, mirror, choices)
    plain = mirror_excess(*columns.steps(rows, block_B), narrowed)
    is_suspect = (plain.ratio > _UNCLEAR) & (plain.significance > _SIGNIFICANT)
    is_wrong = is_suspect & (plain.ratio > _CLEAR)
    has_step_before = experiences.has_next_row_B[rows - 1] & (rows > 0)
    if is_suspect.any() and not is_wrong.any() and has_step_before.any():
        later, block_B = rows[has_step_before], np.unique(block_B[has_step_before], return_inverse=True)[1]
        if int(block_B.max()) + 1 >= FEWEST_BLOCKS:
            context = columns.changes(later), columns.changes(later, mirrored=True)
            excess = mirror_excess(*columns.steps(later, block_B), narrowed, context)
            is_wrong = is_suspect & (excess.ratio > _CLEAR_WITH_CONTEXT) & (excess.significance > _SIGNIFICANT)
    order = np.argsort(-plain.ratio, kind="stable")
    return tuple((int(i), float(plain.ratio[i])) for i in order if is_wrong[i])[:_MOST_NAMED], plain.overlap


@dataclass(frozen=True, slots=True)
class _Choices:
    """The choices that have a column of their own, closed under the mirror."""

    column_of_choice: Int64  #: -1 = none
    index: Int64  #: the choice of each column

    def one_hot(self, action_BA: Float64) -> Float64:
        column_B = self.column_of_choice[action_BA[:, 0].astype(np.int64)]
        return np.asarray(column_B[:, None] == np.arange(len(self.index)), dtype=np.float64)

    def mirror(self, mirror: Mirror) -> Mirror:
        """Return the mirror of the columns."""
        return replace(
            mirror,
            output_index_K=self.column_of_choice[mirror.output_index_K[self.index]],
            output_sign_K=np.ones(len(self.index), np.float32),
        )


def _frequent(action_BA: Float32, mirror: Mirror, n: int) -> _Choices:
    """Return the choices that occur most, together with their mirror images."""
    counts = np.bincount(action_BA[:, 0].astype(np.int64), minlength=n)
    counts = counts + counts[mirror.output_index_K]
    chosen = np.argsort(-counts, kind="stable")[:_MOST_CHOICES]
    chosen = np.unique(np.append(chosen, mirror.output_index_K[chosen]))
    column_of_choice = np.full(n, -1, dtype=np.int64)
    column_of_choice[chosen] = np.arange(len(chosen))
    return _Choices(column_of_choice, chosen)


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of the two models, for the experiences and for their mirror images."""

    experiences: Experiences
    mirror: Mirror
    choices: _Choices | None

    def steps(self, rows: Int64, block_B: Int64) -> tuple[StepColumns, StepColumns]:
        """Return the steps in these rows, and their mirror images."""
        one, other = (
            StepColumns(
                self._observations(rows, mirrored=mirrored),
                self._actions(rows, mirrored=mirrored),
                self._observations(rows + 1, mirrored=mirrored),
                self.experiences.reward_B[rows].astype(np.float64),
                block_B,
            )
            for mirrored in (False, True)
        )
        return one, other

    def changes(self, rows: Int64, *, mirrored: bool = False) -> Float64:
        """Return what changed in the step before, and the action that led to it."""
        change_BO = self._observations(rows, mirrored=mirrored) - self._observations(rows - 1, mirrored=mirrored)
        return np.concatenate([change_BO, self._actions(rows - 1, mirrored=mirrored)], axis=1)

    def _observations(self, rows: Int64, *, mirrored: bool) -> Float64:
        columns = self.experiences.observation_BO[rows].astype(np.float64)
        return self.mirror.observations(columns) if mirrored else columns

    def _actions(self, rows: Int64, *, mirrored: bool) -> Float64:
        columns = self.experiences.action_BA[rows].astype(np.float64)
        columns = self.mirror.actions(columns) if mirrored else columns
        return columns if self.choices is None else self.choices.one_hot(columns)


def _blocks(segment_B: Int64) -> Int64:
    """Return the block of each step: at most _BLOCK consecutive steps of one segment."""
    is_first = np.append(True, segment_B[1:] != segment_B[:-1])
    start_B = np.maximum.accumulate(np.where(is_first, np.arange(len(segment_B)), 0))
    is_new_block = (np.arange(len(segment_B)) - start_B) % _BLOCK == 0
    return np.asarray(np.cumsum(is_new_block) - 1, dtype=np.int64)


def _thinned(rows: Int64, block_B: Int64) -> tuple[Int64, Int64]:
    """Return at most about LARGEST_CHECK of the steps, in whole blocks."""
    every = -(-len(rows) // LARGEST_CHECK)
    kept = block_B % every == 0
    return rows[kept], block_B[kept] // every


def _never_seen(observation_BO: Float32, mirror: Mirror) -> tuple[int, ...]:
    """Return the observations whose mirror image is farther from all values than these are from each other."""
    low_O, high_O = observation_BO.min(axis=0).astype(np.float64), observation_BO.max(axis=0).astype(np.float64)
    one_O, other_O = mirror.observations(low_O), mirror.observations(high_O)
    image_low_O, image_high_O = np.minimum(one_O, other_O), np.maximum(one_O, other_O)
    gap_O = np.maximum(low_O - image_high_O, image_low_O - high_O)
    width_O = np.maximum(high_O - low_O, image_high_O - image_low_O)
    scale_O = np.maximum(np.abs(low_O), np.abs(high_O))
    return tuple(int(i) for i in np.flatnonzero((gap_O > width_O) & (gap_O > 1e-6 * scale_O)))


def _listed(observations: tuple[int, ...]) -> str:
    names = ", ".join(map(str, observations[:_MOST_NAMED])) + (" ..." if len(observations) > _MOST_NAMED else "")
    return f"observation{'s' if len(observations) > 1 else ''} {names}"


def usable_mirror(experiences: Experiences, job: Job, notices: Notices) -> Mirror | None:
    """Return the job's mirror; None if none is declared, or if it does not fit the experiences, with a notice.

    Raises ConfigError if it does not fit the contract.
    """
    mirror = mirror_of(job)
    if mirror is None:
        return None
    mismatch = find_mismatch(experiences, mirror, job.contract.action_space)
    if mismatch is None:
        return mirror
    notices.send(
        "W_MIRROR",
        f"agent.mirror does not fit the game, so this cycle trains without it: {mismatch.in_words()} -> "
        f"{remedy_for('W_MIRROR')}",
    )
    return None


def mirror_of(job: Job) -> Mirror | None:
    """Return the mirror that the job declares, or None. Raises ConfigError if it does not fit the contract."""
    if job.mirror is None or not job.mirror.is_set:
        return None
    try:
        return Mirror.of(job.mirror, job.contract, job.choice_names)
    except ValueError as error:
        raise ConfigError(
            f"agent.mirror.{error}",
            hint="correct [agent.mirror] in daemon.toml, or remove it; see `hotlap docs settings`",
        ) from None
