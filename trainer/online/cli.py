"""`hotlap online`: training in environments that run in this process."""

from __future__ import annotations

import argparse
import getpass
import platform
import signal
import textwrap
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from schemas.errors import ConfigError
from schemas.program.parser import CommandParser
from trainer.common.exit_codes import failure_of
from trainer.common.reporting.console import ConsoleReporter, print_error
from trainer.common.shipped_files import find_config, shipped_configs
from trainer.envs.gymnasium_env import GymnasiumVecEnv, check_id
from trainer.online.checkpoints import CheckpointManager
from trainer.online.config import OnlineSettings, RunSettings, as_toml, read_yaml_config
from trainer.online.environments import choose_num_envs
from trainer.online.learners.choice import algorithm_for
from trainer.online.presets.choice import settings_of_run, settings_with_preset
from trainer.online.presets.table import PRESETS
from trainer.online.reporting.console import RunConsole
from trainer.online.reporting.loggers import make_loggers
from trainer.online.reporting.video import record_video
from trainer.online.run import OnlineRun
from trainer.online.run_folder import CONFIG, LATEST, open_run
from trainer.online.yaml_config import is_yaml

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
"""The settings of --debug: a run of some seconds that uses every part once."""
OLD_CONFIG = Path("config.yaml")
_EPILOG = """\
examples:
  hotlap online --env CartPole-v1        a Gymnasium environment, with the preset for it
  hotlap online --config cartpole        an installed config: less than a minute on most machines
  hotlap online --config rocket          Rocket League: 1v1, 1v2, 2v2
  hotlap online --resume                 continue the last run
  hotlap online --env racing --from M.json   start from a model, for example one of a daemon

presets: {presets}

A run is written to logs/latest_run; its config.toml has all settings, with those that the flags set.
Exit codes: 0 done, 2 bad arguments, 65 unusable data, 70 a bug, 75 out of memory or disk (try again),
78 bad settings, 130 stopped. `hotlap docs online` describes environments, settings and files."""


def parser(prog: str) -> CommandParser:
    """Return the command line."""
    p = CommandParser(prog=prog, description="Train in environments that run in this process.")
    names = textwrap.fill(", ".join(preset.name for preset in PRESETS), 110, subsequent_indent="  ")
    p.epilog = _EPILOG.format(presets=names)
    p.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="a TOML file, the name of an installed config (cartpole), or the YAML file of an older script",
    )
    p.add_argument("--env", metavar="ID", help="rocket, racing or a Gymnasium id: env.id; --config is not needed")
    p.add_argument(
        "--env-options",
        type=_toml_items,
        metavar="ITEMS",
        help='arguments of a Gymnasium environment, such as "continuous = true, gravity = -8.0": env.options',
    )
    p.add_argument(
        "--preset",
        metavar="NAME",
        help="values for what neither the config nor a flag sets: auto (by environment), none, or a name: run.preset",
    )
    p.add_argument("--list-presets", action="store_true", help="print the presets and exit")
    p.add_argument(
        "--from",
        dest="start_from",
        metavar="FILE",
        help="start from a trained model, for example one that a daemon published: run.start_from",
    )
    p.add_argument("--resume", action="store_true", help="continue from the last checkpoint in logs/latest_run")
    p.add_argument("--debug", action="store_true", help="a short run that uses every part once")
    p.add_argument("--validate", action="store_true", help="check this installation and exit")
    p.add_argument("--video", type=Path, metavar="FILE.mp4", help="record an episode of the best model and exit")
    p.add_argument("--steps", type=int, metavar="N", help="agent steps of the whole run: run.total_steps")
    p.add_argument("--seed", type=int, metavar="N", help="seed of all random numbers: run.seed")
    p.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or cuda:1: run.device")
    p.add_argument("--logs", metavar="DIR", help="folder that contains latest_run: run.logs")
    return p


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
        code, failure = failure_of(error)
        print_error(f"error: {failure.message}")
        return int(code)


def read_settings(arguments: argparse.Namespace) -> tuple[OnlineSettings, str]:
    """Return the settings, and a line about the preset. Raises ConfigError.

    They are those of a preset, then of the config, then of flags. A resumed run keeps its own instead of a preset's.
    """
    names = {
        "env": "env.id",
        "env_options": "env.options",
        "preset": "run.preset",
        "steps": "run.total_steps",
        "seed": "run.seed",
        "device": "run.device",
        "logs": "run.logs",
        "start_from": "run.start_from",
    }
    values = {setting: getattr(arguments, flag) for flag, setting in names.items()}
    flags = (_DEBUG if arguments.debug else {}) | {name: value for name, value in values.items() if value is not None}
    path = config_path(arguments)
    last = Path(arguments.logs or RunSettings().logs) / LATEST / CONFIG
    if (arguments.resume or (arguments.video is not None and path is None)) and last.is_file():
        return settings_of_run(last, path, flags), ""
    if path is None and arguments.env is None:
        known = ", ".join(shipped_configs(".toml"))
        hint = f"--env CartPole-v1 (or another Gymnasium id), or --config with one of: {known}"
        raise ConfigError("neither an environment nor a config was named", hint=hint)
    return settings_with_preset(path, flags)


