"""Config files of older training scripts, in YAML: their sections and keys become Hotlap's settings."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError
from schemas.program.commands import install_command
from schemas.settings.sources import SourceValue, read_text
from schemas.storage.windows_paths import shown_path
from schemas.text import printable

SUFFIXES = (".yaml", ".yml")
_SCHEDULE = re.compile(r"lin(?:ear)?_(.+)")
_STAGES = ("1v1", "1v2", "2v2")
_STAGE_KEYS = ("curriculum.one_v_two_at", "curriculum.two_v_two_at")

_SECTIONS = {
    "environment": "env", "env": "env", "environments": "env", "training": "train", "train": "train", "ppo": "train",
    "agent": "train", "hyperparameters": "train", "model": "train", "network": "train", "policy": "train",
    "optimizer": "train", "logging": "report", "log": "report", "report": "report", "checkpoints": "checkpoints",
    "checkpoint": "checkpoints", "evaluation": "evaluation", "eval": "evaluation", "selfplay": "curriculum",
    "self_play": "curriculum", "curriculum": "curriculum", "rewards": "rewards", "reward": "rewards",
    "reward_weights": "rewards", "inference": "inference", "rocket": "rocket", "run": "run",
}  # fmt: skip
"""Section of an old file to the table that its keys are looked up for first."""

_KEYS = {
    "run.total_steps": "total_timesteps total_steps timesteps max_timesteps num_timesteps total_env_steps",
    "run.seed": "seed random_seed",
    "run.device": "device",
    "run.threads": "num_threads torch_threads",
    "run.compile": "torch_compile",
    "run.start_from": "pretrained_model load_model initial_model load_path",
    "run.logs": "log_dir log_path logs_dir output_dir",
    "env.id": "env_id env env_name environment gym_id game id",
    "env.num_envs": "num_envs n_envs num_environments n_proc num_arenas",
    "env.n_steps": "n_steps num_steps rollout_length rollout_steps steps_per_env horizon",
    "env.workers": "subproc use_subproc subprocesses",
    "rocket.tick_skip": "tick_skip frame_skip action_repeat",
    "rocket.time_limit_s": "timeout_seconds game_timeout_seconds time_limit_seconds max_episode_seconds",
    "rocket.no_touch_s": "no_touch_timeout no_touch_timeout_seconds no_touch_seconds",
    "train.learning_rate": "lr initial_lr start_lr policy_lr",
    "train.learning_rate_end": "final_lr lr_end end_lr min_lr final_learning_rate lr_final",
    "train.batch_size": "minibatch_size mini_batch_size ppo_minibatch_size",
    "train.epochs": "n_epochs num_epochs update_epochs ppo_epochs",
    "train.gamma": "discount discount_factor",
    "train.gae_lambda": "lam gae_lam lambda",
    "train.clip_range": "clip_epsilon clip_eps clip_ratio clip_param clip eps_clip",
    "train.entropy_coef": "ent_coef entropy_coefficient entropy_weight entropy_bonus ppo_ent_coef",
    "train.entropy_coef_end": "final_ent_coef ent_coef_end final_entropy_coef",
    "train.value_coef": "vf_coef value_loss_coef critic_coef value_coefficient",
    "train.max_grad_norm": "grad_clip max_gradient_norm clip_grad_norm",
    "train.target_kl": "kl_target",
    "train.hidden_sizes": "net_arch hidden_layers layer_sizes policy_layers policy_layer_sizes hidden_dims",
    "train.algorithm": "algo",
    "evaluation.every_steps": "eval_freq eval_every eval_interval evaluation_frequency frequency freq interval",
    "evaluation.episodes": "n_eval_episodes eval_episodes num_episodes n_episodes num_eval_episodes",
    "evaluation.stop_at": "stop_at_reward target_reward reward_threshold",
    "checkpoints.every_steps": (
        "save_freq save_every save_interval checkpoint_freq checkpoint_interval checkpoint_every save_every_ts "
        "save_frequency frequency freq interval"
    ),
    "checkpoints.keep_newest": "keep_last_n keep_last max_checkpoints n_checkpoints_to_keep keep_n",
    "checkpoints.keep_best": "keep_best_n save_best_n",
    "report.tensorboard": "use_tensorboard tensorboard_enabled",
    "report.wandb": "use_wandb log_to_wandb wandb_enabled",
    "report.project": "wandb_project wandb_project_name project_name",
    "curriculum.enabled": "use_curriculum",
    "curriculum.win_rate": "win_rate_threshold promotion_win_rate win_threshold promote_at",
    "curriculum.pool_size": "opponent_pool_size max_opponents past_versions",
    "curriculum.pool_every_steps": "snapshot_freq snapshot_interval save_opponent_every opponent_save_freq",
    "curriculum.pool_fraction": "past_opponent_prob old_policy_prob opponent_pool_prob",
}  # fmt: skip
"""Setting to the other names of its key, without a section. The name of the setting itself is known too."""

_WORLDS = {"rocketleague": "rocket", "rlgym": "rocket", "rocketsim": "rocket", "rl": "rocket", "rocket": "rocket"}


@dataclass(slots=True)
class YamlConfig:
    """The settings of an old file, and what became of its keys."""

    values: dict[str, SourceValue] = field(default_factory=dict)  #: by the dotted name of the setting
    mapped: list[str] = field(default_factory=list)  #: "training.ent_coef -> train.entropy_coef"
    unused: list[str] = field(default_factory=list)  #: keys without a meaning here

    def notes(self, path: Path) -> list[str]:
        """Return at most two lines for the log."""
        name = shown_path(path)
        lines = [f"[OK] {name}: {len(self.values)} settings; renamed: {', '.join(self.mapped) or 'none'}"]
        if self.unused:
            lines.append(f"[WARN] {name}: not used, because Hotlap has no such setting: {', '.join(self.unused)}")
        return lines


def is_yaml(path: Path | None) -> bool:
    """Return whether a config is YAML, by its name."""
    return path is not None and path.suffix.lower() in SUFFIXES


def read_yaml(path: Path, known: frozenset[str]) -> YamlConfig:
    """Return the settings of a YAML file; `known` are the dotted names of all settings. Raises ConfigError."""
    label = shown_path(path)
    result = YamlConfig()
    for name, value in _flat(_document(path, label), known):
        setting = _setting_for(name, known)
        if name.rpartition(".")[2] == "curriculum_stages":
            _add_stages(result, name, value, label)
        elif setting is None or value is None:
            result.unused.append(printable(name))
        else:
            _add(result, name, setting, value, label)
    return result


def _document(path: Path, label: str) -> Mapping[Any, Any]:
    try:
        yaml: Any = import_module("yaml")
    except ImportError:
        hint = f"{install_command('online')}, or write the settings as TOML"
        raise ConfigError(f"{label} is YAML, and PyYAML is not installed", hint=hint, code="E_EXTRA") from None
    try:
        document = yaml.safe_load(read_text(path, label))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{label}, line {mark.line + 1}, column {mark.column + 1}" if mark else label
        problem = getattr(error, "problem", None) or error
        raise ConfigError(f"{place} is not valid YAML: {problem}", hint="correct the line") from None
    except (RecursionError, ValueError) as error:
        hint = "write plain keys and values"
        raise ConfigError(f"{label} is not valid YAML: {type(error).__name__}", hint=hint) from None
    if document is None:
        return {}
    if not isinstance(document, Mapping):
        raise ConfigError(f"{label} contains no keys", hint="write lines such as total_timesteps: 1000000")
    return document


def _flat(document: Mapping[Any, Any], known: frozenset[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value with its keys, joined by dots."""
    for key, value in document.items():
        name = f"{prefix}{key}"
        is_value = name.rpartition(".")[2] in {"curriculum_stages", "options", "env_kwargs", "net_arch"}
        if isinstance(value, Mapping) and not is_value:
            yield from _flat(value, known, f"{name}.")
        else:
            yield name, value


