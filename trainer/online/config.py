"""The settings of online training: a TOML file with one table for each group. Unknown names are rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from schemas.settings.devices import DeviceName
from schemas.settings.fields import (
    BatchSize,
    ClipRange,
    ClipRangeEnd,
    Count,
    CriticSizes,
    Epochs,
    Fraction,
    GaeLambda,
    Gamma,
    HiddenSizes,
    InitialStd,
    MaxGradNorm,
    NotNegative,
    PositiveFloat,
    PositiveInt,
    Precision,
    ReplayExperiences,
    ReturnSteps,
    Seed,
    SettingsGroup,
    UpdatesPerExperience,
    ValueCoef,
)
from schemas.settings.loading import file_values, setting_names, settings_from
from schemas.settings.mirror import MirrorSettings
from schemas.settings.sources import SourceValue
from schemas.storage.windows_paths import shown_path
from trainer.envs.rocket.rewards import RewardWeights
from trainer.online.yaml_config import YamlConfig, is_yaml, read_yaml

PresetName = Literal[
    "auto", "none", "rocket", "rocket_1v1", "racing", "cartpole", "acrobot", "mountaincar", "pendulum",
    "mountaincar_continuous", "lunarlander", "bipedalwalker", "mujoco", "pixels", "discrete", "continuous",
]  # fmt: skip
"""The configs that Hotlap installs; trainer.online.presets.table says which environments each is for."""


class RunSettings(SettingsGroup):
    """`[run]`: length, folder, device."""

    preset: PresetName = "auto"
    """Values for what neither the file nor a flag sets: auto (by environment), none, or the name of a preset."""

    total_steps: PositiveInt = 10_000_000
    """Agent steps of the whole run."""
    logs: str = "logs"
    """The folder that contains latest_run."""
    start_from: str = ""
    """A model JSON or a checkpoint that a new run starts from; empty = a new network."""
    seed: Seed = 0
    device: DeviceName = "auto"
    """Where gradients are computed: auto (measured), cpu, cuda or cuda:1. The policy always acts on the CPU."""
    precision: Precision = "auto"
    compile: bool = False
    """Compile the network on CUDA; if that fails, training continues without it."""
    threads: Count = 0
    """CPU threads of the gradient work; 0 = measured."""


class EnvSettings(SettingsGroup):
    """`[env]`: the environment."""

    id: str = "rocket"
    """rocket, racing, or any id that Gymnasium knows, such as CartPole-v1."""
    num_envs: Count = 0
    """Environments (arenas of Rocket League) at the same time; 0 = as many as this machine can run."""
    n_steps: PositiveInt = 128
    """Steps of each agent before an update."""
    workers: bool = False
    """Gymnasium ids only: one process for each environment."""
    time_limit: PositiveInt = 1000
    """racing only: steps of an episode."""
    options: dict[str, Any] = {}  # noqa: RUF012
    """Gymnasium ids only: arguments of the environment, such as { continuous = true }."""


class RocketSettings(SettingsGroup):
    """`[rocket]`: the rules of Rocket League."""

    actions: Literal["discrete", "continuous"] = "discrete"
    """discrete: a table of 90 actions; continuous: 8 numbers in [-1, 1]."""
    tick_skip: PositiveInt = 8
    """Physics ticks (1/120 s) for which an action is held."""
    time_limit_s: PositiveFloat = 60.0
    """Game seconds after which an episode is ended."""
    no_touch_s: PositiveFloat = 20.0
    """Game seconds without a touch of the ball after which an episode is ended."""
    random_starts: Fraction = 0.5
    """Part of the episodes that start with cars and ball at random places; the others start with a kickoff."""


class TrainSettings(SettingsGroup):
    """`[train]`: how the policy learns. Linear schedules run over the whole run."""

    algorithm: Literal["ppo", "td3", "auto"] = "ppo"
    """ppo: learns from each batch once. td3: learns from all experiences of the run, which needs fewer steps and more
    time for each. auto: td3 if actions are continuous."""
    hidden_sizes: HiddenSizes = (128, 128)
    updates_per_experience: UpdatesPerExperience = 0.5
    critic_sizes: CriticSizes = (128, 128)
    return_steps: ReturnSteps = 3
    replay_experiences: ReplayExperiences = 1_000_000
    exploration: Annotated[float, Field(ge=0.01, le=2.0)] = 0.2
    """td3: deviation of the noise that is added to actions. It falls by a fifth in 5,000 agent steps, down to this."""
    epochs: Epochs = 4
    """ppo: passes over each batch."""
    batch_size: BatchSize = 512
    learning_rate: PositiveFloat = 3e-4
    """Adam's step size at the start; the schedule is linear over the whole run."""
    learning_rate_end: PositiveFloat = 5e-5
    """Adam's step size at the end."""
    entropy_coef: NotNegative = 0.01
    """Weight of the entropy bonus at the start."""
    entropy_coef_end: NotNegative = 0.001
    """Weight of the entropy bonus at the end."""
    gamma: Gamma = 0.995
    gae_lambda: GaeLambda = 0.95
    clip_range: ClipRange = 0.2
    clip_range_end: ClipRangeEnd = None
    initial_std: InitialStd = 0.5
    value_coef: ValueCoef = 0.5
    max_grad_norm: MaxGradNorm = 0.5
    mirror: bool = False
    """Learn from each experience twice, as it is and in the mirror. Built in for rocket and racing; otherwise, describe
    the mirror in `[mirror]`."""
    target_kl: PositiveFloat | None = None
    """An epoch whose policy has moved further than this is the batch's last; if not set, no epoch is left out."""


