"""The settings of a DAgger run; each is a flag."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from schemas.base import StrictModel
from schemas.errors import ConfigError
from schemas.settings.allowed import reason, shown


class DaggerSettings(StrictModel):
    """The settings that decide the result. A milestone that was started continues only with the same ones."""

    eval_episodes: Annotated[int, Field(ge=1)] = Field(5, description="episodes that evaluate an expert")
    policy_eval_episodes: Annotated[int, Field(ge=1)] = Field(20, description="episodes that evaluate a round's policy")
    final_eval_episodes: Annotated[int, Field(ge=1)] = Field(50, description="episodes that evaluate the best policy")
    min_success_rate: Annotated[float, Field(ge=0, le=1)] = Field(0.6, description="lowest success rate of an expert")
    step_multiplier: Annotated[float, Field(gt=0)] = Field(
        2.0, description="step limit of the policy, in multiples of the expert's mean steps"
    )
    dagger_iterations: Annotated[int, Field(ge=1)] = Field(10, description="rounds of collecting and training")
    episodes_per_iter: Annotated[int, Field(ge=1)] = Field(10, description="episodes collected in a round")
    train_steps_per_iter: Annotated[int, Field(ge=1)] = Field(2000, description="gradient steps in a round")
    batch_size: Annotated[int, Field(ge=1)] = Field(64, description="labels in a gradient step")
    learning_rate: Annotated[float, Field(gt=0)] = Field(3e-4, description="learning rate of Adam")
    hidden_dim: Annotated[int, Field(ge=1)] = Field(256, description="width of the hidden layers")
    beta_schedule: Literal["linear", "exponential", "constant"] = Field(
        "linear", description="how beta decreases: linear, exponential or constant"
    )
    beta_start: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="beta in the first round: probability that the expert acts"
    )
    beta_decay: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="linear: subtracted in each round; exponential: factor of each round"
    )
    expert_timeout: Annotated[float, Field(gt=0)] = Field(
        5.0, description="seconds that one call of an expert may take"
    )
    patience: Annotated[int, Field(ge=0)] = Field(
        0, description="end after this many rounds in a row as good as the expert; 0: do all rounds"
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of all random numbers")

    def beta(self, round_number: int) -> float:
        """Return the probability that the expert acts in a round, counted from 0."""
        match self.beta_schedule:
            case "linear":
                return max(0.0, self.beta_start - self.beta_decay * round_number)
            case "exponential":
                return self.beta_start * self.beta_decay**round_number
            case "constant":
                return self.beta_start


def settings_from_flags(values: Mapping[str, Any]) -> DaggerSettings:
    """Return the settings that flags set; None leaves the default. Raises ConfigError."""
    try:
        return DaggerSettings(**{name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        flag = f"--{str(first['loc'][0]).replace('_', '-')}"
        raise ConfigError(
            f"{flag} is {shown(first['input'])}, but {reason(DaggerSettings, first)}", hint="see --help"
        ) from None
