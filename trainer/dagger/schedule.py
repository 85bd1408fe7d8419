"""Which milestones a run trains, and which of them can start now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from schemas.errors import ConfigError, split_code
from trainer.dagger.milestones import Milestone, MilestoneConfig, completed_state_name, require_known_ids
from trainer.dagger.results import PipelineState

_CERTAIN_FAULTS = frozenset({"E_CONFIG", "E_EXTRA", "E_EXPERT_MISSING", "E_EXPERT_NO_RUN"})


@dataclass(frozen=True, slots=True)
class Selection:
    """The milestones that the command line selects."""

    only: str | None = None
    resume_from: str | None = None
    skip: tuple[str, ...] = ()
    fresh: bool = False  #: train completed ones again


@dataclass(frozen=True, slots=True)
class Schedule:
    """Ids of milestones, each group in the order of the config."""

    to_run: tuple[str, ...]
    skipped: tuple[str, ...]  #: named by --skip-milestones and not completed before
    completed_before: tuple[str, ...]


def make_schedule(config: MilestoneConfig, selection: Selection, state: PipelineState) -> Schedule:
    """Return the milestones that a run trains. Raises ConfigError for ids that the config does not have."""
    require_known_ids([selection.only] if selection.only else [], "--milestone", config)
    require_known_ids([selection.resume_from] if selection.resume_from else [], "--resume-from", config)
    require_known_ids(selection.skip, "--skip-milestones", config)
    ids = config.ids()
    selected: Sequence[str] = ids
    if selection.only:
        selected = (selection.only,)
    elif selection.resume_from:
        selected = ids[ids.index(selection.resume_from) :]
    completed = frozenset() if selection.fresh else frozenset(state.completed_ids())
    left = tuple(name for name in selected if name not in completed)
    return Schedule(
        to_run=tuple(name for name in left if name not in selection.skip),
        skipped=tuple(name for name in left if name in selection.skip),
        completed_before=tuple(name for name in selected if name in completed),
    )


def require_possible_order(config: MilestoneConfig, state_exists: Callable[[str], bool]) -> None:
    """Raise ConfigError if a milestone starts from its own end, or if milestones wait for each other in a circle.

    A circle is possible if one of its start states exists.
    """
    makers = {completed_state_name(milestone.id): milestone.id for milestone in config.milestones}
    before: dict[str, str] = {}  #: of a milestone: the one that makes its start state
    for milestone in config.milestones:
        name = milestone.start_state_name()
        if name == completed_state_name(milestone.id):
            raise ConfigError(
                f"{milestone.id} starts from {name}, which is the state at its own end",
                hint="let it start from the end of another milestone, or set starting_state to null",
            )
        if name in makers and not state_exists(name):
            before[milestone.id] = makers[name]
    for first in before:
        path = [first]
        while (maker := before.get(path[-1])) is not None and maker not in path:
            path.append(maker)
        if maker is not None:
            circle = [*path[path.index(maker) :], maker]
            raise ConfigError(
                f"milestones wait for each other: {' starts from the end of '.join(circle)}",
                hint="let one of them start with reset() (starting_state null), or save its start state in --state-dir",
            )


def can_be_tried_again(reason: str) -> bool:
    """Return whether another try can end differently: not if a file or a setting is wrong."""
    return split_code(reason)[1] not in _CERTAIN_FAULTS


def can_start(
    milestone: Milestone, unfinished: Collection[str], completed: Collection[str], state_exists: Callable[[str], bool]
) -> bool:
    """Return whether a milestone can start: its start state exists, or can be created now.

    Return True also if no other milestone will create the state: then the milestone fails with the reason.
    """
    name = milestone.start_state_name()
    if name is None or state_exists(name):
        return True
    before = next((other for other in unfinished if completed_state_name(other) == name), None)
    return before is None or before in completed
