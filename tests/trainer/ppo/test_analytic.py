"""The analytic gradient against autograd in float64, and the analytic updater against the one that uses autograd."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch

from tests.trainer.ppo.problem import SPACES, STEER, loss_config, make_problem, update_config
from trainer.common.threads import ThreadCount
from trainer.ppo.analytic.gradient import AnalyticGradient
from trainer.ppo.analytic.network import StackedNetwork
from trainer.ppo.analytic.updater import AnalyticUpdater
from trainer.ppo.autograd import AutogradUpdater, evaluate
from trainer.ppo.loss import ppo_loss
from trainer.rollouts.batch import Batch


def autograd_updater(network, distribution, config, batch, moments):
    return AutogradUpdater(network, distribution, ppo_loss, config, batch, moments, torch.device("cpu"))


def autograd_gradient(network, distribution, batch, config):
    """Return the gradients of the loss in float64, by parameter name."""
    double = copy.deepcopy(network).double()
    wide = Batch(**{name: getattr(batch, name).double() for name in Batch.__slots__})
    output_BK, value_B = double(wide.observation_BO)
    log_std_A = double.action_log_std
    new = evaluate(double, distribution, wide)._replace(
        logp_B=distribution.log_prob(output_BK, log_std_A, wide.action_BC),
        value_B=value_B,
        entropy=distribution.entropy(output_BK, log_std_A),
    )
    ppo_loss(wide, new, config).total.backward()
    return {name: p.grad for name, p in double.named_parameters() if p.numel()}


def analytic_gradient(network, distribution, batch, config):
    """Return the gradients of the analytic way, by parameter name."""
    own = copy.deepcopy(network)
    gradient = AnalyticGradient(StackedNetwork(own), distribution, config, batch)
    gradient.shuffle(torch.arange(batch.size))
    gradient.compute(slice(0, batch.size))
    flat = gradient.flat
    by_parameter = dict(zip(map(id, flat.ordered), flat.views(flat.gradient), strict=True))
    return {name: by_parameter[id(p)] for name, p in own.named_parameters() if p.numel()}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"std_scale": 0.3},
        {"at_bounds": 0.0},
        {"at_bounds": 1.0},
        {"hidden": (16,)},
        {"hidden": (24, 16, 32)},
        {"inputs": 40},
        {"far": 1.5},
        {"n": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("value_clip_range", [None, 0.2])
def test_the_gradient_is_that_of_autograd(space, given, value_clip_range):
    for seed in range(3):
        network, distribution, batch = make_problem(space, seed=seed, **given)
        config = loss_config(value_clip_range=value_clip_range, entropy_coef=0.05)
        expected = autograd_gradient(network, distribution, batch, config)
        norm = math.sqrt(sum(float(g.square().sum()) for g in expected.values()))
        for name, got in analytic_gradient(network, distribution, batch, config).items():
            assert float((got.double() - expected[name]).abs().max()) <= 2e-5 * norm, name


def test_the_gradient_is_finite_and_that_of_autograd_for_very_unlikely_actions():
    """With a deviation of 0.01, actions at the bound opposite to the mean are a hundred deviations away.

    A log likelihood of thousands of nats has an error of 1e-4 in float32, and so has every ratio.
    """
    network, distribution, batch = make_problem(STEER, at_bounds=0.9)
    with torch.no_grad():
        network.action_log_std.fill_(math.log(0.01))
        network.policy_head.bias.copy_(torch.tensor([3.0, -3.0, 2.0]))
        logp_B = distribution.log_prob(network(batch.observation_BO)[0], network.action_log_std, batch.action_BC)
    batch = Batch(**{name: getattr(batch, name) for name in Batch.__slots__ if name != "logp_B"}, logp_B=logp_B)
    expected = autograd_gradient(network, distribution, batch, loss_config())
    got = analytic_gradient(network, distribution, batch, loss_config())
    norm = math.sqrt(sum(float(g.square().sum()) for g in expected.values()))
    for name, gradient in got.items():
        assert torch.isfinite(gradient).all()
        assert float((gradient.double() - expected[name]).abs().max()) < 5e-3 * norm, name


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_epochs_lead_to_the_parameters_losses_and_moments_of_autograd(space):
    network, distribution, batch = make_problem(space, n=1024)
    both = []
    for make in (AnalyticUpdater, autograd_updater):
        own = copy.deepcopy(network)
        updater = make(own, distribution, update_config(), batch, {})
        terms = [updater.epoch(k) for k in (1, 2, 3)]
        both.append((own, terms, updater.optimizer_state()))
    (analytic, our_terms, our_state), (autograd, their_terms, their_state) = both
    for a, b in zip(analytic.parameters(), autograd.parameters(), strict=True):
        assert torch.allclose(a, b, atol=3e-5)
    for a, b in zip(our_terms, their_terms, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name] == pytest.approx(b[name], rel=2e-3, abs=2e-4), name
    assert our_state["param_groups"] == their_state["param_groups"]
    for index, state in their_state["state"].items():
        for name, value in state.items():
            assert torch.allclose(our_state["state"][index][name], value, rtol=1e-2, atol=1e-6)


def test_it_continues_from_an_optimizer_state_as_autograd_does():
    network, distribution, batch = make_problem(STEER)
    first = autograd_updater(network, distribution, update_config(), batch, {})
    first.epoch(1)
    moments = first.optimizer_state()["state"]
    analytic, autograd = copy.deepcopy(network), copy.deepcopy(network)
    AnalyticUpdater(analytic, distribution, update_config(), batch, moments).epoch(2)
    autograd_updater(autograd, distribution, update_config(), batch, moments).epoch(2)
    for a, b in zip(analytic.parameters(), autograd.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("make", [AnalyticUpdater, autograd_updater], ids=["analytic", "autograd"])
@pytest.mark.parametrize("kind", SPACES)
def test_with_another_batch_it_does_what_a_new_updater_with_its_moments_does(make, kind):
    """Bit for bit, with another size, learning rate and clip range: online training relies on it."""
    network, distribution, batch = make_problem(SPACES[kind], at_bounds=0.0)
    _, _, other = make_problem(SPACES[kind], n=170, seed=5)
    later = update_config(learning_rate=1e-3, cycle=2, loss=loss_config(entropy_coef=0.3, clip_range=0.05))
    reused, fresh = copy.deepcopy(network), copy.deepcopy(network)
    updater = make(reused, distribution, update_config(), batch, {})
    updater.epoch(1)
    updater.set_batch(later, other)
    terms = updater.epoch(1)
    before = make(fresh, distribution, update_config(), batch, {})
    before.epoch(1)
    expected = make(copy.deepcopy(fresh), distribution, later, other, before.optimizer_state()["state"])
    assert terms == expected.epoch(1)
    for a, b in zip(reused.parameters(), expected.network.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("make", [AnalyticUpdater, autograd_updater], ids=["analytic", "autograd"])
@pytest.mark.parametrize("kind", SPACES)
def test_without_a_policy_step_no_bit_of_the_policy_changes_and_the_values_learn(make, kind):
    """Although Adam's momentum of earlier steps, the advantages and the entropy bonus would all move it."""
    network, distribution, batch = make_problem(SPACES[kind])
    updater = make(network, distribution, update_config(), batch, {})
    updater.epoch(1)
    stack = [tensor for layer in network.stacks().policy for tensor in (layer.weight, layer.bias)]
    before = [tensor.detach().clone() for tensor in (*stack, network.action_log_std)]
    first = updater.epoch(2)["value_loss"]
    updater.set_batch(update_config(trains_policy=False), batch)
    moved = [tensor.detach().clone() for tensor in (*stack, network.action_log_std)]
    assert not all(map(torch.equal, moved, before)) or not network.action_log_std.numel()
    for epoch in range(3, 8):
        last = updater.epoch(epoch)["value_loss"]
    assert all(map(torch.equal, moved, (*stack, network.action_log_std)))
    assert last < first


