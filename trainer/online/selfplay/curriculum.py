"""The three stages and when one is left: a pure function of steps and results."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.online.config import CurriculumSettings


@dataclass(frozen=True, slots=True)
class Stage:
    """Who plays whom."""

    name: str
    blue: int
    orange: int
    self_play: bool  #: both teams learn, but for a part of the arenas; else blue alone does, against past policies


STAGES = (
    Stage("1v1 self-play", 1, 1, self_play=True),
    Stage("1v2 against past policies", 1, 2, self_play=False),
    Stage("2v2 self-play", 2, 2, self_play=True),
)


def next_stage(stage: int, steps: int, results: list[float], settings: CurriculumSettings) -> int:
    """Return the stage after so many agent steps. `results` are the last matches against past policies, 1, 0.5 or 0.

    A stage is left at its step count when enough of the last matches were won, and later in any case: a gate that
    never opens would end the curriculum.
    """
    if not settings.enabled or stage + 1 >= len(STAGES):
        return stage
    due = (settings.one_v_two_at, settings.two_v_two_at)[stage]
    if steps < due:
        return stage
    enough = len(results) >= settings.matches and sum(results) / len(results) >= settings.win_rate
    return stage + 1 if enough or steps >= due + settings.patience_steps else stage
