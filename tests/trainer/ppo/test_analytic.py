"""The written-out derivatives against autograd, and the lean updater against the one that uses it."""

import copy
import math

import numpy as np
import pytest
import torch

from schemas.contract import ContinuousActions, DiscreteActions, PolicyContract
from trainer.common.threads import Pace, fastest, more_than_one
from trainer.networks.distributions import distribution_for
from trainer.networks.network import ActorCritic, Shape, build_network
from trainer.ppo.analytic.gradient import AnalyticGradient
from trainer.ppo.analytic.network import StackedNetwork
from trainer.ppo.analytic.updater import AnalyticUpdater
from trainer.ppo.autograd import AutogradUpdater, evaluate
from trainer.ppo.loss import LossConfig, ppo_loss
from trainer.ppo.make_updater import make_updater
from trainer.ppo.update import UpdateConfig
from trainer.rollouts.batch import Batch

CPU = torch.device("cpu")
STEER = ContinuousActions.named(("steer", "throttle", "brake"))
SPACES = {"continuous": STEER, "one action": ContinuousActions.named(("steer",)), "discrete": DiscreteActions(n=5)}


def autograd(network, head, plan, batch, moments):
    return AutogradUpdater(network, head, ppo_loss, plan, batch, moments, CPU)


def loss_config(**given):
    usual = {"clip_range": 0.2, "value_clip_range": None, "value_coef": 0.5, "entropy_coef": 0.01}
    return LossConfig(**(usual | given))


def plan(**given):
    usual = {"epochs": 1, "batch_size": 64, "learning_rate": 3e-4, "max_grad_norm": 0.5, "target_kl": None}
    rest = {"loss": loss_config(), "seed": 3, "cycle": 1, "bfloat16": False, "threads": 1}
    return UpdateConfig(**(usual | rest | given))


def problem(space, n=300, *, seed=0, inputs=6, hidden=(32, 24), noise=1.0, at_bounds=0.4, far=0.3):
    """A network, and experiences of a policy that is `far` from it; part of the actions lie at a bound."""
    torch.manual_seed(seed)
    head = distribution_for(space)
    contract = PolicyContract(observation_size=inputs, action_space=space)
    network = build_network(Shape.of(contract, hidden), custom="", seed=seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    observation_BO = torch.randn(n, inputs) * 2.0
    if isinstance(space, DiscreteActions):
        action = torch.randint(0, space.n, (n, 1)).float()
    else:
        low, high = torch.tensor(space.low), torch.tensor(space.high)
        action = low + (high - low) * torch.rand(n, len(space.names))
        pushed = torch.where(torch.rand_like(action) < 0.5, low, high)
        action = torch.where(torch.rand_like(action) < at_bounds, pushed, action)
    action_BC = head.encode(action, torch.full((n,), noise))
    with torch.no_grad():
        output_BK, value_B = network(observation_BO)
        logp_B = head.log_prob(output_BK, network.action_log_std, action_BC)
    batch = Batch(
        observation_BO=observation_BO,
        action_BC=action_BC,
        logp_B=logp_B + far * torch.randn(n),
        advantage_B=torch.randn(n),
        target_B=torch.randn(n),
        value_B=value_B + 0.3 * torch.randn(n),
        importance_weight_B=torch.rand(n) * 2.0,
    )
    return network, head, batch


def autograd_gradient(network, head, batch, k):
    """All gradients of the loss in float64, in the order of network.parameters()."""
    double = copy.deepcopy(network).double()
    wide = Batch(**{name: getattr(batch, name).double() for name in Batch.__slots__})
    output_BK, value_B = double(wide.observation_BO)
    log_std_A = double.action_log_std
    new = evaluate(double, head, wide)._replace(
        logp_B=head.log_prob(output_BK, log_std_A, wide.action_BC),
        value_B=value_B,
        entropy=head.entropy(output_BK, log_std_A),
    )
    ppo_loss(wide, new, k).total.backward()
    return {name: p.grad for name, p in double.named_parameters() if p.numel()}


def lean_gradient(network, head, batch, k):
    ours = copy.deepcopy(network)
    lean = AnalyticGradient(StackedNetwork(ours), head, k, batch)
    lean.shuffle(torch.arange(batch.size))
    lean.compute(slice(0, batch.size))
    by_parameter = dict(zip(map(id, lean.flat.ordered), lean.flat.views(lean.flat.gradient), strict=True))
    return {name: by_parameter[id(p)] for name, p in ours.named_parameters() if p.numel()}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"noise": 0.3},
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
def test_the_gradient_is_autograds(space, given, value_clip_range):
    for seed in range(3):
        network, head, batch = problem(space, seed=seed, **given)
        k = loss_config(value_clip_range=value_clip_range, entropy_coef=0.05)
        expected = autograd_gradient(network, head, batch, k)
        size = math.sqrt(sum(float(g.square().sum()) for g in expected.values()))
        for name, got in lean_gradient(network, head, batch, k).items():
            assert float((got.double() - expected[name]).abs().max()) <= 2e-5 * size, name


