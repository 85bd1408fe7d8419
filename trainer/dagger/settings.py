"""The numbers of a run: every one a flag, a field and a default, once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import StrictModel


class DaggerSettings(StrictModel):
    """What decides the result; a milestone's work goes on only with the same ones."""

    eval_episodes: Annotated[int, Field(ge=1)] = Field(5, description="episodes an expert is judged by")
    policy_eval_episodes: Annotated[int, Field(ge=1)] = Field(20, description="episodes a round's policy is judged by")
    final_eval_episodes: Annotated[int, Field(ge=1)] = Field(50, description="episodes of the best policy's last one")
    min_success_rate: Annotated[float, Field(ge=0, le=1)] = Field(0.6, description="least success of an expert")
    step_multiplier: Annotated[float, Field(gt=0)] = Field(2.0, description="step limit = this x the expert's mean")
    dagger_iterations: Annotated[int, Field(ge=1)] = Field(10, description="rounds of collecting and training")
    episodes_per_iter: Annotated[int, Field(ge=1)] = Field(10, description="episodes collected a round")
    train_steps_per_iter: Annotated[int, Field(ge=1)] = Field(2000, description="gradient steps a round")
    batch_size: Annotated[int, Field(ge=1)] = Field(64, description="labels a gradient step")
    learning_rate: Annotated[float, Field(gt=0)] = Field(3e-4, description="Adam's step size")
    hidden_dim: Annotated[int, Field(ge=1)] = Field(256, description="width of the hidden layers")
    beta_schedule: Literal["linear", "exponential", "constant"] = Field("linear", description="how beta falls")
    beta_start: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="chance that the expert drives, first round"
    )
    beta_decay: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="linear: fall a round; exponential: factor a round"
    )
    expert_timeout: Annotated[float, Field(gt=0)] = Field(5.0, description="s that one call of an expert may take")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="all randomness comes from it")

    def beta(self, round_number: int) -> float:
        """Return the chance that the expert drives in a round, counted from 0."""
        match self.beta_schedule:
            case "linear":
                return max(0.0, self.beta_start - self.beta_decay * round_number)
            case "exponential":
                return self.beta_start * self.beta_decay**round_number
            case "constant":
                return self.beta_start
