"""Hotlap's online training on a recorded environment."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.learn.contenders.outcome import Session
from benchmarks.learn.contenders.settings import online_settings
from trainer.online.actor import Actor
from trainer.online.reporting.console import RunConsole
from trainer.online.run import OnlineRun


def run_online(session: Session) -> None:
    """Train until all cycles are recorded."""
    run = session.run
    total_steps = run.cycles * run.sizes.batch
    name = "racing" if run.environment.startswith("racing") else run.environment
    settings = online_settings(
        run.settings, environment=name, total_steps=total_steps, agents=run.sizes.agents, seed=run.trainer_seed
    )
    with Path(os.devnull).open("w", encoding="utf-8") as out:
        console = RunConsole(None, total_steps=total_steps, interval_s=1e9, loggers=[], out=out)
        online = OnlineRun(settings, session.folder, run.sizes.agents, from_checkpoint=None)
        online.environments.env.close()
        online.environments.env = session.env

        def is_over() -> bool:
            learner = online.learner
            session.after_training(Actor.of(learner.network, learner.normalisers, learner.contract).best)
            return session.env.is_finished

        online.train(console, stop=is_over)
        is_over()
