"""Rollout and model files as pydantic models: the source of their JSON Schema. Reading goes straight to arrays."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.contract import ContinuousActions, DiscreteActions


class _Document(BaseModel):
    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)


class ExperienceDocument(_Document):
    """One agent's one step."""

    state: Annotated[list[float], Field(min_length=1)]
    """What the agent observed; of the same length throughout a project."""
    action: Annotated[dict[str, float], Field(min_length=1)]
    """What it did, clamped to its bounds. The first experience's keys give the order of the policy's outputs."""
    reward: float
    """What came of it."""
    done: bool
    """Whether the episode ended with this step."""
    log_prob: float
    """Log density of the clamped action under the normal that it was drawn from, in nats."""
    value: float
    """What the value network said of the state."""
    advantage: float = 0.0
    """The engine's own; recomputed, never trusted."""
    return_: Annotated[float, Field(alias="return")] = 0.0
    """The engine's own; recomputed, never trusted."""
    agent_index: int = 0
    """Whose step it is; order within an agent is time."""


class RolloutV1(_Document):
    """Rollout version 1, as the Unreal exporter writes it. Experiences that are not finite are left out."""

    experiences: Annotated[list[ExperienceDocument], Field(min_length=1)]
    """Several agents, interleaved."""
    num_experiences: int = 0
    """How many there are; informative."""
    timestamp: str = ""
    """When it was written; informative."""


class Base64Column(_Document):
    """A column as the bytes of a little-endian array in C order."""

    dtype: Literal["<f4", "<f8", "<i2", "<i4", "<i8", "|b1", "|u1", "|i1"]
    """numpy's name of the element type."""
    shape: Annotated[list[int], Field(min_length=1, max_length=2)]
    """[steps] or [steps, width]."""
    data: str
    """Standard base64 with padding."""


class NamedActions(ContinuousActions):
    """Real-valued actions; `type` may be left out."""


class ChosenAction(DiscreteActions):
    """One of n choices; `type` may be left out."""


class RolloutV2(_Document):
    """Rollout version 2: one column a quantity, one row a step, several agents interleaved."""

    schema_: Annotated[Literal["hotlap.rollout/2"], Field(alias="schema")]
    """Names this format."""
    rollout_id: str = ""
    """Any name for it."""
    policy_version: int | None = None
    """The version of the model that played."""
    noise_std: float | None = None
    """The engine's factor on the policy's standard deviation."""
    action_space: NamedActions | ChosenAction
    """Names and bounds, or the number of choices."""
    observations: list[list[float]] | Base64Column
    """[steps, observation size]"""
    actions: list[list[float]] | list[int] | Base64Column
    """[steps, actions], clamped; or [steps], the index of the choice."""
    rewards: list[float] | Base64Column
    """[steps]"""
    terminated: list[bool] | list[int] | Base64Column
    """[steps], over by the game's own rules."""
    truncated: list[bool] | list[int] | Base64Column
    """[steps], cut by a limit; the episode would have gone on."""
    log_probs: list[float] | Base64Column
    """[steps], nats, of the clamped action."""
    values: list[float] | Base64Column
    """[steps]"""
    agents: list[int] | Base64Column
    """[steps], whose step it is."""
    final_observations: dict[str, list[float]] | list[list[float]] | Base64Column | None = None
    """Where each agent's last step led to, by agent number: lets the last step be learnt from as well."""
    reward_parts: dict[str, list[float] | Base64Column] | None = None
    """What the reward is made of, by name: [steps] each."""


class LayerDocument(_Document):
    """One dense layer, y = W x + b."""

    weights: list[float]
    """Flat, row-major [out][in]."""
    biases: list[float]
    """[out]"""


class NetworkConfig(_Document):
    """The shape of both networks."""

    input_size: int
    """Observation size."""
    hidden_layers: list[int]
    """Sizes of the hidden layers, the same for policy and value."""
    policy_output_size: int
    """Actions, or choices."""
    value_output_size: Literal[1]
    """One value."""


class ProbeDocument(_Document):
    """What an importer must compute, to check itself after loading."""

    observations: list[list[float]]
    """[8, observation size]"""
    means: list[list[float]]
    """[8, outputs], after tanh; logits where the policy is discrete."""
    values: list[float]
    """[8]"""


class ModelDocument(_Document):
    """The model JSON: ReLU after hidden layers, tanh after a continuous policy's head, nothing after the value's."""

    network_config: NetworkConfig
    """Shapes."""
    policy_layers: list[LayerDocument]
    """Hidden layers of the policy."""
    value_layers: list[LayerDocument]
    """Hidden layers of the value network."""
    policy_head: LayerDocument
    """Gives the mean before tanh, or the logits."""
    value_head: LayerDocument
    """Gives the value in the game's own reward units."""
    action_log_std: list[float]
    """Natural log of the standard deviation of each action; empty where the policy is discrete."""
    schema_: Annotated[Literal["hotlap.model/1"], Field(alias="schema")] = "hotlap.model/1"
    """Names this format."""
    policy_version: int = 0
    """The cycle that published it; 0 is the initial model."""
    action_space: ContinuousActions | DiscreteActions | None = None
    """Names and bounds, or the number of choices."""
    contract: str = ""
    """Hash over observation size, action names, order, bounds and kind."""
    checksum: str = ""
    """SHA-256 over all weights as little-endian float32, in the order policy, value, action_log_std."""
    lineage: dict[str, Any] | None = None
    """Cycle, epoch, parent, rollouts, config hash, seed, versions, score."""
    probe: ProbeDocument | None = None
    """What it computes for eight observations from the training data."""
