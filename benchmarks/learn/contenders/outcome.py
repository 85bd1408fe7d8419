"""What a contender needs for a run, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.learn.environments.catalogue import ENVIRONMENTS, Environment
from benchmarks.learn.environments.recorded import MeanEvaluation, Policy, RecordedEnv
from benchmarks.learn.runs import Run


@dataclass(slots=True)
class Session:
    """One run's environment and evaluations, and a temporary folder."""

    run: Run
    folder: Path
    environment: Environment
    env: RecordedEnv
    evaluation: MeanEvaluation
    report: Callable[[int, float | None, float | None], None]  #: cycles recorded, score, score without noise
    _reported: int = 0

    def after_training(self, policy: Policy) -> None:
        """Evaluate and report, if a cycle was recorded since the last call."""
        count = len(self.env.cycles)
        if count == self._reported:
            return
        self._reported = count
        self.evaluation.evaluate_if_due(count, policy)
        score = self.env.cycles[-1].score(self.environment)
        self.report(count, score, self.evaluation.scores.get(count))


def open_session(
    run: Run, folder: Path, report: Callable[[int, float | None, float | None], None], *, agents: int
) -> Session:
    """Return the session of a run with this many agents. Raises ValueError if they cannot share a cycle's steps."""
    environment = ENVIRONMENTS[run.environment]
    env = RecordedEnv(environment, agents, run.env_seed, batch=run.sizes.batch, cycles=run.cycles)
    return Session(run, folder, environment, env, MeanEvaluation(environment, run.env_seed, run.cycles), report)
