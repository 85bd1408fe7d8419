"""All settings of daemon.toml: defaults, units, ranges and contradictions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from schemas.contract import MAX_CHOICES, MAX_NAME, ActionSpace, ContinuousActions, DiscreteActions, PolicyContract
from schemas.mirror import Mirror
from schemas.settings.fields import (
    BatchSize,
    ClipRange,
    Count,
    CriticSizes,
    Epochs,
    GaeLambda,
    Gamma,
    HiddenSizes,
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
from schemas.settings.mirror import MirrorSettings


class DaemonSettings(SettingsGroup):
    """`[daemon]`: the start of cycles, and retention. Some names are those of the Unreal widget."""

    auto_train_after_n_rollouts: PositiveInt = 10
    """A cycle starts when this many new rollouts are in Exports."""
    enable_auto_training: bool = True
    """If false, only `trigger` and `--once` start a cycle."""
    auto_load_model_epoch: Count = 0
    """Which epoch to publish: 0 = the best, k = epoch k."""
    clear_exports_after_training: bool = False
    """Remove a cycle's rollouts from Exports after its model is published."""
    max_export_files: Count = 0
    """Keep at most this many rollouts in Exports; 0 = no limit. Rollouts that were not used yet are never removed."""
    limit_by: Literal["age", "quality"] = "age"
    """Which rollouts are removed first: the oldest (age), or those with the lowest reward per step (quality)."""
    disk_budget_gb: NotNegative = 50.0
    """Most GB that rollouts in Exports and their caches may take; 0 = no limit. The oldest used rollouts are
    removed first. Unused ones are never removed."""
    engine_path: str = ""
    """The project folder as the engine names it, if that is another path: WSL, a container, a share."""
    state_dir: str = ""
    """Another folder in place of Saved/Training/State, such as one on a faster disk. Only one project may use it."""
    python_executable: str = ""
    """The Python that runs the trainer; empty = the one that runs the daemon."""
    warm_trainer: bool = True
    """Keep one trainer process ready, with torch imported: a cycle starts seconds sooner, for about 300 MB.
    If the engine is fast, it starts while the last one still trains; if memory is short, it does not start."""
    training_script: str = ""
    """A script that replaces the trainer; it is called with EXPORT_DIR MODEL_DIR EPOCHS DEVICE."""
    allow_shared: bool = False
    """Work in a folder that other users can write to or own. Only as `--allow-shared` or variable, never in a file."""
    scan_interval_s: PositiveFloat = 3.0
    """Seconds between two listings of Exports, with or without file events."""
    settle_s: NotNegative = 0.2
    """A file counts as stable if its size and time have not changed for this many seconds."""
    incomplete_timeout_s: PositiveFloat = 60.0
    """A file that stays incomplete for this many seconds is rejected."""
    startup_timeout_s: PositiveFloat = 180.0
    """A trainer that has not reported `ready` after this many seconds is ended (the first import of torch is slow)."""
    silence_timeout_s: PositiveFloat = 120.0
    """A trainer without a heartbeat for this many seconds is ended."""
    progress_timeout_s: PositiveFloat = 1800.0
    """A trainer that makes no progress for this many seconds is ended (an epoch must take less)."""
    training_timeout_s: PositiveFloat = 7200.0
    """A training that takes longer than this many seconds is ended."""
    stop_grace_s: PositiveFloat = 5.0
    """Seconds that a trainer may take to stop when asked, before it is killed."""
    failures_before_parking: PositiveInt = 3
    """After this many failed cycles in a row the daemon parks and waits for `trigger`."""
    retry_delay_s: PositiveFloat = 60.0
    """Seconds to wait after a failed attempt of a cycle; doubles with each attempt, up to an hour."""
    keep_cycles: Annotated[int, Field(ge=5)] = 20
    """How many cycle folders stay in Models, besides the best one and those younger than an hour."""
    keep_checkpoints: Literal["all", "best"] = "all"
    """Which checkpoints a cycle folder contains: those of all epochs (all), or the chosen one's (best)."""

    @field_validator("state_dir")
    @classmethod
    def _is_printable(cls, path: str) -> str:
        if not path.isprintable() or path != path.strip():
            raise ValueError("must be the path of a folder")
        return path

    @field_validator("engine_path")
    @classmethod
    def _is_one_absolute_path(cls, path: str) -> str:
        if path and not (path.isprintable() and (path[0] in "/\\" or path[1:3] in {":/", ":\\"})):
            raise ValueError("must be an absolute path, such as C:/Games/MyGame or /home/me/game")
        return path