def _setting_for(name: str, known: frozenset[str]) -> str | None:
    """Return the setting that a key of an old file means, by its section and its name."""
    *sections, key = [part.lower().replace("-", "_") for part in name.split(".")]
    tables = [_SECTIONS[section] for section in reversed(sections) if section in _SECTIONS]
    if "inference" in tables:
        return None
    own = [f"{table}.{key}" for table in tables]
    if key in {"env_kwargs", "options"} and (not tables or "env" in tables):
        own.append("env.options")
    if key == "name" and tables[:1] == ["env"]:
        own.append("env.id")
    others = [setting for setting, names in _KEYS.items() if key in names.split() or setting.endswith(f".{key}")]
    others.sort(key=lambda setting: tables.index(setting.split(".")[0]) if setting.split(".")[0] in tables else 99)
    if tables and tables[0] != "rewards" and key in {"frequency", "freq", "interval", "enabled"}:
        others = [setting for setting in others if setting.split(".")[0] == tables[0]]
    if tables[:1] == ["rewards"] or (not tables and key in {"frequency", "freq", "interval", "enabled"}):
        others = []
    if key == "enabled" and sections:  # logging: {wandb: {enabled: true}}
        others = [f"report.{sections[-1]}", *others]
    if key == "project" and sections[-1:] == ["wandb"]:
        others = ["report.project"]
    return next((setting for setting in (*own, *others) if setting in known), None)


