"""Hotlap through files, in one process: the engine writes rollouts, a job trains on them, the engine runs its model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from benchmarks.learn.contenders.file_engine import FileEngine, best
from benchmarks.learn.contenders.outcome import Session
from benchmarks.learn.contenders.settings import agent_settings, trainer_settings
from benchmarks.learn.runs import FLOOR
from schemas.job import Job, Result, RolloutInput
from schemas.model import Model, read_model
from schemas.rollout.cache import store_rollout
from schemas.rollout.reader import read_rollout
from schemas.storage.files import sha256_of
from trainer.common.reporting.reporter import MemoryReporter
from trainer.rollouts.loading import rules_of
from trainer.worker.jobs import run_job

_CANDIDATES = 2
"""Models that a new rollout may come from: the last one, and the one before, as a daemon offers by the file's time."""


class FileLoop:
    """One run's engine, models and rollouts, as a daemon has them."""

    def __init__(self, session: Session, form: str) -> None:
        run = session.run
        self._session, self._folder = session, session.folder
        self._exports, self._cache = session.folder / "Exports", session.folder / "cache"
        self._exports.mkdir()
        self._cache.mkdir()
        self._settings = trainer_settings(run.settings, run.trainer_seed)
        self._agent = agent_settings(run.settings, session.env.contract)
        self._engine = FileEngine(session.env, self._exports, form=form, steps=run.sizes.steps, seed=run.trainer_seed)
        self._rollouts: list[tuple[int, RolloutInput]] = []  #: with the cycle that each was new in
        self._models: list[Path] = []
        self._cycle = 0
        self._last = self._run("initial")

    def run_all(self) -> None:
        """Run all cycles; those of the untrained contender only collect."""
        is_trained = self._session.run.contender != FLOOR
        while not self._session.env.is_finished:
            model = self._model()
            self._collect(model)
            if is_trained:
                self._cycle += 1
                self._last = self._run("train")
                model = self._model()
            self._session.after_training(partial(best, model))

    def _collect(self, model: Model) -> None:
        """Let the engine write a cycle's rollouts, and read them in as a daemon does."""
        behaviours = tuple(str(path) for path in self._models[: -_CANDIDATES - 1 : -1])
        rules = rules_of(self._job("train"))
        for _ in range(self._session.run.sizes.rollouts):
            path = self._engine.write_rollout(model)
            data = path.read_bytes()
            entry = RolloutInput(
                name=path.name,
                sha256=sha256_of(data),
                source=str(path),
                cache=str(self._cache / path.stem),
                is_new=True,
                behaviours=behaviours,
            )
            store_rollout(Path(entry.cache), read_rollout(data, rules), rules)
            self._rollouts.append((self._cycle + 1, entry))

    def _model(self) -> Model:
        return read_model(self._models[-1].read_bytes())

    def _job(self, kind: Literal["initial", "train"]) -> Job:
        agent, cycle = self._agent, self._cycle
        is_training = kind == "train"
        rollouts = [
            entry.model_copy(update={"is_new": new_in == cycle, "age": cycle - new_in})
            for new_in, entry in self._rollouts
        ]
        return Job(
            kind=kind,
            policy_version=cycle,
            output=str(self._folder / f"cycle_{cycle:06d}"),
            contract=agent.contract(),
            hidden_sizes=agent.hidden_sizes,
            settings=self._settings,
            rollouts=tuple(rollouts) if is_training else (),
            choice_names=agent.choice_names,
            observation_limit=agent.observation_limit,
            parent=str(self._models[-1].parent / self._last.checkpoint) if is_training else None,
        )

    def _run(self, kind: Literal["initial", "train"]) -> Result:
        job = self._job(kind)
        output = Path(job.output)
        output.mkdir()
        result = run_job(job, MemoryReporter())
        if self._models:
            (self._models[-1].parent / self._last.checkpoint).unlink()
        for path in output.glob("*.pt"):
            if path.name != result.checkpoint:
                path.unlink()  # the checkpoints of the other epochs would fill the disk
        self._models.append(output / result.model)
        return result
