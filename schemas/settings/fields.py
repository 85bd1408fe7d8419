"""Ranges and descriptions of settings that several programs have. The defaults are those of each program."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]

LayerSizes = Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=8)]
HiddenSizes = Annotated[LayerSizes, Field(description="Hidden layers of the policy and of the value network.")]
BatchSize = Annotated[int, Field(ge=2, description="Experiences in a gradient step.")]
Gamma = Annotated[float, Field(gt=0, le=1, description="Discount per step.")]
GaeLambda = Annotated[
    Fraction, Field(description="Lower values reduce the variance of the advantages and increase their bias.")
]
ClipRange = Annotated[
    PositiveFloat, Field(description="How far the probability ratio may move before the loss stops rewarding it.")
]
ClipRangeEnd = Annotated[
    PositiveFloat | None,
    Field(description="The clip range at the end of a linear schedule; if not set, it is constant."),
]
InitialStd = Annotated[
    float,
    Field(
        ge=0.01,
        le=2,
        description="Standard deviation of continuous actions at the start, in the policy's units (-1 to 1).",
    ),
]
ValueCoef = Annotated[NotNegative, Field(description="Weight of the value loss.")]
MaxGradNorm = Annotated[PositiveFloat, Field(description="Gradients are scaled down to this norm.")]
Epochs = Annotated[int, Field(ge=1, le=1000)]
UpdatesPerExperience = Annotated[float, Field(gt=0, le=20, description="td3: gradient steps for each new experience.")]
CriticSizes = Annotated[
    LayerSizes,
    Field(
        description="td3: hidden layers of the critics, which only the trainer has. ppo: of the critic for critic "
        "observations."
    ),
]
ReturnSteps = Annotated[
    int,
    Field(
        ge=1,
        le=100,
        description="td3: how many rewards a part of the targets adds up before it uses a critic's value; the others "
        "use one.",
    ),
]
ReplayExperiences = Annotated[
    int, Field(ge=1000, description="td3: how many experiences it learns from, the newest ones.")
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16"],
    Field(description="auto: bfloat16 autocast on CUDA if the networks are large enough to gain, else float32."),
]
Seed = Annotated[int, Field(ge=0, lt=2**63, description="The seed of all randomness.")]


class SettingsGroup(BaseModel):
    """One table of settings. The text below a field is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
