"""`python -m trainer online --config FILE`: training on environments that run in this process."""

from __future__ import annotations

import argparse
import getpass
import platform
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import torch

from schemas.errors import ConfigError
from trainer.common.console import ConsoleReporter, say_error
from trainer.common.exit_codes import failure_of
from trainer.online.checkpoints import CheckpointManager
from trainer.online.config import OnlineSettings, read_config
from trainer.online.environments import choose_num_envs
from trainer.online.reporting.console import RunConsole
from trainer.online.reporting.loggers import make_loggers
from trainer.online.reporting.video import record_video
from trainer.online.run import OnlineRun
from trainer.online.run_folder import LATEST, open_run

_DEBUG = {
    "run.total_steps": 20_000,
    "evaluation.every_steps": 10_000,
    "evaluation.episodes": 4,
    "checkpoints.every_steps": 10_000,
    "report.interval_s": 1.0,
    "curriculum.one_v_two_at": 8_000,
    "curriculum.two_v_two_at": 14_000,
    "curriculum.patience_steps": 0,
    "curriculum.pool_every_steps": 4_000,
}
"""What --debug sets: a run of seconds that goes through every part once."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    p = argparse.ArgumentParser(prog="python -m trainer online", description=__doc__)
    p.add_argument("--config", type=Path, help="a TOML file, as configs/rocket.toml")
    p.add_argument("--resume", action="store_true", help="go on from the last checkpoint in logs/latest_run")
    p.add_argument("--debug", action="store_true", help="a short run that goes through every part once")
    p.add_argument("--validate", action="store_true", help="check this installation and end")
    p.add_argument("--video", type=Path, metavar="FILE.mp4", help="film an episode of latest_run's best model and end")
    p.add_argument("--steps", type=int, help="run.total_steps")
    p.add_argument("--seed", type=int, help="run.seed")
    p.add_argument("--device", help="run.device")
    p.add_argument("--logs", help="run.logs")
    return p


def main(argv: Sequence[str]) -> int:
    """Run the command line; give the exit code."""
    arguments = parser().parse_args(argv)
    try:
        if arguments.validate:
            from trainer.online.self_check import validate

            return int(validate(arguments.config))
        return train(arguments)
    except Exception as error:  # noqa: BLE001
        code, failure = failure_of(error)
        say_error(f"error: {failure.message}")
        return int(code)


def train(arguments: argparse.Namespace) -> int:
    """Train as the arguments say. Raises HotlapError or OSError."""
    if arguments.config is None:
        raise ConfigError("no config was given", hint="--config configs/rocket.toml")
    given = {"run.total_steps": arguments.steps, "run.seed": arguments.seed, "run.device": arguments.device}
    flags = (_DEBUG if arguments.debug else {}) | {k: v for k, v in given.items() if v is not None}
    if arguments.logs is not None:
        flags["run.logs"] = arguments.logs
    settings = read_config(arguments.config, flags)
    if arguments.video is not None:
        count = record_video(settings, Path(settings.run.logs) / LATEST, arguments.video)
        ConsoleReporter().line(f"{count} frames: {arguments.video.as_posix()}")
        return 0
    config = arguments.config.read_bytes()
    with open_run(Path(settings.run.logs), config=config, resume=arguments.resume) as folder:
        return train_in(folder, settings, resume=arguments.resume)


def train_in(folder: Path, settings: OnlineSettings, *, resume: bool) -> int:
    """Train in the folder of a run and return the exit code. Raises HotlapError or OSError."""
    num_envs, note = choose_num_envs(settings)
    kept = settings.checkpoints
    start, torn = None, list[str]()
    if resume:
        keeper = CheckpointManager(folder / "checkpoints", keep_newest=kept.keep_newest, keep_best=kept.keep_best)
        start, torn = keeper.newest()
    boards, missing = make_loggers(folder, settings)
    show = RunConsole(
        folder, total_steps=settings.run.total_steps, interval_s=settings.report.interval_s, loggers=boards
    )
    try:
        for line in filter(None, (note, missing, *torn)):
            show.line(line)
        run = OnlineRun(settings, folder, num_envs, show, from_checkpoint=start)
        for line in summary(run, settings, num_envs):
            show.line(line)
        if resume:
            show.line(f"resumed at {run.progress.steps:,} steps" if start else "no checkpoint yet: from the start")
        with Stopping(show) as stopping:
            run.stop = stopping
            run.train()
        return 130 if stopping() and run.progress.steps < settings.run.total_steps else 0
    finally:
        show.close()


def summary(run: OnlineRun, settings: OnlineSettings, num_envs: int) -> list[str]:
    """Return the verification block."""
    train, world = settings.train, run.environments.env
    parameters = sum(p.numel() for p in run.learner.network.parameters())
    device = settings.run.device
    if device == "auto":
        device = "auto: cpu and cuda are timed" if torch.cuda.is_available() else "cpu (no CUDA device)"
    batch = world.n_agents * settings.env.n_steps
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    agents = (
        f"{num_envs} environments, {world.n_agents} learning agents, {world.contract.observation_size} observations"
    )
    rates = f"{train.learning_rate:g} -> {train.learning_rate_end:g}"
    entropy = f"{train.entropy_coef:g} -> {train.entropy_coef_end:g}"
    return [
        f"[OK] user {_user()}, {system}",
        f"[OK] device {device}, precision {settings.run.precision}",
        f"[OK] {settings.env.id}: {agents}, {world.contract.action_space.in_words()}",
        f"[OK] network {list(train.hidden_sizes)} twice, {parameters:,} parameters",
        f"[OK] batch {batch:,} ({settings.env.n_steps} each), minibatch {train.batch_size}, {train.epochs} epochs",
        f"[OK] learning rate {rates}, entropy {entropy}, gamma {train.gamma:g}, {settings.run.total_steps:,} steps",
    ]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


class Stopping:
    """The first Ctrl-C (or a request to terminate) ends the run after the batch in hand; the second ends it at once."""

    def __init__(self, console: RunConsole) -> None:
        self._asked = False
        self._console = console

    def __call__(self) -> bool:
        return self._asked

    def __enter__(self) -> Stopping:
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
