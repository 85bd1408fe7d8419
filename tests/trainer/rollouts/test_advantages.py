"""Advantages: the definition, its limits, known answers, and two independent implementations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.rollouts.advantages import advantages, average_returns, discounted_scan

GAMMA = 0.97


def gae(reward, value, next_value, continues, *, rho=None, gamma=GAMMA, lam=0.95):
    columns = [np.asarray(c, dtype=np.float64) for c in (reward, value, next_value)]
    rho = np.ones(len(columns[0])) if rho is None else np.asarray(rho, dtype=np.float64)
    return advantages(
        reward_B=columns[0], value_B=columns[1], next_value_B=columns[2],
        trace_continues_B=np.asarray(continues, dtype=bool), rho_B=rho, gamma=gamma, lam=lam,
    )  # fmt: skip


def reference_gae(reward, value, next_value, continues, rho, gamma, lam):
    """Return advantages by a plain float64 loop, written from the formulas alone."""
    out = np.zeros(len(reward))
    for t in reversed(range(len(reward))):
        out[t] = reward[t] + gamma * next_value[t] - value[t]
        if continues[t]:
            out[t] += gamma * lam * rho[t + 1] * out[t + 1]
    return out


@given(st.integers(1, 300), st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
def test_gae_equals_a_plain_loop(n, seed, gamma, lam):
    rng = np.random.default_rng(seed)
    reward, value, next_value = rng.normal(size=(3, n))
    continues = rng.random(n) < 0.9
    continues[-1] = False
    rho = rng.random(n)
    computed = gae(reward, value, next_value, continues, rho=rho, gamma=gamma, lam=lam)
    np.testing.assert_allclose(
        computed, reference_gae(reward, value, next_value, continues, rho, gamma, lam), atol=1e-10
    )


def test_gae_equals_that_of_stable_baselines():
    buffers = pytest.importorskip("stable_baselines3.common.buffers")
    spaces = pytest.importorskip("gymnasium.spaces")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    steps, agents = 40, 3
    buffer = buffers.RolloutBuffer(
        steps, spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (1,)), gae_lambda=0.95, gamma=GAMMA, n_envs=agents
    )
    reward, value = rng.normal(size=(2, steps, agents)).astype(np.float32)
    done = rng.random((steps, agents)) < 0.1
    starts = np.vstack([np.ones(agents), done[:-1]])
    for t in range(steps):
        zeros = np.zeros((agents, 2), np.float32)
        buffer.add(zeros, zeros[:, :1], reward[t], starts[t], torch.tensor(value[t]), torch.zeros(agents))
    last = rng.normal(size=agents).astype(np.float32)
    buffer.compute_returns_and_advantage(torch.tensor(last), done[-1])
    next_value = np.where(done, 0.0, np.vstack([value[1:], last]))
    continues = ~done
    continues[-1] = False
    computed = [gae(reward[:, a], value[:, a], next_value[:, a], continues[:, a]) for a in range(agents)]
    np.testing.assert_allclose(np.stack(computed, axis=1), buffer.advantages, atol=1e-5)


def test_the_value_of_an_endless_episode_is_one_over_one_minus_gamma():
    """Reward 1 forever, in segments of 8: with the true values every advantage is 0."""
    true = 1.0 / (1.0 - GAMMA)
    ones, values = np.ones(24), np.full(24, true)
    continues = np.arange(1, 25) % 8 != 0
    np.testing.assert_allclose(gae(ones, values, values, continues), 0.0, atol=1e-9)
    ended = np.where(continues, values, 0.0)  # control: truncation is not termination
    assert gae(ones, values, ended, continues).min() < -0.99 * GAMMA * true


def test_lambda_0_is_the_one_step_error_and_lambda_1_the_whole_return():
    rng = np.random.default_rng(1)
    reward, value = rng.normal(size=(2, 6))
    next_value = np.append(value[1:], 0.7)
    continues = np.array([True] * 5 + [False])
    np.testing.assert_allclose(gae(reward, value, next_value, continues, lam=0.0), reward + GAMMA * next_value - value)
    returns = [sum(GAMMA ** (k - t) * reward[k] for k in range(t, 6)) + GAMMA ** (6 - t) * 0.7 for t in range(6)]
    np.testing.assert_allclose(gae(reward, value, next_value, continues, lam=1.0), returns - value)


def test_targets_with_traces_equal_those_of_v_trace():
    """Espeholt et al. 2018, eq. 1, summed term by term with lambda in the traces."""
    rng = np.random.default_rng(2)
    n, lam = 7, 0.9
    reward, value, rho = rng.normal(size=n), rng.normal(size=n), rng.random(n)
    next_value = np.append(value[1:], 0.3)
    continues = np.array([True] * (n - 1) + [False])
    delta = rho * (reward + GAMMA * next_value - value)
    expected = [
        value[s] + sum(GAMMA ** (t - s) * np.prod(lam * rho[s:t]) * delta[t] for t in range(s, n)) for s in range(n)
    ]
    computed = value + rho * gae(reward, value, next_value, continues, rho=rho, lam=lam)
    np.testing.assert_allclose(computed, expected, atol=1e-12)


def test_sums_do_not_continue_into_the_sequence_before():
    carry = np.array([0.5, 0.0, 0.5, 0.0])
    np.testing.assert_allclose(discounted_scan(np.array([1.0, 2.0, 4.0, 8.0]), carry), [2.0, 2.0, 8.0, 8.0])


def test_without_a_value_function_a_cut_has_the_value_of_an_average_state():
    n = 400
    continues = np.arange(1, n + 1) % 5 != 0
    returns = average_returns(
        reward_B=np.ones(n),
        terminated_B=np.zeros(n, bool),
        trace_continues_B=continues,
        can_bootstrap_B=np.ones(n, bool),
        gamma=GAMMA,
    )
    np.testing.assert_allclose(returns, 1.0 / (1.0 - GAMMA), rtol=1e-9)
    ended = average_returns(
        reward_B=np.ones(n),
        terminated_B=~continues,
        trace_continues_B=continues,
        can_bootstrap_B=np.ones(n, bool),
        gamma=GAMMA,
    )
    np.testing.assert_allclose(ended[:5], [sum(GAMMA**k for k in range(5 - t)) for t in range(5)])
