"""Which updater is chosen, and that training falls back to autograd if torch's private functions cannot be used."""

import copy

import pytest
import torch

from tests.trainer.ppo.problem import STEER, make_problem, update_config
from tests.trainer.toy import Bandit, loop_for
from trainer.networks.network import ActorCritic
from trainer.ppo.analytic import private_torch, self_test
from trainer.ppo.analytic.updater import AnalyticUpdater
from trainer.ppo.autograd import AutogradUpdater
from trainer.ppo.loss import ppo_loss
from trainer.ppo.make_updater import make_updater

fused_adam_, relu_backward_ = private_torch.fused_adam_, private_torch.relu_backward_


@pytest.fixture(autouse=True)
def fresh_self_test():
    """The self-test runs once in a process; each test needs its own result, which is removed afterwards."""
    self_test.find_problem.cache_clear()
    yield
    self_test.find_problem.cache_clear()


def make(network, distribution, batch, *, loss=ppo_loss, notify=None, **given):
    def unexpected(code, message):
        raise AssertionError(message)

    return make_updater(
        network,
        distribution,
        loss,
        update_config(**given),
        batch,
        optimizer_state={},
        device=torch.device("cpu"),
        notify=notify or unexpected,
    )


def test_a_custom_network_or_loss_and_bfloat16_use_autograd():
    network, distribution, batch = make_problem(STEER)

    class Custom(ActorCritic):
        pass

    def custom_loss(*given):
        return ppo_loss(*given)

    assert type(make(network, distribution, batch)) is AnalyticUpdater
    assert type(make(Custom(network.shape), distribution, batch)) is AutogradUpdater
    assert type(make(network, distribution, batch, loss=custom_loss)) is AutogradUpdater
    assert type(make(network, distribution, batch, bfloat16=True)) is AutogradUpdater


def test_the_self_test_finds_no_problem_with_this_torch():
    assert self_test.find_problem() == ""


def raise_error(*args, **kwargs):
    raise RuntimeError("not implemented for this type")


def multiply_by_grad_scale(*args, grad_scale, **kwargs):
    fused_adam_(*args, grad_scale=1.0 / grad_scale, **kwargs)


def ignore_eps(*args, eps, **kwargs):
    fused_adam_(*args, eps=1e-8, **kwargs)


def leave_parameters(*args, **kwargs):
    pass


def pass_all_gradients(gradient, output, threshold, *, grad_input):
    grad_input.copy_(gradient)


def lose_precision(gradient, output, threshold, *, grad_input):
    relu_backward_(gradient, output, threshold, grad_input=grad_input)
    grad_input.copy_(grad_input.bfloat16())


def return_nan(gradient, output, threshold, *, grad_input):
    grad_input.fill_(float("nan"))


FAULTS = {
    "Adam is missing": ("fused_adam_", None, "torch._fused_adam_ does not exist"),
    "Adam raises": ("fused_adam_", raise_error, "RuntimeError: not implemented for this type"),
    "Adam multiplies instead of dividing": ("fused_adam_", multiply_by_grad_scale, "differs from torch.optim.Adam"),
    "Adam has another eps": ("fused_adam_", ignore_eps, "differs from torch.optim.Adam"),
    "Adam does nothing": ("fused_adam_", leave_parameters, "differs from torch.optim.Adam"),
    "ReLU is missing": ("relu_backward_", None, "torch.ops.aten.threshold_backward.grad_input does not exist"),
    "ReLU raises": ("relu_backward_", raise_error, "RuntimeError: not implemented for this type"),
    "ReLU is ignored": ("relu_backward_", pass_all_gradients, "differs from that of autograd"),
    "ReLU is imprecise": ("relu_backward_", lose_precision, "differs from that of autograd"),
    "ReLU returns nan": ("relu_backward_", return_nan, "differs from that of autograd"),
}


@pytest.mark.parametrize(("name", "replacement", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_private_function_that_cannot_be_used_means_the_result_of_autograd(monkeypatch, name, replacement, reason):
    monkeypatch.setattr(private_torch, name, replacement)
    network, distribution, batch = make_problem(STEER, n=512)
    reference = copy.deepcopy(network)
    notices = []
    updater = make(network, distribution, batch, notify=lambda *notice: notices.append(notice))
    expected = AutogradUpdater(reference, distribution, ppo_loss, update_config(), batch, {}, torch.device("cpu"))
    assert updater.epoch(1) == expected.epoch(1)
    for a, b in zip(network.parameters(), reference.parameters(), strict=True):
        assert torch.equal(a, b)
    ((code, message),) = notices
    assert code == "W_ANALYTIC_GRADIENT"
    assert reason in message


@pytest.mark.parametrize("name", ["fused_adam_", "relu_backward_"])
def test_training_continues_without_a_private_function_and_sends_one_notice(tmp_path, monkeypatch, name):
    world = Bandit()
    fast = loop_for(world, tmp_path / "fast")
    rollout = world.play(fast.start(), 40)
    expected = fast.train(rollout)
    assert fast.reporter.codes() == []
    monkeypatch.setattr(private_torch, name, None)
    self_test.find_problem.cache_clear()
    slow = loop_for(world, tmp_path / "slow")
    slow.start()
    model = slow.train(rollout)
    assert slow.reporter.codes() == ["W_ANALYTIC_GRADIENT"]
    x = world.rng.normal(size=(1000, 4)).astype("float32")
    assert abs(model.mean(x) - expected.mean(x)).max() < 1e-3
    slow.train(world.play(model, 40))
    assert slow.reporter.codes() == ["W_ANALYTIC_GRADIENT"]  # a job's own notice


def test_the_self_test_runs_once_in_a_process(monkeypatch):
    network, distribution, batch = make_problem(STEER)
    make(copy.deepcopy(network), distribution, batch)
    monkeypatch.setattr(self_test, "_compare", raise_error)
    assert type(make(network, distribution, batch)) is AnalyticUpdater


def test_the_self_test_changes_no_random_numbers():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    assert self_test.find_problem() == ""
    assert torch.equal(torch.rand(3), expected)
