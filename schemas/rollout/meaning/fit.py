"""Fit a rollout to the reading rules: order and bounds of the actions, choices, and the observation limit."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from schemas.contract import KNOWN_BOUNDS, ContinuousActions, DiscreteActions, PolicyContract
from schemas.errors import RolloutError
from schemas.rollout.meaning.rules import ReadingRules
from schemas.rollout.rollout import Float32, Rollout

_SETTLED_BY = {
    "settings": "in daemon.toml",
    "rollouts": "in most of the first rollouts",
    "model": "in the published model",
}
_REMEDY = {
    "settings": "remove the file if it is of another game or map, or correct daemon.toml",
    "rollouts": "remove the file if it is of another game or map; [agent] in daemon.toml decides otherwise",
    "model": "a project has one contract: use another --project for another agent, and [agent] in its daemon.toml",
}
_SETTINGS = {
    "observation_size": "agent.observation_size",
    "actions": "agent.actions",
    "bounds": "agent.action_low and agent.action_high",
    "choices": "agent.choices",
}
_EXAMPLES = 3


def fit(rollout: Rollout, rules: ReadingRules) -> Rollout:
    """Return a parsed rollout as the rules read it. Raises RolloutError (E_CONTRACT, E_CHOICES)."""
    size = rollout.contract.observation_size
    if rules.observation_size not in {None, size}:
        raise _misfit(f"it has {size} observations instead of {rules.observation_size}", "observation_size", rules)
    space = rollout.contract.action_space
    if isinstance(space, ContinuousActions):
        if rules.choices is not None:
            rollout = _as_choices(rollout, space, rules)
        else:
            rollout = _as_real_numbers(rollout, space, rules)
    elif rules.choices is not None and rules.choices != space.n:
        wanted = DiscreteActions(n=rules.choices)
        raise _misfit(f"it has actions {space.in_words()} instead of {wanted.in_words()}", "choices", rules)
    elif rules.is_continuous:
        raise _misfit(f"it has actions {space.in_words()} instead of {_in_words(rules.names)}", "actions", rules)
    return _clamped(rollout, rules.observation_limit)


def name_pairs(wanted: Sequence[str], found: Sequence[str]) -> list[tuple[str, str]]:
    """Return the names that differ only in case, punctuation or a prefix, as (found, wanted)."""
    pairs = []
    remaining = [name for name in found if name not in wanted]
    for name in (name for name in wanted if name not in found):
        plain = _plain(name)
        equal = [other for other in remaining if _plain(other) == plain]
        close = equal or [
            other
            for other in remaining
            if plain and _plain(other) and (_plain(other).endswith(plain) or plain.endswith(_plain(other)))
        ]
        if close:
            pairs.append((close[0], name))
            remaining.remove(close[0])
    return pairs


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _as_real_numbers(rollout: Rollout, space: ContinuousActions, rules: ReadingRules) -> Rollout:
    """Return the rollout with its actions in the order and with the bounds of the rules."""
    names = rules.names
    if names is None:
        is_usual = not rollout.states_bounds and set(space.names) <= set(KNOWN_BOUNDS)
        names = tuple(name for name in KNOWN_BOUNDS if name in space.names) if is_usual else space.names
    elif set(names) != set(space.names):
        raise _other_names(names, space.names, rules)
    actions = rollout.actions
    if names != space.names:
        place = [space.names.index(name) for name in names]
        actions = np.ascontiguousarray(actions[:, place])
        space = ContinuousActions(
            names=names, low=tuple(space.low[i] for i in place), high=tuple(space.high[i] for i in place)
        )
    if rules.low is not None and rules.high is not None:
        wanted = ContinuousActions(names=names, low=rules.low, high=rules.high)
        if rollout.states_bounds and wanted != space:
            raise _misfit(f"it has actions {space.in_words()} instead of {wanted.in_words()}", "bounds", rules)
        space = wanted
    if not rollout.states_bounds:
        _require_real_numbers(actions, space)
    contract = PolicyContract(observation_size=rollout.contract.observation_size, action_space=space)
    return dataclasses.replace(rollout, contract=contract, actions=actions)


def _other_names(wanted: tuple[str, ...], found: tuple[str, ...], rules: ReadingRules) -> RolloutError:
    pairs = name_pairs(wanted, found)
    if pairs:
        origin = "settings" if "actions" in rules.stated else rules.origin
        listed = ", ".join(f"'{other}' and '{name}'" for other, name in pairs)
        text = f"its action names differ only in case or in a prefix from those {_SETTLED_BY[origin]}: {listed}"
        hint = "write them alike in the engine and in agent.actions of daemon.toml"
        return RolloutError(text, hint=hint, code="E_CONTRACT")
    return _misfit(f"it has actions {_in_words(found)} instead of {_in_words(wanted)}", "actions", rules)


def _in_words(names: tuple[str, ...] | None) -> str:
    return ", ".join(names or ()) or "real numbers"


def _misfit(difference: str, setting: str, rules: ReadingRules) -> RolloutError:
    origin = "settings" if setting in rules.stated else rules.origin
    owner = f"{_SETTINGS[setting]} " if origin == "settings" else ""
    return RolloutError(f"{difference} ({owner}{_SETTLED_BY[origin]})", hint=_REMEDY[origin], code="E_CONTRACT")


def _require_real_numbers(actions: Float32, space: ContinuousActions) -> None:
    """Raise RolloutError (E_CHOICES) if an action is always a whole number, and not always within its bounds."""
    low, high = np.array(space.low), np.array(space.high)
    with np.errstate(invalid="ignore"):
        outside = ((actions < low) | (actions > high)).any(axis=0)
    for column in np.flatnonzero(outside):
        numbers = actions[:, column][np.isfinite(actions[:, column])]
        if (numbers == np.floor(numbers)).all() and len(numbers):
            shown = ", ".join(f"{number:g}" for number in np.unique(numbers)[:_EXAMPLES])
            raise choices_error(
                f"the action '{space.names[column]}' is always a whole number, also outside"
                f" [{low[column]:g}, {high[column]:g}]: {shown}",
                len(space.names),
            )


def choices_error(problem: str, actions: int) -> RolloutError:
    """Return the error for an action that seems to be one of several choices. `actions` is how many the file has."""
    hint = "set agent.choices in daemon.toml to the number of choices or to their names"
    if actions > 1:
        hint = f"write one action that is one of several choices (such as 3 * jump + move), and {hint}"
    hint += "; if it is a real number, set agent.action_low and agent.action_high"
    return RolloutError(problem, hint=hint, code="E_CHOICES")


def _as_choices(rollout: Rollout, space: ContinuousActions, rules: ReadingRules) -> Rollout:
    """Return a version 1 rollout whose only action is the number of a choice."""
    assert rules.choices is not None
    if rollout.states_bounds:
        wanted = DiscreteActions(n=rules.choices)
        raise _misfit(f"it has actions {space.in_words()} instead of {wanted.in_words()}", "choices", rules)
    if len(space.names) != 1:
        raise RolloutError(
            f"it has {len(space.names)} actions ({_in_words(space.names)}) instead of one of {rules.choices} choices",
            hint="with agent.choices, write one action: the number or the name of the choice",
            code="E_CHOICES",
        )
    if rules.names is not None and rules.names != space.names:
        raise _other_names(rules.names, space.names, rules)
    numbers = rollout.actions[np.isfinite(rollout.actions)]
    wrong = numbers[(numbers != np.floor(numbers)) | (numbers < 0) | (numbers >= rules.choices)]
    if len(wrong):
        raise RolloutError(
            f"the action '{space.names[0]}' is {wrong[0]:g}, but the choices are 0 to {rules.choices - 1}",
            hint="correct agent.choices in daemon.toml, or the engine",
            code="E_CHOICES",
        )
    discrete = DiscreteActions(n=rules.choices)
    contract = PolicyContract(observation_size=rollout.contract.observation_size, action_space=discrete)
    return dataclasses.replace(rollout, contract=contract)


def _clamped(rollout: Rollout, limit: float | None) -> Rollout:
    """Return the rollout with observations clamped to [-limit, limit]; NaN stays NaN."""
    if limit is None:
        return rollout
    return dataclasses.replace(
        rollout,
        observations=np.clip(rollout.observations, -limit, limit),
        final_observations=np.clip(rollout.final_observations, -limit, limit),
    )
