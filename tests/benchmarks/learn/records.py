"""Stored runs for tests."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.learn.runs import Run, Sizes
from benchmarks.learn.store import Record

MACHINE = {"processor": "test", "cores": 2, "system": "test", "python": "3", "torch": "2", "numpy": "2"} | {
    "stable-baselines3": "2",
    "gymnasium": "1",
}


def record(
    contender: str,
    environment: str,
    curve: Sequence[float | None],
    *,
    seed: int = 0,
    label: str = "default",
    settings: tuple[tuple[str, str], ...] = (),
    commit: str = "abc",
    cpu_s: float = 10.0,
) -> Record:
    run = Run(contender, label, settings, environment, len(curve), Sizes(), seed, seed)
    return Record(
        run=run,
        curve=tuple(curve),
        reward_per_step=tuple(score or 0.0 for score in curve),
        episodes=tuple(1 for _ in curve),
        evaluation=tuple((k, score or 0.0) for k, score in enumerate(curve, start=1)),
        cpu_s=cpu_s,
        env_cpu_s=1.0,
        wall_s=20.0,
        date="2026-11-26",
        commit=commit,
        machine=MACHINE,
    )
