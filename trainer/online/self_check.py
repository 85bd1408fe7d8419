"""`hotlap online --validate`: check that this installation can train with a config."""

from __future__ import annotations

import importlib
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from trainer.common.exit_codes import failure_of
from trainer.common.reporting.console import ConsoleReporter
from trainer.common.rng import numpy_rng_for
from trainer.envs.rocket.simulation import find_meshes, load_simulator
from trainer.online.actor import Actor
from trainer.online.collector import Collector
from trainer.online.config import EnvSettings, OnlineSettings
from trainer.online.learners.choice import image_of, make_learner
from trainer.online.run import make_environments

_OPTIONAL = ("gymnasium", "RocketSim", "tensorboard", "wandb", "av")


def validate(settings: OnlineSettings | None = None) -> int:
    """Run every check and print one line for each. Return 1 if a check failed, else 0.

    Without settings the racing environment is checked. A missing extra is an error only if the settings need it.
    """
    settings = settings or OnlineSettings(env=EnvSettings(id="racing"))
    checks: list[tuple[str, Callable[[], str]]] = [
        ("packages", _check_packages),
        ("collision meshes", lambda: _check_meshes(needed=settings.env.id == "rocket")),
        (f"one step of {settings.env.id}", lambda: _check_step(settings)),
    ]
    console, failed = ConsoleReporter(), 0
    for name, check in checks:
        try:
            console.line(f"[OK]    {name}: {check()}")
        except Exception as error:  # noqa: BLE001
            failed += 1
            console.line(f"[ERROR] {name}: {failure_of(error)[1].message}")
    console.line(f"{len(checks)} checks, {failed} failed")
    return 1 if failed else 0


def _check_packages() -> str:
    cuda = "CUDA" if torch.cuda.is_available() else "without CUDA"
    versions = [f"Python {platform.python_version()}", f"torch {torch.__version__} ({cuda})"]
    for name in _OPTIONAL:
        try:
            version = getattr(importlib.import_module(name), "__version__", "installed")
        except ImportError:
            version = "not installed"
        versions.append(f"{name} {version}")
    return ", ".join(versions)


def _check_meshes(*, needed: bool) -> str:
    if needed:
        load_simulator()
    return "found" if find_meshes() else "missing; only Rocket League needs them"


def _check_step(settings: OnlineSettings) -> str:
    """Do one step with an untrained policy and each agent in two environments."""
    with tempfile.TemporaryDirectory() as pool:
        environments = make_environments(settings, 2, Path(pool))
        learner = make_learner(environments.env.contract, settings, image_of(environments.env))
        actor = Actor.of(learner.network, learner.normalisers, learner.contract)
        environments.before_batch(actor, steps=0)
        env = environments.env
        experiences = Collector(env, 0).collect(actor, 1, numpy_rng_for(0, "act", 0))
        environments.close()
    actions = env.contract.action_space.in_words()
    return f"{experiences.size} agents, {env.contract.observation_size} observations, {actions}"
