"""Which milestones are due, and which of them may start now; pure functions over names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from trainer.dagger.messages import PipelineState
from trainer.dagger.milestones import Milestone, MilestoneConfig, check_known, completed_state


@dataclass(frozen=True, slots=True)
class Selection:
    """What the command line asked for."""

    only: str | None = None
    resume_from: str | None = None
    skip: tuple[str, ...] = ()
    fresh: bool = False  #: completed ones are done anew


@dataclass(frozen=True, slots=True)
class Schedule:
    """What follows from it, each in the order of the config."""

    run: tuple[str, ...]
    skipped: tuple[str, ...]  #: named by --skip-milestones and not completed before
    completed: tuple[str, ...]  #: were done in an earlier run


def make_schedule(config: MilestoneConfig, selection: Selection, state: PipelineState) -> Schedule:
    """Decide what is to be run. Raises ConfigError for names that the config does not have."""
    check_known([selection.only] if selection.only else [], "--milestone", config)
    check_known([selection.resume_from] if selection.resume_from else [], "--resume-from", config)
    check_known(selection.skip, "--skip-milestones", config)
    ids = config.ids()
    wanted: Sequence[str] = ids
    if selection.only:
        wanted = (selection.only,)
    elif selection.resume_from:
        wanted = ids[ids.index(selection.resume_from) :]
    over = frozenset() if selection.fresh else frozenset(_completed(state))
    return Schedule(
        run=tuple(name for name in wanted if name not in selection.skip and name not in over),
        skipped=tuple(name for name in wanted if name in selection.skip and name not in over),
        completed=tuple(name for name in wanted if name in over),
    )


def _completed(state: PipelineState) -> list[str]:
    return [result.milestone_id for result in state.results if result.status == "completed"]


def done_in(state: PipelineState) -> tuple[str, ...]:
    """Return the milestones whose completed state may be made by playing them."""
    return tuple(_completed(state))


def may_start(
    milestone: Milestone, unfinished: Collection[str], done: Collection[str], state_exists: Callable[[str], bool]
) -> bool:
    """Return whether a milestone's start state is there or can be had now.

    Where the milestone before is not even under way, waiting would not help: it starts, and says what is missing.
    """
    name = milestone.state_name()
    if name is None or state_exists(name):
        return True
    before = next((other for other in unfinished if completed_state(other) == name), None)
    return before is None or before in done
