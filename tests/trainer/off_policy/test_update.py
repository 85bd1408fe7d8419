"""Whole steps of both algorithms against plain implementations with autograd and torch's Adam."""

import math

import numpy as np
import pytest
import torch

from tests.trainer.off_policy.problem import (
    CHOICE,
    OBSERVATIONS,
    STEER,
    PlainLearner,
    make_replay,
    make_updater,
    record_draws,
    vector_of,
)
from trainer.off_policy.update import POLICY_DELAY, HeldOutLoss

SPACES = {"continuous": STEER, "discrete": CHOICE}
spaces = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def run(updater, replay, steps=10, **given):
    return updater.run(replay, steps, **({"seed": 1, "cycle": 2, "epoch": 3} | given))


@spaces
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("is_policy_fixed", [False, True])
def test_several_steps_end_with_the_losses_and_parameters_of_autograd(space, is_policy_fixed):
    updater, plain, replay = make_updater(space), PlainLearner(space), make_replay(space)
    drawn = record_draws(updater)
    losses = run(updater, replay, 10, is_policy_fixed=is_policy_fixed)
    plain.learn(drawn, is_policy_fixed=is_policy_fixed)
    state = updater.state()
    for ours, theirs in ((state.critics, plain.critics), (state.targets, plain.targets)):
        torch.testing.assert_close(ours.vector, vector_of(theirs, ours), rtol=1e-7, atol=1e-9)
    for name, parameter in plain.network.named_parameters():
        ours = updater.network.get_parameter(name)
        torch.testing.assert_close(ours, parameter, rtol=1e-7, atol=1e-9, msg=name)
    assert losses["critic_loss"] == pytest.approx(np.mean(plain.critic_losses), rel=1e-9)
    expected_loss = 0.0 if is_policy_fixed else np.mean(plain.policy_losses)
    assert losses["policy_loss"] == pytest.approx(expected_loss, rel=1e-9)
    assert state.temperature == pytest.approx(plain.temperature, rel=1e-12)
    before = make_updater(space).network.policy_head.weight
    assert torch.equal(updater.network.policy_head.weight, before) == is_policy_fixed


@pytest.mark.usefixtures("float64")
def test_a_mean_outside_its_bounds_has_no_gradient_further_out_and_one_back_in():
    """The throttle is in [0, 1]. Its mean is below 0, and the critic's value rises or falls with it."""
    for slope, moves in ((1.0, True), (-1.0, False)):
        updater = make_updater(STEER)
        network = updater.network
        with torch.no_grad():
            network.policy_head.weight.zero_()
            network.policy_head.bias.copy_(torch.tensor([0.1, -1.0, 2.0]))  # 2.0: tanh is below the bound of 1
            rising_in_throttle(updater.critics, slope)
        before = torch.tanh(network.policy_head.bias.detach().clone())
        batch = make_replay(STEER).batch(torch.arange(100))
        loss = updater.improve_policy(batch)
        assert math.isfinite(loss)
        assert batch.input_BI[:, OBSERVATIONS + 1].unique().tolist() == [0.0]  # the critics see the clamped mean
        updater._policy_adam.step()
        throttle_moved = float(torch.tanh(network.policy_head.bias.detach())[1] - before[1])
        assert (throttle_moved > 0) if moves else (throttle_moved == 0)


def rising_in_throttle(critics, slope):
    """Let the value of each critic rise, or fall, with the throttle alone."""
    critics.vector.zero_()
    first, last = critics.weights_EIH[0], critics.weights_EIH[-1]
    first[:, OBSERVATIONS + 1, 0] = 1.0  # the first unit is the throttle, the second its opposite
    first[:, OBSERVATIONS + 1, 1] = -1.0
    critics.biases_E1H[0][:, 0, :2] = 1.0
    for weight in critics.weights_EIH[1:-1]:
        weight[:, 0, 0] = weight[:, 1, 1] = 1.0
    last[:, 0, 0], last[:, 1, 0] = slope, -slope


@spaces
def test_the_same_seed_leads_to_the_same_bits_and_another_epoch_to_others(space):
    replay = make_replay(space)
    ends = []
    for epoch in (1, 1, 2):
        updater = make_updater(space)
        run(updater, replay, epoch=epoch)
        ends.append((updater.critics.vector, updater.policy.vector))
    for one, two, other in zip(*ends, strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, other)


@spaces
def test_only_transitions_that_are_not_held_out_are_drawn(space):
    updater, replay = make_updater(space), make_replay(space)
    drawn = record_draws(updater)
    run(updater, replay, 70)
    assert len(drawn) == 70
    rewards = torch.cat([batch.reward_B for batch, _ in drawn])  # each occurs once in the replay data
    assert set(rewards.tolist()) == set(replay.reward_N[~replay.is_held_out_N].tolist())


@spaces
@pytest.mark.usefixtures("float64")
def test_the_held_out_loss_is_the_error_as_a_part_of_the_targets_variance(space):
    updater, replay, plain = make_updater(space), make_replay(space, n=2000), PlainLearner(space)
    loss = updater.held_out_loss(replay, seed=5, cycle=6)
    rows = torch.nonzero(replay.is_held_out_N)[:, 0]
    following = replay.packed_PI[replay.next_row_N[rows]]
    with torch.no_grad():
        # without noise the loss is nearly the same: it is averaged over the noise of 200 rows
        noise = torch.zeros(len(rows), updater.noise_width)
        target = replay.reward_N[rows] + replay.discount_N[rows] * plain.next_value(following, noise)
        choice = replay.choice_P[replay.row_N[rows]][:, None]
        observation = replay.packed_PI[replay.row_N[rows]]
        value = torch.stack([plain.chosen(critic(observation), choice) for critic in plain.critics])
    expected = float((value - target).square().mean() / target.var(correction=0))
    assert loss.mean == pytest.approx(expected, rel=0.02 if space is STEER else 1e-9)
    assert 0 < loss.standard_error < loss.mean
    assert updater.held_out_loss(replay, seed=5, cycle=6) == loss


def test_the_standard_error_is_that_of_blocks():
    """Equal neighbours carry no information of their own: with each error 32 times, it stays as large."""
    errors = np.random.default_rng(0).exponential(size=64)
    alone = errors.std(ddof=1) / np.sqrt(64)
    loss = HeldOutLoss.of(np.repeat(errors, 32), 4.0)
    assert loss.mean == pytest.approx(errors.mean() / 4)
    assert loss.standard_error == pytest.approx(alone / 4)


@pytest.mark.parametrize("rows", [1, 2, 3, 40])
def test_few_held_out_steps_have_a_finite_loss(rows):
    loss = HeldOutLoss.of(np.linspace(1.0, 2.0, rows), 0.0)
    assert math.isfinite(loss.mean)
    assert math.isfinite(loss.standard_error)
    assert (loss.standard_error == 0.0) == (rows == 1)


@spaces
def test_if_the_policy_is_fixed_only_critics_learn(space):
    updater, replay = make_updater(space), make_replay(space)
    policy, critics = updater.policy.vector.clone(), updater.critics.vector.clone()
    run(updater, replay, POLICY_DELAY, is_policy_fixed=True)
    assert torch.equal(updater.policy.vector, policy)
    assert not torch.equal(updater.critics.vector, critics)
