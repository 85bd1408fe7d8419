"""Which of a run's policies is the best so far: the latest one that is not worse than the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from schemas.contract import PolicyContract
from trainer.online.actor import Actor
from trainer.online.evaluation.comparison import LOOKS, Float64, Verdict, compare
from trainer.online.evaluation.episodes import ReturnStatistics, pooled

Evaluate = Callable[[Actor, int], ReturnStatistics | None]
"""Runs a block of episodes, which has its own seeds. Returns None if the run is to stop."""


class EvaluationStoppedError(Exception):
    """The run is to stop."""


@dataclass(slots=True)
class Evaluated:
    """A policy and the blocks of episodes that it was evaluated in."""

    actor: Actor
    steps: int  #: of the run
    stage: int  #: returns of different stages cannot be compared
    blocks: list[ReturnStatistics] = field(default_factory=list)

    def returns(self, count: int, evaluate: Evaluate) -> Float64:
        """Return the returns of the first `count` blocks; run those that are missing."""
        while len(self.blocks) < count:
            block = evaluate(self.actor, len(self.blocks))
            if block is None:
                raise EvaluationStoppedError
            self.blocks.append(block)
        return np.array([value for block in self.blocks[:count] for value in block.returns])

    @property
    def score(self) -> ReturnStatistics:
        """Return the statistics of all its episodes."""
        return pooled(self.blocks)

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and a tensor for a checkpoint."""
        return {
            "actor": torch.frombuffer(bytearray(self.actor.to_npz()), dtype=torch.uint8),
            "steps": self.steps,
            "stage": self.stage,
            "blocks": [[list(block.returns), block.steps, block.parts, block.cut] for block in self.blocks],
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], contract: PolicyContract) -> Evaluated:
        """Return what `state_dict` stored. Raises ModelError."""
        actor = Actor.from_npz(state["actor"].numpy().tobytes(), contract, "the best model of the checkpoint")
        blocks = [
            ReturnStatistics(returns=tuple(returns), steps=steps, parts=parts, cut=cut)
            for returns, steps, parts, cut in state["blocks"]
        ]
        return cls(actor, state["steps"], state["stage"], blocks)


def judge(
    new: Evaluated, reference: Evaluated | None, evaluate: Evaluate, *, confidence: float, most_episodes: int
) -> Verdict:
    """Compare a policy with the reference; without one, or in a new stage, it is better.

    The best model is the latest one whose verdict is not "worse"; the reference is the latest one that was "better". So
    small losses cannot add up over many ties. Raises EvaluationStoppedError.
    """
    episodes = len(new.returns(1, evaluate))
    if reference is None or reference.stage != new.stage:
        return Verdict("better", 0.0, 1)
    return compare(
        lambda count: new.returns(count, evaluate),
        lambda count: reference.returns(count, evaluate),
        confidence=confidence,
        most_blocks=max(1, min(LOOKS[-1], most_episodes // episodes)),
    )