class EvaluationSettings(SettingsGroup):
    """`[evaluation]`: separate environments, the policy's mean, the same seeds each time."""

    every_steps: Count = 100_000
    """Agent steps between evaluations; 0 = none."""
    episodes: Annotated[int, Field(ge=2)] = 16
    """Episodes of an evaluation."""
    most_episodes: PositiveInt = 64
    """Up to so many episodes are run to find out whether a policy that is behind the reference is really worse."""
    most_steps: PositiveInt = 30_000
    """Steps after which an evaluation ends an episode that has no end."""
    separate: bool = True
    """If false, evaluations use the environments of the training, for a simulator that can exist only once."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    """How sure a comparison must be before it calls a policy better or worse. The best model is the latest policy that
    is not worse than the reference, which is the latest one that was better than the reference before it."""
    stop_at: float | None = None
    """The run ends when the mean return of a policy that becomes the best model reaches this; if not set, it does not
    end early."""


class CheckpointSettings(SettingsGroup):
    """`[checkpoints]`: how often checkpoints are saved, and how many stay."""

    every_steps: PositiveInt = 250_000
    """Agent steps between checkpoints."""
    keep_newest: PositiveInt = 5
    """How many of the newest checkpoints stay."""
    keep_best: Count = 3
    """How many of the checkpoints that evaluated best stay as well."""


class CurriculumSettings(SettingsGroup):
    """`[curriculum]`: rocket only. 1v1 self-play, then 1v2 against past policies, then 2v2 self-play."""

    enabled: bool = True
    """rocket only. If false: 1v1 self-play throughout."""
    one_v_two_at: PositiveInt = 2_000_000
    """Agent steps at which the second stage may start."""
    two_v_two_at: PositiveInt = 3_500_000
    """Agent steps at which the third stage may start."""
    win_rate: Fraction = 0.55
    """A stage ends only if this part of the last matches against past policies was won."""
    matches: PositiveInt = 100
    """How many of the last matches count for the win rate. A stage does not end before so many were played."""
    patience_steps: Count = 1_000_000
    """Agent steps after which a stage ends without the win rate."""
    pool_fraction: Fraction = 0.25
    """Part of the arenas, in self-play, in which a past policy controls one team."""
    pool_every_steps: PositiveInt = 100_000
    """Agent steps between two additions to the opponent pool."""
    pool_size: Annotated[int, Field(ge=2)] = 20
    """Largest number of past policies in the pool; the first one always stays."""

    @model_validator(mode="after")
    def _stages_are_in_order(self) -> Self:
        if self.two_v_two_at <= self.one_v_two_at:
            raise ValueError("two_v_two_at must be greater than one_v_two_at")
        return self


class ReportSettings(SettingsGroup):
    """`[report]`: the logs."""

    interval_s: PositiveFloat = 10.0
    """Seconds between log lines."""
    tensorboard: bool = True
    """Write TensorBoard scalars if the extra is installed."""
    wandb: bool = False
    """Write to Weights & Biases as well; WANDB_MODE=offline keeps everything on this machine."""
    project: str = "hotlap"
    """The Weights & Biases project."""


class OnlineSettings(SettingsGroup):
    """All settings of an online run."""

    run: RunSettings = RunSettings()
    env: EnvSettings = EnvSettings()
    rocket: RocketSettings = RocketSettings()
    rewards: RewardWeights = RewardWeights()
    train: TrainSettings = TrainSettings()
    mirror: MirrorSettings = MirrorSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    curriculum: CurriculumSettings = CurriculumSettings()
    report: ReportSettings = ReportSettings()


def as_toml(settings: OnlineSettings, comment: str) -> str:
    """Return all settings as the text of a config file, after a comment."""
    lines = [f"# {comment}"]
    for name, table in settings:
        lines += ["", f"[{name}]"]
        values = table.model_dump(mode="json", exclude_none=True)
        lines += [f"{key} = {_toml_value(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    """Return a value as TOML, in which texts, numbers, booleans and lists are written as in JSON."""
    if isinstance(value, dict):
        items = (f"{_toml_value(key)} = {_toml_value(item)}" for key, item in value.items() if item is not None)
        return f"{{ {', '.join(items)} }}" if value else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    return json.dumps(value, ensure_ascii=False)


def config_values(path: Path | None, flags: dict[str, Any] | None = None) -> dict[str, SourceValue]:
    """Return the settings that a file (TOML, or YAML of an older script) and flags set. Raises ConfigError.

    `flags` are dotted names.
    """
    old = {} if path is None or not is_yaml(path) else read_yaml_config(path).values
    own = None if path is not None and is_yaml(path) else path
    return old | file_values(OnlineSettings, own, flags, flag_names={"run.total_steps": "--steps"}, page="online")


def read_yaml_config(path: Path) -> YamlConfig:
    """Return the settings of a YAML file, and what became of its keys. Raises ConfigError."""
    return read_yaml(path, frozenset(setting_names(OnlineSettings)))


def read_config(path: Path, flags: dict[str, Any] | None = None) -> OnlineSettings:
    """Return the settings of a TOML file and of flags, with defaults for all others. Raises ConfigError."""
    return settings_from(OnlineSettings, config_values(path, flags), shown_path(path))
