"""Which milestones a run trains, and which of them can start now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from trainer.dagger.milestones import Milestone, MilestoneConfig, completed_state_name, require_known_ids
from trainer.dagger.results import PipelineState


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