def test_the_gradient_is_finite_and_autograds_far_out_in_the_tails():
    """Deviation 0.01 and actions at the bound opposite to the mean: a hundred deviations away.

    A log likelihood of thousands of nats has an error of 1e-4 in float32, and so has every ratio.
    """
    network, head, batch = problem(STEER, at_bounds=0.9)
    with torch.no_grad():
        network.action_log_std.fill_(math.log(0.01))
        network.policy_head.bias.copy_(torch.tensor([3.0, -3.0, 2.0]))
        logp_B = head.log_prob(network(batch.observation_BO)[0], network.action_log_std, batch.action_BC)
    batch = Batch(**{name: getattr(batch, name) for name in Batch.__slots__ if name != "logp_B"}, logp_B=logp_B)
    expected = autograd_gradient(network, head, batch, loss_config())
    got = lean_gradient(network, head, batch, loss_config())
    size = math.sqrt(sum(float(g.square().sum()) for g in expected.values()))
    for name, gradient in got.items():
        assert torch.isfinite(gradient).all()
        assert float((gradient.double() - expected[name]).abs().max()) < 5e-3 * size, name


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_epochs_end_where_autograd_ends(space):
    network, head, batch = problem(space, n=1024)
    both = []
    for make in (AnalyticUpdater, lambda *given: AutogradUpdater(*given[:2], ppo_loss, *given[2:], CPU)):
        own = copy.deepcopy(network)
        updater = make(own, head, plan(), batch, {})
        terms = [updater.epoch(k) for k in (1, 2, 3)]
        both.append((own, terms, updater.optimizer_state()))
    (lean, lean_terms, lean_state), (plain, plain_terms, plain_state) = both
    for a, b in zip(lean.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a, b, atol=3e-5)
    for a, b in zip(lean_terms, plain_terms, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name] == pytest.approx(b[name], rel=2e-3, abs=2e-4), name
    assert lean_state["param_groups"] == plain_state["param_groups"]
    for index, state in plain_state["state"].items():
        for name, value in state.items():
            assert torch.allclose(lean_state["state"][index][name], value, rtol=1e-2, atol=1e-6)


