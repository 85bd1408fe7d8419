"""Every setting of online training: a TOML file of these tables, defaults, ranges. Unknown names are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.settings.loading import load_file
from schemas.settings.models import Count, Fraction, PositiveFloat, PositiveInt


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class RunSettings(_Group):
    """`[run]`: how long, where, on what."""

    total_steps: PositiveInt = 10_000_000
    """Agent steps of the whole run."""
    logs: str = "logs"
    """The folder that holds latest_run."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """All randomness comes from it."""
    device: str = "auto"
    """Where gradients are computed: auto (measured), cpu, cuda or cuda:1. Acting is on the CPU always."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast on CUDA where the networks are large enough to gain, else float32."""
    compile: bool = False
    """Compile the network on CUDA; where that fails, training goes on without."""
    threads: Count = 0
    """CPU threads of the gradient work; 0 = measured."""


class EnvSettings(_Group):
    """`[env]`: what is trained on."""

    id: str = "rocket"
    """rocket, racing, or any id that Gymnasium knows, as CartPole-v1."""
    num_envs: Count = 0
    """Environments (arenas of Rocket League) side by side; 0 = as the machine can bear."""
    n_steps: PositiveInt = 128
    """Steps of each agent before an update; the batch is agents x n_steps."""
    workers: bool = False
    """Gymnasium ids only: a process for each environment."""
    time_limit: PositiveInt = 1000
    """racing only: steps an episode."""


class RocketSettings(_Group):
    """`[rocket]`: the game."""

    actions: Literal["discrete", "continuous"] = "discrete"
    """90 lookup actions, or 8 numbers in [-1, 1]."""
    tick_skip: PositiveInt = 8
    """Physics ticks (1/120 s) that an action is held."""
    time_limit_s: PositiveFloat = 60.0
    """Game seconds after which an episode is cut."""
    no_touch_s: PositiveFloat = 20.0
    """Game seconds without a touch after which an episode is cut."""
    random_starts: Fraction = 0.5
    """Part of the episodes that begin with cars and ball at random places; the others begin with a kickoff."""


class RewardSettings(_Group):
    """`[rewards]`: the weight of each part; 0 leaves it out of the sum, not out of the logs."""

    goal: float = 10.0
    """To each of the team that scores."""
    concede: float = -10.0
    """To each of the team that is scored against."""
    touch: float = 1.0
    """For each step in which the car touched the ball."""
    velocity_player_to_ball: float = 0.1
    """Speed toward the ball, -1 to 1 of the car's highest."""
    velocity_ball_to_goal: float = 0.2
    """The ball's speed toward the other goal, -1 to 1 of its highest."""
    boost: float = 0.002
    """The root of the boost that is kept, 0 to 1."""
    demo: float = 0.5
    """For each demolition."""
    align: float = 0.005
    """Ball between the car and the other goal, -1 to 1."""
    aerial: float = 0.002
    """Wheels off the ground, by height, 0 to 1."""


class TrainSettings(_Group):
    """`[train]`: how it learns. Linear schedules run over the whole run."""

    hidden_sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=8)] = (128, 128)
    """Hidden layers of the policy and of the value network."""
    epochs: Annotated[int, Field(ge=1, le=1000)] = 4
    """Passes over each batch."""
    batch_size: Annotated[int, Field(ge=2)] = 512
    """Experiences a gradient step."""
    learning_rate: PositiveFloat = 3e-4
    """Adam's step size at the start."""
    learning_rate_end: PositiveFloat = 5e-5
    """And at the end."""
    entropy_coef: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the entropy bonus at the start."""
    entropy_coef_end: Annotated[float, Field(ge=0)] = 0.001
    """And at the end."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.995
    """Discount a step."""
    gae_lambda: Fraction = 0.95
    """Bias against variance of the advantages."""
    clip_range: PositiveFloat = 0.2
    """How far the probability ratio may pay off."""
    value_coef: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the value loss."""
    max_grad_norm: PositiveFloat = 0.5
    """Gradients are scaled down to this norm."""
    target_kl: PositiveFloat | None = None
    """An epoch whose policy has moved further than this is the batch's last; default: no early stop."""


class EvaluationSettings(_Group):
    """`[evaluation]`: separate environments, the policy's mean, the same seeds each time."""

    every_steps: Count = 100_000
    """Agent steps between evaluations; 0 = none."""
    episodes: Annotated[int, Field(ge=2)] = 16
    """Episodes an evaluation."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    """The best model has the highest lower bound, at this confidence, of its mean return."""
    stop_at: float | None = None
    """End the run when an evaluation's mean return reaches this."""


class CheckpointSettings(_Group):
    """`[checkpoints]`: what is kept."""

    every_steps: PositiveInt = 250_000
    """Agent steps between checkpoints."""
    keep_newest: PositiveInt = 5
    """How many of the newest stay."""
    keep_best: Count = 3
    """And how many of those that evaluated best."""


class CurriculumSettings(_Group):
    """`[curriculum]`: rocket only. 1v1 self-play, then 1v2 against checkpoints, then 2v2 self-play."""

    enabled: bool = True
    """Off: 1v1 self-play throughout."""
    one_v_two_at: PositiveInt = 2_000_000
    """Agent steps at which the second stage may begin."""
    two_v_two_at: PositiveInt = 3_500_000
    """Agent steps at which the third stage may begin."""
    win_rate: Fraction = 0.55
    """A stage is left only when this part of the last matches against past policies was won."""
    matches: PositiveInt = 100
    """How many last matches count, and how many it takes."""
    patience_steps: Count = 1_000_000
    """Agent steps after which a stage is left without the win rate."""
    pool_fraction: Fraction = 0.25
    """Part of the arenas, in self-play, where one team is played by a past policy."""
    pool_every_steps: PositiveInt = 100_000
    """Agent steps between policies that join the pool."""
    pool_size: Annotated[int, Field(ge=2)] = 20
    """Past policies kept; the very first always is."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.two_v_two_at <= self.one_v_two_at:
            raise ValueError("two_v_two_at must lie after one_v_two_at")
        return self


class ReportSettings(_Group):
    """`[report]`: what people see."""

    interval_s: PositiveFloat = 10.0
    """Seconds between log lines."""
    tensorboard: bool = True
    """Write TensorBoard scalars where the extra is installed."""
    wandb: bool = False
    """Write to Weights & Biases as well; WANDB_MODE=offline keeps it on this machine."""
    project: str = "hotlap"
    """The Weights & Biases project."""


class OnlineSettings(_Group):
    """All of it."""

    run: RunSettings = RunSettings()
    env: EnvSettings = EnvSettings()
    rocket: RocketSettings = RocketSettings()
    rewards: RewardSettings = RewardSettings()
    train: TrainSettings = TrainSettings()
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
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def read_config(path: Path, flags: dict[str, Any] | None = None) -> OnlineSettings:
    """Read a TOML file; `flags` are dotted names that win over it. Raises ConfigError."""
    return load_file(OnlineSettings, path, flags)