def _add(result: YamlConfig, name: str, setting: str, value: Any, label: str) -> None:
    value = _as_number(value)
    if setting == "env.id":
        value = _WORLDS.get(re.sub(r"[^a-z]", "", str(value).lower()), value)
    elif setting == "train.hidden_sizes":
        value = _sizes(value)
    elif isinstance(value, str) and (found := _SCHEDULE.fullmatch(value)) and setting.startswith("train."):
        value = _as_number(found[1])
        end = f"{setting}_end"
        if isinstance(value, float | int):
            _set(result, name, end, value / 100.0, label)
    if setting == "train.algorithm":
        value = str(value).lower()
    _set(result, name, setting, value, label)


def _sizes(value: Any) -> Any:
    """Return the sizes of the policy's layers: [64, 64], {pi: [64, 64], vf: ...} or a list with such a table."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping):
        value = value[0]
    return value.get("pi", next(iter(value.values()), value)) if isinstance(value, Mapping) else value


def _set(result: YamlConfig, name: str, setting: str, value: Any, label: str) -> None:
    written = printable(name)
    result.values[setting] = SourceValue(
        name=setting, value=value, raw=value, source="file", written=written, place=label
    )
    if written != setting:
        result.mapped.append(f"{written} -> {setting}")


def _as_number(value: Any) -> Any:
    """Return a number that YAML reads as a text (1e6, 10_000), and a whole number without a fraction as int."""
    if isinstance(value, str):
        text = value.replace("_", "")
        try:
            value = int(text) if text.isdecimal() else float(text)
        except ValueError:
            return value
    if isinstance(value, float) and math.isfinite(value) and value.is_integer() and abs(value) >= 1000:
        return int(value)
    return value


def _add_stages(result: YamlConfig, name: str, stages: Any, label: str) -> None:
    """Set the steps at which the stages 1v2 and 2v2 start: from their starts, or from the lengths of the stages."""
    starts = _stage_starts(stages)
    if starts is None:
        hint = "write the stages 1v1, 1v2 and 2v2, each with start or timesteps"
        raise ConfigError(f"{label}: {printable(name)} is {printable(str(stages), limit=80)}", hint=hint)
    _set(result, name, "curriculum.enabled", len(starts) > 1, label)
    for stage, setting in zip(_STAGES[1:], _STAGE_KEYS, strict=True):
        if isinstance(starts.get(stage), int | float):
            _set(result, name, setting, starts[stage], label)


def _stage_starts(stages: Any) -> dict[str, Any] | None:
    """Return the start of each stage in agent steps, None if not stated; None for a form that is not known."""
    if isinstance(stages, Mapping):
        stages = [
            {"name": name, **(item if isinstance(item, Mapping) else {"start": item})} for name, item in stages.items()
        ]
    if not isinstance(stages, list):
        return None
    starts: dict[str, Any] = {}
    reached: Any = 0
    for item in stages:
        entry = item if isinstance(item, Mapping) else {"name": item}
        stage = _stage_name(entry)
        if stage is None:
            return None
        start = _first(entry, ("start", "start_at", "start_step", "start_timesteps", "at", "from", "min_timesteps"))
        starts[stage] = start if start is not None else reached
        length = _first(entry, ("timesteps", "steps", "duration", "num_timesteps", "total_timesteps"))
        end = _first(entry, ("until", "end", "end_at", "max_timesteps"))
        base = starts[stage]
        reached = end if end is not None else (base + length if None not in (base, length) else None)
    return starts


def _stage_name(entry: Mapping[Any, Any]) -> str | None:
    for key in ("name", "stage", "mode", "type", "teams"):
        text = re.sub(r"[^0-9a-z]", "", str(entry.get(key, "")).lower()).replace("vs", "v")
        if text in _STAGES:
            return text
    size = entry.get("team_size")
    return {1: "1v1", 2: "2v2"}.get(size) if isinstance(size, int) else None


def _first(entry: Mapping[Any, Any], keys: tuple[str, ...]) -> Any:
    return next((_as_number(entry[key]) for key in keys if entry.get(key) is not None), None)