def test_it_goes_on_from_an_earlier_state_as_autograd_does():
    network, head, batch = problem(STEER)
    first = AutogradUpdater(network, head, ppo_loss, plan(), batch, {}, CPU)
    first.epoch(1)
    moments = first.optimizer_state()["state"]
    lean, plain = copy.deepcopy(network), copy.deepcopy(network)
    AnalyticUpdater(lean, head, plan(), batch, moments).epoch(2)
    AutogradUpdater(plain, head, ppo_loss, plan(), batch, moments, CPU).epoch(2)
    for a, b in zip(lean.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("make", [AnalyticUpdater, autograd], ids=["lean", "autograd"])
@pytest.mark.parametrize("kind", SPACES)
def test_renewed_it_does_what_a_new_one_with_its_moments_does(make, kind):
    """Bit for bit, with another size, other rates and another clip: what online training relies on."""
    network, head, batch = problem(SPACES[kind], at_bounds=0.0)
    _, _, other = problem(SPACES[kind], n=170, seed=5)
    later = plan(learning_rate=1e-3, cycle=2, loss=loss_config(entropy_coef=0.3, clip_range=0.05))
    kept, anew = copy.deepcopy(network), copy.deepcopy(network)
    going_on = make(kept, head, plan(), batch, {})
    going_on.epoch(1)
    going_on.renew(later, other)
    terms = going_on.epoch(1)
    before = make(anew, head, plan(), batch, {})
    before.epoch(1)
    expected = make(copy.deepcopy(anew), head, later, other, before.optimizer_state()["state"])
    assert terms == expected.epoch(1)
    for a, b in zip(kept.parameters(), expected.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_measuring_the_threads_does_not_change_a_bit():
    network, head, batch = problem(STEER, n=4000, hidden=(128, 128))
    ends = []
    for threads in (1, 0):
        own = copy.deepcopy(network)
        updater = AnalyticUpdater(own, head, plan(threads=threads), batch, {})
        updater.epoch(1)
        ends.append(b"".join(p.detach().numpy().tobytes() for p in own.parameters()))
    torch.set_num_threads(1)
    assert ends[0] == ends[1]


@pytest.mark.parametrize("gain", [1.0, 1e-3])
def test_the_gradients_norm_is_clipped_as_torch_does(gain):
    """Both updaters, one step, a limit that bites and one that does not."""
    network, head, batch = problem(STEER, n=64)
    ends = []
    for make in (AnalyticUpdater, lambda *given: AutogradUpdater(*given[:2], ppo_loss, *given[2:], CPU)):
        own = copy.deepcopy(network)
        terms = make(own, head, plan(max_grad_norm=gain), batch, {}).epoch(1)
        ends.append((own, terms["grad_norm"]))
    assert ends[0][1] == pytest.approx(ends[1][1], rel=1e-4)
    for a, b in zip(ends[0][0].parameters(), ends[1][0].parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_network_or_loss_of_your_own_is_left_to_autograd():
    network, head, batch = problem(STEER)

    class Mine(ActorCritic):
        pass

    mine = Mine(network.shape)

    def loss(*given):
        return ppo_loss(*given)

    def kind(network, loss, **given):
        return type(make_updater(network, head, loss, plan(**given), batch, optimizer_state={}, device=CPU))

    assert kind(network, ppo_loss) is AnalyticUpdater
    assert kind(mine, ppo_loss) is AutogradUpdater
    assert kind(network, loss) is AutogradUpdater
    assert kind(network, ppo_loss, bfloat16=True) is AutogradUpdater


def test_what_is_not_finite_shows_in_the_terms():
    network, head, batch = problem(STEER)
    batch.advantage_B[3] = math.nan
    assert not math.isfinite(AnalyticUpdater(network, head, plan(), batch, {}).epoch(1)["total"])


@pytest.mark.parametrize(
    ("seconds", "differs", "chosen"),
    [
        ({1: 1.0, 2: 0.6, 4: 0.5}, 0, 4),
        ({1: 1.0, 2: 0.6, 4: 0.59}, 0, 2),
        ({1: 1.0, 2: 0.99, 4: 0.1}, 0, 1),
        ({1: 1.0, 2: 0.5, 4: 0.4}, 2, 1),
        ({1: 1.0, 2: 0.5, 4: 0.3}, 4, 2),
    ],
)
def test_threads_are_taken_only_where_they_pay_and_change_nothing(seconds, differs, chosen):
    assert fastest(seconds.__getitem__, lambda n: n != differs, [2, 4]) == Pace(chosen, 1.0)


def test_a_crowd_means_one_thread_for_a_while_and_longer_each_time():
    pace = Pace(2, 0.1)
    assert pace.after(0.12) == pace
    rests = []
    for _ in range(9):
        pace = pace.after(0.14)
        rests.append(0)
        while pace.threads == 1:
            rests[-1] += 1
            pace = pace.after(0.1)
    assert rests == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    assert Pace(1, 0.1).after(9.0) == Pace(1, 0.1)


def test_no_more_threads_than_cores_are_tried(monkeypatch):
    for cores, tried in ((1, []), (2, [2]), (6, [2, 4]), (64, [2, 4, 8])):
        monkeypatch.setattr("trainer.common.threads.os.cpu_count", lambda cores=cores: cores)
        assert more_than_one() == tried


@pytest.mark.parametrize(("minibatches", "tried"), [(8, [2]), (12, [2, 4, 8]), (36, [2, 4, 8])])
def test_only_as_many_numbers_are_tried_as_there_are_steps_for(monkeypatch, minibatches, tried):
    offered = []

    def fastest(seconds, is_same, others):
        offered.extend(others)
        return Pace(1, 1.0)

    monkeypatch.setattr("trainer.common.threads.os.cpu_count", lambda: 64)
    monkeypatch.setattr("trainer.common.threads.fastest", fastest)
    network, head, batch = problem(STEER, n=64 * minibatches)
    AnalyticUpdater(network, head, plan(threads=0), batch, {}).epoch(1)
    assert offered == tried


def test_a_seed_says_it_all():
    ends = []
    for _ in range(2):
        network, head, batch = problem(STEER, n=500)
        AnalyticUpdater(network, head, plan(), batch, {}).epoch(1)
        ends.append(np.concatenate([p.detach().numpy().ravel() for p in network.parameters()]).tobytes())
    assert ends[0] == ends[1]
