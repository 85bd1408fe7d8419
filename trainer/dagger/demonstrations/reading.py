"""Demonstrations in a folder: rollouts of either version whose `source` is `human`, or a Minari dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schemas.contract import ContinuousActions, DiscreteActions, PolicyContract
from schemas.errors import HotlapError, RolloutError
from schemas.rollout.encoding import as_utf8, parse_text, require_size_limits
from schemas.rollout.meaning.majority import Vote, majority_of
from schemas.rollout.meaning.rules import NO_RULES, ReadingRules
from schemas.rollout.reader import read_rollout
from schemas.rollout.rollout import MAX_ROLLOUT_BYTES
from schemas.storage.files import read_with_retries
from schemas.storage.windows_paths import error_text, shown_path
from trainer.dagger.actions import ActionSpec, InvalidActionError, Labels
from trainer.dagger.demonstrations import minari_data
from trainer.envs.observations import ObservationSpec

HUMAN = "human"
Pairs = tuple[np.ndarray[Any, Any], Labels]
"""Observations [n, ...] and labels [n, ...]."""


class DemonstrationError(HotlapError):
    """Demonstrations that cannot be used. The message names the file."""

    code = "E_DEMONSTRATION"


@dataclass(frozen=True, slots=True)
class Recordings:
    """The rollouts of people in a folder."""

    folder: Path
    files: tuple[tuple[str, bytes], ...]  #: name and content of each
    left_out: tuple[str, ...]  #: why other files are not used, in words


def demonstrations_of(folder: str, milestone_id: str) -> Path:
    """Return the folder of a milestone's demonstrations: the sub-folder with its id if it exists, else the folder."""
    own = Path(folder) / milestone_id
    return own if own.is_dir() else Path(folder)


def read_pairs(folder: Path, spec: ObservationSpec, actions: ActionSpec) -> list[Pairs]:
    """Return the observations and labels of a folder, for an environment. Raises HotlapError."""
    if is_minari(folder):
        return pairs_of_minari(folder, spec, actions)
    return pairs_of_rollouts(find_recordings(folder), NO_RULES, spec, actions)


def is_minari(folder: Path) -> bool:
    """Return whether a folder is a Minari dataset."""
    return minari_data.data_folder(folder) is not None


def find_recordings(folder: Path) -> Recordings:
    """Return the rollouts of people in a folder. Raises DemonstrationError if it contains none."""
    if not folder.is_dir():
        raise DemonstrationError(f"{shown_path(folder)} is not a folder", hint="name the folder of the recorded play")
    files, left_out = [], []
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".json" and path.is_file())
    for path in paths:
        try:
            data = read_with_retries(path, limit=MAX_ROLLOUT_BYTES)
            require_size_limits(data)
            _, document = parse_text(as_utf8(data))
        except (HotlapError, OSError) as error:
            left_out.append(f"{path.name}: {error_text(error)}")
            continue
        source = document.get("source") if isinstance(document, dict) else None
        if source == HUMAN:
            files.append((path.name, data))
        else:
            left_out.append(f'{path.name}: its source is {source or "not given"}, not "{HUMAN}"')
    if not files:
        example = f": {left_out[0]}" if left_out else ""
        raise DemonstrationError(
            f"{shown_path(folder)} contains no rollout of a person{example}",
            hint=f'write "source": "{HUMAN}" into the recorded rollouts; see `hotlap docs formats`',
        )
    return Recordings(folder, tuple(files), tuple(left_out))


def digest(folder: Path) -> str:
    """Return a hash over the content of a folder's demonstrations. Raises DemonstrationError."""
    if is_minari(folder):
        return minari_data.digest(folder)
    found = hashlib.sha256()
    for _, data in find_recordings(folder).files:
        found.update(hashlib.sha256(data).digest())
    return found.hexdigest()


def contract_of(recordings: Recordings, rules: ReadingRules, preferred: PolicyContract | None) -> PolicyContract:
    """Return the contract of most rollouts. Raises DemonstrationError if none can be read."""
    votes, problem = [], ""
    for name, data in recordings.files:
        try:
            rollout = read_rollout(data, rules)
        except RolloutError as error:
            problem = f"{name}: {error.message}"
        else:
            votes.append(Vote(rollout.contract, rollout.states_bounds, rollout.size))
    majority = majority_of(votes, preferred)
    if majority is None:
        raise DemonstrationError(f"no rollout can be read: {problem}", hint="see `hotlap docs formats`")
    return majority.contract


def pairs_of_rollouts(
    recordings: Recordings, rules: ReadingRules, spec: ObservationSpec, actions: ActionSpec
) -> list[Pairs]:
    """Return the observations and labels of each rollout. Raises DemonstrationError, which names the file."""
    if spec.is_image:
        raise DemonstrationError("rollouts have vectors, but this environment has images", hint="use a Minari dataset")
    contract = PolicyContract(observation_size=spec.shape[0], action_space=_space(actions))
    rules = rules.for_contract(contract, "settings")
    pairs = []
    for name, data in recordings.files:
        try:
            rollout = read_rollout(data, rules)
        except RolloutError as error:
            raise DemonstrationError(f"{name}: {error.message}", hint=error.hint) from None
        pairs.append((rollout.observations, _labels(actions, _env_actions(actions, rollout.actions), name)))
    return pairs


def pairs_of_minari(folder: Path, spec: ObservationSpec, actions: ActionSpec) -> list[Pairs]:
    """Return the observations and labels of each episode of a dataset. Raises DemonstrationError or ConfigError."""
    pairs = []
    for number, (observations, taken) in enumerate(minari_data.episodes(folder)):
        name = f"episode {number}"
        try:
            stored = [spec.as_array(observation) for observation in observations]
        except (TypeError, ValueError) as error:
            raise DemonstrationError(f"{name} has {error}", hint="use a dataset of this environment") from None
        if stored:
            pairs.append((np.stack(stored), _labels(actions, taken, name)))
    if not pairs:
        raise DemonstrationError(f"{shown_path(folder)} contains no steps", hint="record some episodes")
    return pairs


def _space(actions: ActionSpec) -> DiscreteActions | ContinuousActions:
    """Return the action space that rollouts of an environment have: in its own units, buttons in [-1, 1]."""
    if actions.kind == "continuous":
        return ContinuousActions(names=actions.names, low=actions.low, high=actions.high)
    space = actions.model_space()
    assert isinstance(space, DiscreteActions | ContinuousActions)
    return space


def _env_actions(actions: ActionSpec, recorded: Any) -> list[Any]:
    """Return recorded actions as an expert would return them."""
    if actions.kind == "discrete":
        return [int(choice) + actions.first for choice in recorded[:, 0]]
    return list(recorded > 0.0) if actions.kind == "multi_binary" else list(recorded)


def _labels(actions: ActionSpec, taken: Sequence[Any], name: str) -> Labels:
    try:
        return actions.stack([actions.label(action) for action in taken])
    except InvalidActionError as error:
        raise DemonstrationError(f"{name} has the action {error}", hint=f"record {actions.in_words()}") from None