def config_path(arguments: argparse.Namespace) -> Path | None:
    """Return the config of `--config`; without it and `--env`, config.yaml in this folder. Raises ConfigError."""
    named: Path | None = arguments.config
    if named is not None:
        return find_config(named, named.suffix if is_yaml(named) else ".toml", flag="--config")[0]
    is_new = arguments.env is None and not arguments.resume and arguments.video is None
    return OLD_CONFIG if is_new and OLD_CONFIG.is_file() else None


def _list_presets() -> int:
    """Print one line for each preset."""
    for preset in PRESETS:
        ConsoleReporter().line(f"{preset.name:24}{preset.about}")
    return 0


def _toml_items(text: str) -> dict[str, Any]:
    """Return the values of `name = value, name = value` in TOML. Raises argparse.ArgumentTypeError."""
    try:
        items: dict[str, Any] = tomllib.loads(f"items = {{ {text} }}")["items"]
    except ValueError:
        message = 'write it as in TOML: "continuous = true, gravity = -8.0"; texts need quotes'
        raise argparse.ArgumentTypeError(message) from None
    return items


def train(arguments: argparse.Namespace) -> int:
    """Train with the settings of the arguments. Raises HotlapError or OSError."""
    settings, note = read_settings(arguments)
    path = config_path(arguments)
    old_notes = read_yaml_config(path).notes(path) if path is not None and is_yaml(path) else []
    if arguments.video is not None:
        most = settings.evaluation.most_steps
        ConsoleReporter().line(f"recording an episode, at most {most:,} steps")
        count = record_video(settings, Path(settings.run.logs) / LATEST, arguments.video)
        ConsoleReporter().line(f"{count} frames: {arguments.video.as_posix()}")
        return 0
    start = settings.run.start_from
    if start and not arguments.resume and not Path(start).is_file():
        raise ConfigError(f"--from {start} is not a file", hint="name a model JSON or a checkpoint (.pt, .pth)")
    if settings.env.id not in {"rocket", "racing"}:
        check_id(settings.env.id)  # before the last run is moved to another folder
    source = f", with those of the {note.partition(':')[0]}" if note else ""
    config = as_toml(settings, f"the settings of this run{source}; --config with this file repeats it").encode()
    # Absolute, because an environment may change the current folder.
    logs = Path(settings.run.logs).absolute()
    with open_run(logs, config=config, resume=arguments.resume) as folder:
        return train_in(folder, settings, resume=arguments.resume, note=note, old_notes=old_notes)


def train_in(
    folder: Path, settings: OnlineSettings, *, resume: bool, note: str = "", old_notes: Sequence[str] = ()
) -> int:
    """Train in the folder of a run and return the exit code; the notes are for the log.

    Raises HotlapError or OSError.
    """
    num_envs, envs_note = choose_num_envs(settings)
    limits = settings.checkpoints
    start, skipped = None, list[str]()
    if resume:
        manager = CheckpointManager(folder / "checkpoints", keep_newest=limits.keep_newest, keep_best=limits.keep_best)
        start, skipped = manager.newest()
    loggers, missing = make_loggers(folder, settings)
    console = RunConsole(
        folder, total_steps=settings.run.total_steps, interval_s=settings.report.interval_s, loggers=loggers
    )
    try:
        for line in filter(None, (*old_notes, note and f"[OK] {note}", envs_note, missing, *skipped)):
            console.line(line)
        run = OnlineRun(settings, folder, num_envs, console, from_checkpoint=start)
        for line in summary(run, settings, num_envs):
            console.line(line)
        if resume:
            console.line(
                f"resumed at {run.progress.steps:,} steps"
                if start
                else "no checkpoint exists yet: the run starts from the beginning"
            )
        with Stopping() as stopping:
            run.stop = stopping
            run.train()
        return 130 if stopping() and run.progress.steps < settings.run.total_steps else 0
    finally:
        console.close()


def summary(run: OnlineRun, settings: OnlineSettings, num_envs: int) -> list[str]:
    """Return lines that describe the run: machine, environment, network, schedule."""
    train, env = settings.train, run.environments.env
    parameters = sum(p.numel() for p in run.learner.network.parameters())
    device = settings.run.device
    if device == "auto":
        device = "auto: cpu and cuda are timed" if torch.cuda.is_available() else "cpu (no CUDA device)"
    batch = env.n_agents * settings.env.n_steps
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    agents = f"{num_envs} environments, {env.n_agents} learning agents, {env.contract.observation_size} observations"
    rates = f"{train.learning_rate:g} -> {train.learning_rate_end:g}"
    entropy = f"{train.entropy_coef:g} -> {train.entropy_coef_end:g}"
    update = f"minibatch {train.batch_size}, {train.epochs} epochs, learning rate {rates}, entropy {entropy}"
    if algorithm_for(env.contract, settings) == "td3":
        update = f"td3: {train.updates_per_experience:g} gradient steps for each new step"
    return [
        f"[OK] user {_user()}, {system}",
        f"[OK] device {device}, precision {settings.run.precision}",
        f"[OK] {settings.env.id}: {agents}, {env.contract.action_space.in_words()}",
        *(f"[OK] {note}" for note in (env.notes if isinstance(env, GymnasiumVecEnv) else ())),
        *(f"[WARN] {note}" for note in run.environments.notes),
        f"[OK] network {list(train.hidden_sizes)} twice, {parameters:,} parameters",
        f"[OK] batch {batch:,} ({settings.env.n_steps} each), {update}",
        f"[OK] gamma {train.gamma:g}, {settings.run.total_steps:,} steps",
    ]


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
