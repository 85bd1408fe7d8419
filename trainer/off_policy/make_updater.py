"""The choice of the updater and of its device."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch

from schemas.contract import ActionSpace, ContinuousActions
from trainer.common import device as devices
from trainer.networks.network import ActorCritic
from trainer.off_policy.replay import Replay
from trainer.off_policy.soft_choices import SoftChoiceUpdater
from trainer.off_policy.state import CriticsState
from trainer.off_policy.td3 import Td3Updater
from trainer.off_policy.update import OffPolicyUpdater

_TRIAL_STEPS = 20


def make_off_policy_updater(
    network: ActorCritic, state: CriticsState, space: ActionSpace, device: torch.device
) -> OffPolicyUpdater:
    """Return TD3's updater, or that of its sibling for choices. Network and critics are trained in place."""
    if isinstance(space, ContinuousActions):
        return Td3Updater(network, state, space, device=device)
    return SoftChoiceUpdater(network, state, device=device)


def fastest_device(
    candidates: list[torch.device], network: ActorCritic, state: CriticsState, space: ActionSpace, replay: Replay
) -> torch.device:
    """Return the device on which a few steps, on copies, take the least time."""

    def steps_on(device: torch.device) -> Callable[[], None]:
        updater = make_off_policy_updater(copy.deepcopy(network), state.copy(), space, device)
        data = replay.to(device)

        def steps() -> None:
            updater.run(data, _TRIAL_STEPS, seed=0, cycle=0, epoch=0)

        return steps

    return devices.fastest(candidates, steps_on)
