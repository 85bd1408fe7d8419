"""The command line of `hotlap online`, and the settings that it means."""

from __future__ import annotations

import argparse
import textwrap
import tomllib
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError
from schemas.program.parser import CommandParser
from trainer.common.shipped_files import find_config, shipped_configs
from trainer.common.user_code import search_folder
from trainer.online.config import OnlineSettings, RunSettings, config_values
from trainer.online.presets.choice import settings_of_run, settings_with_preset
from trainer.online.presets.table import PRESETS
from trainer.online.run_folder import CONFIG, CONFIG_FOLDER, LATEST, RunPlace, run_info
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
  hotlap online --env CartPole-v1 --run-id short     a run of a name; --resume short continues it
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
        "--initialize-from",
        dest="start_from",
        metavar="FILE",
        help="start from a trained model, for example one that a daemon published: run.start_from",
    )
    p.add_argument("--run-id", metavar="NAME", help="name of the run, and of its folder in logs; default latest_run")
    p.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN",
        help="continue a run from its last checkpoint: latest_run, or the one of this name or folder",
    )
    p.add_argument("--force", action="store_true", help="start again with --run-id NAME; the old run gets another name")
    p.add_argument("--debug", action="store_true", help="a short run that uses every part once")
    p.add_argument("--validate", action="store_true", help="check this installation and exit")
    p.add_argument("--video", type=Path, metavar="FILE.mp4", help="record an episode of the best model and exit")
    p.add_argument("--steps", type=int, metavar="N", help="agent steps of the whole run: run.total_steps")
    p.add_argument("--seed", type=int, metavar="N", help="seed of all random numbers: run.seed")
    p.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or cuda:1: run.device")
    p.add_argument("--logs", metavar="DIR", help="folder that contains latest_run: run.logs")
    return p


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
    place = place_of(arguments)
    if place.resume:
        place.check()
    beside = None if path is None else path.parent
    if beside is None and (known := run_info(place.folder).get(CONFIG_FOLDER)):
        beside = Path(str(known))
    if beside is not None:  # the environment's module may be beside the config
        search_folder(beside)
    last = place.folder / CONFIG
    if (place.resume or (arguments.video is not None and path is None)) and last.is_file():
        return settings_of_run(last, path, flags), ""
    if path is None and arguments.env is None:
        known = ", ".join(shipped_configs(".toml"))
        hint = f"--env CartPole-v1 (or another Gymnasium id), or --config with one of: {known}"
        raise ConfigError("neither an environment nor a config was named", hint=hint)
    return settings_with_preset(path, flags)


def place_of(arguments: argparse.Namespace) -> RunPlace:
    """Return where the run is. Raises ConfigError if --run-id and --resume name different runs."""
    logs = Path(arguments.logs or _logs_in(config_path(arguments)))
    resumed: str = arguments.resume or ""
    if resumed and arguments.run_id and resumed != arguments.run_id:
        raise ConfigError(
            f"--resume {resumed} and --run-id {arguments.run_id} are different runs",
            hint=f"leave out --run-id, or start a new run with --initialize-from {resumed}'s best_model.pt",
        )
    named = Path(resumed)
    if resumed and named.name != resumed and named.is_dir():  # the path of its folder
        logs, resumed = named.parent, named.name
    name = resumed or arguments.run_id or LATEST
    # Absolute, because an environment may change the current folder.
    return RunPlace(logs.absolute(), name, resume=arguments.resume is not None, replace=arguments.force)


def _logs_in(config: Path | None) -> str:
    """Return the folder of the runs that a config sets, or the default."""
    entry = config_values(config).get("run.logs")
    return RunSettings().logs if entry is None else str(entry.value)


def config_path(arguments: argparse.Namespace) -> Path | None:
    """Return the config of `--config`; without it and `--env`, config.yaml in this folder. Raises ConfigError."""
    named: Path | None = arguments.config
    if named is not None:
        return find_config(named, named.suffix if is_yaml(named) else ".toml", flag="--config")[0]
    is_new = arguments.env is None and arguments.resume is None and arguments.video is None
    return OLD_CONFIG if is_new and OLD_CONFIG.is_file() else None


def _toml_items(text: str) -> dict[str, Any]:
    """Return the values of `name = value, name = value` in TOML. Raises argparse.ArgumentTypeError."""
    try:
        items: dict[str, Any] = tomllib.loads(f"items = {{ {text} }}")["items"]
    except ValueError:
        message = 'write it as in TOML: "continuous = true, gravity = -8.0"; texts need quotes'
        raise argparse.ArgumentTypeError(message) from None
    return items
