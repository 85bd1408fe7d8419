"""The epochs of a cycle: when the policy stops, and when the update ends."""

import pytest
import torch

from tests.trainer.ppo.problem import STEER, make_problem, update_config
from trainer.ppo.analytic.updater import AnalyticUpdater
from trainer.ppo.autograd import AutogradUpdater
from trainer.ppo.loss import ppo_loss
from trainer.ppo.update import run_epochs


def updater_for(kind, config):
    network, distribution, batch = make_problem(STEER)
    if kind == "analytic":
        return AnalyticUpdater(network, distribution, config, batch, {}), batch
    return AutogradUpdater(network, distribution, ppo_loss, config, batch, {}, torch.device("cpu")), batch


@pytest.mark.parametrize("kind", ["analytic", "autograd"])
def test_after_its_epochs_the_policy_stays_and_the_values_continue(kind):
    updater, held = updater_for(kind, update_config(epochs=4, policy_epochs=2))
    heads, values, kl = [], [], []
    for epoch, losses in run_epochs(updater, held):
        stacks = updater.network.stacks()
        heads.append(torch.cat([stacks.policy[-1].weight.detach().flatten(), updater.network.action_log_std.detach()]))
        values.append(stacks.value[-1].weight.detach().clone())
        kl.append(losses["approx_kl"])
        assert epoch == len(heads)
    assert not torch.equal(heads[0], heads[1])
    assert torch.equal(heads[1], heads[2])
    assert torch.equal(heads[1], heads[3])
    assert not torch.equal(values[2], values[3])
    assert kl[2] == pytest.approx(kl[3], rel=1e-4)  # the policy's own, no longer a mean over its steps
    assert kl[2] > kl[0]
