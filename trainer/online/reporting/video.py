"""`--video FILE.mp4`: a video of one evaluation episode of a run's best model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from schemas.errors import ConfigError
from schemas.model import MAX_MODEL_BYTES, read_model
from schemas.program.commands import install_command
from schemas.storage.files import read_with_retries
from schemas.storage.windows_paths import shown_path
from trainer.checkpoints.checkpoint import load_document
from trainer.checkpoints.image_checkpoint import ImageCheckpointPolicy
from trainer.common.reporting.video import Frame, VideoWriter, can_record
from trainer.common.rng import key_for
from trainer.online.actor import Actor
from trainer.online.config import OnlineSettings


def record_video(settings: OnlineSettings, run: Path, target: Path) -> int:
    """Write the video and return its number of frames, at most `evaluation.most_steps`.

    Raises ConfigError if the model or the encoder is missing.
    """
    if not can_record():
        raise ConfigError("--video needs av, which is not installed", hint=install_command("video"), code="E_EXTRA")
    path = run / "checkpoints" / "best_model.json"
    if not path.is_file() and path.with_suffix(".pt").is_file():  # of images
        path = path.with_suffix(".pt")
    if not path.is_file():
        raise ConfigError(
            f"{shown_path(path)} does not exist", hint="train until the first evaluation", code="E_NO_RUN"
        )
    data = read_with_retries(path, limit=MAX_MODEL_BYTES)
    if path.suffix == ".pt":
        policy = ImageCheckpointPolicy(load_document(data, path.name), path.name)
        actor = Actor(policy.contract, policy.policy, policy.log_std_A)
    else:
        actor = Actor.of_model(read_model(data))
    target = target.absolute()  # the environment may change the current folder
    frames, frames_per_second = _frames(settings, actor)
    with VideoWriter(target.parent, frames_per_second) as video:
        for frame in islice(frames, settings.evaluation.most_steps):
            video.write(frame)
        video.finish(target.name)
    return video.frames


def _frames(settings: OnlineSettings, actor: Actor) -> tuple[Iterator[Frame], float]:
    """Return the frames of an episode, and the frames per second."""
    seed = key_for(settings.run.seed, "evaluation")
    if settings.env.id == "racing":
        return _racing(settings, actor, seed), 10.0
    if settings.env.id == "rocket":
        return _rocket(settings, actor, seed), 120.0 / settings.rocket.tick_skip
    return _gymnasium(settings, actor, seed), 30.0


def _racing(settings: OnlineSettings, actor: Actor, seed: int) -> Iterator[Frame]:
    from trainer.envs.racing.simulation import RacingSimulation

    simulation = RacingSimulation(1, seed=seed, time_limit=settings.env.time_limit)
    observation, is_over = simulation.observe(), False
    while not is_over:
        yield simulation.render(0, (480, 360))
        step = simulation.step(actor.best(observation))
        observation, is_over = step.observation, bool(step.terminated[0] | step.truncated[0])


def _rocket(settings: OnlineSettings, actor: Actor, seed: int) -> Iterator[Frame]:
    from trainer.envs.rocket.render import render_frame
    from trainer.envs.rocket.vec_env import RocketVecEnv
    from trainer.online.environments import game_rules

    env = RocketVecEnv(1, 1, 1, game_rules(settings))
    observation, is_over = env.reset(seed), False
    while not is_over:
        yield render_frame(env.arena_state, 0, env.blue)
        step = env.step(actor.best(observation))
        observation, is_over = step.observation, bool((step.terminated | step.truncated).any())


def _gymnasium(settings: OnlineSettings, actor: Actor, seed: int) -> Iterator[Frame]:
    from trainer.envs.gymnasium_env import GymnasiumVecEnv

    env = GymnasiumVecEnv(settings.env.id, 1, **{**settings.env.options, "render_mode": "rgb_array"})
    observation, is_over = env.reset(seed), False
    while not is_over:
        yield env.render()
        step = env.step(actor.best(observation))
        observation, is_over = step.observation, bool((step.terminated | step.truncated).any())
    env.close()
