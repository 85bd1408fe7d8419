"""Every setting, once: defaults, units, ranges and contradictions. Loading is in `schemas.settings.loading`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.contract import ActionSpace, ContinuousActions, PolicyContract

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class DaemonSettings(_Group):
    """`[daemon]`: the names follow the Unreal widget's."""

    auto_train_after_n_rollouts: PositiveInt = 10
    """A cycle starts when this many new rollouts lie in Exports."""
    enable_auto_training: bool = True
    """Off: only `trigger` and `--once` start a cycle."""
    auto_load_model_epoch: Count = 0
    """Which epoch to publish: 0 = the best, k = epoch k."""
    clear_exports_after_training: bool = False
    """Remove a cycle's rollouts from Exports once its model is published."""
    max_export_files: Count = 0
    """Keep at most this many rollouts in Exports; 0 = no limit. Those not used yet are never removed."""
    limit_by: Literal["age", "quality"] = "age"
    """Which ones go first: the oldest, or those with the lowest reward per step."""
    python_executable: str = ""
    """The Python that runs the trainer; empty = the one that runs the daemon."""
    warm_trainer: bool = True
    """Keep one trainer ready while waiting, with torch imported: a cycle starts seconds sooner for about 300 MB."""
    training_script: str = ""
    """A script of yours in place of the trainer: called with EXPORT_DIR MODEL_DIR EPOCHS DEVICE."""
    allow_shared: bool = False
    """Work in a folder that other users can write or own; only as `--allow-shared` or variable, never in a file."""
    scan_interval_s: PositiveFloat = 3.0
    """How often Exports is listed, whatever the watcher says."""
    settle_s: Annotated[float, Field(ge=0)] = 0.2
    """A file counts as stable when its size and time have not changed for this long."""
    incomplete_timeout_s: PositiveFloat = 60.0
    """A file that stays incomplete for this long is rejected."""
    startup_timeout_s: PositiveFloat = 180.0
    """A trainer that has not said `ready` by then is ended (the first import of torch can be slow)."""
    silence_timeout_s: PositiveFloat = 120.0
    """A trainer without a heartbeat for this long is ended."""
    progress_timeout_s: PositiveFloat = 1800.0
    """A trainer that is alive but has come no further for this long is ended (an epoch must take less)."""
    training_timeout_s: PositiveFloat = 7200.0
    """A training that takes longer is ended."""
    stop_grace_s: PositiveFloat = 5.0
    """How long a trainer may take to stop when asked, before it is killed."""
    failures_before_parking: PositiveInt = 3
    """After this many failed cycles in a row the daemon parks and waits for `trigger`."""
    retry_delay_s: PositiveFloat = 60.0
    """Wait after a failed try of a cycle; doubles with each, up to an hour."""
    keep_cycles: Annotated[int, Field(ge=5)] = 20
    """How many cycle folders stay in Models, besides the best one and those younger than an hour."""
    keep_checkpoints: Literal["all", "best"] = "all"
    """What a cycle folder holds: every epoch's checkpoint, or the chosen one's alone."""


class AgentSettings(_Group):
    """`[agent]`: what the policy is, where no rollout has told it yet."""

    observation_size: PositiveInt = 15
    """How many numbers an agent observes."""
    actions: Annotated[tuple[str, ...], Field(min_length=1)] = ("steer", "throttle", "brake")
    """Action names, in the order of the policy's outputs; steer in [-1, 1], throttle and brake in [0, 1]."""
    action_low: tuple[float, ...] | None = None
    """Lower bounds, one an action; default: the usual ones of these names."""
    action_high: tuple[float, ...] | None = None
    """Upper bounds, one an action."""
    hidden_sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=8)] = (128, 128)
    """Hidden layers of the policy and of the value network."""

    @model_validator(mode="after")
    def _one_bound_an_action(self) -> Self:
        for name, bounds in (("action_low", self.action_low), ("action_high", self.action_high)):
            if bounds is not None and len(bounds) != len(self.actions):
                raise ValueError(f"agent.{name} has {len(bounds)} numbers for {len(self.actions)} actions")
        return self

    def contract(self) -> PolicyContract:
        """Return the contract that these settings describe."""
        usual = ContinuousActions.named(self.actions)
        space: ActionSpace = ContinuousActions(
            names=self.actions, low=self.action_low or usual.low, high=self.action_high or usual.high
        )
        return PolicyContract(observation_size=self.observation_size, action_space=space)


class TrainerSettings(_Group):
    """`[trainer]`: how a cycle learns. Defaults are those of PPO's usual implementations."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 10
    """Passes over the cycle's experiences; each leaves a checkpoint."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Experiences a gradient step."""
    learning_rate: PositiveFloat = 3e-4
    """Adam's step size."""
    learning_rate_end: PositiveFloat | None = None
    """Where the linear schedule ends; default: no schedule."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.99
    """Discount a step."""
    gae_lambda: Fraction = 0.95
    """Bias against variance of the advantages."""
    clip_range: PositiveFloat = 0.2
    """How far the probability ratio may pay off."""
    value_clip_range: PositiveFloat | None = None
    """How far a value may move from its old one, in normalised units; default: no clipping."""
    entropy_coef: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the entropy bonus."""
    entropy_coef_end: Annotated[float, Field(ge=0)] | None = None
    """Where its linear schedule ends; default: no schedule."""
    schedule_cycles: PositiveInt = 100
    """Over how many cycles the schedules run."""
    value_coef: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the value loss."""
    max_grad_norm: PositiveFloat = 0.5
    """Gradients are scaled down to this norm."""
    target_kl: PositiveFloat | None = None
    """An epoch whose policy has moved further than this is the last one; default: no early stop."""
    holdout_fraction: Annotated[float, Field(gt=0, lt=0.9)] = 0.1
    """Part of the episodes kept from training, to score the epochs on."""
    history_ratio: Annotated[float, Field(ge=0, le=10)] = 0.1
    """Old rollouts drawn from, for each new one; they teach the value function."""
    device: str = "auto"
    """auto (measured), cpu, cuda or cuda:1."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast on CUDA where the networks are large enough to gain, else float32."""
    threads: Count = 0
    """CPU threads; 0 = measured."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """All randomness comes from it."""
    network: str = ""
    """A network class of yours, as package.module:Class; empty = the built-in one."""
    loss: str = ""
    """A loss function of yours, as package.module:function; empty = PPO's."""


class Settings(_Group):
    """All of it: `daemon.toml`, then HOTLAP_ variables, then flags."""

    daemon: DaemonSettings = DaemonSettings()
    agent: AgentSettings = AgentSettings()
    trainer: TrainerSettings = TrainerSettings()
