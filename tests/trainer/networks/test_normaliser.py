"""The statistics; new statistics change neither policy nor values."""

import numpy as np
import pytest
import torch

from schemas.contract import ContinuousActions, PolicyContract
from trainer.networks.network import Shape, build_network
from trainer.networks.normaliser import (
    COUNT_CAP,
    Normalisers,
    ObservationNormaliser,
    ReturnNormaliser,
    popart,
    rescale_inputs,
)

CONTRACT = PolicyContract(observation_size=5, action_space=ContinuousActions.named(("steer",)))


def network(seed=0):
    return build_network(Shape.of(CONTRACT, (16, 16)), custom="", seed=seed)


def data(n=500, scale=1.0, shift=0.0, seed=0):
    return (np.random.default_rng(seed).normal(size=(n, 5)) * scale + shift).astype(np.float32)


def test_statistics_of_parts_are_those_of_the_whole():
    whole = data(1000, scale=30, shift=100)
    parts = ObservationNormaliser.identity(5)
    for part in np.array_split(whole, [10, 11, 500]):
        parts = parts.updated(part)
    np.testing.assert_allclose(parts.mean_O, whole.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(parts.var_O, whole.astype(np.float64).var(axis=0), rtol=1e-9)
    assert parts.count == 1000
    normalised = parts(whole).numpy()
    np.testing.assert_allclose(normalised.std(axis=0), 1.0, rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_update_does_not_change_the_observations(dtype):
    observations = data(scale=30, shift=100).astype(dtype)
    before = observations.copy()
    ObservationNormaliser.identity(5).updated(observations)
    np.testing.assert_array_equal(observations, before)


def test_the_count_has_a_limit_so_that_the_statistics_keep_adapting():
    old = ObservationNormaliser(torch.zeros(5).double(), torch.ones(5).double(), 1e9).updated(data(10))
    assert old.count == COUNT_CAP


def test_a_constant_column_keeps_its_scale_and_a_large_mean_limits_it():
    columns = np.stack([np.full(100, c) for c in (0.0, 1.0, -980.0)] + [np.zeros(100)] * 2, axis=1).astype(np.float32)
    columns[:, 3] = 1e4 + 1e-2 * np.arange(100)
    scale = ObservationNormaliser.identity(5).updated(columns).scale_O
    np.testing.assert_allclose(scale[:3], [1.0, 1.0, 9.8])
    assert float(scale[3]) == pytest.approx(100.0, rel=1e-3)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (30.0, 100.0), (1e-3, 0.0)])
def test_new_observation_statistics_change_neither_policy_nor_values(scale, shift):
    net = network()
    before = ObservationNormaliser.identity(5).updated(data(scale=scale, shift=shift))
    after = before.updated(data(scale=scale * 2, shift=shift * 1.5, seed=1))
    x = data(2000, scale=scale * 1.5, shift=shift, seed=2)
    with torch.no_grad():
        output, value = net(before(x))
    weights = net.policy_layers[0].weight.clone()
    rescale_inputs(net.stacks(), before, after)
    assert not torch.allclose(weights, net.policy_layers[0].weight)  # the control: the weights did change
    with torch.no_grad():
        again = net(after(x))
    for old, new in zip((output, value), again, strict=True):
        torch.testing.assert_close(new, old, rtol=2e-5, atol=2e-5 * float(old.abs().max()))


def test_new_return_statistics_change_no_value():
    net = network()
    before, after = ReturnNormaliser(3.0, 0.5, True), ReturnNormaliser(-40.0, 17.0, True)
    x = torch.randn(500, 5)
    old = net(x)[1].double() * before.std + before.mean
    popart(net.stacks().value[-1], before, after)
    new = net(x)[1].double() * after.std + after.mean
    torch.testing.assert_close(new, old, rtol=1e-5, atol=1e-4)


def test_the_first_targets_set_the_statistics_and_later_ones_move_them():
    first = ReturnNormaliser().updated(np.array([8.0, 12.0]))
    assert (first.mean, first.std) == (10.0, 2.0)
    second = first.updated(np.full(4, 20.0))
    assert second.mean == pytest.approx(13.0)
    assert second.std > first.std
    assert first.restored(first.normalised(np.array([3.5]))) == pytest.approx(3.5)


@pytest.mark.parametrize("target", [0.0, 5.0, -1e9, 1e-15])
def test_targets_that_are_all_equal_lead_to_a_usable_deviation(target):
    returns = ReturnNormaliser().updated(np.full(10, target))
    assert returns.std > 0
    assert np.isfinite(returns.normalised(np.array([target + 1.0]))).all()


def test_a_state_dict_restores_the_normalisers():
    both = Normalisers(ObservationNormaliser.identity(5).updated(data()), ReturnNormaliser(1.0, 2.0, True))
    again = Normalisers.from_state_dict(both.state_dict())
    assert torch.equal(again.observations.mean_O, both.observations.mean_O)
    assert again.returns == both.returns


def test_action_log_std_is_limited_to_the_range_of_the_engine():
    net = network()
    for value, expected in ((-9.0, np.log(0.01)), (3.0, np.log(2.0)), (-1.0, -1.0)):
        net.action_log_std.data.fill_(value)
        net.clamp_log_std()
        assert net.action_log_std.item() == pytest.approx(expected)
