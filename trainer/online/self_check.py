"""`python -m trainer online --validate`: is everything here that training needs, and does it do what it should?"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from schemas.errors import ConfigError
from schemas.program.commands import install_command, pip_install
from schemas.text import ascii_safe
from trainer.common.console import ConsoleReporter
from trainer.common.rng import numpy_rng_for
from trainer.envs.rocket.simulation import MESHES_PACKAGE, meshes
from trainer.online.actor import Actor
from trainer.online.collector import Collector, check
from trainer.online.config import EnvSettings, OnlineSettings, TrainSettings, read_config
from trainer.online.environments import SingleEnvironments
from trainer.online.learner import OnlineLearner, ScheduledValues
from trainer.online.selfplay.curriculum import STAGES, next_stage


class _Missing(Exception):
    """Something that only an extra needs."""


def validate(config: Path | None = None) -> int:
    """Run every check and print a table; 1 where one failed. A missing extra counts only where the config needs it."""
    settings = read_config(config) if config is not None else OnlineSettings(env=EnvSettings(id="racing"))
    needs_rocket = settings.env.id == "rocket"
    out = ConsoleReporter()
    failed = 0
    checks: list[tuple[str, Callable[[], str]]] = [
        ("imports", _imports),
        ("precision", _precision),
        ("racing: step contract", _racing),
        ("gymnasium: spaces, step contract", _gymnasium),
        ("rocket: spaces, step contract", _rocket),
        ("rocket: vector shapes", _rocket_vector),
        ("curriculum: three stages", lambda: _stages(settings)),
        ("one tiny update", _update),
    ]
    for name, check_it in checks:
        try:
            out.line(f"[OK]    {name}: {check_it()}")
        except _Missing as missing:
            failed += needs_rocket and name.startswith("rocket")
            out.line(f"[{'ERROR' if needs_rocket and name.startswith('rocket') else 'SKIP'}]  {name}: {missing}")
        except Exception as error:  # noqa: BLE001
            failed += 1
            out.line(ascii_safe(f"[ERROR] {name}: {type(error).__name__}: {error}"))
    out.line(f"{len(checks)} checks, {failed} failed")
    return 1 if failed else 0


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _imports() -> str:
    told = []
    for name in ("torch", "numpy", "pydantic", "rich", "gymnasium", "RocketSim", "tensorboard", "wandb"):
        try:
            told.append(f"{name} {getattr(importlib.import_module(name), '__version__', '')}".strip())
        except ImportError:
            _expect(name in {"gymnasium", "RocketSim", "tensorboard", "wandb"}, f"{name} is missing")
            told.append(f"no {name}")
    return ", ".join(told)


def _precision() -> str:
    with torch.amp.autocast("cpu", torch.bfloat16):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    _expect(product.dtype is torch.bfloat16, "torch.amp.autocast does not lower the precision")
    return f"torch.amp works, CUDA {'is here' if torch.cuda.is_available() else 'is not here'}"


def _plain(settings: OnlineSettings, num_envs: int) -> str:
    ground = SingleEnvironments(settings, num_envs)
    world = ground.env
    seen = world.reset(0)
    _expect(seen.shape == (world.n_agents, world.contract.observation_size), f"observations of shape {seen.shape}")
    actor = OnlineLearner(world.contract, settings)
    step = world.step(Actor.of(actor.network, actor.normalisers, world.contract).best(seen))
    check(step)
    _expect(step.reward.shape == step.terminated.shape == (world.n_agents,), f"rewards of shape {step.reward.shape}")
    ground.close()
    return f"{world.n_agents} agents, {seen.shape[1]} observations, {world.contract.action_space.in_words()}"


def _racing() -> str:
    return _plain(OnlineSettings(env=EnvSettings(id="racing")), 4)


def _gymnasium() -> str:
    try:
        return _plain(OnlineSettings(env=EnvSettings(id="CartPole-v1")), 2)
    except ConfigError as error:
        raise _Missing(str(error)) from None


def _need_rocket() -> None:
    try:
        importlib.import_module("RocketSim")
        importlib.import_module("gymnasium")
    except ImportError as error:
        raise _Missing(f"{error.name} is not installed: {install_command('rocket')}") from None
    if meshes() is None:
        raise _Missing(f"the collision meshes are missing: {pip_install('--no-deps', MESHES_PACKAGE)}")


def _rocket() -> str:
    _need_rocket()
    from trainer.envs.rocket.gymnasium_envs import RocketSimEnv

    env = RocketSimEnv()
    seen, info = env.reset(seed=0)
    shapes = (env.observation_space.shape, env.action_space.shape)
    _expect(shapes == ((180,), (8,)), f"spaces of shapes {shapes}")
    _expect(env.observation_space.contains(seen), "reset gives an observation out of its space")
    seen, reward, terminated, truncated, info = env.step(np.zeros(8, np.float32))
    _expect(env.observation_space.contains(seen), "step gives an observation out of its space")
    _expect(not (terminated or truncated), "the first step ends the episode")
    total = sum(info["reward_parts"].values())
    _expect(abs(total - reward) < 1e-5, f"the reward {reward} is not the sum of its parts, {total}")
    return f"180 observations, 8 actions, {len(info['reward_parts'])} reward parts"


def _rocket_vector() -> str:
    _need_rocket()
    from trainer.envs.rocket.gymnasium_envs import RocketVectorEnv

    told = []
    for stage in STAGES:
        envs = RocketVectorEnv(2, blue=stage.blue, orange=stage.orange, discrete=True)
        seen, _ = envs.reset(seed=0)
        cars = 2 * (stage.blue + stage.orange)
        _expect(seen.shape == (cars, 180), f"{stage.name}: observations of shape {seen.shape}")
        _expect(envs.step(np.zeros(cars))[1].shape == (cars,), f"{stage.name}: rewards of another shape")
        told.append(f"{stage.blue}v{stage.orange}")
        envs.close()
    return ", ".join(told)


def _stages(settings: OnlineSettings) -> str:
    given = settings.curriculum.model_copy(update={"enabled": True})
    won = [1.0] * given.matches
    _expect(len(STAGES) == 3, f"{len(STAGES)} stages")
    _expect(next_stage(0, given.one_v_two_at - 1, won, given) == 0, "the first stage ends too early")
    _expect(next_stage(0, given.one_v_two_at, won, given) == 1, "the second stage does not begin")
    _expect(next_stage(1, given.two_v_two_at, won, given) == 2, "the third stage does not begin")
    _expect(next_stage(0, given.one_v_two_at, [], given) == (0 if given.patience_steps else 1), "the gate stands open")
    return "; ".join(stage.name for stage in STAGES)


def _update() -> str:
    settings = OnlineSettings(
        env=EnvSettings(id="racing"), train=TrainSettings(hidden_sizes=(16, 16), epochs=2, batch_size=32)
    )
    ground = SingleEnvironments(settings, 4)
    learner = OnlineLearner(ground.env.contract, settings)
    before = [parameter.detach().clone() for parameter in learner.network.parameters()]
    player = Collector(ground.env, 0)
    for iteration in range(2):
        actor = Actor.of(learner.network, learner.normalisers, learner.contract)
        experiences = player.collect(actor, 16, numpy_rng_for(0, "act", iteration))
        losses = learner.learn(experiences, iteration, ScheduledValues.at(0, settings))
    moved = any(not torch.equal(a, b) for a, b in zip(before, learner.network.parameters(), strict=True))
    _expect(moved, "the weights did not move")
    _expect(all(np.isfinite(value) for value in losses.values()), f"losses are not finite: {losses}")
    return f"loss {losses['total']:.3g}, KL {losses['approx_kl']:.2g}"
