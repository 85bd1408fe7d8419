"""The three stages of the curriculum, and the condition for the end of a stage."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.online.config import CurriculumSettings


@dataclass(frozen=True, slots=True)
class Stage:
    """The teams of a stage, and which of them learn."""

    name: str
    blue: int
    orange: int
    #: both teams learn, except in a part of the arenas; if False, only blue learns, against past policies
    self_play: bool


STAGES = (
    Stage("1v1 self-play", 1, 1, self_play=True),
    Stage("1v2 against past policies", 1, 2, self_play=False),
    Stage("2v2 self-play", 2, 2, self_play=True),
)


def next_stage(stage: int, steps: int, results: list[float], settings: CurriculumSettings) -> int:
    """Return the stage after this many agent steps. `results` are the last matches against past policies: 1, 0.5 or 0.

    A stage ends at its step count if enough of these matches were won, and `patience_steps` later in any case, so that
    every run reaches the last stage.
    """
    if not settings.enabled or stage + 1 >= len(STAGES):
        return stage
    due_steps = (settings.one_v_two_at, settings.two_v_two_at)[stage]
    if steps < due_steps:
        return stage
    has_won_enough = len(results) >= settings.matches and sum(results) / len(results) >= settings.win_rate
    return stage + 1 if has_won_enough or steps >= due_steps + settings.patience_steps else stage