class AgentSettings(SettingsGroup):
    """`[agent]`: the shape of the policy. What is set here decides; the rest is that of the first rollouts."""

    observation_size: PositiveInt = 15
    """How many numbers an agent observes."""
    actions: Annotated[tuple[str, ...], Field(min_length=1)] = ("steer", "throttle", "brake")
    """Action names, in the order of the policy's outputs."""
    action_low: tuple[float, ...] | None = None
    """Lower bounds, one for each action; if not set: 0 for throttle and brake, -1 for all others."""
    action_high: tuple[float, ...] | None = None
    """Upper bounds, one for each action; if not set: 1."""
    choices: Annotated[tuple[str, ...] | int | None, Field(union_mode="left_to_right")] = None
    """The action is one of several choices: their names in the order of the policy's outputs, or their number."""
    observation_limit: PositiveFloat | None = None
    """Observations are clamped to [-limit, limit], for sensors that report a huge number; if not set, they are not."""
    hidden_sizes: HiddenSizes = (128, 128)
    mirror: MirrorSettings = MirrorSettings()
    """How the game looks in a mirror: see `[agent.mirror]`."""

    @field_validator("actions")
    @classmethod
    def _has_names_that_an_engine_can_write(cls, actions: tuple[str, ...]) -> tuple[str, ...]:
        for name in actions:
            if actions.count(name) > 1:
                raise ValueError(f"must be different names: {name!r} appears twice")
            if not name or len(name) > MAX_NAME or not name.isprintable():
                raise ValueError(f"must be printable names of 1 to {MAX_NAME} characters")
        return actions

    @field_validator("choices", mode="before")
    @classmethod
    def _are_at_least_two(cls, choices: object) -> object:
        """Return the number or the names; a variable's text is split at its commas."""
        if isinstance(choices, str):
            text = choices.strip()
            choices = int(text) if text.isdecimal() else tuple(name.strip() for name in text.split(","))
        if isinstance(choices, list | tuple):
            names = [name for name in choices if isinstance(name, str) and 0 < len(name) <= MAX_NAME]
            if len(names) == len(choices) and len(set(names)) == len(names) and 2 <= len(names) <= MAX_CHOICES:
                return tuple(names)
        elif type(choices) is int and 2 <= choices <= MAX_CHOICES:
            return choices
        elif choices is None:
            return None
        raise ValueError(f"must be a number from 2 to {MAX_CHOICES}, or a list of at least two different names")

    @field_validator("action_low", "action_high")
    @classmethod
    def _has_one_for_each_action(
        cls, bounds: tuple[float, ...] | None, info: ValidationInfo
    ) -> tuple[float, ...] | None:
        actions: tuple[str, ...] | None = info.data.get("actions")  # None if it is invalid itself
        if bounds is not None and actions is not None and len(bounds) != len(actions):
            raise ValueError(f"must have one number for each of the {len(actions)} actions: {', '.join(actions)}")
        return bounds

    @model_validator(mode="after")
    def _has_bounds_in_order(self) -> AgentSettings:
        space = self.contract().action_space
        if isinstance(space, DiscreteActions):
            if self.action_low is not None or self.action_high is not None:
                raise ValueError("choices have no bounds: set either choices, or action_low and action_high")
            if "actions" in self.model_fields_set and len(self.actions) > 1:
                raise ValueError(f"choices are for one action, but actions has {len(self.actions)} names")
        else:
            for name, low, high in zip(space.names, space.low, space.high, strict=True):
                if not low < high:
                    raise ValueError(
                        f"the bounds of {name} are [{low:g}, {high:g}], but the lower one must be below the upper"
                    )
        return self

    @model_validator(mode="after")
    def _has_a_mirror_that_fits(self) -> AgentSettings:
        """Check the mirror if the settings alone decide the contract. Otherwise, the first rollouts do."""
        if self.mirror.is_set and self.decides_contract:
            self.mirror_for(self.contract())
        return self

    @property
    def decides_contract(self) -> bool:
        """Return whether the rollouts cannot change the contract of these settings."""
        return "observation_size" in self.model_fields_set and bool({"actions", "choices"} & self.model_fields_set)

    @property
    def declared_mirror(self) -> MirrorSettings | None:
        """Return the mirror's settings; None if none is declared."""
        return self.mirror if self.mirror.is_set else None

    def mirror_for(self, contract: PolicyContract) -> Mirror | None:
        """Return the mirror of a contract; None if none is declared. Raises ValueError if it does not fit."""
        if not self.mirror.is_set:
            return None
        try:
            return Mirror.of(self.mirror, contract, self.choice_names)
        except ValueError as error:
            raise ValueError(f"mirror.{error}") from None

    def contract(self) -> PolicyContract:
        """Return the contract that these settings describe."""
        if self.choices is not None:
            n = self.choices if isinstance(self.choices, int) else len(self.choices)
            return PolicyContract(observation_size=self.observation_size, action_space=DiscreteActions(n=n))
        usual = ContinuousActions.named(self.actions)
        space: ActionSpace = ContinuousActions(
            names=self.actions, low=self.action_low or usual.low, high=self.action_high or usual.high
        )
        return PolicyContract(observation_size=self.observation_size, action_space=space)

    @property
    def choice_names(self) -> tuple[str, ...]:
        """Return the names of the choices; () if they have none."""
        return self.choices if isinstance(self.choices, tuple) else ()


