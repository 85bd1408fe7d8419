"""`--video FILE.mp4`: one evaluation episode of a run's best model, as people can watch it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigError
from schemas.model import MAX_MODEL_BYTES, read_model
from schemas.program.commands import install_command
from schemas.storage.files import read_regular, rename_with_retries
from trainer.common.rng import key_for
from trainer.online.actor import Actor
from trainer.online.config import OnlineSettings

Frame = npt.NDArray[np.uint8]


def record_video(settings: OnlineSettings, run: Path, target: Path) -> int:
    """Play and write; give how many frames it has. Raises ConfigError where there is no model or no encoder."""
    try:
        import imageio_ffmpeg
    except ImportError:
        raise ConfigError("imageio-ffmpeg is not installed", hint=install_command("video"), code="E_EXTRA") from None
    path = run / "checkpoints" / "best_model.json"
    if not path.is_file():
        raise ConfigError(f"there is no {path}", hint="train until the first evaluation", code="E_NO_RUN")
    actor = Actor.of_model(read_model(read_regular(path, limit=MAX_MODEL_BYTES)))
    frames, fps = _frames(settings, actor)
    first = next(frames)
    temporary = target.with_name(f".{target.stem}.tmp.mp4")
    writer: Any = imageio_ffmpeg.write_frames(
        str(temporary), (first.shape[1], first.shape[0]), fps=fps, macro_block_size=1, ffmpeg_log_level="error"
    )
    writer.send(None)
    count = 0
    try:
        for picture in (first, *frames):
            writer.send(np.ascontiguousarray(picture))
            count += 1
    finally:
        writer.close()
    rename_with_retries(temporary, target)
    return count


def _frames(settings: OnlineSettings, actor: Actor) -> tuple[Iterator[Frame], float]:
    """Return the pictures of an episode, and how many make a second."""
    seed = key_for(settings.run.seed, "evaluation")
    if settings.env.id == "racing":
        return _racing(settings, actor, seed), 10.0
    if settings.env.id == "rocket":
        return _rocket(settings, actor, seed), 120.0 / settings.rocket.tick_skip
    return _gymnasium(settings, actor, seed), 30.0


def _racing(settings: OnlineSettings, actor: Actor, seed: int) -> Iterator[Frame]:
    from trainer.envs.racing.simulation import RacingSimulation

    world = RacingSimulation(1, seed=seed, time_limit=settings.env.time_limit)
    seen, over = world.observe(), False
    while not over:
        yield world.render(0, (480, 360))
        step = world.step(actor.best(seen))
        seen, over = step.observation, bool(step.terminated[0] | step.truncated[0])


def _rocket(settings: OnlineSettings, actor: Actor, seed: int) -> Iterator[Frame]:
    from trainer.envs.rocket.render import frame
    from trainer.envs.rocket.vec_env import RocketVecEnv
    from trainer.online.environments import rules_of

    games = RocketVecEnv(1, 1, 1, rules_of(settings))
    seen, over = games.reset(seed), False
    while not over:
        yield frame(games.seen, 0, games.blue)
        step = games.step(actor.best(seen))
        seen, over = step.observation, bool((step.terminated | step.truncated).any())


def _gymnasium(settings: OnlineSettings, actor: Actor, seed: int) -> Iterator[Frame]:
    from trainer.envs.gymnasium_env import GymnasiumVecEnv

    games = GymnasiumVecEnv(settings.env.id, 1, render_mode="rgb_array")
    seen, over = games.reset(seed), False
    while not over:
        yield _even(games.picture())
        step = games.step(actor.best(seen))
        seen, over = step.observation, bool((step.terminated | step.truncated).any())
    games.close()


def _even(picture: Frame) -> Frame:
    """Cut a picture to even sides, as video wants."""
    height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    return picture[:height, :width]
