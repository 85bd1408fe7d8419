"""Rollout and model files as pydantic models, from which their JSON Schemas are generated; readers do not use them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.contract import ContinuousActions, DiscreteActions


class _Document(BaseModel):
    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)


class ExperienceDocument(_Document):
    """One step of one agent."""

    state: Annotated[list[float], Field(min_length=1)]
    """The observation; its length is the same throughout a project."""
    action: Annotated[dict[str, float], Field(min_length=1)]
    """The clamped action. The order of the first experience's keys is that of the policy's outputs."""
    reward: float
    """The reward of the step."""
    done: bool
    """Whether the episode ended with this step."""
    log_prob: float
    """Log density of the clamped action under the normal distribution that it was sampled from, in nats."""
    value: float
    """The output of the value network; not used."""
    advantage: float = 0.0
    """The engine's own value; not used, always recomputed."""
    return_: Annotated[float, Field(alias="return")] = 0.0
    """The engine's own value; not used, always recomputed."""
    agent_index: int = 0
    """The agent of the step. The steps of an agent are in the order of time."""


class RolloutV1(_Document):
    """Rollout version 1, as the Unreal exporter writes it. Experiences with values that are not finite are left out."""

    experiences: Annotated[list[ExperienceDocument], Field(min_length=1)]
    """The steps of several agents, interleaved."""
    num_experiences: int = 0
    """Number of experiences; not used."""
    timestamp: str = ""
    """When the file was written; not used."""


class Base64Column(_Document):
    """A column as the bytes of a little-endian array in C order."""

    dtype: Literal["<f4", "<f8", "<i2", "<i4", "<i8", "|b1", "|u1", "|i1"]
    """NumPy's name of the element type."""
    shape: Annotated[list[int], Field(min_length=1, max_length=2)]
    """[steps] or [steps, width]"""
    data: str
    """The array in standard base64, with padding."""


class NamedActions(ContinuousActions):
    """Real-valued actions; `type` may be left out."""


class ChosenAction(DiscreteActions):
    """One of n choices; `type` may be left out."""


class RolloutV2(_Document):
    """Rollout version 2: one column for each quantity, one row for each step, several agents interleaved."""

    schema_: Annotated[Literal["hotlap.rollout/2"], Field(alias="schema")]
    """Name of this format."""
    rollout_id: str = ""
    """Any name for the rollout."""
    policy_version: int | None = None
    """Policy version of the model that acted."""
    noise_std: float | None = None
    """The engine's factor on the policy's standard deviation."""
    action_space: NamedActions | ChosenAction
    """Names and bounds, or the number of choices."""
    observations: list[list[float]] | Base64Column
    """[steps, observation size]"""
    actions: list[list[float]] | list[int] | Base64Column
    """[steps, actions], clamped; for discrete actions [steps], the index of the choice."""
    rewards: list[float] | Base64Column
    """[steps]"""
    terminated: list[bool] | list[int] | Base64Column
    """[steps], whether the episode ended by the rules of the game."""
    truncated: list[bool] | list[int] | Base64Column
    """[steps], whether a limit ended the episode, which would have continued."""
    log_probs: list[float] | Base64Column
    """[steps], log densities of the clamped actions, in nats."""
    values: list[float] | Base64Column
    """[steps], outputs of the value network; not used."""
    agents: list[int] | Base64Column
    """[steps], the agent of each step."""
    final_observations: dict[str, list[float]] | list[list[float]] | Base64Column | None = None
    """The observation after each agent's last step, by agent number, so that the last step can be used as well."""
    critic_observations: list[list[float]] | list[float] | Base64Column | None = None
    """[steps, any width], what only critics see besides the observations. The policy never sees it."""
    final_critic_observations: dict[str, list[float]] | list[list[float]] | Base64Column | None = None
    """The critic observations after each agent's last step, by agent number, besides `final_observations`."""
    reward_parts: dict[str, list[float] | Base64Column] | None = None
    """The parts that the reward is the sum of, by name: [steps] each."""


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
    """Sizes of the hidden layers, the same for policy and value network."""
    policy_output_size: int
    """Number of actions, or of choices."""
    value_output_size: Literal[1]
    """1."""


class ProbeDocument(_Document):
    """Observations with the outputs that an importer must compute for them, to check itself after loading."""

    observations: list[list[float]]
    """[8, observation size]"""
    means: list[list[float]]
    """[8, outputs], after tanh; logits if the policy is discrete."""
    values: list[float]
    """[8]"""


class ModelDocument(_Document):
    """The model JSON: ReLU after hidden layers, tanh after a continuous policy's head, nothing after the value head."""

    network_config: NetworkConfig
    """Sizes of the networks."""
    policy_layers: list[LayerDocument]
    """Hidden layers of the policy."""
    value_layers: list[LayerDocument]
    """Hidden layers of the value network."""
    policy_head: LayerDocument
    """Computes the mean before tanh, or the logits."""
    value_head: LayerDocument
    """Computes the value in the reward units of the game."""
    action_log_std: list[float]
    """Natural log of the standard deviation of each action; empty if the policy is discrete."""
    schema_: Annotated[Literal["hotlap.model/1"], Field(alias="schema")] = "hotlap.model/1"
    """Name of this format."""
    policy_version: int = 0
    """Number of the cycle that published the model; 0 is the initial model."""
    action_space: ContinuousActions | DiscreteActions | None = None
    """Names and bounds, or the number of choices."""
    contract: str = ""
    """Hash over observation size and the names, order, bounds and kind of the actions."""
    checksum: str = ""
    """SHA-256 over all weights as little-endian float32, in the order policy, value network, action_log_std."""
    lineage: dict[str, Any] | None = None
    """Cycle, epoch, parent, rollouts, config hash, seed, versions, score."""
    probe: ProbeDocument | None = None
    """Outputs for eight observations from the training data."""