class TrainerSettings(SettingsGroup):
    """`[trainer]`: how a cycle learns. The defaults of ppo are those of common implementations."""

    algorithm: Literal["ppo", "td3", "auto"] = "ppo"
    """ppo: learns from the newest rollouts. td3: learns from all rollouts, of any policy, and needs fewer of them."""
    epochs: Epochs = 10
    """ppo: passes over the cycle's experiences; td3: equal parts of its gradient steps. Each leaves a checkpoint."""
    batch_size: Annotated[BatchSize, Field(description="ppo: experiences in a gradient step.")] = 64
    learning_rate: PositiveFloat = 3e-4
    """ppo: Adam's step size."""
    learning_rate_end: PositiveFloat | None = None
    """ppo: Adam's step size at the end of a linear schedule; if not set, it is constant."""
    gamma: Gamma = 0.99
    gae_lambda: Annotated[
        GaeLambda,
        Field(description="ppo: lower values reduce the variance of the advantages and increase their bias."),
    ] = 0.95
    clip_range: Annotated[
        ClipRange,
        Field(description="ppo: how far the probability ratio may move before the loss stops rewarding it."),
    ] = 0.2
    value_clip_range: PositiveFloat | None = None
    """ppo: how far a value may move from its old one, in normalised units; if not set, values are not clipped."""
    entropy_coef: NotNegative = 0.01
    """ppo: weight of the entropy bonus."""
    entropy_coef_end: NotNegative | None = None
    """ppo: weight of the entropy bonus at the end of a linear schedule; if not set, it is constant."""
    schedule_cycles: PositiveInt = 100
    """ppo: over how many cycles the schedules run."""
    value_coef: Annotated[ValueCoef, Field(description="ppo: weight of the value loss.")] = 0.5
    max_grad_norm: Annotated[MaxGradNorm, Field(description="ppo: gradients are scaled down to this norm.")] = 0.5
    target_kl: PositiveFloat | None = None
    """ppo: an epoch whose policy has moved further than this is the last one; if not set, no epoch is left out."""
    holdout_fraction: Annotated[float, Field(gt=0, lt=0.9)] = 0.1
    """Part of the episodes that is kept out of training, to score the epochs."""
    history_ratio: Annotated[float, Field(ge=0, le=10)] = 0.1
    """ppo: old rollouts to draw for each new one; they train the value function."""
    updates_per_experience: UpdatesPerExperience = 0.5
    critic_sizes: CriticSizes = (128, 128)
    return_steps: ReturnSteps = 3
    replay_experiences: ReplayExperiences = 1_000_000
    exploration: Annotated[float, Field(ge=0.01, le=2.0)] = 0.2
    """td3: deviation of the noise that engines add to actions. It falls by a fifth in each cycle, down to this."""
    seconds: PositiveFloat | None = None
    """td3: an epoch that begins later in a training is left out. If not set, results do not depend on the machine."""
    device: str = "auto"
    """auto (measured), cpu, cuda or cuda:1."""
    precision: Annotated[
        Precision,
        Field(
            description="ppo: auto: bfloat16 autocast on CUDA if the networks are large enough to gain, else float32."
        ),
    ] = "auto"
    threads: Count = 0
    """CPU threads; 0 = measured."""
    seed: Seed = 0
    network: str = ""
    """ppo: your own network class, as package.module:Class; empty = the built-in one."""
    loss: str = ""
    """ppo: your own loss function, as package.module:function; empty = PPO's."""


class Settings(SettingsGroup):
    """All settings: `daemon.toml`, then HOTLAP_ variables, then flags."""

    daemon: DaemonSettings = DaemonSettings()
    agent: AgentSettings = AgentSettings()
    trainer: TrainerSettings = TrainerSettings()

    @model_validator(mode="after")
    def _publishes_an_epoch_that_exists(self) -> Settings:
        epoch, epochs = self.daemon.auto_load_model_epoch, self.trainer.epochs
        if epoch > epochs:
            raise ValueError(
                f"daemon.auto_load_model_epoch is {epoch}, but trainer.epochs is {epochs}: that epoch does not exist"
            )
        return self
