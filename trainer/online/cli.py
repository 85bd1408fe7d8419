"""`hotlap online`: training in environments that run in this process."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import platform
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import torch

from schemas.errors import ConfigError
from trainer.common.reporting.console import ConsoleReporter, print_error
from trainer.envs.gymnasium_env import GymnasiumVecEnv, check_id
from trainer.networks.image_network import ImageShape
from trainer.online.arguments import config_path, parser, place_of, read_settings
from trainer.online.checkpoints import CheckpointManager
from trainer.online.config import OnlineSettings, RunSettings, as_toml, read_config, read_yaml_config
from trainer.online.environments import choose_num_envs
from trainer.online.learners.choice import algorithm_for, image_of
from trainer.online.learners.memory import memory_note
from trainer.online.presets.table import PRESETS
from trainer.online.reporting.console import TRAIN_LOG, RunConsole
from trainer.online.reporting.failures import line_of, note_log, report, traceback_of
from trainer.online.reporting.loggers import make_loggers
from trainer.online.reporting.video import record_video
from trainer.online.run import OnlineRun
from trainer.online.run_folder import (
    CHECKPOINTS,
    CONFIG,
    CONFIG_FOLDER,
    LATEST,
    RunPlace,
    begin,
    locked,
    note_in_run_info,
)
from trainer.online.yaml_config import is_yaml


def main(argv: Sequence[str], *, prog: str = "train.py") -> int:
    """Run the command line and return the exit code."""
    arguments = parser(prog).parse_args(argv)
    try:
        if arguments.validate:
            from trainer.online.self_check import validate

            is_named = arguments.config is not None or arguments.env is not None
            arguments.preset = "none"
            return int(validate(read_settings(arguments)[0] if is_named else None))
        if arguments.list_presets:
            return _list_presets()
        return train(arguments)
    except KeyboardInterrupt:
        print_error("stopped; `hotlap online --resume` continues from the last checkpoint")
        return 130
    except Exception as error:  # noqa: BLE001
        return report(error, Path(arguments.logs or RunSettings().logs).absolute())


def _list_presets() -> int:
    """Print one line for each preset."""
    for preset in PRESETS:
        ConsoleReporter().line(f"{preset.name:24}{preset.about}")
    return 0


def train(arguments: argparse.Namespace) -> int:
    """Train with the settings of the arguments. Raises HotlapError or OSError."""
    settings, note = read_settings(arguments)
    place, path = place_of(arguments), config_path(arguments)
    notes = read_yaml_config(path).notes(path) if path is not None and is_yaml(path) else []
    if arguments.video is not None:
        most = settings.evaluation.most_steps
        ConsoleReporter().line(f"recording an episode, at most {most:,} steps")
        count = record_video(settings, place.folder, arguments.video)
        ConsoleReporter().line(f"{count} frames: {arguments.video.as_posix()}")
        return 0
    start = settings.run.start_from
    if start and not place.resume and not Path(start).is_file():
        raise ConfigError(f"--from {start} is not a file", hint="name a model JSON or a checkpoint (.pt, .pth)")
    if settings.env.id not in {"rocket", "racing"}:
        check_id(settings.env.id)
    source = f", with those of the {note.partition(':')[0]}" if note else ""
    config = as_toml(settings, f"the settings of this run{source}; --config with this file repeats it").encode()
    with locked(place):
        if place.resume:
            notes += changes(read_config(place.folder / CONFIG), settings, place)
        return train_in(
            place, settings, config, [*notes, *([f"[OK] {note}"] if note else [])], beside=path and path.parent
        )


def changes(before: OnlineSettings, now: OnlineSettings, place: RunPlace) -> list[str]:
    """Return lines about what a resumed run does differently. Raises ConfigError (E_OTHER_RUN) for another environment.

    A checkpoint fits each environment of the same shape, so the names must be compared.
    """
    if before.env.id != now.env.id:
        model = f"{place.folder.name}/{CHECKPOINTS}/best_model.pt"
        raise ConfigError(
            f"the run {place.name} was trained in {before.env.id}, the settings name {now.env.id}",
            hint=f"leave out --env, or start a new run from its model: --initialize-from {model}",
            code="E_OTHER_RUN",
        )
    lines = []
    if before.env.options != now.env.options:
        lines.append(f"[WARN] env.options were {before.env.options}, and are {now.env.options} from here on")
    if before.run.total_steps != now.run.total_steps:
        lines.append(
            f"[OK] total_steps {before.run.total_steps:,} -> {now.run.total_steps:,}: the schedules of learning rate, "
            "entropy and clip range run over the new number, so their values change at this point"
        )
    return lines


def train_in(
    place: RunPlace, settings: OnlineSettings, config: bytes, notes: Sequence[str], *, beside: Path | None = None
) -> int:
    """Train in the folder of a run and return the exit code; the notes are for the log.

    `beside` is the folder of the config, in which a resumed run searches the environment's module again.
    Nothing is moved or written before everything that can fail at a start has succeeded. Raises HotlapError or OSError.
    """
    num_envs, envs_note = choose_num_envs(settings)
    folder, start, skipped = place.folder, None, list[str]()
    if place.resume:
        limits = settings.checkpoints
        manager = CheckpointManager(folder / CHECKPOINTS, keep_newest=limits.keep_newest, keep_best=limits.keep_best)
        start, skipped = manager.newest()
    with contextlib.closing(OnlineRun(settings, folder, num_envs, from_checkpoint=start)) as run:
        begin(place, config)
        if beside is not None:
            note_in_run_info(folder, **{CONFIG_FOLDER: beside.resolve().as_posix()})
        loggers, missing = make_loggers(folder, settings, run.progress.steps)
        console = RunConsole(
            folder, total_steps=settings.run.total_steps, interval_s=settings.report.interval_s, loggers=loggers
        )
        with contextlib.closing(console):
            for line in filter(None, (*notes, envs_note, missing, *skipped, *run.notes)):
                console.line(line)
            for line in summary(run, settings, num_envs):
                console.line(line)
            if place.resume:
                resumed = f"resumed at {run.progress.steps:,} steps"
                console.line(resumed if start else "no checkpoint exists yet: the run starts from the beginning")
            try:
                with Stopping() as stopping:
                    reason = run.train(console, stop=stopping)
            except Exception as error:
                if text := traceback_of(error):
                    console.log(text)
                    note_log(error, folder / TRAIN_LOG)
                note_in_run_info(folder, ended=line_of(error), steps=run.progress.steps)
                raise
            console.log_rest()
            resume = "--resume" if place.name == LATEST else f"--resume {place.name}"
            hint = "" if run.is_finished else f"; `hotlap online {resume}` continues"
            console.line(f"the run ended: {reason}{hint}")
            note_in_run_info(folder, ended=reason, steps=run.progress.steps)
            return 0 if run.is_finished else 130


def summary(run: OnlineRun, settings: OnlineSettings, num_envs: int) -> list[str]:
    """Return lines that describe the run: machine, environment, network, schedule."""
    train, env = settings.train, run.environments.env
    image = image_of(env)
    algorithm = algorithm_for(env.contract, settings, image)
    parameters = sum(p.numel() for p in run.learner.network.parameters())
    device = settings.run.device
    if device == "auto":
        device = "auto: cpu and cuda are timed" if torch.cuda.is_available() else "cpu (no CUDA device)"
    batch = env.n_agents * settings.env.n_steps
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    memory = memory_note(
        settings, algorithm, n_agents=env.n_agents, observation_size=env.contract.observation_size, image=image
    )
    agents = f"{num_envs} environments, {env.n_agents} learning agents, {env.contract.observation_size} observations"
    rates = f"{train.learning_rate:g} -> {train.learning_rate_end:g}"
    entropy = f"{train.entropy_coef:g} -> {train.entropy_coef_end:g}"
    update = f"minibatch {train.batch_size}, {train.epochs} epochs, learning rate {rates}, entropy {entropy}"
    if algorithm == "td3":
        update = f"td3: {train.updates_per_experience:g} gradient steps for each new step"
    return [
        f"[OK] user {_user()}, {system}",
        f"[OK] device {device}, precision {settings.run.precision}",
        f"[OK] {settings.env.id}: {agents}, {env.contract.action_space.in_words()}",
        *(f"[OK] {note}" for note in (env.notes if isinstance(env, GymnasiumVecEnv) else ())),
        *(f"[WARN] {note}" for note in (*run.environments.notes, *filter(None, (memory,)))),
        f"[OK] network {_network(train.hidden_sizes, image)}, {parameters:,} parameters",
        f"[OK] batch {batch:,} ({settings.env.n_steps} each), {update}",
        f"[OK] gamma {train.gamma:g}, {settings.run.total_steps:,} steps",
    ]


def _network(hidden_sizes: tuple[int, ...], image: ImageShape | None) -> str:
    if image is None:
        return f"{list(hidden_sizes)} twice"
    size = f"{image.height} x {image.width} x {image.channels}"
    return (
        f"for images of {size}: convolutions of 16 and 32 filters, then {hidden_sizes[0]} (the first of hidden_sizes)"
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


class Stopping:
    """The first Ctrl-C, or what acts as one, ends the run after the current batch; the second ends it at once."""

    def __init__(self) -> None:
        self._is_requested = False

    def __call__(self) -> bool:
        return self._is_requested

    def __enter__(self) -> Stopping:
        self._previous_handler = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._previous_handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._is_requested:
            raise KeyboardInterrupt
        self._is_requested = True
