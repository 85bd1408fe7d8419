"""The reading rules: what the settings and the project's contract say about the meaning of a rollout file.

Version 1 has neither an order of actions nor bounds, so the same bytes mean different arrays under different rules.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.base import StrictModel
from schemas.contract import ContinuousActions, DiscreteActions, PolicyContract
from schemas.settings.models import AgentSettings
from schemas.storage.files import sha256_of

Origin = Literal["settings", "rollouts", "model"]
"""What defined the contract: daemon.toml, most of the first rollouts, or the published model."""


class ReadingRules(StrictModel):
    """How to read rollout files. None means that each file may decide."""

    observation_size: int | None = None
    names: tuple[str, ...] | None = None  #: of the actions, in the order of the policy's outputs
    low: tuple[float, ...] | None = None  #: one for each name
    high: tuple[float, ...] | None = None
    choices: Annotated[int | None, Field(ge=2)] = None  #: the action is one of so many choices
    choice_names: tuple[str, ...] = ()  #: in the order of their numbers; () if they have none
    is_continuous: bool = False  #: the actions are known to be real-valued
    observation_limit: float | None = None  #: observations are clamped to [-limit, limit]
    stated: tuple[str, ...] = ()  #: the settings of `[agent]` that define the contract
    origin: Origin = "settings"  #: what defined the rest of the contract

    @classmethod
    def of(
        cls, agent: AgentSettings, contract: PolicyContract | None = None, *, origin: Origin = "settings"
    ) -> ReadingRules:
        """Return the rules of `[agent]`, and of the project's contract if it is known. `origin` is the contract's."""
        rules = cls(choice_names=agent.choice_names, observation_limit=agent.observation_limit)
        rules = rules.model_copy(update=_stated(agent))
        return rules if contract is None else rules.for_contract(contract, origin)

    def for_contract(self, contract: PolicyContract, origin: Origin) -> ReadingRules:
        """Return these rules for files of exactly this contract."""
        space = contract.action_space
        is_continuous = isinstance(space, ContinuousActions)
        changes = {
            "observation_size": contract.observation_size,
            "names": space.names if isinstance(space, ContinuousActions) else self.names if self.choices else None,
            "low": space.low if isinstance(space, ContinuousActions) else None,
            "high": space.high if isinstance(space, ContinuousActions) else None,
            "choices": None if isinstance(space, ContinuousActions) else space.n,
            "is_continuous": is_continuous,
            "origin": origin,
        }
        return self.model_copy(update=changes)

    def contract(self) -> PolicyContract | None:
        """Return the contract of all files that fit, or None if the rules leave something to the files."""
        if self.observation_size is None:
            return None
        if self.choices is not None:
            space = DiscreteActions(n=self.choices)
            return PolicyContract(observation_size=self.observation_size, action_space=space)
        if self.names is None or self.low is None or self.high is None:
            return None
        continuous = ContinuousActions(names=self.names, low=self.low, high=self.high)
        return PolicyContract(observation_size=self.observation_size, action_space=continuous)

    def admits(self, contract: PolicyContract) -> bool:
        """Return whether a file that was read with this contract would be read with the same one under these rules."""
        if self.observation_size not in {None, contract.observation_size}:
            return False
        space = contract.action_space
        if isinstance(space, DiscreteActions):
            return self.choices == space.n or (self.choices is None and not self.is_continuous)
        return (
            self.choices is None
            and self.names in {None, space.names}
            and self.low in {None, space.low}
            and self.high in {None, space.high}
        )

    def with_bounds_for(self, contract: PolicyContract) -> PolicyContract | None:
        """Return a trained model's contract with the bounds of these rules, which may change later.

        Return None if the rules contradict the contract in more than the bounds.
        """
        space = contract.action_space
        if isinstance(space, ContinuousActions) and self.names == space.names and self.low and self.high:
            space = ContinuousActions(names=space.names, low=self.low, high=self.high)
            contract = PolicyContract(observation_size=contract.observation_size, action_space=space)
        return contract if self.admits(contract) else None

    def contradiction(self, contract: PolicyContract) -> str:
        """Return in words how `[agent]` contradicts a model's contract."""
        space = contract.action_space
        if self.observation_size not in {None, contract.observation_size}:
            return f"agent.observation_size is {self.observation_size}, but the model has {contract.observation_size}"
        if self.choices is not None or not isinstance(space, ContinuousActions):
            wanted = f"agent.choices describes {self.choices} choices" if self.choices else "agent.actions is set"
            return f"{wanted}, but the model's action is {space.in_words()}"
        names = self.names or ()
        order = "the other order " if set(names) == set(space.names) else ""
        return f"agent.actions is {', '.join(names)}, but the model has {order}{', '.join(space.names)}"

    @property
    def options(self) -> str:
        """Return a short hash over the rules that change numbers without changing the contract."""
        names = "\0".join(self.choice_names)
        return sha256_of(f"{self.observation_limit!r}\0{names}".encode())[:16]


NO_RULES = ReadingRules()
"""Each file decides."""


def _stated(agent: AgentSettings) -> dict[str, Any]:
    """Return what `[agent]` sets, and not only has as a default, as fields of ReadingRules."""
    written, space = agent.model_fields_set, agent.contract().action_space
    size = agent.observation_size if "observation_size" in written else None
    if isinstance(space, DiscreteActions):
        names = agent.actions if "actions" in written else None
        stated = ("choices", *_true({"observation_size": size is not None, "actions": names is not None}))
        return {"observation_size": size, "choices": space.n, "names": names, "stated": stated}
    has_bounds = bool({"action_low", "action_high"} & written)
    has_names = has_bounds or "actions" in written
    return {
        "stated": _true({"observation_size": size is not None, "actions": has_names, "bounds": has_bounds}),
        "observation_size": size,
        "names": space.names if has_names else None,
        "low": space.low if has_bounds else None,
        "high": space.high if has_bounds else None,
        "is_continuous": has_names,
    }


def _true(flags: dict[str, bool]) -> tuple[str, ...]:
    return tuple(name for name, is_set in flags.items() if is_set)