def test_without_a_policy_step_the_values_are_those_of_autograd():
    network, distribution, batch = make_problem(STEER, n=1024)
    both = []
    for make in (AnalyticUpdater, autograd_updater):
        own = copy.deepcopy(network)
        updater = make(own, distribution, update_config(trains_policy=False, max_grad_norm=0.1), batch, {})
        terms = [updater.epoch(k) for k in (1, 2)]
        both.append((own, terms))
    (analytic, our_terms), (autograd, their_terms) = both
    for a, b in zip(analytic.parameters(), autograd.parameters(), strict=True):
        assert torch.allclose(a, b, atol=3e-5)
    for a, b in zip(our_terms, their_terms, strict=True):
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=2e-3)


def test_the_trial_of_thread_counts_does_not_change_a_bit():
    network, distribution, batch = make_problem(STEER, n=4000, hidden=(128, 128))
    ends = []
    for count in (1, 0):
        own = copy.deepcopy(network)
        updater = AnalyticUpdater(own, distribution, update_config(threads=count), batch, {})
        updater.epoch(1)
        ends.append(b"".join(p.detach().numpy().tobytes() for p in own.parameters()))
    torch.set_num_threads(1)
    assert ends[0] == ends[1]


@pytest.mark.parametrize("max_norm", [1.0, 1e-3])
def test_the_norm_is_clipped_as_autograd_does(max_norm):
    """One step, with a limit above the gradient's norm and one below it."""
    network, distribution, batch = make_problem(STEER, n=64)
    ends = []
    for make in (AnalyticUpdater, autograd_updater):
        own = copy.deepcopy(network)
        terms = make(own, distribution, update_config(max_grad_norm=max_norm), batch, {}).epoch(1)
        ends.append((own, terms["grad_norm"]))
    assert ends[0][1] == pytest.approx(ends[1][1], rel=1e-4)
    for a, b in zip(ends[0][0].parameters(), ends[1][0].parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_value_that_is_not_finite_shows_in_the_terms():
    network, distribution, batch = make_problem(STEER)
    batch.advantage_B[3] = math.nan
    assert not math.isfinite(AnalyticUpdater(network, distribution, update_config(), batch, {}).epoch(1)["total"])


@pytest.mark.parametrize(("minibatches", "tried"), [(8, [2]), (12, [2, 4, 8]), (36, [2, 4, 8])])
def test_only_as_many_thread_counts_are_tried_as_an_epoch_has_steps_for(monkeypatch, minibatches, tried):
    offered = []

    def tune_thread_count(step_seconds, has_same_result, candidates):
        offered.extend(candidates)
        return ThreadCount(1, 1.0)

    monkeypatch.setattr("trainer.common.threads.os.cpu_count", lambda: 64)
    monkeypatch.setattr("trainer.common.threads.tune_thread_count", tune_thread_count)
    network, distribution, batch = make_problem(STEER, n=64 * minibatches)
    AnalyticUpdater(network, distribution, update_config(threads=0), batch, {}).epoch(1)
    assert offered == tried


def test_a_trial_that_is_paused_before_its_first_step_still_measures_one(monkeypatch):
    """As if another program used the core at that moment: the time limit has passed when the trial begins."""
    now = itertools.count(step=10.0)
    monkeypatch.setattr("trainer.ppo.analytic.updater.time.perf_counter", lambda: next(now))
    network, distribution, batch = make_problem(STEER, n=64 * 8)
    updater = AnalyticUpdater(network, distribution, update_config(threads=1), batch, {})
    updater.epoch(1)  # fills the buffers
    assert math.isfinite(updater._median_step_s(iter(updater._minibatches), 4, limit_s=1e-9))


def test_equal_seeds_lead_to_equal_bits():
    ends = []
    for _ in range(2):
        network, distribution, batch = make_problem(STEER, n=500)
        AnalyticUpdater(network, distribution, update_config(), batch, {}).epoch(1)
        ends.append(np.concatenate([p.detach().numpy().ravel() for p in network.parameters()]).tobytes())
    assert ends[0] == ends[1]
